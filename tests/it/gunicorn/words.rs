//! What the log says of Gunicorn's workers and hooks that nobody would guess: whose threads run where, who is renewed, and which
//! Gunicorn is too old to lose no request.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{THREADED, WORKS, folder_with, interpreter, small, tuningfork};
use crate::support::PATIENCE;
use crate::support::http::{self, Client};
use crate::support::process::{End, send};
use crate::support::service::Service;

const ASGI: &str = "async def application(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'2')]})
    await send({'type': 'http.response.body', 'body': b'ok'})
";

/// Its own server would leave in the middle of whatever comes, before there is another worker.
#[test]
fn a_worker_of_uvicorns_is_replaced_before_it_leaves() {
    let service = small(&["--preload", "-k", "uvicorn.workers.UvicornWorker", "--max-requests", "20"]);
    let mut running = service.file("web.py", ASGI).ready();
    let address = running.address().clone();
    running.wait("two renewals", |lines| {
        assert_eq!(http::get(&address, "/").expect("an answer").text(), "ok");
        (lines.iter().filter(|line| line.contains("reason=\"max_requests\"")).count() >= 2).then_some(())
    });
    assert!(!running.said().contains("reason=\"crash\""), "{}", running.said());
    assert_eq!(running.stop(), End::Code(0));
}

/// What a process's sockets are.
fn sockets_of(pid: u32) -> BTreeSet<PathBuf> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|open| std::fs::read_link(open.path()).ok())
        .filter(|what| what.to_string_lossy().starts_with("socket:"))
        .collect()
}

/// Uvicorn's own stop would reset it.
#[test]
fn a_connection_that_a_stopping_worker_of_uvicorns_has_accepted_is_answered() {
    let service = small(&["-k", "uvicorn.workers.UvicornWorker", "-w", "1"]).file("web.py", ASGI);
    let mut running = service.ready();
    let worker = running.workers()[0];
    let mut early = Client::connect(running.address(), PATIENCE).expect("connect");
    // Accepted in their order.
    assert_eq!(http::get(running.address(), "/").expect("an answer").text(), "ok");
    let supervisors = sockets_of(running.pid());
    let shared = || sockets_of(worker).intersection(&supervisors).count();
    let before = shared();
    send(worker, Signal::TERM);
    running.wait("a closed listener", |_| (shared() < before).then_some(()));
    assert_eq!(early.get("/").expect("an answer").text(), "ok");
    drop(early);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn threads_of_hooks_and_a_gunicorn_that_loses_requests_are_named() {
    let old = format!("import gunicorn\ngunicorn.__version__ = '26.2.0'\n{WORKS}");
    let service = small(&["--preload", "-c", "conf.py", "--threads", "2"]).file("conf.py", THREADED).file("web.py", &old);
    let mut running = service.ready();
    running.await_log("which run in the zygote and in no worker threads=[\"exporter\"]");
    running.await_log("a stopping gthread worker of gunicorn 26.2.0");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn check_says_what_becomes_of_max_requests_and_of_threads_of_hooks() {
    let settings = "worker_class = 'uvicorn.workers.UvicornWorker'\nmax_requests = 9\ndef when_ready(server):\n    pass\n";
    let folder = folder_with(&[("web.py", WORKS), ("gunicorn.conf.py", settings)]);
    let (said, code) = tuningfork(folder.path(), &["check", "--interpreter", &interpreter(), "--", "web"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("max_requests counts the requests of an ASGI application"), "{said}");
    assert!(said.contains("threads that it starts run there and in no worker"), "{said}");
}

#[test]
fn what_the_configuration_decides_is_told_and_what_cannot_be_honoured_does_not_start() {
    let config = |gunicorn: &str| {
        format!(
            "workers = 2\ntimeout = 40\n[app]\nkind = \"python\"\napp = \"web\"\ninterpreter = \"{}\"\ngunicorn = {gunicorn}\n[listen]\naddress = \"@LISTEN@\"\n",
            interpreter()
        )
    };
    let arguments = r#"["-w", "7", "--bind", "127.0.0.1:1", "--timeout", "40", "-k", "gthread", "--pid", "x.pid"]"#;
    let mut running = Service::with_config(&config(arguments)).file("web.py", WORKS).ready();
    for name in ["workers", "bind", "worker_class", "pidfile"] {
        running.await_log(&format!("gunicorn: {name} has no effect with this value"));
    }
    assert!(!running.said().contains("gunicorn: timeout"), "{}", running.said());
    running.reconfigure(&config(r#"["--daemon"]"#));
    running.signal(Signal::HUP);
    running.await_log("daemon cannot be honoured: tuningfork stays in the foreground");
    running.await_log("reload failed, the old workers keep serving");
    assert_eq!(running.stop(), End::Code(0));
    let mut running = small(&["--umask", "7", "--timeout", "40", "--threads", "3", "--pid", "x.pid", "--preload"]).ready();
    assert!(!running.said().contains("with this value"), "{}", running.said());
    assert_eq!(running.stop(), End::Code(0));
}

/// As names of files have them whose bytes are no UTF-8.
#[test]
fn a_lone_surrogate_does_not_cost_the_reason() {
    let raises = "raise Exception('no plan \\udcff')\n";
    let mut running = small(&["--preload"]).file("web.py", raises).start();
    assert_eq!(running.await_end(), End::Code(4));
    assert!(running.said().contains("Exception: no plan \\udcff"), "{}", running.said());
    let folder = folder_with(&[("web.py", WORKS), ("gunicorn.conf.py", raises)]);
    let (said, code) = tuningfork(folder.path(), &["gunicorn", "--interpreter", &interpreter(), "web"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("no plan \\udcff"), "{said}");
}
