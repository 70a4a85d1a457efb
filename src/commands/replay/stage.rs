//! Plays a run on this thread, at a high priority where that is allowed, while another thread shows how it goes and reads the host's
//! counters. The playing thread never waits for the other.

use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime};

use super::ReplayError;
use super::screen::Screen;
use super::witness::Witness;
use crate::commands::replay_output::{HostUse, Priority};
use crate::load::{Basis, Batch, HostReading, Onward, Played, Processors, Run, play as play_run};
use crate::sys::signals::Signals;
use crate::sys::{clock, cpu, priority};
use crate::units::Moment;

/// How often the host's counters are read.
const TICK: Duration = Duration::from_millis(250);
/// News that may wait for the screen; if it does not keep up, it misses some.
const NEWS: usize = 4;
/// Readings of the host's counters that may wait for the engine, which takes them once a second.
const READINGS: usize = 64;

/// A run that was played.
pub(super) struct Shown {
    pub(super) played: Played,
    pub(super) host: HostUse,
    pub(super) priority: Priority,
    pub(super) started: SystemTime,
    /// Whether the user ended it.
    pub(super) interrupted: bool,
}

/// How a run stands at a moment.
struct News {
    at: Moment,
    batch: Batch,
}

/// What a run wants of this host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// A priority that the system may refuse.
    pub(super) priority: Priority,
    /// What the target leaves to a thread without it.
    pub(super) processors: Processors,
}

/// Plays `run`, and lets it leave out seconds that this host spoiled; `expected` is how long it takes, if that is known.
pub(super) fn play(run: Run<'_>, expected: Option<Duration>, needs: Needs, signals: &mut Signals) -> Result<Shown, ReplayError> {
    let started = SystemTime::now();
    let mut interrupted = false;
    let settle = run.settle;
    let (sender, receiver) = mpsc::sync_channel(NEWS);
    let (witnessed, readings) = mpsc::sync_channel(READINGS);
    let (played, witness, priority) = thread::scope(|scope| {
        let watching = scope.spawn(move || watch(&receiver, &witnessed, settle, Screen::on_stderr(expected)));
        // The signals arrive on this thread: the other one was started before it got its priority, and keeps an ordinary one.
        let raised = if needs.priority == Priority::RealTime { priority::raise_this_thread() } else { None };
        let (priority, processors) = match &raised {
            Some(_) => (Priority::RealTime, Processors::Own),
            None => (Priority::Ordinary, needs.processors),
        };
        let run = Run { basis: Basis::UnspoiledSeconds(&readings, processors), ..run };
        let played = play_run(&run, &mut |batch| {
            interrupted |= signals.asked_to_stop();
            tell(&sender, batch);
            if interrupted { Onward::BreakOff } else { Onward::GoOn }
        });
        drop((sender, raised));
        (played, watching.join(), priority)
    });
    let (played, witness) = (played?, witness.map_err(|_panic| ReplayError::WatcherLost)?);
    let host = witness.tell();
    Ok(Shown { played, host, priority, started, interrupted })
}

/// Never waits: what does not fit is not shown.
fn tell(sender: &SyncSender<News>, batch: &Batch) {
    let _ = sender.try_send(News { at: clock::now(), batch: *batch });
}

fn watch(news: &mpsc::Receiver<News>, witnessed: &SyncSender<HostReading>, settle: Duration, mut screen: Screen) -> Witness {
    let mut witness = Witness::default();
    loop {
        // Where /proc is not mounted, nothing is known of the host, and the report says so.
        if let Ok(cores) = cpu::core_times() {
            // The engine misses some if it does not keep up.
            let _ = witnessed.try_send(witness.read(clock::now(), cores));
        }
        match news.recv_timeout(TICK) {
            Ok(news) => {
                let start = news.at.as_nanos().saturating_sub(u64::try_from(news.batch.elapsed.as_nanos()).unwrap_or(u64::MAX));
                witness.counts_from(Moment::from_nanos(start).after(settle));
                screen.show(&news.batch, settle);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return witness,
        }
    }
}
