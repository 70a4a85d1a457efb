//! What USR2 does: another supervisor takes the place of the one that runs, or nothing changes.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tuningfork::control::Client;

use crate::support::control;
use crate::support::hammer::{Hammer, Outcome, Reuse, Tally};
use crate::support::http;
use crate::support::journal::Journal;
use crate::support::parts;
use crate::support::process::{End, Watched, children, lives, send};
use crate::support::service::{Running, Service, free_port};

/// How long anything is waited for when the first supervisor has gone.
const PATIENCE: Duration = Duration::from_mins(1);
const STARTED: &str = "upgrade finished: the service is the successor's";

fn config(extra: &str) -> String {
    format!(
        r#"
workers = 2
connections = 20
{extra}
[app]
kind = "command"
command = ["{program}", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "@DIR@"]
[listen]
address = "@LISTEN@"
[control]
socket = "@DIR@/control.sock"
"#,
        program = env!("CARGO_BIN_EXE_tuningfork")
    )
}

/// Waits for so many lines that hold `part`, whoever writes them, and gives the last.
fn await_line(running: &Running, part: &str, times: usize) -> String {
    let found = running.journal.wait(PATIENCE, |lines| lines.iter().filter(|line| line.contains(part)).nth(times - 1).cloned());
    found.unwrap_or_else(|| panic!("not {times} times: {part}\n{}", running.said()))
}

