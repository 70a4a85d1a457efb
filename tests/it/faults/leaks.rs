//! Many reloads and crashes: nothing stays open, and memory stays where it was.

use rustix::process::Signal;

use super::live::{Live, descriptors};
use super::probe::{status, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::process::send;

/// Rounds after which a supervisor has made all that it makes once.
const WARM_UP: usize = 5;
/// Most that its memory may grow after that, KiB.
const GROWTH: u64 = 1024;

/// A reload, and a crash of each of the four workers.
fn round(live: &mut Live) {
    assert_eq!(live.reload(PATIENCE), Ok(()));
    let before = live.await_ready_workers("four workers", |now| now.len() == 4);
    for pid in &before {
        send(*pid, Signal::KILL);
    }
    live.await_ready_workers("four new ones", |now| now.len() == 4 && now.iter().all(|pid| !before.contains(pid)));
}

/// `FAULT_ROUNDS` is how many; 250 are 250 reloads and 1,000 crashes.
fn reloads_and_crashes(fault: &str, kind: Kind) {
    let rounds = std::env::var("FAULT_ROUNDS").map_or(15, |rounds| rounds.parse().expect("FAULT_ROUNDS is a number"));
    let mut live = Subject::of(kind).workers(4).ready();
    let pid = live.pid();
    let measure = |live: &mut Live| {
        live.await_ready_workers("rest", |now| now.len() == 4);
        (live.descriptors(), status(pid, "VmRSS").expect("its memory"))
    };
    (0..WARM_UP).for_each(|_| round(&mut live));
    let (before, memory_before) = measure(&mut live);
    (0..rounds).for_each(|_| round(&mut live));
    let no_more = |now: [usize; 2]| now.iter().zip(before).all(|(now, before)| *now <= before);
    live.wait("no more descriptors than before", |lines| no_more(descriptors(pid, lines)).then_some(()));
    let (after, memory_after) = measure(&mut live);
    let grown = memory_after.saturating_sub(memory_before);
    let found = format!(
        "{rounds} reloads and {} crashes: {} more descriptors, {grown} KiB more memory",
        rounds * 4,
        after.iter().zip(before).map(|(after, before)| after.saturating_sub(before)).sum::<usize>()
    );
    verdict(fault, no_more(after) && grown < GROWTH, &found);
    live.audit();
}

#[test]
fn f32_f33_reloads_and_crashes_leak_nothing() {
    reloads_and_crashes("F32, F33", Kind::under_test());
}

#[test]
fn f32z_f33z_reloads_and_crashes_leak_nothing() {
    reloads_and_crashes("F32z, F33z", Kind::Python);
}
