//! What to try next. A function of the trials so far, so that a study can be resumed from its journal at any point.

mod arms;
mod at_rate;
mod search;

use serde::{Deserialize, Serialize};

use crate::stats;
use crate::study::certificate::Certificate;
use crate::study::confirm::Duel;
use crate::study::memory::Memory;
use crate::study::standing::{Place, Standing};
use crate::study::strategy::search::{ATTEMPTS, Search};
use crate::study::{Candidate, Ending, Measurement, Objective, Purpose, Study, Suggestion, Trial};
use crate::units::{Connections, Workers};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Run a trial.
    Try(Suggestion),
    /// The study is over.
    Stop(Stop),
}

/// Why a study is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Nothing worth trying is left.
    Converged,
    /// The best is so near the limit of the cores that nothing can be better by more than its certificate says.
    Certified,
    /// The time was over before the search ran out of ideas or its opening was through, or before best and baseline were compared as
    /// often as they should be.
    Budget,
    /// The search had as many trials as it may have before it ran out of ideas; best and baseline were still compared.
    Trials,
    /// The application answers only errors.
    OnlyErrors,
    /// No candidate holds any rate within the objective.
    NothingMeetsSlo,
    /// No candidate could be started.
    NothingStarts,
    /// Every trial was disturbed so much that it says nothing.
    NeverQuiet,
    /// Somebody stopped it, or its journal is read while it runs.
    Interrupted,
}

impl Stop {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Converged => "nothing promising was left to try",
            Self::Certified => "no configuration can be better by more than the certificate says",
            Self::Budget => "the budget was used up",
            Self::Trials => "the search had as many trials as it may have",
            Self::OnlyErrors => "the application answers only errors",
            Self::NothingMeetsSlo => "no configuration meets the objective",
            Self::NothingStarts => "no configuration could be started",
            Self::NeverQuiet => "the host was never quiet enough to measure anything",
            Self::Interrupted => "not finished",
        }
    }
}

/// Trials without any number, or without any held rate once the opening is through, after which the study gives up.
const LOST_TRIALS: usize = 3;
/// And trials that were disturbed so much that they say nothing.
const VOID_TRIALS: usize = 4;

/// Baseline first; then where the operational laws predict the best; then a race: neighbours of the best so far are challenged by
/// one probe to hold a little more than it, and only those that do are measured; the best once more; and best against baseline in
/// turn.
#[must_use]
pub fn suggest(study: &Study) -> Next {
    if let Some(stop) = lost(study) {
        return Next::Stop(stop);
    }
    if let Some(suggestion) = spoilt(study).or_else(|| opening(study).filter(|_| has_time(study))) {
        return Next::Try(suggestion);
    }
    if let Some(suggestion) = searching(study) {
        return Next::Try(suggestion);
    }
    let Some(duel) = Duel::of(study) else {
        return Next::Stop(nothing_found(study));
    };
    match duel.next(study, pairs_at_most(study)).filter(|_| !is_overspent(study)) {
        Some(candidate) => Next::Try(again(study, candidate, Purpose::Confirm)),
        None => Next::Stop(conclusion(study)),
    }
}

/// About how many trials the study will have in all.
#[must_use]
pub fn expected_trials(study: &Study) -> usize {
    let effort = study.pace.effort();
    let done = study.trials().len() - study.count(Purpose::Confirm);
    let search = if study.count(Purpose::Confirm) == 0 { effort.trials.max(done) } else { done };
    let confirm = study.count(Purpose::Confirm).max(2 * effort.least_pairs);
    (search + confirm).min(study.budget.trials).max(study.trials().len())
}

/// The search's next trial, as long as nothing was confirmed yet, the budget has room, and no certificate says that little is left to
/// find. A search that had its trials may still have some that settle doubts.
fn searching(study: &Study) -> Option<Suggestion> {
    let (effort, done) = (study.pace.effort(), study.trials().len());
    let search = Search::new(study);
    if study.count(Purpose::Confirm) > 0
        || !can_afford(study, 1 + reserve(study))
        || (is_certified(study) && search.arm().is_none())
    {
        return None;
    }
    let usual = if done < effort.trials { search.suggest() } else { None };
    let left = effort.most_trials().saturating_sub(done);
    // What holds a challenge must be measured.
    usual.or_else(|| search.doubt().filter(|next| left > usize::from(next.purpose == Purpose::Challenge)))
}