/// The supervisor that took over in the upgrade of this number, once all that came before it have gone.
fn await_successor(running: &Running, upgrade: usize, before: u32) -> u32 {
    let line = await_line(running, STARTED, upgrade);
    let pid = line.split("successor=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let gone = running.journal.wait(PATIENCE, |_| (!lives(before)).then_some(()));
    assert!(gone.is_some(), "the predecessor stays\n{}", running.said());
    pid.unwrap_or_else(|| panic!("no pid in {line:?}"))
}

/// Ends the service whose supervisor has changed, and checks that nothing is left.
fn stop(running: &mut Running, supervisor: u32) {
    send(supervisor, Signal::TERM);
    let gone = running.journal.wait(PATIENCE, |_| (!lives(supervisor)).then_some(()));
    assert!(gone.is_some(), "the successor does not stop\n{}", running.said());
    assert_eq!(running.await_end(), End::Code(0), "{}", running.said());
}

fn all_ok(tally: &Tally) -> bool {
    tally.keys().all(|outcome| *outcome == Outcome::Ok) && tally.contains_key(&Outcome::Ok)
}

fn hammer(running: &Running, reuse: Reuse) -> Hammer {
    let address = running.address().clone();
    Hammer { address, path: "/work?cpu_us=200&wait_ms=2".to_owned(), clients: 8, requests: usize::MAX, reuse }
}

/// Puts a program in the place of the one that runs.
fn replace(running: &Running, script: &str) {
    let new = running.directory().join("new");
    fs::write(&new, script).expect("write a program");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("make it a program");
    fs::rename(new, running.directory().join("tuningfork")).expect("replace the program");
}

fn restore(directory: &Path) {
    let link = directory.join("tuningfork");
    fs::remove_file(&link).ok();
    symlink(env!("CARGO_BIN_EXE_tuningfork"), &link).expect("link the program");
}

#[test]
fn three_upgrades_hand_every_socket_over_and_lose_no_request() {
    for (service, reuse) in
        [(Service::with_config(&config("")).on_tcp(), Reuse::Never), (Service::with_config(&config("")), Reuse::KeepAlive)]
    {
        let metrics = format!("127.0.0.1:{}", free_port());
        let service = service.extend(&format!("[metrics]\nlisten = \"{metrics}\"\n"));
        let mut running = service.ready();
        let load = hammer(&running, reuse).start();
        let control = running.directory().join("control.sock");
        let mut supervisor = running.pid();
        for upgrade in 1..=3 {
            let workers = children(supervisor);
            send(supervisor, Signal::USR2);
            let successor = await_successor(&running, upgrade, supervisor);
            assert_ne!(successor, supervisor);
            await_line(&running, &format!("notify: MAINPID={successor}"), 1);
            await_line(&running, "the service is ours now", upgrade);
            assert!(workers.iter().all(|pid| !lives(*pid)), "old workers stay");
            supervisor = successor;
            let page = http::get(&http::Address::Tcp(metrics.clone()), "/metrics").expect("metrics");
            assert!(page.text().contains("tuningfork_build_info"), "{}", page.text());
            let mut client = Client::connect(&control).expect("the control socket");
            let status = client.status().expect("the status");
            assert_eq!((status.pid, status.ready), (successor, 2));
            let process = client.process().expect("who listens");
            assert!(!process.has_ended_within(Duration::ZERO), "the socket tells another process than that which answers");
        }
        let tally = load.finish();
        assert!(all_ok(&tally), "{reuse:?}: {tally:?}\n{}", running.said());
        assert_eq!(running.get("/ok").status, 200);
        stop(&mut running, supervisor);
        assert!(!control.exists() && !running.directory().join("web.sock").exists(), "socket files are left");
        assert!(!running.said().contains("ERROR"), "{}", running.said());
    }
}

#[test]
fn a_program_that_is_no_good_changes_nothing() {
    let mut running = Service::with_config(&config("boot-timeout = 5\ngraceful-timeout = 1")).ready_from("tuningfork");
    let before = running.children();
    let load = hammer(&running, Reuse::KeepAlive).start();
    let bad = [
        (
            "#!/bin/sh\nsleep 1000 &\necho 'no libfork.so' >&2\nexit 9\n",
            "ended with exit code 9 before it was ready; it wrote last:",
        ),
        ("#!/bin/sh\nkill -SEGV $$\n", "ended with signal 11 before it was ready"),
        ("#!/bin/sh\nexec sleep 1000\n", "was not ready within twice boot-timeout"),
        ("no program at all", "could not be started: execve"),
    ];
    for (count, (program, reason)) in bad.into_iter().enumerate() {
        replace(&running, program);
        running.signal(Signal::USR2);
        running.await_log_times("upgrade failed, this supervisor keeps the service", count + 1);
        running.await_log(reason);
        running.await_children("the old workers and nobody else", |now| now == before);
    }
    running.await_log("  | no libfork.so");
    running.await_log("new program stderr: no libfork.so");
    fs::remove_file(running.directory().join("tuningfork")).expect("remove the program");
    running.signal(Signal::USR2);
    running.await_log("tuningfork: No such file or directory");
    let tally = load.finish();
    assert!(all_ok(&tally), "{tally:?}");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn an_upgrade_can_give_workers_more_time_to_boot() {
    let mut running = Service::with_config(&config("boot-timeout = 2")).ready();
    // Longer than twice the old limit.
    let slow = r#"command = ["/bin/sh", "-c", 'sleep 5; exec "$0" "$@"', "#;
    let config = running.config().replace("boot-timeout = 2", "boot-timeout = 600");
    running.reconfigure(&config.replace("command = [", slow));
    let before = running.pid();
    running.signal(Signal::USR2);
    let successor = await_successor(&running, 1, before);
    assert_eq!(running.get("/ok").status, 200);
    stop(&mut running, successor);
}

#[test]
fn a_program_that_cannot_serve_says_why_and_changes_nothing() {
    let mut running = Service::with_config(&config("")).ready();
    let before = running.children();
    let load = hammer(&running, Reuse::KeepAlive).start();
    fs::write(running.directory().join("boot_fail"), "").expect("write a file");
    running.signal(Signal::USR2);
    running.await_log_times("upgrade failed, this supervisor keeps the service", 1);
    running.await_log("keeps the service: no worker became ready");
    // The configuration is read anew.
    fs::remove_file(running.directory().join("boot_fail")).expect("remove a file");
    let config = running.config();
    fs::write(running.directory().join("tuningfork.toml"), "workers = 0\n").expect("write a file");
    running.signal(Signal::USR2);
    running.await_log_times("upgrade failed, this supervisor keeps the service", 2);
    running.await_log("tuningfork.toml:1: workers");
    running.await_children("the old workers and nobody else", |now| now == before);
    let tally = load.finish();
    assert!(all_ok(&tally), "{tally:?}");
    // Who comes now finds the service and its control socket where they were.
    assert_eq!(running.get("/ok").status, 200);
    let mut client = Client::connect(&running.directory().join("control.sock")).expect("the control socket");
    assert_eq!(client.status().expect("the status").pid, running.pid());
    fs::write(running.directory().join("tuningfork.toml"), config).expect("write a file");
    let old = running.pid();
    running.signal(Signal::USR2);
    let successor = await_successor(&running, 1, old);
    assert_eq!(running.get("/ok").status, 200);
    stop(&mut running, successor);
}

#[test]
fn ctl_upgrade_waits_and_tells_what_became_of_it() {
    let mut running = Service::with_config(&config("boot-timeout = 5")).ready_from("tuningfork");
    let ctl = |running: &Running| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tuningfork"));
        let config = running.directory().join("tuningfork.toml");
        command.args(["ctl", "upgrade", "--wait", "--config"]).arg(config).output().expect("run ctl")
    };
    replace(&running, "#!/bin/sh\nexit 9\n");
    let failed = ctl(&running);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("the old program keeps the service") && said.contains("exit code 9"), "{said}");
    restore(running.directory());
    let old = running.pid();
    let done = ctl(&running);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let successor = await_successor(&running, 1, old);
    let said = [done.stdout, done.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains(&format!("pid {successor}")), "{}", String::from_utf8_lossy(&said));
    stop(&mut running, successor);
}

