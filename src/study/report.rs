//! The result of a study as plain data: what every form of the report shows.

pub mod compare;
mod curve;
mod map;
mod rule;
mod summary;

use std::collections::BTreeSet;

use serde::Serialize;

pub use curve::{Curve, Point};
pub use map::{Cell, Known, Limit, Map};
pub use rule::Rule;
pub use summary::Summary;

use crate::stats::Interval;
use crate::study::certificate::Certificate;
use crate::study::confirm::{Duel, Outcome as DuelOutcome};
use crate::study::counting::{described, settled, uncounted};
use crate::study::drift::Drift;
use crate::study::standing::{Standing, failures};
use crate::study::strategy::has_ideas;
use crate::study::{Binding, Candidate, Flag, Measurement, Objective, Outcome, Slo, Space, Stop, Study, Trial};

/// Everything a study has to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What to configure; `None` if nothing can be recommended.
    pub recommended: Option<Candidate>,
    /// What it is compared with.
    pub baseline: Side,
    /// The best found.
    pub best: Option<Side>,
    /// How best and baseline compare; `None` if nothing holds any rate.
    pub outcome: Option<DuelOutcome>,
    /// The best's amount ([`Objective::amount`]) over that of the baseline: of capacities more is better, of latencies and cores less.
    pub ratio: Option<Interval>,
    /// Gunicorn's rule of thumb, where it is another configuration than those two.
    pub rule: Option<Rule>,
    /// Whether best and baseline were repeated undisturbed after the search, so that the ratio is not that of the luckiest trials.
    pub confirmed: bool,
    /// Whether that failed because the host was never quiet.
    pub spoilt: bool,
    /// What is doubtful about the trials behind the verdict, those of the best and of the baseline.
    pub doubts: Vec<Flag>,
    /// Which of the two differ from boot to boot by more than others do.
    pub unstable: Vec<Unstable>,
    /// Boots of the two that did far less than the others of the same, and do not count.
    pub accidents: Vec<Accident>,
    /// What took more memory than may be used: it is not recommended, and was not repeated.
    pub too_large: Vec<TooLarge>,
    /// How many trials of what is recommended failed, though others held.
    pub failures: usize,
    /// Pairs of repetitions that there should have been at least, and were not: the budget had no room, or they were disturbed.
    pub missing_pairs: usize,
    /// The amounts of baseline and best in each pair of repetitions that the ratio is of.
    pub pairs: Vec<[f64; 2]>,
    /// How many candidates were measured.
    pub candidates: usize,
    /// Whether something that may be better was left untried.
    pub untried: bool,
    /// What keeps the recommendation from doing more, where that was looked for.
    pub binding: Option<Binding>,
    /// How close the recommendation is to the host's limit.
    pub certificate: Certificate,
    /// If nothing meets the objective: the trial (counted from 1) that came nearest.
    pub nearest: Option<usize>,
    /// The trials in order.
    pub trials: Vec<Trial>,
    /// What had to hold.
    pub slo: Slo,
    /// Cores the application could use.
    pub cores: u16,
    /// What could be tried.
    pub space: Space,
    /// What was best.
    pub objective: Objective,
    /// What is known about every candidate.
    pub map: Map,
    /// The host's, if it changed while the study ran.
    pub drift: Option<Drift>,
    /// Why the study ended.
    pub stop: Stop,
}

/// A configuration whose boots differ by more than those of others do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Unstable {
    /// Which.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// What the objective compares, in its own unit ([`Objective::amount`]): the lowest of its trials.
    pub least: f64,
    /// The highest.
    pub most: f64,
}

/// A boot that did far less than the others of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accident {
    /// Of which.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// Its trial, from 1.
    pub trial: usize,
    /// How many boots of it were measured in peace, this one included.
    pub boots: usize,
    /// What the objective compares, in its own unit ([`Objective::amount`]).
    pub amount: f64,
}

/// A configuration that takes more memory than may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TooLarge {
    /// Which.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// The most that a trial of it took, bytes.
    pub memory_bytes: u64,
}

/// One of the two that are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// The configuration.
    pub candidate: Candidate,
    /// Its capacity, requests a second; `None` if it holds no rate, or another objective was looked for: then only one rate was
    /// ever served.
    pub capacity: Option<Interval>,
    /// What the objective compares, in its own unit ([`Objective::amount`]); `None` if it meets it at no trial.
    pub amount: Option<Interval>,
    /// The measurement that describes it: its last one that counts, or its last usable one, or its last one.
    pub measurement: Option<Measurement>,
    /// Its latencies by rate.
    pub curve: Curve,
}

