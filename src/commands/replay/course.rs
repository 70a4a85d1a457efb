//! Which load model the options mean, and how it is told.

use std::time::Duration;

use super::options::{Options, SessionsKept};
use super::{LONGEST, ReplayError};
use crate::commands::figures::{counted, rate};
use crate::commands::replay_output::Timing;
use crate::replay::{Arrivals, ClosedOrder, Copies, Load, Plan, Sessions, Speed, Think, Timetable, Turns};

/// How requests are offered, in data and in words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Course {
    pub(super) load: Load,
    pub(super) turns: Turns,
    pub(super) timing: Timing,
    pub(super) words: String,
    /// How long it will take, if that is known.
    pub(super) expected: Option<Duration>,
    /// Whether it would take longer than a replay may.
    pub(super) is_cut: bool,
}

impl Course {
    /// The one that `options` ask for. Options that exclude each other have been refused by now.
    pub(super) fn choose(options: &Options, plan: &Plan) -> Result<Self, ReplayError> {
        let (load, words) = load(options, plan)?;
        let by_recorded_times = matches!(load, Load::Recorded { .. });
        let turns = if options.endless || options.profile.is_some() || (options.duration.is_some() && !by_recorded_times) {
            Turns::Endless
        } else {
            Turns::Once
        };
        if let Load::Recorded { copies, .. } = &load
            && Timetable::new(plan, 0, &load, turns).is_none_or(|mut timetable| timetable.next().is_none())
        {
            return Err(ReplayError::NoCopies(*copies));
        }
        let timing = if matches!(load, Load::Closed { .. }) { Timing::Closed } else { Timing::Scheduled };
        let words = match (turns, &options.profile) {
            (Turns::Endless, None) => format!("{words}; the recording is repeated"),
            (Turns::Endless, Some(_)) | (Turns::Once, _) => words,
        };
        let asked = options.duration.map(|duration| duration.saturating_add(options.warm_up));
        if asked.unwrap_or(options.warm_up) > LONGEST {
            return Err(ReplayError::TooLong { longest: LONGEST });
        }
        let length = length(&load, turns, plan);
        if !options.warm_up.is_zero() && length.is_some_and(|length| length <= options.warm_up) {
            return Err(ReplayError::OnlyWarmUp);
        }
        let wanted = [asked, length].into_iter().flatten().min();
        let is_cut = wanted.or_else(|| once(&load, turns, plan)).is_some_and(|wanted| wanted > LONGEST);
        let expected = wanted.map(|wanted| wanted.min(LONGEST));
        Ok(Self { load, turns, timing, words, expected, is_cut })
    }
}

fn load(options: &Options, plan: &Plan) -> Result<(Load, String), ReplayError> {
    let seed = options.seed;
    if let Some(steady) = options.rate {
        let words = format!("Open: {} requests a second at even gaps", rate(steady.per_second()));
        return Ok((Load::Open { rate: steady, arrivals: Arrivals::Even }, words));
    }
    if let Some(mean) = options.poisson {
        let words = format!("Open: {} requests a second at random (Poisson, seed {seed})", rate(mean.per_second()));
        return Ok((Load::Open { rate: mean, arrivals: Arrivals::Poisson { seed } }, words));
    }
    if let Some(profile) = &options.profile {
        let words = format!("Open: requests a second by the profile {profile}");
        return Ok((Load::Profile { rate: profile.clone(), arrivals: Arrivals::Even }, words));
    }
    if let Some(clients) = options.clients {
        let (order, pause) = order(options.think, plan)?;
        let words = format!(
            "Closed: {} that each wait for an answer before the next request{pause}",
            counted(clients.get().into(), "client")
        );
        return Ok((Load::Closed { clients, order }, words));
    }
    recorded(options, plan)
}

fn order(think: Option<Think>, plan: &Plan) -> Result<(ClosedOrder, String), ReplayError> {
    let think = think.unwrap_or(Think::None);
    let has_sessions = plan.sessions() > 0;
    let pause = match think {
        Think::None if !has_sessions => return Ok((ClosedOrder::Requests, String::new())),
        Think::Recorded if !has_sessions => return Err(ReplayError::NoSessions("--think recorded")),
        Think::None => String::new(),
        Think::Recorded => ", pausing as recorded".to_owned(),
        Think::Fixed(pause) => format!(", pausing {}", humantime::format_duration(pause)),
    };
    let order = if has_sessions { ", a recorded connection at a time" } else { "" };
    Ok((ClosedOrder::Sessions(think), format!("{order}{pause}")))
}

fn recorded(options: &Options, plan: &Plan) -> Result<(Load, String), ReplayError> {
    let (speed, copies) = (options.speed.unwrap_or(Speed::RECORDED), options.copies.unwrap_or(Copies::ONE));
    let sessions = match options.sessions {
        Some(SessionsKept::Kept) if plan.sessions() == 0 => return Err(ReplayError::NoSessions("--sessions kept")),
        None | Some(SessionsKept::Kept) if plan.sessions() > 0 => Sessions::Kept,
        None | Some(SessionsKept::Kept | SessionsKept::Pooled) => Sessions::Pooled,
    };
    let words = match sessions {
        Sessions::Kept => "As recorded: connections open when they did, and their requests wait for the answer before",
        Sessions::Pooled => "Open: requests at their recorded times, on any connection",
    };
    let faster = options.speed.map_or_else(String::new, |speed| format!(", {speed} times as fast"));
    let more = options.copies.map_or_else(String::new, |copies| format!(", {copies} times the traffic"));
    let words = format!("{words}{faster}{more}");
    Ok((Load::Recorded { speed, copies, sessions }, words))
}

/// How long a load sends if nobody ends it.
fn length(load: &Load, turns: Turns, plan: &Plan) -> Option<Duration> {
    let requests = plan.requests().len() as f64;
    match (load, turns) {
        (Load::Profile { rate, .. }, _) => Some(rate.duration()),
        (_, Turns::Endless) | (Load::Closed { .. }, Turns::Once) => None,
        // Copies are shifted, each by less than a turn.
        (Load::Recorded { copies, .. }, Turns::Once) if copies.get() > 1.0 => None,
        (Load::Open { rate, .. }, Turns::Once) => Duration::try_from_secs_f64(requests / rate.per_second()).ok(),
        (Load::Recorded { .. }, Turns::Once) => once(load, turns, plan),
    }
}

/// How long recorded gaps take at least.
fn once(load: &Load, turns: Turns, plan: &Plan) -> Option<Duration> {
    match (load, turns) {
        (Load::Recorded { speed, .. }, Turns::Once) => {
            Some(Duration::try_from_secs_f64(plan.span().as_secs_f64() / speed.get()).unwrap_or(Duration::MAX))
        }
        (Load::Recorded { .. } | Load::Open { .. } | Load::Profile { .. } | Load::Closed { .. }, _) => None,
    }
}