#[test]
fn ctl_upgrade_tells_the_truth_where_the_control_socket_moves() {
    let mut running = Service::with_config(&config("")).ready();
    let upgrade = |running: &Running, name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
        let output = command.args(["ctl", "upgrade", "--wait", "--socket"]).arg(running.directory().join(name)).output();
        let output = output.expect("run ctl");
        (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.code())
    };
    let (old, before) = (running.pid(), running.config());
    running.reconfigure(&before.replace("control.sock", "none/control.sock"));
    let (said, code) = upgrade(&running, "control.sock");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the old program keeps the service") && said.contains("none/control.sock"), "{said}");
    let mut client = Client::connect(&running.directory().join("control.sock")).expect("the control socket");
    assert_eq!(client.status().expect("the status").pid, old);
    running.reconfigure(&before.replace("control.sock", "moved.sock"));
    let (said, code) = upgrade(&running, "control.sock");
    let successor = await_successor(&running, 1, old);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("pid {successor}")) && said.contains("elsewhere"), "{said}");
    let (said, code) = upgrade(&running, "moved.sock");
    let successor = await_successor(&running, 2, successor);
    assert_eq!((code, said.contains(&format!("pid {successor}"))), (Some(0), true), "{said}");
    stop(&mut running, successor);
}

/// Each desk by itself: one that cannot be opened takes no other with it, and is opened once that is possible.
#[test]
fn a_successor_that_lacks_descriptors_opens_its_desks_when_it_has_them() {
    let metrics = format!("127.0.0.1:{}", free_port());
    let service = Service::with_config(&format!("pidfile = \"@DIR@/pid\"\n{}", config("")));
    let mut running = service.extend(&format!("[metrics]\nlisten = \"{metrics}\"\n")).ready();
    let (old, directory) = (running.pid(), running.directory().to_owned());
    // Workers that take their time: until they are there, the successor has nothing to open.
    fs::write(directory.join("boot_sleep"), "2000").expect("write a file");
    running.signal(Signal::USR2);
    let line = await_line(&running, "tuningfork starts", 2);
    let successor: u32 = line.split(" pid=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a pid");
    let mut strace = Command::new(parts::strace());
    strace.args(["-p", &successor.to_string(), "-o", "/dev/null", "-e", "trace=epoll_create1"]);
    strace.args(["-e", "inject=epoll_create1:error=EMFILE"]);
    let mut lack = Watched::start(strace, Journal::default());
    lack.wait("strace attached", |lines| lines.iter().any(|line| line.contains("attached")).then_some(()));
    assert_eq!(await_successor(&running, 1, old), successor);
    await_line(&running, "are not served", 1);
    assert_eq!(fs::read_to_string(directory.join("pid")).expect("the pid file").trim(), successor.to_string());
    await_line(&running, "no control socket", 1);
    lack.signal(Signal::TERM);
    lack.ended();
    await_line(&running, "INFO control ", 2);
    await_line(&running, "INFO metrics ", 2);
    assert_eq!(http::get(&http::Address::Tcp(metrics), "/healthz").expect("metrics").status, 200);
    assert_eq!(Client::connect(&directory.join("control.sock")).expect("control").status().expect("the status").pid, successor);
    let complaints = running.said().matches("are not served").count();
    assert_eq!(complaints, 1, "{}", running.said());
    stop(&mut running, successor);
}

