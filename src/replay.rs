//! What a replay sends and when: a recording compiled into final bytes ([`Plan`]), load models as data ([`Load`], [`Timetable`]), and
//! the framing of responses ([`Response`]). Pure: `load` owns sockets and clock.

mod arena;
mod chunked;
mod copies;
mod draft;
mod framing;
mod gaps;
mod model;
mod options;
mod plan;
mod planned;
mod profile;
mod scale;
mod sessions;
mod timetable;
mod wire;

pub use arena::MAX_ARENA;
pub(crate) use chunked::Chunked;
pub use draft::{MAX_PLANNED, PlanDraft};
pub(crate) use framing::head_end;
pub use framing::{Answer, FramingError, MAX_HEAD, MAX_INTERIM, Progress, Response, ResponseBody, Witness};
pub use model::{Arrivals, ClosedOrder, Load, Sessions, Think, Turns};
pub use options::{HostRule, Methods, PlanOptions, Rewrite};
pub use plan::{Dropped, Plan, PlanError};
pub use planned::PlannedRequest;
pub use profile::{MAX_LENGTH, MAX_POINTS, MAX_PROFILE_RATE, Profile, ProfileError};
pub use scale::{Copies, MAX_COPIES, MAX_SPEED, ScaleError, Speed};
pub use timetable::{Arrival, SessionId, Timetable};
pub use wire::Reuse;
