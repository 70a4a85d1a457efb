//! Two studies side by side: what each measured at the same configurations, and how far what they recommend is apart. Refuses to compare
//! rates that do not mean the same.

use serde::Serialize;

use crate::stats::Interval;
use crate::study::confirm::Duel;
use crate::study::counting::settled;
use crate::study::standing::Standing;
use crate::study::{Candidate, Objective, Study};

/// Two studies, side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Configurations that both measured, or that one of them recommends.
    pub rows: Vec<Row>,
    /// What each recommends, and what it holds.
    pub recommended: [Option<Candidate>; 2],
    /// What was compared in both.
    pub objective: Objective,
    /// The amount of what the second recommends over that of what the first recommends; `None` if one recommends nothing, or
    /// something disturbed every trial of it.
    pub ratio: Option<Interval>,
}

/// One configuration in both studies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// What the objective compares, in its own unit, in each.
    pub amount: [Option<Interval>; 2],
    /// The second over the first; `None` where one was not measured, or never undisturbed.
    pub ratio: Option<Interval>,
}

/// How two amounts compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The second is higher.
    Higher,
    /// The second is lower.
    Lower,
    /// The interval of their ratio contains 1.
    NotSeen,
}

impl Difference {
    /// What a ratio says.
    #[must_use]
    pub fn of(ratio: Interval) -> Self {
        if ratio.low > 1.0 {
            Self::Higher
        } else if ratio.high < 1.0 {
            Self::Lower
        } else {
            Self::NotSeen
        }
    }
}

/// Why rates of two studies do not mean the same, in words; empty if they do.
#[must_use]
pub fn incomparable(one: &Study, other: &Study) -> Vec<&'static str> {
    let parts = [(one.slo == other.slo, "bounds (--slo)"), (one.objective == other.objective, "objective")];
    parts.into_iter().filter(|(same, _)| !same).map(|(_, name)| name).collect()
}

impl Comparison {
    /// Compares what was measured.
    #[must_use]
    pub fn new(one: &Study, other: &Study) -> Self {
        let studies = [one, other];
        let duels = studies.map(Duel::of);
        let recommended = [0, 1].map(|side| duels[side].as_ref()?.recommended(studies[side]));
        let standings = studies.map(Standing::of);
        let mut shown: Vec<Candidate> = one.measured().map(|(candidate, _)| candidate).collect();
        shown.retain(|candidate| standings.iter().all(|standing| standing.place(*candidate).is_some()));
        shown.extend(recommended.into_iter().flatten());
        shown.sort_unstable();
        shown.dedup();
        let rows = shown.into_iter().map(|candidate| {
            let sides = [0, 1].map(|side| Side::of(studies[side], duels[side].as_ref(), candidate));
            Row { candidate, amount: [sides[0].amount, sides[1].amount], ratio: ratio(sides) }
        });
        let chosen = [0, 1].map(|side| {
            recommended[side].map_or_else(Side::default, |chosen| Side::of(studies[side], duels[side].as_ref(), chosen))
        });
        Self { rows: rows.collect(), recommended, objective: one.objective, ratio: ratio(chosen) }
    }
}

/// One configuration in one study.
#[derive(Clone, Copy, Default)]
struct Side {
    /// What the objective compares.
    amount: Option<Interval>,
    /// Something disturbed every trial of it.
    disturbed: bool,
}

impl Side {
    /// Of the two of the duel as the study's own report has it: by their repetitions, as trials of the search are of the luckiest.
    fn of(study: &Study, duel: Option<&Duel>, candidate: Candidate) -> Self {
        let standing = settled(study, duel);
        let place = standing.place(candidate);
        let merit = match duel {
            Some(duel) if duel.best == candidate => duel.best_capacity(study),
            Some(duel) if duel.baseline == candidate => duel.baseline_capacity(study),
            Some(_) | None => place.and_then(|place| standing.spread().around(&place.logs)),
        };
        let disturbed = place.is_some_and(|place| place.disturbed);
        Self { amount: merit.map(|merit| study.objective.amount(merit)), disturbed }
    }
}

