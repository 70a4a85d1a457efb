//! The listening sockets of the service and of its two desks: passed to us, or bound. Either all are there, or the start fails.

use std::sync::Arc;

use crate::commands::{Source, socket};
use crate::config::Config;
use crate::control::Server;
use crate::sys::inherit::{self, Inherited};
use crate::sys::listen::{ListenError, Listeners};

/// What is listened on, and where it came from.
pub(super) struct Sockets {
    /// What the workers accept on.
    pub(super) http: Arc<Listeners>,
    /// Of `[metrics]`.
    pub(super) metrics: Option<Arc<Listeners>>,
    /// Of `[control]`.
    pub(super) control: Option<Arc<Listeners>>,
    /// Names under which the service manager's store keeps what nobody needs.
    pub(super) lapsed: Vec<String>,
}

impl Sockets {
    /// Takes what was passed, and binds the rest.
    pub(super) fn open(source: &Source, config: &Config, mut inherited: Inherited) -> Result<Self, ListenError> {
        let http = Arc::new(inherited.listeners(&config.listen)?);
        let metrics = config.metrics.as_ref().map(|metrics| inherited.private(inherit::METRICS, &metrics.listen)).transpose()?;
        let control = control(source, config, &http, &mut inherited)?;
        Ok(Self { http, metrics: metrics.map(Arc::new), control: control.map(Arc::new), lapsed: inherited.into_lapsed() })
    }

    /// The files of unix sockets that a predecessor passed are ours with the service.
    pub(super) fn own_files(&self) {
        [Some(&self.http), self.metrics.as_ref(), self.control.as_ref()]
            .into_iter()
            .flatten()
            .for_each(|sockets| sockets.own_files());
    }
}

/// A service that cannot be told anything at its socket can still serve, and be told by signals. But an upgrade takes it from nobody.
fn control(
    source: &Source,
    config: &Config,
    http: &Listeners,
    inherited: &mut Inherited,
) -> Result<Option<Listeners>, ListenError> {
    const OTHER: &str = "name another path under [control], or to `tuningfork gunicorn` with --control";
    let configured = config.control.as_ref().map(|control| control.socket.clone());
    let address = http.all().first().map(|listener| listener.address().to_string()).unwrap_or_default();
    let Some(place) = configured.or_else(|| socket::default_place(source, &address)) else {
        tracing::warn!("no control socket: there is no folder for one; {OTHER}");
        return Ok(None);
    };
    let would_be_lost = inherited.succeeds_to(inherit::CONTROL);
    let opened = inherited.one(inherit::CONTROL, &Server::listen(&place));
    match opened {
        Ok(listeners) => Ok(Some(listeners)),
        Err(error) if would_be_lost => Err(error),
        Err(error) => {
            tracing::error!("no control socket, `tuningfork ctl` will not work: {error}; {OTHER}");
            Ok(None)
        }
    }
}
