//! Which of the trials made so far count: undisturbed ones that held a rate, but for accidents and for the pairs of best and baseline that
//! were run again.

use crate::study::confirm::Duel;
use crate::study::standing::Standing;
use crate::study::{Candidate, Measurement, Study};

/// Those of `study`, with their numbers from 0.
pub(super) fn counting(study: &Study) -> Vec<(usize, Candidate, &Measurement)> {
    let uncounted = uncounted(study);
    let measured = study.trials().iter().enumerate().filter_map(|(number, trial)| {
        let found = trial.measurement().filter(|found| found.is_usable() && found.is_valid())?;
        Some((number, trial.suggestion.candidate, found))
    });
    measured.filter(|(number, ..)| !uncounted.contains(number)).collect()
}

/// Trials (counted from 0) that do not count though nothing disturbed them.
pub(super) fn uncounted(study: &Study) -> Vec<usize> {
    let duel = Duel::of(study);
    let mut uncounted: Vec<usize> = settled(study, duel.as_ref()).accidents().collect();
    uncounted.extend(duel.iter().flat_map(Duel::aside));
    uncounted
}

/// The standing by what counts.
pub(super) fn settled(study: &Study, duel: Option<&Duel>) -> Standing {
    duel.map_or_else(|| Standing::of(study), |duel| duel.standing(study))
}

/// The measurement that describes `candidate`: its last one that counts, or its last usable one, or its last one.
pub(super) fn described(study: &Study, candidate: Candidate) -> Option<&Measurement> {
    let counts = counting(study).into_iter().rfind(|(_, tried, _)| *tried == candidate).map(|(.., found)| found);
    let all: Vec<&Measurement> = study.measured().filter(|(tried, _)| *tried == candidate).map(|(_, found)| found).collect();
    counts.or_else(|| all.iter().rfind(|found| found.is_usable()).copied()).or_else(|| all.last().copied())
}
