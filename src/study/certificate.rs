//! How close the recommended configuration is to what the host's cores can do at all, if that can be said.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stats::{self, Interval};
use crate::study::confirm::Duel;
use crate::study::counting::{counting, settled, uncounted};
use crate::study::drift::Drift;
use crate::study::model::{CROWDING, crowd};
use crate::study::standing::failures;
use crate::study::{Binding, Candidate, Label, Measurement, Objective, Study};

/// A bound from the utilisation law, and how near the recommended configuration is to it.
///
/// While the application does X requests a second, its cores are busy for U of their time, so a request takes D = U·c/X of CPU
/// (utilisation law: Denning and Buzen, The Operational Analysis of Queueing Network Models, ACM Computing Surveys 10, 1978), and
/// c cores cannot do more than c/D, whatever the number of workers and of connections, as long as no configuration needs less CPU
/// a request. What the generator and other programs used meanwhile is in D: the bound holds on this host with as much of that beside
/// the application, and a quieter host may do more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Certificate {
    /// Whether it can be said that no configuration is better by more than `margin`, which is less than 11.2 % then.
    pub given: bool,
    /// The recommended configuration's share of the bound, if there is one.
    pub share: Option<f64>,
    /// The least that this share is, with 95 % confidence in either direction.
    pub least: Option<f64>,
    /// By what share another configuration can be better at most, by the same confidence.
    pub margin: Option<f64>,
    /// The most requests a second the cores could serve.
    pub bound: Option<f64>,
    /// The bound with its interval.
    pub interval: Option<Interval>,
    /// By what factor the bound was raised, as in all trials that tell of it workers shared cores and needed more for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crowded: Option<f64>,
    /// Why it is not given.
    pub reason: Option<String>,
}

/// Demands count from trials that kept the host this busy.
const BUSY: f64 = 0.75;
/// And only if one of them has no more workers a core than this: an over-staffed host flatters no bound. The design study has 1.3; no
/// simulated study is certified by anything from 1.1 to 2 that is not by this.
const STAFFED: f64 = 1.25;
/// By how much CPU per request grows at most with ever more workers a core, as a logarithm: the most that was measured ([`CROWDING`]).
const MOST_CROWDING: f64 = 0.55;
/// More than the whole, beyond what noise explains.
const IMPOSSIBLE: f64 = 1.05;
/// The share of the bound, and its lower end, from which it is given. Chosen by `cargo bench --bench search`, 500 seeds: with 0.965 (the
/// design study's), 0.955 and 0.94 there are 36, 45 and 53 % certified, with a mean margin of 6.1, 6.6 and 7.0 %, and 99, 99 and 98 % of
/// these within 3.5 % of the best. With a lower end of 0.93, 0.9 and 0.85 there are 33, 45 and 46 % (quick: 3, 24 and 30 %), with margins
/// of 5.8, 6.6 and 6.7 % (quick: 6.5, 8.9 and 10.0 %). At most one of 100 certificates was wrong with any of these.
const NEAR: f64 = 0.955;
const NEAR_AT_LEAST: f64 = 0.9;
/// The boots that it takes.
const BOOTS: usize = 2;
/// Boots that agree, from which one more that did far less is believed to be an accident.
const STEADY_BOOTS: usize = 5;

impl Certificate {
    /// The certificate of `recommended` in `study`.
    #[must_use]
    pub fn of(study: &Study, recommended: Option<Candidate>) -> Self {
        let Some(candidate) = recommended else {
            return Self::refused("nothing is recommended".to_owned());
        };
        if study.objective != Objective::Capacity {
            return Self::refused("it is about capacity, which was not looked for".to_owned());
        }
        let duel = Duel::of(study);
        let boots = counting(study).iter().filter(|(_, tried, _)| *tried == candidate).count();
        let standing = settled(study, duel.as_ref());
        let place = standing.place(candidate).filter(|place| !place.disturbed);
        // Of its trials, as the bound is (which leaves out the partner of an accident too): what makes one lucky raises its rate and lowers its CPU
        // per request, and in their product,
        // the utilisation, it cancels.
        let Some(capacity) = place.and_then(|place| standing.spread().around(&place.logs)) else {
            let measured = study.measured().any(|(tried, found)| tried == candidate && found.is_usable());
            let why = if measured { "measured only while something disturbed it" } else { "not measured" };
            return Self::refused(format!("the recommended configuration was {why}"));
        };
        let Some((bound, crowded)) = bound(study) else {
            return Self::refused(unbound(study, candidate));
        };
        let share = capacity.value / bound.value;
        // Added as squares, as if the two were independent. Where they share trials, a rate that came out high raises both, and
        // their ratio scatters less.
        let spread = (capacity.low / capacity.value).ln().hypot((bound.high / bound.value).ln());
        let least = (share * (-spread).exp()).min(1.0);
        let reason = if boots < BOOTS {
            Some("the recommended configuration was measured only once".to_owned())
        } else if failures(study, candidate) > 0 {
            Some("a trial of the recommended configuration failed".to_owned())
        } else if place.is_some_and(|place| place.unstable.is_some()) {
            Some("the recommended configuration differs from boot to boot".to_owned())
        } else if boots < STEADY_BOOTS && place.is_some_and(|place| place.accident.is_some()) {
            Some("one boot of the recommended configuration did far less than the others".to_owned())
        } else if Drift::of(study, &uncounted(study)).is_some() {
            Some("the host changed while the study ran".to_owned())
        } else if share > IMPOSSIBLE {
            Some(format!("it seems to do {:.0} % of what the cores can, so the host was not quiet", share * 100.0))
        } else if share < NEAR || least < NEAR_AT_LEAST {
            Some(format!(
                "it reaches {:.0} % of the cores' limit, {:.0} % at least; what binds: {}",
                share * 100.0,
                least * 100.0,
                binding(study, candidate)
            ))
        } else {
            None
        };
        Self {
            given: reason.is_none(),
            share: Some(share),
            least: Some(least),
            margin: Some(1.0 / least - 1.0),
            bound: Some(bound.value),
            interval: Some(bound),
            crowded,
            reason,
        }
    }

