//! What workers hold: the descriptors that are theirs and no other, and no right to a port below 1024.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::probe::{is_inside, open, verdict};
use crate::support::PATIENCE;
use crate::support::http::{self, Address};
use crate::support::parts;
use crate::support::process::End;
use crate::support::service::{Running, Service};

const WORKERS: usize = 100;
/// Debian's user who owns nothing.
const NOBODY: &str = "65534";

/// Started with descriptors 8 and 9 open, which are nobody's.
const WITH_OTHERS_OPEN: [&str; 3] = ["-c", "exec 8</etc/hostname 9</etc/passwd; exec \"$@\"", "sh"];

/// What a worker has open, by number: a pipe, a socket, or the file's name.
fn kinds(pid: u32) -> Vec<String> {
    let mut all: Vec<(u32, String)> = open(pid)
        .into_iter()
        .map(|(number, target)| {
            let target = target.display().to_string();
            (number.parse().expect("a number"), target.split(':').next().unwrap_or_default().to_owned())
        })
        .collect();
    all.sort();
    all.into_iter().map(|(number, kind)| format!("{number} {kind}")).collect()
}

/// How many of them have this set and no other.
fn exact(pids: &[u32], wanted: &[&str]) -> usize {
    let found: Vec<Vec<String>> = pids.iter().map(|pid| kinds(*pid)).collect();
    let other = found.iter().find(|set| *set != wanted);
    assert!(other.is_none(), "{other:?} instead of {wanted:?}");
    found.len()
}

#[test]
fn f57_the_exact_set_of_descriptors() {
    // A program that opens nothing itself.
    let config = format!(
        "workers = {WORKERS}\nsettle = 0\n[app]\nkind = \"command\"\nreadiness = \"10ms\"\ncommand = [\"sleep\", \"1000\"]\n[listen]\naddress = \"@LISTEN@\"\n"
    );
    let mut running = Service::with_config(&config).ready_through(Path::new("/bin/sh"), &WITH_OTHERS_OPEN);
    let exact_at_first = exact(&running.workers(), &["0 /dev/null", "1 pipe", "2 pipe", "3 socket"]);
    running.signal(Signal::HUP);
    running.await_log("reload finished");
    let workers = running.await_children("the new workers", |now| now.len() == WORKERS);
    let exact_later = exact(&workers, &["0 /dev/null", "1 pipe", "2 pipe", "3 socket"]);
    let found = format!("{exact_at_first} of {WORKERS} workers have the exact set, after a reload {exact_later} of {WORKERS}");
    verdict("F57", exact_at_first.min(exact_later) == WORKERS, &found);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f57z_the_exact_set_of_descriptors() {
    let workers = 20;
    let config = format!(
        "workers = {workers}\nsettle = 0\n[app]\nkind = \"python\"\napp = \"web\"\ninterpreter = \"{}\"\n[listen]\naddress = \"@LISTEN@\"\n",
        parts::python().display()
    );
    let web =
        "def application(environ, start_response):\n    start_response('200 OK', [('Content-Length', '0')])\n    return []\n";
    let service = Service::with_config(&config).file("web.py", web);
    let mut running = service.ready_through(Path::new("/bin/sh"), &WITH_OTHERS_OPEN);
    let sets: Vec<Vec<String>> = running.workers().iter().map(|pid| kinds(*pid)).collect();
    let strange =
        sets.iter().flatten().find(|entry| entry.contains("/etc/") || (entry.contains('/') && !entry.contains("/dev/")));
    let alike = sets.iter().all(|set| set.len() == sets[0].len());
    let found = format!("{} of {workers} workers have the same {}", sets.len(), sets[0].join(", "));
    verdict("F57z", strange.is_none() && alike && sets.len() == workers, &found);
    assert_eq!(running.stop(), End::Code(0));
}

const ON_PORT_80: &str = r#"
workers = 2
[app]
kind = "command"
command = ["@DIR@/program", "demo-worker", "--connections", "9"]
[listen]
address = "127.0.0.1:80"
"#;

/// A service of another user, who cannot read where this program lies.
fn of_nobody(through: &[&str]) -> Running {
    let service = Service::with_config(ON_PORT_80);
    let directory = service.directory().to_owned();
    let program = directory.join("program");
    fs::copy(env!("CARGO_BIN_EXE_tuningfork"), &program).expect("copy the program");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("open the directory");
    let mut arguments = vec!["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    arguments.extend(through);
    // What follows is this program where it lies; it is left away.
    let script = format!("shift; exec {} \"$@\"", program.display());
    arguments.extend(["sh", "-c", &script, "sh"]);
    service.start_through(Path::new("setpriv"), &arguments)
}

fn capabilities(pid: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read its status");
    let sets = status.lines().filter(|line| ["CapPrm", "CapEff", "CapAmb"].iter().any(|set| line.starts_with(set)));
    sets.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect()
}

/// By a capability, and by the kernel's setting. By a socket unit: `run_systemd`.
#[test]
fn f59_port_80_without_root() {
    if !is_inside("faults::standing::f59_port_80_without_root") {
        return;
    }
    parts::output(Command::new("ip").args(["link", "set", "lo", "up"])).unwrap_or_else(|error| panic!("{error}"));
    let ways: [&[&str]; 2] = [&["--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"], &[]];
    for way in ways {
        let least = if way.is_empty() { "80" } else { "1024" };
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", least).expect("set the least port");
        let mut running = of_nobody(way);
        running.await_log("service ready");
        assert_eq!(http::get(&Address::Tcp("127.0.0.1:80".to_owned()), "/ok").expect("an answer").status, 200);
        for pid in running.workers() {
            assert!(capabilities(pid).iter().all(|set| set.bytes().all(|digit| digit == b'0')), "{:?}", capabilities(pid));
        }
        running.signal(Signal::TERM);
        assert_eq!(running.ended(), End::Code(0));
        running.journal.wait(PATIENCE, |_| running.left().is_empty().then_some(()));
    }
    verdict("F59", true, "bound by a capability, which no worker has, and by ip_unprivileged_port_start");
}
