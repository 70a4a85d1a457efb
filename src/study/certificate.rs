//! How close the recommended configuration is to what the host's cores can do at all, if that can be said.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stats;
use crate::study::{Candidate, Label, Measurement, Study};

/// A bound from the utilisation law, and whether the recommended configuration is near it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Certificate {
    /// Whether it can be said that no configuration is more than a few percent better.
    pub given: bool,
    /// The recommended configuration's share of the bound, if there is one.
    pub share: Option<f64>,
    /// The most requests a second the cores could serve.
    pub bound: Option<f64>,
    /// Why it is not given.
    pub reason: Option<String>,
}

/// Demands count from trials that kept the host this busy.
const BUSY: f64 = 0.75;
/// And only if one of them has no more workers a core than this: an over-staffed host flatters no bound.
const STAFFED: f64 = 1.3;
/// The share of the bound from which it is given, and the boots it takes.
const NEAR: f64 = 0.965;
const BOOTS: usize = 2;

impl Certificate {
    /// The certificate of `recommended` in `study`.
    #[must_use]
    pub fn of(study: &Study, recommended: Option<Candidate>) -> Self {
        let Some(candidate) = recommended else {
            return Self::refused(None, None, "nothing is recommended".to_owned());
        };
        let trials: Vec<&Measurement> = of_candidate(study, candidate).collect();
        let Some(capacity) = stats::geometric_mean(&trials.iter().map(|found| found.capacity).collect::<Vec<_>>()) else {
            return Self::refused(None, None, "the recommended configuration was not measured".to_owned());
        };
        let Some(bound) = bound(study) else {
            return Self::refused(None, None, unbound(study, &trials));
        };
        let share = capacity / bound;
        if trials.len() < BOOTS {
            return Self::refused(Some(share), Some(bound), "the recommended configuration was measured only once".to_owned());
        }
        if share < NEAR {
            return Self::refused(
                Some(share),
                Some(bound),
                format!("it reaches {:.0} % of the cores' limit; what binds: {}", share * 100.0, binding(&trials)),
            );
        }
        Self { given: true, share: Some(share), bound: Some(bound), reason: None }
    }

    const fn refused(share: Option<f64>, bound: Option<f64>, reason: String) -> Self {
        Self { given: false, share, bound, reason: Some(reason) }
    }
}

fn of_candidate(study: &Study, candidate: Candidate) -> impl Iterator<Item = &Measurement> {
    study.measured().filter(move |(tried, found)| *tried == candidate && found.is_usable()).map(|(_, found)| found)
}

/// c / (D + what the generator and the rest of the host use per request), with D from busy trials: the least mean over numbers of workers.
fn bound(study: &Study) -> Option<f64> {
    let cores = f64::from(study.space.cores.get());
    let mut demands: BTreeMap<u16, Vec<f64>> = BTreeMap::new();
    for (candidate, found) in study.measured() {
        let Some(busy) = found.cpu_mean().filter(|busy| *busy > BUSY && found.is_usable() && found.is_valid()) else {
            continue;
        };
        // All the CPU that was used while a request was served: utilisation law, D = U/X.
        demands.entry(candidate.workers.get()).or_default().push(busy * cores / found.throughput);
    }
    let staffed = demands.keys().any(|workers| f64::from(*workers) <= STAFFED * cores);
    let least = demands.values().filter_map(|demands| stats::mean(demands)).min_by(f64::total_cmp)?;
    (staffed && least > 0.0).then(|| cores / least)
}

fn unbound(study: &Study, trials: &[&Measurement]) -> String {
    let busy = study.measured().any(|(_, found)| found.cpu_mean().is_some_and(|share| share > BUSY));
    if busy {
        "the cores were busy only with more than 1.3 workers a core, where CPU per request is no measure of the least possible"
            .to_owned()
    } else {
        format!("the cores were never busy; what binds: {}", binding(trials))
    }
}

fn binding(trials: &[&Measurement]) -> &'static str {
    trials.last().map_or(Label::Other, |found| found.label()).name()
}