/// The second over the first, where neither was disturbed throughout: such amounts are too low by nobody knows how much.
fn ratio([one, other]: [Side; 2]) -> Option<Interval> {
    if one.disturbed || other.disturbed {
        return None;
    }
    Some(other.amount?.over(one.amount?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::{APPS, studied};
    use crate::study::{Flag, Outcome, Pace, Report, Stop};

    #[test]
    fn the_same_application_twice_differs_by_what_is_recommended_alone() {
        let app = &APPS[2];
        let of = |study: &Study| app.capacity(Report::new(study, Stop::Converged).recommended.unwrap());
        let mut missed = 0;
        for seed in 0..20 {
            let (one, other) = (studied(app, Pace::Normal, seed), studied(app, Pace::Normal, 100 + seed));
            let found = Comparison::new(&one, &other);
            missed += usize::from(!found.ratio.unwrap().contains(of(&other) / of(&one)));
            assert!(found.rows.iter().any(|row| row.ratio.is_some()), "the baseline is measured by both");
        }
        assert!(missed <= 2, "a 95 % interval missed {missed} of 20");
    }

    #[test]
    fn a_faster_application_is_seen_and_the_order_matters() {
        let (slow, fast) = (studied(&APPS[2], Pace::Normal, 1), studied(&APPS[2].faster(1.4), Pace::Normal, 2));
        let found = Comparison::new(&slow, &fast);
        assert_eq!(Difference::of(found.ratio.unwrap()), Difference::Higher);
        let recommended = |study: &Study| Report::new(study, Stop::Converged).recommended.unwrap();
        let truth = APPS[2].faster(1.4).capacity(recommended(&fast)) / APPS[2].capacity(recommended(&slow));
        assert!(found.ratio.unwrap().contains(truth), "{:?}, really {truth}", found.ratio);
        assert_eq!(Difference::of(Comparison::new(&fast, &slow).ratio.unwrap()), Difference::Lower);
    }

    #[test]
    fn what_was_disturbed_throughout_is_not_compared() {
        let sound = studied(&APPS[2], Pace::Normal, 1);
        let mut disturbed = APPS[2].study(Pace::Normal);
        for trial in sound.trials() {
            let mut trial = trial.clone();
            if let Outcome::Measured(found) = &mut trial.outcome {
                found.capacity *= 0.6;
                found.flags.push(Flag::OtherPrograms);
            }
            disturbed.record(trial);
        }
        for (one, other, side) in [(&sound, &disturbed, 1), (&disturbed, &sound, 0)] {
            let found = Comparison::new(one, other);
            assert!(found.recommended.iter().all(Option::is_some) && found.rows.iter().any(|row| row.amount[side].is_some()));
            assert!(found.ratio.is_none() && found.rows.iter().all(|row| row.ratio.is_none()), "{found:?}");
        }
    }

    #[test]
    fn what_was_repeated_counts_as_in_the_report_of_its_study() {
        let studies = [studied(&APPS[2], Pace::Normal, 1), studied(&APPS[2].faster(1.4), Pace::Normal, 2)];
        let found = Comparison::new(&studies[0], &studies[1]);
        for (side, study) in studies.iter().enumerate() {
            let report = Report::new(study, Stop::Converged);
            for told in [&report.baseline, report.best.as_ref().unwrap()] {
                let row = found.rows.iter().find(|row| row.candidate == told.candidate);
                assert!(row.is_none_or(|row| row.amount[side] == told.amount), "{row:?} {:?}", told.amount);
            }
        }
    }

    #[test]
    fn other_bounds_are_not_compared() {
        let one = APPS[0].study(Pace::Quick);
        let mut other = one.clone();
        other.slo = "p99<1s".parse().unwrap();
        assert_eq!(incomparable(&one, &other), ["bounds (--slo)"]);
        assert!(incomparable(&one, &one).is_empty());
        assert_eq!(Comparison::new(&one, &other).ratio, None);
    }
}
