//! What a replay sends and when: a recording compiled into final bytes ([`Plan`]), load models as data ([`Load`], [`Schedule`]), and
//! the framing of responses ([`Response`]). Pure: `load` owns sockets and clock.

mod chunked;
mod framing;
mod plan;
mod schedule;
mod wire;

pub(crate) use chunked::Chunked;
pub use framing::{Answer, FramingError, MAX_HEAD, MAX_INTERIM, Progress, Response, ResponseBody};
pub use plan::{Dropped, MAX_ARENA, MAX_PLANNED, Plan, PlanError, PlanOptions, PlannedRequest};
pub use schedule::{Arrivals, Load, Schedule};
pub use wire::Reuse;
