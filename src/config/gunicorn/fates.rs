//! What becomes of each of Gunicorn's settings. The only list of them: `tuningfork check` prints it, and a test holds it against
//! the Gunicorn that is installed.

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The supervisor or the zygote does it; the text is the key that holds it, or where it is done.
    Supervisor(&'static str),
    /// Gunicorn's worker does it, as before.
    Worker,
    /// It does nothing. The text says why, and what to do instead.
    Nothing(&'static str),
    /// The service would do something else than what was asked for, so it does not start. The text says what to do instead.
    Refused(&'static str),
}

use Fate::{Nothing, Refused, Supervisor, Worker};

const DIRTY: &str = "tuningfork runs no dirty workers; run that work as a service of its own, or in a task queue";
const CONTROL: &str =
    "Gunicorn's control socket is its master's; the supervisor's is --control, and `tuningfork ctl` speaks to it";
const HOOK: &str = "called in the zygote; threads that it starts run there and in no worker";

/// What becomes of the setting of this name. `None` for one that this version does not know.
#[must_use]
pub fn fate(setting: &str) -> Option<Fate> {
    FATES.iter().find(|(name, _)| *name == setting).map(|(_, fate)| *fate)
}

/// All settings of Gunicorn 22 to 27, in the order of its manual.
pub static FATES: [(&str, Fate); 121] = [
    ("config", Supervisor("read by Gunicorn itself, at the start and at each reload")),
    ("wsgi_app", Supervisor("app")),
    ("bind", Supervisor("address")),
    ("backlog", Supervisor("backlog")),
    ("workers", Supervisor("workers")),
    ("worker_class", Supervisor("worker-class")),
    ("threads", Supervisor("connections, of gthread workers")),
    ("worker_connections", Supervisor("connections, of gevent and asgi workers")),
    ("max_requests", Supervisor("max-requests")),
    ("max_requests_jitter", Supervisor("max-requests-jitter")),
    ("timeout", Supervisor("timeout")),
    ("graceful_timeout", Supervisor("graceful-timeout")),
    ("keepalive", Worker),
    ("limit_request_line", Worker),
    ("limit_request_fields", Worker),
    ("limit_request_field_size", Worker),
    ("reload", Worker),
    ("reload_engine", Worker),
    ("reload_extra_files", Worker),
    ("spew", Worker),
    ("check_config", Supervisor("the application is imported, and nothing started")),
    ("print_config", Supervisor("the equivalent configuration of tuningfork is printed")),
    ("preload_app", Supervisor("preload")),
    ("sendfile", Worker),
    (
        "reuse_port",
        Nothing("all workers share one socket, so that no reload resets a connection that waits in a worker's own queue"),
    ),
    ("chdir", Worker),
    ("daemon", Refused("tuningfork stays in the foreground; let systemd run it, or start it with `setsid -f`")),
    ("raw_env", Worker),
    ("pidfile", Supervisor("pidfile")),
    ("worker_tmp_dir", Nothing("workers show that they live over a socket, not by a file")),
    ("user", Supervisor("user")),
    ("group", Supervisor("group")),
    ("umask", Supervisor("mode, of unix sockets: Gunicorn uses it for these alone")),
    ("initgroups", Supervisor("user: its groups are always set")),
    ("tmp_upload_dir", Worker),
    ("secure_scheme_headers", Worker),
    ("forwarded_allow_ips", Worker),
    ("accesslog", Worker),
    ("disable_redirect_access_to_syslog", Worker),
    ("access_log_format", Worker),
    ("errorlog", Worker),
    ("loglevel", Worker),
    ("capture_output", Worker),
    ("logger_class", Worker),
    ("logconfig", Worker),
    ("logconfig_dict", Worker),
    ("logconfig_json", Worker),
    ("syslog_addr", Worker),
    ("syslog", Worker),
    ("syslog_prefix", Worker),
    ("syslog_facility", Worker),
    ("enable_stdio_inheritance", Nothing("it is for daemon; standard output and error are always inherited")),
    ("statsd_host", Worker),
    ("dogstatsd_tags", Worker),
    ("statsd_prefix", Worker),
    ("enable_backlog_metric", Nothing("the queue's length is in /metrics of tuningfork: write --metrics ADDRESS")),
    ("proc_name", Supervisor("the titles of processes")),
    ("default_proc_name", Supervisor("the titles of processes")),
    ("pythonpath", Worker),
    ("paste", Refused("name the application by a module with `application = paste.deploy.loadapp(\"config:/path/to/the.ini\")`")),
    ("on_starting", Supervisor(HOOK)),
    ("on_reload", Supervisor(HOOK)),
    ("when_ready", Supervisor(HOOK)),
    ("pre_fork", Supervisor(HOOK)),
    ("post_fork", Worker),
    ("post_worker_init", Worker),
    ("worker_int", Worker),
    ("worker_abort", Worker),
    ("pre_exec", Nothing("a new binary is started by the supervisor, which runs no Python")),
    ("pre_request", Worker),
    ("post_request", Worker),
    ("child_exit", Supervisor(HOOK)),
    ("worker_exit", Worker),
    ("nworkers_changed", Supervisor(HOOK)),
    ("on_exit", Supervisor(HOOK)),
    ("ssl_context", Worker),
    ("proxy_protocol", Worker),
    ("proxy_allow_ips", Worker),
    ("protocol", Worker),
    ("uwsgi_allow_ips", Worker),
    ("keyfile", Worker),
    ("certfile", Worker),
    ("ssl_version", Worker),
    ("cert_reqs", Worker),
    ("ca_certs", Worker),
    ("suppress_ragged_eofs", Worker),
    ("do_handshake_on_connect", Worker),
    ("ciphers", Worker),
    ("http_protocols", Worker),
    ("http2_cleartext", Worker),
    ("http2_max_concurrent_streams", Worker),
    ("http2_initial_window_size", Worker),
    ("http2_max_frame_size", Worker),
    ("http2_max_header_list_size", Worker),
    ("raw_paste_global_conf", Nothing("it is for paste")),
    ("permit_obsolete_folding", Worker),
    ("strip_header_spaces", Worker),
    ("permit_unconventional_http_method", Worker),
    ("permit_unconventional_http_version", Worker),
    ("casefold_http_method", Worker),
    ("forwarder_headers", Worker),
    ("header_map", Worker),
    ("tolerate_dangerous_framing", Worker),
    ("asgi_loop", Worker),
    ("asgi_lifespan", Worker),
    ("asgi_disconnect_grace_period", Worker),
    ("websocket_max_message_size", Worker),
    ("http_parser", Worker),
    ("root_path", Worker),
    ("dirty_apps", Nothing(DIRTY)),
    ("dirty_workers", Refused(DIRTY)),
    ("dirty_timeout", Nothing(DIRTY)),
    ("dirty_threads", Nothing(DIRTY)),
    ("dirty_graceful_timeout", Nothing(DIRTY)),
    ("on_dirty_starting", Nothing(DIRTY)),
    ("dirty_post_fork", Nothing(DIRTY)),
    ("dirty_worker_init", Nothing(DIRTY)),
    ("dirty_worker_exit", Nothing(DIRTY)),
    ("control_socket", Nothing(CONTROL)),
    ("control_socket_mode", Nothing(CONTROL)),
    ("control_socket_disable", Nothing(CONTROL)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_stands_once() {
        for (place, (name, _)) in FATES.iter().enumerate() {
            assert!(!FATES[..place].iter().any(|(other, _)| other == name), "{name}");
        }
        assert_eq!(fate("bind"), Some(Supervisor("address")));
        assert_eq!(fate("no_such_setting"), None);
    }
}
