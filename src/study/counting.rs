//! Which trials count once a study has all of them: undisturbed ones that held a rate, but for accidents and for the pairs of best and
//! baseline that were run again.

use crate::study::confirm::Duel;
use crate::study::standing::Standing;
use crate::study::{Candidate, Measurement, Study};

/// Those of `study`, with their numbers from 0.
pub(super) fn counting(study: &Study) -> Vec<(usize, Candidate, &Measurement)> {
    let mut aside: Vec<usize> = Standing::of(study).accidents().collect();
    aside.extend(Duel::of(study).iter().flat_map(Duel::aside));
    let measured = study.trials().iter().enumerate().filter_map(|(number, trial)| {
        let found = trial.measurement().filter(|found| found.is_usable() && found.is_valid())?;
        Some((number, trial.suggestion.candidate, found))
    });
    measured.filter(|(number, ..)| !aside.contains(number)).collect()
}

/// The measurement that describes `candidate`: its last one that counts, or its last usable one, or its last one.
pub(super) fn described(study: &Study, candidate: Candidate) -> Option<&Measurement> {
    let counts = counting(study).into_iter().rfind(|(_, tried, _)| *tried == candidate).map(|(.., found)| found);
    let all: Vec<&Measurement> = study.measured().filter(|(tried, _)| *tried == candidate).map(|(_, found)| found).collect();
    counts.or_else(|| all.iter().rfind(|found| found.is_usable()).copied()).or_else(|| all.last().copied())
}
