//! `tuningfork replay`: plays a recording against a server and tells how it answered. Loads nobody else's host unless told that it may.

mod aim;
mod bodies;
mod course;
mod error;
mod options;
mod outputs;
mod screen;
mod stage;
mod witness;

use std::num::NonZeroU32;
use std::time::Duration;

use super::figures::counted;
use super::replay_output::{self, Comparison, Dropped, Replayed, Setting, Verdict};
use super::say::{print, say};
use super::traffic::{self, Traffic};
use super::tune_output::Paper;
use super::{CommandError, Ending};
use crate::load::{Basis, Check, Reach, Run, USUAL_BATCH};
use crate::recording::{Meta, Scrub};
use crate::replay::{Load, Plan, PlanOptions, Reuse};
use crate::sys::limits;
use crate::sys::signals::Signals;
use aim::Aim;
use course::Course;
use outputs::Outputs;
use stage::{Needs, Shown};

pub use error::ReplayError;
pub use options::Options;

/// The longest response body that is read, bytes.
const MAX_BODY: u64 = 256 << 20;
/// Files beside connections that this process may need.
const SPARE_FILES: u64 = 64;
/// The longest replay.
const LONGEST: Duration = Duration::from_hours(24);
/// What counts as slow where no objective says so.
const SLOW: Duration = Duration::from_secs(1);

/// Replays as `options` say, reports, and says how the program ends.
pub fn replay(options: &Options) -> Result<Ending, CommandError> {
    limits::raise_open_files();
    let aim = Aim::take(options)?;
    let selection = options.which.selection();
    let Traffic { draft, meta, left_out: filtered } =
        traffic::read(&options.recording, plan_options(options, &aim)?, |request| selection.keeps(request))?;
    keep_secrets(&meta, &aim)?;
    if draft.taken() == 0 {
        return Err(ReplayError::NothingSelected(filtered).into());
    }
    let plan = draft.finish()?;
    let course = Course::choose(options, &plan)?;
    let baselines = bodies::read(&options.baseline, &plan)?;
    // Whatever is read up to here, as a pipe that nobody fills, ends with the first signal.
    let outputs = Outputs::prepare(options)?;
    let mut signals = Signals::of_a_study().map_err(CommandError::system("cannot catch signals"))?;
    let run = run(options, &aim, &course, &plan)?;
    if let (Load::Closed { clients, .. }, most) = (&run.load, run.max_connections)
        && *clients > most
    {
        return Err(ReplayError::TooManyClients { clients: clients.get(), most: most.get() }.into());
    }
    aim.knock()?;
    introduce(&plan, &aim, &course);
    if let Some(bodies) = options.bodies_not_recorded(&meta) {
        say(&format!("Warning: {bodies}"));
    }
    let needs = Needs { priority: options.priority(), processors: aim.processors() };
    let Shown { played, host, priority, started, interrupted } = stage::play(run, course.expected, needs, &mut signals)?;
    let setting = Setting {
        recording: options.recording.display().to_string(),
        target: aim.name.clone(),
        load: course.words.clone(),
        timing: course.timing,
        choices: options.choices(&meta),
        planned: plan.requests().len() as u64,
        dropped: dropped(&plan, filtered),
        started,
        settled: if played.unsettled { Duration::ZERO } else { options.warm_up },
        priority,
    };
    // Who breaks off has not let it be answered.
    let verdict = options.slo.filter(|_| !interrupted).map(|objective| Verdict::of(objective, &played));
    let comparison = (!baselines.is_empty()).then(|| Comparison::new(&played.bodies, &baselines));
    let replayed = Replayed { setting, played, host, verdict, comparison, interrupted };
    let shown = if outputs.use_stdout() { Ok(()) } else { show(&replayed) };
    outputs.write(&replayed, &plan)?;
    shown?;
    Ok(ending(&replayed))
}

fn plan_options(options: &Options, aim: &Aim) -> Result<PlanOptions, CommandError> {
    Ok(PlanOptions {
        host: aim.host_rule(options),
        reuse: Reuse::KeepAlive,
        methods: options.methods()?,
        rewrite: options.rewrite(),
    })
}