impl Report {
    /// The report on `study`, which ended because of `stop`.
    #[must_use]
    pub fn new(study: &Study, stop: Stop) -> Self {
        let duel = Duel::of(study);
        let baseline = study.space.baseline();
        let recommended = duel.as_ref().and_then(|duel| duel.recommended(study));
        let side = |candidate, merit: Option<Interval>| Side {
            candidate,
            capacity: merit.filter(|_| study.objective == Objective::Capacity),
            amount: merit.map(|merit| study.objective.amount(merit)),
            measurement: described(study, candidate).cloned(),
            curve: Curve::of(study, candidate),
        };
        Self {
            recommended,
            baseline: side(baseline, duel.as_ref().and_then(|duel| duel.baseline_capacity(study))),
            best: duel.as_ref().map(|duel| side(duel.best, duel.best_capacity(study))),
            outcome: duel.as_ref().map(|duel| duel.outcome(study)),
            ratio: duel
                .as_ref()
                .filter(|duel| duel.best != duel.baseline)
                .and_then(|duel| duel.ratio(study))
                .map(|ratio| study.objective.amount(ratio)),
            rule: duel.as_ref().and_then(|duel| Rule::of(study, duel)),
            pairs: duel.as_ref().map(|duel| pairs(study, duel)).unwrap_or_default(),
            confirmed: duel.as_ref().is_some_and(|duel| duel.is_confirmed(study)),
            spoilt: duel.as_ref().is_some_and(|duel| duel.is_spoilt(study)),
            doubts: doubts(study, [Some(baseline), duel.as_ref().map(|duel| duel.best)]),
            unstable: duel.as_ref().map(|duel| unstable(study, duel)).unwrap_or_default(),
            accidents: duel.as_ref().map(|duel| accidents(study, duel)).unwrap_or_default(),
            too_large: too_large(study),
            failures: recommended.map_or(0, |candidate| failures(study, candidate)),
            missing_pairs: duel.as_ref().map_or(0, |duel| duel.missing_pairs(study)),
            untried: has_ideas(study),
            candidates: study.measured().map(|(candidate, _)| candidate).collect::<BTreeSet<_>>().len(),
            binding: recommended
                .filter(|_| study.objective == Objective::Capacity)
                .and_then(|candidate| Binding::of(study, candidate)),
            certificate: Certificate::of(study, recommended),
            nearest: if Standing::of(study).leader().is_none() { nearest(study) } else { None },
            trials: trials(study, duel.as_ref()),
            slo: study.slo,
            cores: study.space.cores.get(),
            space: study.space.clone(),
            objective: study.objective,
            map: Map::of(study),
            drift: Drift::of(study, &uncounted(study)),
            stop,
        }
    }

    /// Whether the study was cut short.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.stop == Stop::Interrupted
    }

    /// Why the study ended, in words.
    #[must_use]
    pub fn stopped_because(&self) -> String {
        match (self.stop, self.certificate.most_missed()) {
            (Stop::Certified, Some(missed)) => {
                format!("no configuration can be more than {missed:.0} % better than the recommended one")
            }
            (Stop::NeverQuiet, _) if self.disturber() == Some(Flag::GeneratorLate) => {
                "the load generator was late too often to measure anything".to_owned()
            }
            (Stop::NeverQuiet, _) if self.disturber() == Some(Flag::GeneratorShort) => {
                "the load generator was at its limit before anything could be measured".to_owned()
            }
            (stop, _) => stop.words().to_owned(),
        }
    }

    /// What disturbed most of the trials that something disturbed.
    #[must_use]
    pub fn disturber(&self) -> Option<Flag> {
        let seen: Vec<Flag> = self.trials.iter().flat_map(Trial::flags).copied().filter(|flag| flag.voids()).collect();
        let count = |wanted: &Flag| seen.iter().filter(|flag| *flag == wanted).count();
        let kinds = [Flag::GeneratorLate, Flag::GeneratorShort, Flag::Steal, Flag::OtherPrograms];
        kinds.into_iter().filter(|flag| count(flag) > 0).max_by_key(count)
    }

    /// Whether `candidate` took more memory than may be used.
    #[must_use]
    pub fn is_too_large(&self, candidate: Candidate) -> bool {
        self.too_large.iter().any(|found| found.candidate == candidate)
    }
}