#[test]
fn a_stop_during_an_upgrade_stops_both() {
    let mut running = Service::with_config(&config("")).ready_from("tuningfork");
    replace(&running, "#!/bin/sh\nexec sleep 1000\n");
    running.signal(Signal::USR2);
    running.await_log("upgrade begins");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_reload_wished_for_during_an_upgrade_is_made_by_the_successor() {
    let mut running = Service::with_config(&config("")).ready_from("tuningfork");
    let old = running.pid();
    let begins = running.directory().join("go");
    let program = env!("CARGO_BIN_EXE_tuningfork");
    replace(&running, &format!("#!/bin/sh\nuntil test -e {}; do sleep 0.05; done\nexec {program} \"$@\"\n", begins.display()));
    running.signal(Signal::USR2);
    running.await_log("upgrade begins");
    let mut reload = control::command(&running, "reload --wait").stderr(Stdio::piped()).spawn().expect("run ctl");
    running.await_log("asked at the control socket");
    fs::write(begins, "").expect("write a file");
    let successor = await_successor(&running, 1, old);
    await_line(&running, "reload finished", 1);
    let mut said = String::new();
    reload.stderr.take().expect("a pipe").read_to_string(&mut said).expect("read what ctl says");
    assert_eq!(reload.wait().expect("wait for ctl").code(), Some(0), "{said}");
    assert!(said.contains("reloaded: generation 2 serves"), "{said}");
    stop(&mut running, successor);
}

/// What ctl says that waits for `new` workers, of which none comes up until an upgrade.
fn asked_across_an_upgrade(running: &Running, action: &str, new: usize) -> (u32, String) {
    let slow = running.directory().join("boot_sleep");
    let boots = running.directory().join("boots");
    fs::write(&boots, "").expect("write a file");
    let old = running.pid();
    fs::write(&slow, "600000").expect("write a file");
    let mut asked = control::command(running, action).stderr(Stdio::piped()).spawn().expect("run ctl");
    let are_slow = || fs::read_to_string(&boots).is_ok_and(|boots| boots.lines().count() == new);
    assert!(running.journal.wait(PATIENCE, |_| are_slow().then_some(())).is_some(), "{}", running.said());
    fs::remove_file(slow).expect("remove a file");
    running.signal(Signal::USR2);
    let successor = await_successor(running, 1, old);
    let mut said = String::new();
    asked.stderr.take().expect("a pipe").read_to_string(&mut said).expect("read what ctl says");
    assert_eq!(asked.wait().expect("wait for ctl").code(), Some(0), "{said}\n{}", running.said());
    (successor, said)
}

#[test]
fn who_waits_for_a_number_of_workers_during_an_upgrade_gets_it_from_the_successor() {
    let mut running = Service::with_config(&config("")).ready();
    let (successor, said) = asked_across_an_upgrade(&running, "scale +2 --wait", 2);
    assert!(said.contains("4 workers"), "{said}");
    let status = Client::connect(&running.directory().join("control.sock")).and_then(|mut client| client.status()).expect("ask");
    assert_eq!((status.pid, status.target, status.ready), (successor, 4, 4));
    stop(&mut running, successor);
}

#[test]
fn who_waits_for_the_end_of_a_worker_during_an_upgrade_waits_for_the_old_supervisors() {
    let mut running = Service::with_config(&config("")).ready();
    let (successor, said) = asked_across_an_upgrade(&running, "worker kill 1 --wait", 1);
    assert!(said.contains("worker 1 is replaced"), "{said}");
    stop(&mut running, successor);
}

#[test]
fn a_successor_ends_when_its_predecessor_is_killed_before_it_has_the_service() {
    let mut running = Service::with_config(&config("")).ready();
    fs::write(running.directory().join("boot_sleep"), "30000").expect("write a file");
    running.signal(Signal::USR2);
    running.await_log_times("tuningfork starts", 2);
    running.signal(Signal::KILL);
    assert_eq!(running.await_end(), End::Signal(9));
}

#[test]
fn a_second_upgrade_waits_until_the_first_supervisor_has_left() {
    let mut running = Service::with_config(&config("")).ready();
    let old = running.pid();
    let address = running.address().clone();
    let slow = std::thread::spawn(move || http::get(&address, "/sleep/1500"));
    running.await_busy();
    running.signal(Signal::USR2);
    let line = await_line(&running, STARTED, 1);
    let first: u32 = line.split("successor=").nth(1).and_then(|pid| pid.trim().parse().ok()).expect("a pid");
    send(first, Signal::USR2);
    let second = await_successor(&running, 2, first);
    assert!(!lives(old));
    assert_eq!(slow.join().expect("the client").expect("an answer").status, 200);
    stop(&mut running, second);
}