    const fn refused(reason: String) -> Self {
        let reason = Some(reason);
        Self { given: false, share: None, least: None, margin: None, bound: None, interval: None, crowded: None, reason }
    }

    /// By what share another configuration can be better at most, in percent, rounded up; `None` if that is not certified.
    #[must_use]
    pub fn most_missed(&self) -> Option<f64> {
        self.margin.filter(|_| self.given).map(|margin| (margin * 100.0).ceil())
    }

    /// What it says, for an application that can have `cores` cores' worth of CPU time.
    #[must_use]
    pub fn words(&self, cores: f64) -> String {
        let cores = (cores * 100.0).round() / 100.0;
        match (self.most_missed(), self.least, self.interval, self.reason.as_deref()) {
            (Some(missed), Some(least), Some(bound), _) => format!(
                "It does at least {:.0} % of what {cores} cores can do for this traffic ({:.0} req/s by the utilisation law, {:.0} to {:.0}); \
                 no configuration can be more than {missed:.0} % better",
                (least * 100.0).floor(),
                bound.value,
                bound.low,
                bound.high,
            ),
            (_, _, _, reason) => format!("No bound can be certified: {}", reason.unwrap_or("none was found")),
        }
    }
}

/// c / D with D from busy trials, all CPU that was used while a request was served, the generator's too: the least mean over numbers of
/// workers and ways to keep them to cores. Where all these shared cores, they needed more than others would: then the bound is raised by
/// this factor, and its interval wider.
fn bound(study: &Study) -> Option<(Interval, Option<f64>)> {
    // Utilisation is a share of this already, under a quota too.
    let cpu = study.space.cpu();
    // A worker that keeps to a core may need less of it.
    let mut demands: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for (_, candidate, found) in counting(study) {
        if let Some(busy) = found.cpu_mean().filter(|busy| *busy > BUSY) {
            demands.entry((candidate.workers, candidate.affinity)).or_default().push((busy * cpu / found.throughput).ln());
        }
    }
    let places = f64::from(study.space.places());
    let staffed = demands.keys().any(|(workers, _)| f64::from(workers.get()) <= STAFFED * places);
    let level = |logs: &[f64]| stats::mean(logs).unwrap_or(f64::INFINITY);
    let ((workers, _), least) = demands.iter().min_by(|one, other| level(one.1).total_cmp(&level(other.1)))?;
    let demand = study.pace.demand().interval(least).filter(|_| staffed)?;
    let is_crowded = demands.keys().all(|(workers, _)| crowd(*workers, places) > 0.0);
    let shared = if is_crowded { crowd(*workers, places) } else { 0.0 };
    let of = |demand: f64, crowding: f64| cpu / demand * (crowding * shared).exp();
    let interval = Interval { value: of(demand.value, CROWDING), low: of(demand.high, 0.0), high: of(demand.low, MOST_CROWDING) };
    Some((interval, is_crowded.then(|| (CROWDING * shared).exp())))
}

fn unbound(study: &Study, candidate: Candidate) -> String {
    let busy = || study.measured().map(|(_, found)| found).filter(|found| found.cpu_mean().is_some_and(|share| share > BUSY));
    let counts = |found: &Measurement| found.is_usable() && found.is_valid();
    if study.measured().all(|(_, found)| found.cpu_mean().is_none()) {
        "no trial told how busy the cores were".to_owned()
    } else if busy().any(counts) {
        format!(
            "the cores were busy only with more than {STAFFED} workers a core, where CPU per request is no measure of the least possible"
        )
    } else if busy().next().is_some() {
        "the cores were busy only in trials that something disturbed or that held no rate".to_owned()
    } else {
        format!("the cores were never busy; what binds: {}", binding(study, candidate))
    }
}

fn binding(study: &Study, candidate: Candidate) -> &'static str {
    Binding::of(study, candidate).map_or(Label::Other.name(), |binding| binding.name())
}

#[cfg(test)]
mod tests;
