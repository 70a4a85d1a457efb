//! What compiling a plan depends on beside the recording: which requests may be sent, and what is changed in them. Refuses header
//! lines that are computed for each request, and hosts that would end a header line.

use super::plan::PlanError;
use super::wire::Reuse;
use crate::recording::{Header, Method};

/// What compiling depends on beside the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// The Host header.
    pub host: HostRule,
    /// How connections are used; it decides the Connection header.
    pub reuse: Reuse,
    /// Which requests are sent.
    pub methods: Methods,
    /// What is changed in the headers of all.
    pub rewrite: Rewrite,
}

impl PlanOptions {
    /// Harmless requests as recorded; `host` for those that recorded none.
    #[must_use]
    pub fn new(host: impl Into<String>, reuse: Reuse) -> Self {
        Self { host: HostRule::Default(host.into()), reuse, methods: Methods::default(), rewrite: Rewrite::default() }
    }

    pub(super) fn check(&self) -> Result<(), PlanError> {
        let host = self.host.name();
        let host_fits = !host.is_empty() && !host.contains([' ', '\t']) && Header::new("Host", host).is_some();
        if !host_fits {
            return Err(PlanError::Host(host.to_owned()));
        }
        match self.rewrite.set.iter().find(|header| header.is_of_connection()) {
            Some(header) => Err(PlanError::Computed(header.name().to_owned())),
            None => Ok(()),
        }
    }
}

/// The Host header of the requests of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// The recorded one, or this where none was recorded.
    Default(String),
    /// This one, whatever was recorded.
    Always(String),
}

impl HostRule {
    fn name(&self) -> &str {
        match self {
            Self::Default(name) | Self::Always(name) => name,
        }
    }
}

/// The methods that may be sent: GET, HEAD and OPTIONS unless more are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    allowed: Vec<Method>,
}

impl Methods {
    /// The safe ones and those named, in any case.
    pub fn allow<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, PlanError> {
        let method = |name: &str| Method::new(name).ok_or_else(|| PlanError::Method(name.to_owned()));
        Ok(Self { allowed: names.into_iter().map(method).collect::<Result<_, _>>()? })
    }

    /// Whether requests with this method may be sent.
    #[must_use]
    pub fn contain(&self, method: &Method) -> bool {
        method.is_safe() || self.allowed.iter().any(|allowed| allowed.as_str().eq_ignore_ascii_case(method.as_str()))
    }
}

/// Changes to the headers of every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Sent instead of recorded headers of that name, and where there are none. `Host` is one of them; what is computed for each
    /// request, such as Content-Length, is refused.
    pub set: Vec<Header>,
    /// Names of headers that are left out, in any case.
    pub remove: Vec<String>,
}