/// Trials that are kept for the comparison of best and baseline: of all pairs that there should be, or of one while the baseline is as good as
/// any, as there is nothing to compare then and may be after the next trial.
fn reserve(study: &Study) -> usize {
    if !has_searched(study) {
        return 0;
    }
    let is_best = Standing::of(study).finalist().is_some_and(|best| best.candidate == study.space.baseline());
    2 * if is_best { 1 } else { study.pace.effort().least_pairs }
}

/// Whether anything but the opening was tried. Where the budget is short, one look at what may be better is worth more than a
/// comparison of nothing.
fn has_searched(study: &Study) -> bool {
    [Purpose::Jump, Purpose::Challenge, Purpose::Neighbour].into_iter().any(|purpose| study.count(purpose) > 0)
}

/// How many pairs of best and baseline the budget has room for.
fn pairs_at_most(study: &Study) -> usize {
    let effort = study.pace.effort();
    if can_afford(study, 3) {
        effort.most_pairs
    } else if seconds_with(study, 2) <= OVERRUN * study.budget.seconds {
        effort.least_pairs
    } else {
        0
    }
}

/// Whether the budget is spent, and the last trial of the comparison was disturbed: the other half of its pair is not worth more time, as it
/// may be disturbed again and again.
fn is_overspent(study: &Study) -> bool {
    let is_lost = |trial: &Trial| trial.suggestion.purpose == Purpose::Confirm && !trial.is_valid();
    study.seconds() > OVERRUN * study.budget.seconds && study.trials().last().is_some_and(is_lost)
}

/// Of the one that would be recommended now, as the report is about that one.
fn is_certified(study: &Study) -> bool {
    let recommended = Duel::of(study).and_then(|duel| duel.recommended(study));
    Certificate::of(study, recommended).given
}

/// Why a study whose duel is over has ended.
fn conclusion(study: &Study) -> Stop {
    let is_incomplete = || Duel::of(study).is_some_and(|duel| duel.missing_pairs(study) > 0 && pairs_at_most(study) == 0);
    if is_certified(study) {
        Stop::Certified
    } else if opening(study).is_some() || is_incomplete() {
        Stop::Budget
    } else if !has_ideas(study) {
        Stop::Converged
    } else if !has_room(study, study.before(Purpose::Confirm).trials().len()) {
        Stop::Trials
    } else {
        Stop::Budget
    }
}

/// Whether there was a configuration that may be better than the best so far and was not tried when the search ended. Who leads may be
/// another since, and its neighbours untried, but that is nothing that time would have shown.
#[must_use]
pub fn has_ideas(study: &Study) -> bool {
    opening(study).is_some() || Search::new(&study.before(Purpose::Confirm)).promising().is_some()
}

/// Whether a search of `trials` trials may try something new: its last one belongs to the one that leads.
fn has_room(study: &Study, trials: usize) -> bool {
    trials + 1 < study.pace.effort().trials
}

/// What a trial that knows what to expect costs, as a share of the first, which does not.
const FOLLOWING: f64 = 0.6;
/// A pair that was reserved is run if the study comes to no more than this many times its budget: what trials cost is not known
/// to the second.
const OVERRUN: f64 = 1.05;

/// Whether the budget lets a further trial begin, whatever it takes. The first may in any case, as a study without one says nothing.
fn has_time(study: &Study) -> bool {
    study.trials().is_empty() || study.seconds() < study.budget.seconds
}

/// Whether the budget has room for `trials` more.
fn can_afford(study: &Study, trials: usize) -> bool {
    let seconds = seconds_with(study, trials);
    study.trials().len() + trials <= study.budget.trials && has_time(study) && seconds <= study.budget.seconds
}

/// What the study comes to with `trials` more, seconds.
fn seconds_with(study: &Study, trials: usize) -> f64 {
    // Challenges and failures are over sooner.
    let whole: Vec<f64> = study.measured().map(|(_, measured)| measured.seconds).collect();
    let each = match whole.as_slice() {
        [] => 0.0,
        [first] => FOLLOWING * first,
        [_, following @ ..] => stats::mean(following).unwrap_or_default(),
    };
    study.seconds() + each * trials as f64
}