fn run<'a>(options: &Options, aim: &Aim, course: &Course, plan: &'a Plan) -> Result<Run<'a>, ReplayError> {
    Ok(Run {
        plan,
        target: aim.target.clone(),
        // Whether the target is on this host has been decided: the engine knows only loopback addresses.
        reach: Reach::Anywhere,
        load: course.load.clone(),
        turns: course.turns,
        from: 0,
        settle: options.warm_up,
        duration: options.duration.map_or(LONGEST, |duration| duration.saturating_add(options.warm_up)),
        drain: options.timeout,
        timeout: options.timeout,
        max_connections: connections(options.max_conns)?,
        max_body: MAX_BODY,
        slow_after: options.slo.and_then(|objective| objective.latency()).unwrap_or(SLOW),
        batch: USUAL_BATCH,
        cookies: options.cookies.into(),
        check: if options.hashes_bodies() { Check::Body } else { options.check.into() },
        tls: aim.tls.clone(),
        // Until the stage knows which priority this thread has got.
        basis: Basis::EverySecond,
    })
}

/// As many as asked for, or as this process may open.
fn connections(wanted: Option<NonZeroU32>) -> Result<NonZeroU32, ReplayError> {
    let files = limits::open_files();
    let possible = u32::try_from(files.saturating_sub(SPARE_FILES)).unwrap_or(u32::MAX);
    match (wanted, NonZeroU32::new(possible)) {
        (Some(wanted), Some(possible)) if wanted <= possible => Ok(wanted),
        (None, Some(possible)) => Ok(possible),
        (wanted, _) => Err(ReplayError::TooFewFiles { wanted: wanted.map_or(1, NonZeroU32::get), files, spare: SPARE_FILES }),
    }
}

/// Lets no recording leave this host that holds what people sent, and says of one that may where it goes.
fn keep_secrets(meta: &Meta, aim: &Aim) -> Result<(), ReplayError> {
    if aim.is_here() {
        return Ok(());
    }
    match Secrets::under(meta.scrub.as_deref()) {
        Secrets::Scrubbed => {}
        Secrets::Unknown(what) => say(&format!("Warning: {what}; what people sent goes to {}", aim.name)),
        Secrets::Kept => return Err(ReplayError::Unscrubbed { name: aim.name.clone() }),
    }
    Ok(())
}

/// What a recording holds of what people sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrets {
    Scrubbed,
    /// In words, why nobody knows.
    Unknown(&'static str),
    Kept,
}

impl Secrets {
    /// Only the policy that we know is trusted.
    fn under(policy: Option<&str>) -> Self {
        match policy {
            Some(Scrub::NAME) => Self::Scrubbed,
            Some("none") => Self::Kept,
            Some(_) => Self::Unknown("the recording may not be scrubbed throughout"),
            None => Self::Unknown("the recording does not say whether it is scrubbed"),
        }
    }
}

fn introduce(plan: &Plan, aim: &Aim, course: &Course) {
    let requests = counted(plan.requests().len() as u64, "request");
    say(&Paper::of_stdout(None).wrap(&format!("Replaying {requests} to {}. {}.", aim.name, course.words)));
    if course.is_cut {
        let longest = humantime::format_duration(LONGEST);
        say(&format!("Warning: this would take longer than {longest}; it ends then, and the rest is not played"));
    }
}

/// What of the recording is not played.
fn dropped(plan: &Plan, filtered: u64) -> Vec<Dropped> {
    let dropped = plan.dropped();
    vec![
        Dropped { key: "method", words: "with a method that --allow does not name", count: dropped.unsafe_method },
        Dropped { key: "upgrade", words: "that turn the connection into something else", count: dropped.upgrade },
        Dropped { key: "filtered", words: "that the filters leave out", count: filtered },
    ]
}

fn show(replayed: &Replayed) -> Result<(), CommandError> {
    let no_color = std::env::var("NO_COLOR").ok();
    print(&format!("\n{}", replay_output::terminal(replayed, Paper::of_stdout(no_color.as_deref()))))
}

/// Interrupted, missed, nothing answered or answered otherwise than before, or as it should be. Doubts about the measurement are
/// told, and are no failure.
fn ending(replayed: &Replayed) -> Ending {
    if replayed.interrupted {
        return Ending::Interrupted;
    }
    match &replayed.verdict {
        Some(verdict) if verdict.met != Some(true) => Ending::Unmet,
        _ if replayed.played.completed == 0 => Ending::Failure,
        _ if replayed.comparison.as_ref().is_some_and(|comparison| comparison.different > 0) => Ending::Failure,
        Some(_) | None => Ending::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_policy_is_taken_for_scrubbed() {
        assert_eq!(Secrets::under(Some(Scrub::NAME)), Secrets::Scrubbed);
        assert_eq!(Secrets::under(Some("none")), Secrets::Kept);
        for policy in [None, Some("mixed"), Some("")] {
            assert!(matches!(Secrets::under(policy), Secrets::Unknown(_)), "{policy:?}");
        }
    }
}
