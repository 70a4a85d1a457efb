//! System calls of the supervisor and of its workers fail, from the start to the end: the service goes on, or there is none, with
//! the exit code for that. `benches/inject.py` does them all.

use std::process::Command;

use rustix::process::Signal;

use super::live::Live;
use super::probe::verdict;
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http;
use crate::support::parts;
use crate::support::process::{End, send};

/// What has to become of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It serves, replaces a worker that is killed, is reloaded, and ends with 0.
    Serves,
    /// No worker can serve; the supervisor ends with 0 when it is told to.
    Stays,
    /// It ends by itself with this exit code.
    Ends(i32),
}

/// The call, the error, which of the calls of each process, and what has to come of it.
const INJECTIONS: [([&str; 3], Fate); 14] = [
    (["clone", "EAGAIN", "1+"], Fate::Ends(3)),
    (["clone", "ENOMEM", "3"], Fate::Serves),
    (["clone3", "EAGAIN", "1+"], Fate::Ends(1)),
    (["pidfd_open", "EMFILE", "1+"], Fate::Ends(3)),
    (["pipe2", "EMFILE", "2+"], Fate::Ends(3)),
    (["waitid", "EINTR", "1"], Fate::Serves),
    (["poll,ppoll", "EINTR", "2+2"], Fate::Serves),
    (["poll,ppoll", "ENOMEM", "5"], Fate::Serves),
    (["epoll_wait", "EINTR", "5"], Fate::Serves),
    (["recvfrom,recvmsg", "ENOMEM", "5"], Fate::Serves),
    (["sendto,sendmsg", "EAGAIN", "1+"], Fate::Stays),
    (["accept4", "EMFILE", "1+"], Fate::Stays),
    (["prctl", "EIO", "1+"], Fate::Ends(1)),
    (["socket", "ENOMEM", "1"], Fate::Ends(1)),
];

/// Starts under strace, which lets calls fail.
fn start([call, error, when]: [&str; 3]) -> Live {
    let mut strace = Command::new(parts::strace());
    // -D: the program stays our child, strace is its grandchild.
    strace.args(["-D", "-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:error={error}:when={when}")]);
    Subject::of(Kind::Command).timeout(2).graceful_timeout(2).boot_timeout(2).start_through(strace)
}

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

/// One of the workers may have lost the request to the call that failed: then another answers.
fn answers(live: &Live) -> bool {
    let answer = || http::get(live.address(), "/ok").ok().filter(|reply| reply.status == 200);
    live.journal.wait(PATIENCE, |_| answer()).is_some()
}

/// Asks, kills a worker, asks, reloads, asks again.
fn serves(live: &mut Live) -> Result<(), &'static str> {
    let told = |live: &Live, part: &str| live.journal.wait(PATIENCE, |lines| has(lines, part).then_some(())).is_some();
    if !told(live, "service ready") || !answers(live) {
        return Err("it does not serve");
    }
    let victim = live.see_ready_workers(PATIENCE, |now| now.len() == 2).ok_or("there are not two workers")?[0];
    send(victim, Signal::KILL);
    let replaced = live.see_ready_workers(PATIENCE, |now| now.len() == 2 && !now.contains(&victim));
    if replaced.is_none() || !answers(live) {
        return Err("a worker is not replaced");
    }
    if live.reload(PATIENCE).is_err() || !answers(live) {
        return Err("it is not reloaded");
    }
    Ok(())
}

/// Whether it comes as it has to.
fn comes_to(injection: [&str; 3], fate: Fate) -> Result<(), String> {
    let mut live = start(injection);
    let lived = match fate {
        Fate::Serves => serves(&mut live),
        Fate::Stays => {
            live.see(|alive, lines| !alive || has(lines, "WARN") || has(lines, "service ready"));
            Ok(())
        }
        Fate::Ends(_) => {
            live.see(|alive, _| !alive);
            Ok(())
        }
    };
    let ended_by_itself = !live.is_alive();
    live.signal(Signal::TERM);
    let end = live.ended();
    live.journal.wait(PATIENCE, |_| live.left().is_empty().then_some(()));
    let (said, left) = (live.said(), live.left());
    live.clear();
    let wanted = if let Fate::Ends(code) = fate { (true, End::Code(code)) } else { (false, End::Code(0)) };
    if lived.is_ok() && (ended_by_itself, end) == wanted && !said.contains("panicked") && left.is_empty() {
        return Ok(());
    }
    let itself = if ended_by_itself { "by itself" } else { "when told to" };
    Err(format!("{injection:?} {fate:?}: {lived:?}, ended {itself} {end:?}, {} left\n{said}", left.len()))
}

#[test]
fn injected_errors_end_in_a_documented_way_or_change_nothing() {
    let failed: Vec<String> = INJECTIONS.into_iter().filter_map(|(call, fate)| comes_to(call, fate).err()).collect();
    let serve = INJECTIONS.iter().filter(|(_, fate)| *fate == Fate::Serves).count();
    let found = format!(
        "{} of {} came to what they should, {serve} of them to a service that serves on{}",
        INJECTIONS.len() - failed.len(),
        INJECTIONS.len(),
        failed.iter().map(|failure| format!("; {failure}")).collect::<Vec<_>>().concat()
    );
    verdict("inj", failed.is_empty(), &found);
}