/// The last trial of the search once more, if something disturbed it and no other trial tells of that candidate: what follows
/// builds on it.
fn spoilt(study: &Study) -> Option<Suggestion> {
    let last = study.trials().last()?.suggestion;
    let of_it = || study.measured().filter(|(tried, _)| *tried == last.candidate).map(|(_, found)| found);
    let is_spoilt = |found: &Measurement| !found.is_valid() && !found.has_crashed();
    let only = study.trials().last()?.measurement().is_some() && of_it().all(is_spoilt) && of_it().count() < ATTEMPTS;
    let only = only && study.excess(last.candidate).is_none();
    let room = study.trials().len() < study.pace.effort().trials && can_afford(study, 1);
    (only && room && last.purpose != Purpose::Confirm).then_some(last)
}

/// Why going on is pointless, if it is.
fn lost(study: &Study) -> Option<Stop> {
    let is_void = |trial: &&Trial| trial.measurement().is_some_and(Measurement::is_void);
    let (void, trials): (Vec<&Trial>, Vec<&Trial>) = study.trials().iter().partition(is_void);
    let endings: Vec<Ending> = trials.iter().filter_map(|trial| Some(trial.measurement()?.ending)).collect();
    if endings.is_empty() {
        // The gentlest may start where larger ones have too little memory.
        let dead = (trials.len() >= LOST_TRIALS && opening(study).is_none()).then_some(Stop::NothingStarts);
        return dead.or_else(|| (void.len() >= VOID_TRIALS).then_some(Stop::NeverQuiet));
    }
    if endings.len() >= 2 && endings.iter().all(|ending| *ending == Ending::OnlyErrors) {
        return Some(Stop::OnlyErrors);
    }
    // At a fixed rate a candidate that is too small for it says nothing of larger ones.
    let useless = trials.iter().all(|trial| trial.measurement().is_none_or(|measured| !measured.is_usable()));
    let gives_up = study.objective == Objective::Capacity && useless && trials.len() >= LOST_TRIALS && opening(study).is_none();
    gives_up.then_some(Stop::NothingMeetsSlo)
}

/// Why a study has nothing to compare.
fn nothing_found(study: &Study) -> Stop {
    let mut measured = study.measured().map(|(_, measured)| measured).peekable();
    if measured.peek().is_none() {
        Stop::NothingStarts
    } else if measured.all(Measurement::is_void) {
        Stop::NeverQuiet
    } else if opening(study).is_some() {
        Stop::Budget
    } else {
        Stop::NothingMeetsSlo
    }
}

/// The baseline and the rule of thumb; then, if neither held anything with the memory that may be used, gentler ones: a worker a core,
/// and one connection each. At a fixed rate gentler ones hold less, so a number is enough.
fn opening(study: &Study) -> Option<Suggestion> {
    let first = |candidate, purpose| Suggestion { candidate, purpose, task: study.objective.task(), expected: None, rival: None };
    let baseline = study.space.baseline();
    // Until it says something, or the host is given up.
    let is_void = |trial: &Trial| trial.measurement().is_some_and(Measurement::is_void);
    let says_something = |trial: &Trial| !is_void(trial) || study.excess(baseline).is_some();
    if !study.trials().iter().any(|trial| trial.suggestion.candidate == baseline && says_something(trial)) {
        return Some(first(baseline, Purpose::Baseline));
    }
    if let Some(folk) = study.space.folk()
        && study.count(Purpose::Folk) == 0
    {
        return Some(first(folk, Purpose::Folk));
    }
    let cores = u32::from(study.space.cores.get());
    let few = study.space.baseline().connections;
    let gentle = [(cores, few), (cores, Connections::ONE), (1, Connections::ONE)].into_iter();
    let mut gentle = gentle.filter_map(|(workers, connections)| {
        let workers = Workers::new(workers)?.min(study.space.max_workers);
        Some(study.space.candidate(workers, connections))
    });
    let helps = |measured: &Measurement| measured.is_usable() || study.objective != Objective::Capacity;
    let held = study.measured().any(|(candidate, measured)| helps(measured) && study.excess(candidate).is_none());
    // One that takes too much memory tells how much others need.
    let memory = study.excess(baseline).map(|_| Memory::fit(study));
    let fits = |candidate: Candidate| memory.is_none_or(|memory| memory.fits(&study.space, candidate));
    let next = if held { None } else { gentle.find(|candidate| !study.has_tried(*candidate) && fits(*candidate)) };
    next.map(|candidate| first(candidate, Purpose::Gentle))
}

/// A candidate that was measured before, in full.
fn again(study: &Study, candidate: Candidate, purpose: Purpose) -> Suggestion {
    let expected = Standing::of(study).place(candidate).map(Place::merit);
    Suggestion { candidate, purpose, task: study.objective.task(), expected, rival: None }
}

#[cfg(test)]
mod tests;
