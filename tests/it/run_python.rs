//! A real Django project on Gunicorn's worker classes, through the zygote.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::http::Address;
use crate::support::parts;
use crate::support::process::{End, lives, send};
use crate::support::service::{Running, Service};
use crate::support::shop;

/// The shop with a database of its own, ready to serve.
fn shop_service(class: &str) -> Running {
    let service = Service::with_config(&shop::config(class));
    shop::seed(service.directory());
    service.on_tcp().ready()
}

/// What wrk says about this many seconds of keep-alive load.
fn wrk(address: &Address, path: &str, seconds: u32) -> std::thread::JoinHandle<String> {
    let Address::Tcp(address) = address else { panic!("wrk speaks TCP") };
    let mut command = Command::new(parts::wrk());
    command.args(["-t1", "-c8", &format!("-d{seconds}s"), "--timeout", "10s", &format!("http://{address}{path}")]);
    std::thread::spawn(move || parts::output(&mut command).unwrap_or_else(|error| panic!("{error}")))
}

/// wrk mentions errors only when there are some.
fn assert_no_errors(said: &str) {
    assert!(said.contains("requests in") && !said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
}

#[test]
fn every_worker_class_serves_django_and_reloads_under_load_without_an_error() {
    for class in ["sync", "gthread", "gevent", "asgi"] {
        let mut running = shop_service(class);
        let page = running.get("/");
        assert_eq!(page.status, 200, "{class}: {}", page.text());
        let load = wrk(running.address(), "/", 6);
        running.signal(Signal::TTIN);
        running.await_log("workers=3");
        running.signal(Signal::TTOU);
        running.await_log_times("number of workers changed", 2);
        let mut reloads = 0;
        while reloads < 3 || !load.is_finished() {
            reloads += 1;
            running.signal(Signal::HUP);
            running.await_log_times("reload finished", reloads);
        }
        assert_no_errors(&load.join().expect("wrk"));
        running.await_children("the zygote and two workers", |now| now.len() == 3);
        send(running.workers()[0], Signal::KILL);
        running.await_log("reason=\"crash\"");
        assert_eq!(running.get("/").status, 200, "{class}");
        assert_eq!(running.stop(), End::Code(0), "{class}");
    }
}

#[test]
fn an_upgrade_under_load_loses_no_request() {
    for class in ["sync", "gthread", "gevent", "asgi"] {
        let mut running = shop_service(class);
        let load = wrk(running.address(), "/", 4);
        let old = running.pid();
        running.signal(Signal::USR2);
        let line = running.wait("the upgrade", |lines| lines.iter().find(|line| line.contains("upgrade finished")).cloned());
        let successor = line.split("successor=").nth(1).and_then(|pid| pid.trim().parse().ok()).expect("a pid");
        assert_no_errors(&load.join().expect("wrk"));
        let patience = running.patience;
        let ends = |pid| running.journal.wait(patience, |_| (!lives(pid)).then_some(())).is_some();
        assert!(ends(old), "{class}: the old supervisor stays");
        send(successor, Signal::TERM);
        assert!(ends(successor), "{class}: it does not stop");
        assert_eq!(running.await_end(), End::Code(0), "{class}");
    }
}

#[test]
fn an_import_error_on_reload_keeps_the_old_workers() {
    let config = format!(
        "workers = 2\n[app]\nkind = \"python\"\napp = \"web\"\ninterpreter = \"{}\"\n[listen]\naddress = \"@LISTEN@\"\n",
        parts::python().display()
    );
    let works = "def application(environ, start_response):\n    start_response('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n";
    let mut running = Service::with_config(&config).file("web.py", works).ready();
    let before = running.workers();
    std::fs::write(running.directory().join("web.py"), "import no_such_module\n").expect("write the application");
    running.signal(Signal::HUP);
    running.await_log("reload failed, the old workers keep serving");
    running.await_log("No module named 'no_such_module'");
    assert_eq!(running.workers(), before);
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn workers_outlive_their_zygote_and_it_is_replaced() {
    let mut running = shop_service("gevent");
    let workers = running.workers();
    let zygote = running.children().into_iter().find(|pid| !workers.contains(pid)).expect("the zygote");
    send(zygote, Signal::KILL);
    assert_eq!(running.get("/").status, 200);
    send(workers[0], Signal::KILL);
    running.await_log("starting another");
    running.await_log_times("worker ready", 3);
    assert_eq!(running.get("/").status, 200);
    let told = format!("the zygote ended with signal 9; its workers keep serving generation=1 pid={zygote}");
    assert_eq!(running.said().matches(&told).count(), 1, "{}", running.said());
    assert_eq!(running.stop(), End::Code(0));
    assert_eq!(running.said().matches("the zygote ended with").count(), 1, "{}", running.said());
}

#[test]
fn a_stop_ends_also_when_the_zygote_does_not_answer() {
    let config = format!(
        "workers = 2\ngraceful-timeout = 1\n[app]\nkind = \"python\"\napp = \"web\"\ninterpreter = \"{}\"\n[listen]\naddress = \"@LISTEN@\"\n",
        parts::python().display()
    );
    let mut running = Service::with_config(&config).file("web.py", "def application(environ, start_response): pass\n").ready();
    let workers = running.workers();
    let zygote = running.children().into_iter().find(|pid| !workers.contains(pid)).expect("the zygote");
    send(zygote, Signal::STOP);
    send(workers[0], Signal::KILL);
    running.await_log("worker ended");
    assert_eq!(running.stop(), End::Code(0));
}

/// A small application that has two seconds to boot.
fn impatient() -> Service {
    let config = format!(
        "workers = 2\nboot-timeout = 2\n[app]\nkind = \"python\"\napp = \"web\"\ninterpreter = \"{}\"\n[listen]\naddress = \"@LISTEN@\"\n",
        parts::python().display()
    );
    let works = "def application(environ, start_response):\n    start_response('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n";
    Service::with_config(&config).file("web.py", works)
}

#[test]
fn a_zygote_that_does_not_answer_is_replaced() {
    let mut running = impatient().ready();
    let workers = running.workers();
    let zygote = running.children().into_iter().find(|pid| !workers.contains(pid)).expect("the zygote");
    send(zygote, Signal::STOP);
    send(workers[0], Signal::KILL);
    running.await_log("the zygote did not answer in time and is killed");
    running.await_log("the zygote is dead; starting another");
    running.await_log_times("worker ready", 3);
    assert!(running.workers().contains(&workers[1]), "the other worker was not touched");
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn an_import_that_hangs_fails_the_reload() {
    let mut running = impatient().ready();
    let before = running.workers();
    std::fs::write(running.directory().join("web.py"), "import time\ntime.sleep(3600)\n").expect("write the application");
    running.signal(Signal::HUP);
    running.await_log("reload failed, the old workers keep serving");
    running.await_children("the zygote and two workers", |now| now.len() == 3);
    assert_eq!(running.workers(), before);
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_reload_can_give_the_application_more_time_to_boot() {
    let mut running = impatient().ready();
    let before = running.workers();
    let application = std::fs::read_to_string(running.directory().join("web.py")).expect("the application");
    // Longer than the old limit, which is two seconds.
    std::fs::write(running.directory().join("web.py"), format!("import time\ntime.sleep(3)\n{application}")).expect("write it");
    running.reconfigure(&running.config().replace("boot-timeout = 2", "boot-timeout = 600"));
    running.signal(Signal::HUP);
    running.await_log("reload finished");
    running.await_children("the zygote and two workers", |now| now.len() == 3 && !before.iter().any(|pid| now.contains(pid)));
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_django_project_whose_urls_are_broken_is_not_rolled_out() {
    let mut running = shop_service("sync");
    let before = running.workers();
    let broken = "from shop.settings import *\nROOT_URLCONF = 'no_such_urls'\n";
    std::fs::write(running.directory().join("broken.py"), broken).expect("write settings");
    running.reconfigure(&running.config().replace(
        "env = {",
        &format!("env = {{ PYTHONPATH = \"{}\", DJANGO_SETTINGS_MODULE = \"broken\",", running.directory().display()),
    ));
    running.signal(Signal::HUP);
    running.await_log("reload failed, the old workers keep serving");
    running.await_log("no_such_urls");
    assert_eq!(running.workers(), before);
    assert_eq!(running.get("/").status, 200);
    assert_eq!(running.stop(), End::Code(0));
}

/// Two workers of an application that begins like this, in a directory of its own.
fn beginning(lines: &str) -> Service {
    let config = format!(
        "workers = 2\n[app]\nkind = \"python\"\napp = \"web\"\ninterpreter = \"{}\"\n[listen]\naddress = \"@LISTEN@\"\n",
        parts::python().display()
    );
    let works = "def application(environ, start_response):\n    start_response('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n";
    Service::with_config(&config).file("web.py", &format!("{lines}{works}"))
}

/// As sd_notify(3) does it, wherever the name of the socket is from.
const SAYS_READY: &str = "import socket
environment = open('/proc/self/environ').read()
name = environment.split('NOTIFY_SOCKET=')[1].split('\\0')[0]
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', name)
";

#[test]
fn an_import_that_says_it_is_ready_is_not_taken_for_a_stray_worker() {
    let mut running = beginning(SAYS_READY).ready();
    running.signal(Signal::HUP);
    running.await_log("reload finished");
    assert_eq!(running.get("/").text(), "ok");
    assert!(!running.said().contains("before it was announced"), "{}", running.said());
    assert_eq!(running.stop(), End::Code(0));
}

/// The first zygote dies when it has forked its first worker, before it can tell.
const DIES_BEFORE_IT_TELLS: &str = "import __main__, os
def tell(answer, really=__main__.tell):
    if 'forked' in answer and not os.path.exists('died'):
        open('died', 'w').close()
        os._exit(1)
    really(answer)
__main__.tell = tell
";

#[test]
fn a_worker_that_nobody_announced_is_ended() {
    let mut running = beginning(DIES_BEFORE_IT_TELLS).ready();
    running.await_log("a worker whose zygote died before it was announced is ended");
    running.await_children("the zygote and two workers", |now| now.len() == 3);
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

/// In a container the supervisor often is process 1.
#[test]
fn a_worker_that_nobody_announced_is_ended_by_process_1_too() {
    let mut unshare = vec!["--pid", "--fork", "--mount-proc", "--kill-child"];
    if !rustix::process::getuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let mut running = beginning(DIES_BEFORE_IT_TELLS).ready_through(Path::new("unshare"), &unshare);
    running.await_log("a worker whose zygote died before it was announced is ended");
    assert_eq!(running.get("/").text(), "ok");
    let supervisor = running.await_children("the supervisor", |now| now.len() == 1)[0];
    send(supervisor, Signal::TERM);
    assert_eq!(running.await_end(), End::Code(0));
}
