//! System calls of the supervisor fail, from its start to its end: it goes on, or ends with a documented exit code. `benches/inject.py` does
//! them all.

use std::process::Command;

use rustix::process::Signal;

use super::probe::verdict;
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http;
use crate::support::parts;
use crate::support::process::{End, send};

/// The call, the error, and which of the calls.
const INJECTIONS: [[&str; 3]; 14] = [
    ["clone", "EAGAIN", "1+"],
    ["clone", "ENOMEM", "3"],
    ["clone3", "EAGAIN", "1+"],
    ["pidfd_open", "EMFILE", "1+"],
    ["pipe2", "EMFILE", "2+"],
    ["waitid", "EINTR", "1"],
    ["poll,ppoll", "EINTR", "2+2"],
    ["poll,ppoll", "ENOMEM", "5"],
    ["epoll_wait", "EINTR", "5"],
    ["recvfrom,recvmsg", "ENOMEM", "5"],
    ["sendto,sendmsg", "EAGAIN", "1+"],
    ["accept4", "EMFILE", "1+"],
    ["prctl", "EIO", "1+"],
    ["socket", "ENOMEM", "1"],
];
const DOCUMENTED: [i32; 8] = [0, 1, 3, 4, 66, 70, 73, 78];

/// Starts under strace, which lets calls fail; asks, reloads, kills a worker, stops.
fn survives([call, error, when]: [&str; 3]) -> Result<(), String> {
    let mut strace = Command::new(parts::strace());
    // -D: the program stays our child, strace is its grandchild.
    strace.args(["-D", "-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:error={error}:when={when}")]);
    let mut live = Subject::of(Kind::Command).timeout(2).graceful_timeout(2).boot_timeout(2).start_through(strace);
    let ready = |lines: &[String]| lines.iter().any(|line| line.contains("service ready"));
    live.see(|alive, lines| !alive || ready(lines) || lines.iter().any(|line| line.contains("WARN")));
    // Whether it answers or can be reloaded is not what is judged.
    let _ = http::get(live.address(), "/ok");
    live.signal(Signal::HUP);
    live.see(|alive, lines| !alive || !ready(lines) || lines.iter().any(|line| line.contains("reload f")));
    live.children().into_iter().take(1).for_each(|pid| send(pid, Signal::KILL));
    live.signal(Signal::TERM);
    let end = live.ended();
    live.journal.wait(PATIENCE, |_| live.left().is_empty().then_some(()));
    let (said, left) = (live.said(), live.left());
    live.clear();
    let good = matches!(end, End::Code(code) if DOCUMENTED.contains(&code)) && !said.contains("panicked") && left.is_empty();
    if good { Ok(()) } else { Err(format!("{call} {error} {when}: {end:?}, {} left\n{said}", left.len())) }
}

#[test]
fn injected_errors_end_in_a_documented_way_or_change_nothing() {
    let failed: Vec<String> = INJECTIONS.into_iter().filter_map(|injection| survives(injection).err()).collect();
    verdict("inj", failed.is_empty(), &format!("{} of {} were not survived: {failed:?}", failed.len(), INJECTIONS.len()));
}
