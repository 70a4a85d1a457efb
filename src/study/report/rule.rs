//! Gunicorn's rule of thumb beside what is recommended, where the configuration file says something else than the rule: then the
//! duel is about what is configured, and the rule has a trial of the search only.

use serde::Serialize;

use crate::stats::Interval;
use crate::study::confirm::Duel;
use crate::study::{Candidate, Study};

/// The rule, and how what is recommended compares with it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// What the rule says.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// What the objective compares, in its own unit; `None` if the rule met it at no trial.
    pub amount: Option<Interval>,
    /// Whether it has no amount though a trial of it was measured undisturbed: it does not meet the objective.
    pub is_unmet: bool,
    /// The amount of what is recommended over that of the rule; `None` if the rule met nothing, or was never measured
    /// undisturbed. Wider than the ratio of a duel, as these trials were not made in turn.
    pub ratio: Option<Interval>,
}

impl Rule {
    /// `None` where the duel is about it, nothing is recommended, or it was not tried.
    #[must_use]
    pub fn of(study: &Study, duel: &Duel) -> Option<Self> {
        let candidate = study.space.folk().filter(|rule| *rule != duel.best && study.has_tried(*rule))?;
        let chosen = duel.recommended(study)?;
        // Those of the duel, as the search's own are of the luckiest.
        let merit = if chosen == duel.best { duel.best_capacity(study) } else { duel.baseline_capacity(study) }?;
        let standing = duel.standing(study);
        let place = standing.place(candidate);
        let merit_of_rule = place.and_then(|place| standing.spread().around(&place.logs));
        let comparable = |candidate| standing.place(candidate).is_some_and(|place| !place.disturbed);
        let ratio = merit_of_rule.filter(|_| comparable(candidate) && comparable(chosen)).map(|rule| merit.over(rule));
        let amount = |merit| study.objective.amount(merit);
        let is_unmet = merit_of_rule.is_none() && falls_short(study, candidate);
        Some(Self { candidate, amount: merit_of_rule.map(amount), is_unmet, ratio: ratio.map(amount) })
    }
}

/// Whether an undisturbed trial of `candidate` did not meet the objective. One that was disturbed, or gave no numbers, shows nothing.
fn falls_short(study: &Study, candidate: Candidate) -> bool {
    let merit = |found| study.objective.merit(found, candidate, study.space.cores);
    study
        .measured()
        .any(|(tried, found)| tried == candidate && found.is_valid() && !(found.is_usable() && merit(found).is_some()))
}

#[cfg(test)]
mod tests {
    use crate::study::simulation::{APPS, App, run};
    use crate::study::{Flag, Outcome, Pace, Purpose, Report};
    use crate::units::Workers;

    fn studied(app: &App, workers: u32, seed: u64, change: impl Fn(Purpose, &mut crate::study::Measurement)) -> Report {
        let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, seed));
        study.space.workers = Workers::new(workers);
        let stop = run(&mut study, |suggestion| match host.run(suggestion) {
            Outcome::Measured(mut found) => {
                change(suggestion.purpose, &mut found);
                Outcome::Measured(found)
            }
            other @ (Outcome::Challenged(_) | Outcome::Failed { .. }) => other,
        });
        Report::new(&study, stop)
    }

    #[test]
    fn the_interval_contains_the_truth() {
        let (mut told, mut missed) = (0, 0);
        for (app, workers) in [(&APPS[1], 1), (&APPS[4], 3), (&APPS[3], 4)] {
            for seed in 0..100 {
                let report = studied(app, workers, seed, |_, _| ());
                let Some(rule) = report.rule else { continue };
                assert_eq!(Some(rule.candidate), report.space.folk());
                let (Some(chosen), Some(ratio)) = (report.recommended, rule.ratio) else { continue };
                told += 1;
                missed += u32::from(!ratio.contains(app.capacity(chosen) / app.capacity(rule.candidate)));
            }
        }
        // Three standard errors beyond what 95 % leaves.
        let expected = 0.05 * f64::from(told);
        assert!(told > 150 && f64::from(missed) <= expected + 3.0 * expected.sqrt(), "{missed} of {told}");
    }

    #[test]
    fn it_is_left_out_where_the_duel_is_about_it() {
        let app = &APPS[1];
        assert_eq!(studied(app, 5, 1, |_, _| ()).rule, None, "it is the baseline");
        let only_the_rule = studied(app, 1, 1, |purpose, found| {
            if matches!(purpose, Purpose::Jump | Purpose::Neighbour) {
                found.capacity = 0.0;
            }
        });
        let best = only_the_rule.best.map(|side| side.candidate);
        assert!(best == only_the_rule.space.folk() && only_the_rule.rule.is_none(), "{best:?}");
    }

    #[test]
    fn a_disturbed_trial_of_it_gives_no_ratio() {
        let report = studied(&APPS[1], 1, 1, |purpose, found| {
            if purpose == Purpose::Folk {
                found.flags.push(Flag::OtherPrograms);
            }
        });
        let rule = report.rule.unwrap();
        assert!(rule.amount.is_some() && rule.ratio.is_none() && !rule.is_unmet, "{rule:?}");
    }

    #[test]
    fn only_an_undisturbed_trial_shows_that_it_meets_nothing() {
        let without_capacity = |flags: &[Flag]| {
            let report = studied(&APPS[1], 1, 1, |purpose, found| {
                if purpose == Purpose::Folk {
                    found.capacity = 0.0;
                    found.flags.extend_from_slice(flags);
                }
            });
            let rule = report.rule.unwrap();
            (rule.amount, rule.is_unmet)
        };
        assert_eq!(without_capacity(&[Flag::OtherPrograms]), (None, false));
        assert_eq!(without_capacity(&[]), (None, true));
    }
}
