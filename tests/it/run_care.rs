//! What `tuningfork run` does for workers that serve: renewal, hooks, hangs, and what it does while none serves.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::hammer::{Hammer, Outcome, Reuse, Tally};
use crate::support::http::Client;
use crate::support::parts;
use crate::support::process::{End, send};
use crate::support::service::{Running, Service};

fn demo(top: &str, below: &str) -> Service {
    Service::with_config(&format!(
        r#"
workers = 3
connections = 20
{top}
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "@DIR@"]
{below}
[listen]
address = "@LISTEN@"
"#
    ))
}

fn python(class: &str, top: &str, app: &str) -> Service {
    let config = format!(
        "workers = 2\n{top}\n[app]\nkind = \"python\"\napp = \"web\"\nworker-class = \"{class}\"\ninterpreter = \"{}\"\n[listen]\naddress = \"@LISTEN@\"\n",
        parts::python().display()
    );
    Service::with_config(&config).file("web.py", app)
}

const WSGI: &str = r"
import time
def application(environ, start_response):
    if environ['PATH_INFO'] == '/hang':
        hang_for_ever()
    if environ['PATH_INFO'] == '/eat':
        eaten.append(bytearray(64 << 20))
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
eaten = []
def hang_for_ever():
    while True:
        time.sleep(0.01)
";

const ASGI: &str = r"
async def application(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'2')]})
    await send({'type': 'http.response.body', 'body': b'ok'})
";

fn all_ok(tally: &Tally) -> bool {
    tally.keys().all(|outcome| *outcome == Outcome::Ok) && tally.contains_key(&Outcome::Ok)
}

fn hammer(running: &Running, path: &str, clients: usize, reuse: Reuse) -> Hammer {
    Hammer { address: running.address().clone(), path: path.to_owned(), clients, requests: usize::MAX, reuse }
}

#[test]
fn workers_that_have_answered_enough_are_renewed_without_an_error() {
    for class in ["sync", "gthread", "gevent", "asgi"] {
        let app = if class == "asgi" { ASGI } else { WSGI };
        let mut running = python(class, "max-requests = 50\nmax-requests-jitter = 20", app).ready();
        let before = running.workers();
        let load = hammer(&running, "/", 4, Reuse::KeepAlive).start();
        running.await_log_times("worker stopping", 3);
        running.await_children("two new workers", |now| !before.iter().any(|pid| now.contains(pid)));
        let tally = load.finish();
        assert!(all_ok(&tally), "{class}: {tally:?}\n{}", running.said());
        let said = running.said();
        assert!(said.contains("reason=\"max_requests\""), "{said}");
        assert!(!said.contains("reason=\"crash\"") && !said.contains("keeps failing"), "{said}");
        assert_eq!(running.stop(), End::Code(0), "{class}");
    }
}

#[test]
fn old_workers_are_renewed_one_at_a_time() {
    let mut running = demo("max-age = \"1s\"", "").ready();
    let load = hammer(&running, "/ok", 4, Reuse::KeepAlive).start();
    running.await_log_times("reason=\"max_age\"", 8);
    let tally = load.finish();
    assert!(all_ok(&tally), "{tally:?}");
    // At most one was on its way out: each had ended before the next was told to leave.
    let said = running.said();
    let mut leaving = 0_u32;
    for line in said.lines().filter(|line| line.contains("reason=\"max_age\"")) {
        if line.contains("worker stopping") {
            leaving += 1;
            assert_eq!(leaving, 1, "{said}");
        } else if line.contains("worker ended") {
            leaving -= 1;
        }
    }
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_worker_with_too_much_memory_is_renewed() {
    let mut running = python("sync", "max-memory = \"64 MiB\"", WSGI).ready();
    assert_eq!(running.get("/eat").status, 200);
    running.await_log("reason=\"max_memory\"");
    running.await_children("both small again", |now| now.len() == 3 && now.iter().all(|pid| resident_megabytes(*pid) < 64));
    assert_eq!(running.stop(), End::Code(0));
}

fn resident_megabytes(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| (pages * 4096) >> 20)
}

#[test]
fn f14_a_hung_python_worker_leaves_a_traceback_of_all_threads() {
    for class in ["sync", "gthread", "gevent"] {
        let mut running = python(class, "timeout = 2\ngraceful-timeout = 1", WSGI).ready();
        let hung = running.workers();
        if class == "sync" {
            let mut client = Client::connect(running.address(), Duration::from_secs(20)).expect("connect");
            // Gunicorn may still say that it failed.
            assert!(client.get("/hang").map_or(500, |reply| reply.status) >= 500, "a hung worker answered");
        } else {
            // Their loops go on beside a request that hangs: the whole process is what hangs.
            send(hung[0], Signal::STOP);
        }
        running.await_log("worker timeout");
        if class == "sync" {
            running.await_log("in hang_for_ever");
        }
        running.await_log_times("worker ready", 3);
        running.await_children("the hung one is gone", |now| now.len() == 3);
        assert_eq!(running.get("/").status, 200, "{class}");
        assert_eq!(running.stop(), End::Code(0));
    }
}

