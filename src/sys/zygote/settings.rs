//! What a zygote is told at its birth: the configuration, as far as Python needs it. Gunicorn's settings that the configuration
//! decides are among it by Gunicorn's names, so that one that asks for something else is told instead of forgotten.

use serde_json::{Value, json};

use super::Birth;
use crate::config::gunicorn::refusals;
use crate::config::{Config, PythonApp, WorkerClass};

/// A unix socket's permissions before Gunicorn's umask.
const SOCKET_MODE: u32 = 0o666;

pub(super) fn settings(birth: &Birth<'_>) -> Value {
    let timing = &birth.config.timing;
    json!({"settings": {
        "app": birth.app.app,
        "worker_class": birth.app.worker_class.name(),
        "preload": birth.app.preload,
        "allow_threads": birth.app.allow_threads,
        "gunicorn": birth.app.gunicorn,
        "decided": decided(birth.config, birth.app),
        "refused": refusals().collect::<serde_json::Map<_, _>>(),
        "occasion": birth.occasion.name(),
        "directory": birth.app.directory.to_string_lossy(),
        "connections": birth.config.connections.get(),
        "workers": birth.config.workers.get(),
        "graceful_timeout": timing.graceful_timeout.as_secs_f64(),
        "timeout": timing.timeout.as_secs_f64(),
        "max_requests": birth.config.care.max_requests.map_or(0, std::num::NonZeroU32::get),
        "max_requests_jitter": birth.config.care.max_requests_jitter,
        "listeners": birth.listeners.len(),
        "supervisor": std::process::id(),
    }})
}

/// Gunicorn's settings that the configuration decides, with their values; a unix socket's umask as far as it takes anything away.
fn decided(config: &Config, app: &PythonApp) -> Value {
    let mut settings = json!({
        "bind": config.listen.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "backlog": config.listen.backlog,
        "umask": SOCKET_MODE & !config.listen.mode,
        "workers": config.workers.get(),
        "worker_class": app.worker_class.name(),
        "preload_app": app.preload,
        "timeout": config.timing.timeout.as_secs(),
        "graceful_timeout": config.timing.graceful_timeout.as_secs(),
        "max_requests": config.care.max_requests.map_or(0, std::num::NonZeroU32::get),
        "max_requests_jitter": config.care.max_requests_jitter,
        "pidfile": config.pidfile.as_ref().map(|path| path.to_string_lossy()),
    });
    let connections = match app.worker_class {
        WorkerClass::Sync => return settings,
        WorkerClass::Gthread => "threads",
        WorkerClass::Gevent | WorkerClass::Asgi => "worker_connections",
    };
    settings[connections] = json!(config.connections.get());
    settings
}