/// The trials, and on them what only the study as a whole shows: that the host was another, or that one is an accident.
fn trials(study: &Study, duel: Option<&Duel>) -> Vec<Trial> {
    let mut trials = study.trials().to_vec();
    let moved = duel.map_or(&[][..], Duel::moved).iter().map(|number| (*number, Flag::HostChanged));
    let accidents: Vec<usize> = settled(study, duel).accidents().collect();
    for (number, flag) in moved.chain(accidents.into_iter().map(|number| (number, Flag::Accident))) {
        if let Some(Outcome::Measured(found)) = trials.get_mut(number).map(|trial| &mut trial.outcome) {
            found.flags.push(flag);
        }
    }
    trials
}

fn accidents(study: &Study, duel: &Duel) -> Vec<Accident> {
    let standing = duel.standing(study);
    let mut candidates = vec![duel.best, duel.baseline];
    candidates.dedup();
    let found = candidates.into_iter().filter_map(|candidate| {
        let place = standing.place(candidate)?;
        let (number, boots) = (place.accident?, place.logs.len() + 1);
        let merit = study.objective.merit(study.trials()[number].measurement()?, candidate, study.space.cores)?;
        let amount = study.objective.amount(Interval { value: merit, low: merit, high: merit }).value;
        Some(Accident { candidate, trial: number + 1, boots, amount })
    });
    found.collect()
}

fn too_large(study: &Study) -> Vec<TooLarge> {
    let tried: BTreeSet<Candidate> = study.measured().map(|(candidate, _)| candidate).collect();
    let found = |candidate| Some(TooLarge { candidate, memory_bytes: study.excess(candidate)? });
    tried.into_iter().filter_map(found).collect()
}

fn unstable(study: &Study, duel: &Duel) -> Vec<Unstable> {
    let standing = duel.standing(study);
    let mut candidates = vec![duel.best, duel.baseline];
    candidates.dedup();
    let amounts = candidates.into_iter().filter_map(|candidate| {
        let [low, high] = standing.place(candidate)?.unstable?;
        let amount = study.objective.amount(Interval { value: low, low, high });
        Some(Unstable { candidate, least: amount.low, most: amount.high })
    });
    amounts.collect()
}

/// The amounts of baseline and best in each pair of repetitions.
fn pairs(study: &Study, duel: &Duel) -> Vec<[f64; 2]> {
    let amount = |value| study.objective.amount(Interval { value, low: value, high: value }).value;
    duel.pairs().map(|pair| pair.map(amount)).collect()
}

fn doubts(study: &Study, candidates: [Option<Candidate>; 2]) -> Vec<Flag> {
    let mut doubts = Vec::new();
    for flag in candidates.into_iter().flatten().flat_map(|candidate| doubts_about(study, candidate)) {
        if !doubts.contains(&flag) {
            doubts.push(flag);
        }
    }
    doubts
}

/// What is doubtful about the trials that say how `candidate` does: the undisturbed ones, or all if there are none.
fn doubts_about(study: &Study, candidate: Candidate) -> Vec<Flag> {
    let usable: Vec<&Measurement> =
        study.measured().filter(|(tried, found)| *tried == candidate && found.is_usable()).map(|(_, found)| found).collect();
    let valid: Vec<&Measurement> = usable.iter().copied().filter(|found| found.is_valid()).collect();
    let counting = if valid.is_empty() { usable } else { valid };
    counting.into_iter().flat_map(|found| found.flags.iter().copied()).collect()
}

/// The trial with the fewest errors, and among those without more errors than allowed the lowest bounded latency. One that answered nothing in
/// time is the farthest.
fn nearest(study: &Study) -> Option<usize> {
    let distance = |found: &Measurement| {
        let errors = if found.throughput > 0.0 { found.errors.unwrap_or(0.0) } else { 1.0 };
        ((errors - study.slo.error_share()).max(0.0), found.bounded.unwrap_or(f64::INFINITY))
    };
    let small = study.trials().iter().zip(1..).filter(|(trial, _)| study.excess(trial.suggestion.candidate).is_none());
    let numbered = small.filter_map(|(trial, number)| Some((number, distance(trial.measurement()?))));
    numbered.min_by(|(_, one), (_, other)| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))).map(|(number, _)| number)
}