#[test]
fn f13_a_canary_that_dies_soon_after_it_is_ready_ends_the_reload() {
    let mut running = demo("settle = 5", "").ready();
    let before = running.children();
    let load = hammer(&running, "/ok", 4, Reuse::Never).start();
    fs::write(running.directory().join("die_after_ready"), "1000").expect("write a file");
    running.signal(Signal::HUP);
    running.await_log("reload failed, the old workers keep serving");
    assert_eq!(running.children(), before, "no old worker was stopped");
    let tally = load.finish();
    // The canary takes with it what it was about to answer; nobody else loses anything.
    assert!(tally.iter().all(|(outcome, count)| *outcome == Outcome::Ok || *count <= 4), "{tally:?}");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f08_while_nobody_serves_one_at_a_time_is_tried_and_a_repair_heals_it() {
    let mut running = Service::of_demo_workers(16, 9).ready();
    fs::write(running.directory().join("crash_on_boot"), "").expect("write a file");
    for worker in running.children() {
        send(worker, Signal::KILL);
    }
    running.await_log("one at a time is tried");
    running.await_notice("STATUS=0 of 16 workers ready; they keep failing, one is tried at a time");
    running.await_log_times("worker keeps failing", 2);
    let ended = running.said().matches("worker ended").count();
    assert!(ended <= 16 + 20, "{ended} workers ended");
    fs::remove_file(running.directory().join("crash_on_boot")).expect("remove a file");
    running.signal(Signal::HUP);
    running.await_log("reload finished");
    running.await_children("all are back", |now| now.len() == 16);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn who_says_fail_after_is_given_up() {
    let mut running = demo("fail-after = 4", "").ready();
    fs::write(running.directory().join("crash_on_boot"), "").expect("write a file");
    for worker in running.children() {
        send(worker, Signal::KILL);
    }
    assert_eq!(running.await_end(), End::Code(70));
    assert!(running.said().contains("no worker serves any more"), "{}", running.said());
}

#[test]
fn a_worker_that_leaves_by_itself_is_replaced_and_is_no_crash() {
    let mut running = demo("", "").ready();
    let before = running.children();
    send(before[0], Signal::TERM);
    running.await_log("reason=\"left\"");
    running.await_children("a replacement", |now| now.len() == 3 && !now.contains(&before[0]));
    assert!(!running.said().contains("reason=\"crash\""), "{}", running.said());
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn hooks_run_in_order_and_are_told_whom_it_is_about() {
    let hook = |name: &str| {
        format!(
            "{name} = [\"/bin/sh\", \"-c\", \"line=$(env | grep ^TUNINGFORK_ | sort | tr '\\\\n' ' '); echo \\\"$line\\\" >> @DIR@/hooks; echo said-$TUNINGFORK_HOOK\"]"
        )
    };
    let hooks = ["before-fork", "after-ready", "on-exit"].map(hook).join("\n");
    let mut running = demo("", &format!("[hooks]\n{hooks}")).ready();
    let told = |directory: &Path| fs::read_to_string(directory.join("hooks")).unwrap_or_default();
    let directory = running.directory().to_owned();
    running.await_log_times("said-after-ready", 3);
    send(running.workers()[0], Signal::KILL);
    running.await_log_times("said-on-exit", 1);
    running.await_log_times("said-after-ready", 4);
    let text = told(&directory);
    let of = |hook: &str| text.lines().filter(|line| line.contains(&format!("TUNINGFORK_HOOK={hook} "))).count();
    assert_eq!((of("before-fork"), of("after-ready"), of("on-exit")), (4, 4, 1), "{text}");
    let exit = text.lines().find(|line| line.contains("HOOK=on-exit")).expect("the exit");
    assert!(exit.contains("TUNINGFORK_EXIT=signal 9") && exit.contains("TUNINGFORK_WORKER_PID="), "{exit}");
    assert_eq!(running.stop(), End::Code(0));
    let text = told(&directory);
    assert_eq!(text.lines().filter(|line| line.contains("HOOK=on-exit")).count(), 4, "those of the last workers too: {text}");
}

#[test]
fn a_hook_that_fails_or_hangs_stops_no_loop_and_a_worker_is_not_made_without_it() {
    let hook = "[hooks]\nbefore-fork = [\"/bin/sh\", \"-c\", \"test ! -e @DIR@/no\"]\nafter-ready = [\"sleep\", \"1000\"]";
    let mut running = demo("", hook).ready();
    fs::write(running.directory().join("no"), "").expect("write a file");
    send(running.workers()[0], Signal::KILL);
    running.await_log("the hook before-fork ended with exit code 1");
    fs::remove_file(running.directory().join("no")).expect("remove a file");
    running.await_log_times("worker ready", 4);
    assert_eq!(running.get("/ok").status, 200);
    running.await_log("the hook after-ready took longer than 10 s");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn workers_whose_hooks_cannot_all_run_at_the_same_time_wait_for_their_turn() {
    let config = "workers = 70\n[app]\nkind = \"command\"\ncommand = [\"sleep\", \"1000\"]\nreadiness = \"10ms\"\n\
        [hooks]\nbefore-fork = [\"sleep\", \"0.3\"]\non-exit = [\"/bin/sh\", \"-c\", \"sleep 0.3; echo left >> @DIR@/left\"]\n\
        [listen]\naddress = \"@LISTEN@\"\n";
    let mut running = Service::with_config(config).ready();
    running.await_log_times("worker ready", 70);
    let left = running.directory().join("left");
    assert_eq!(running.stop(), End::Code(0));
    assert_eq!(fs::read_to_string(left).expect("what the hooks wrote").lines().count(), 70, "{}", running.said());
}
