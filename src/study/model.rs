//! Predicts the capacity of candidates that were not tried from those that were. A first guess that measurements overrule.

use crate::study::queueing::{Bounds, Demand, soft_minimum};
use crate::study::{Candidate, Ending, Label, Measurement, Objective, Study};
use crate::units::Workers;

/// What the trials so far say about one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    cores: f64,
    /// Cores that workers may run on: more than those, if a quota leaves CPU time of fewer.
    places: f64,
    demand: Demand,
    /// By how much CPU per request grows with ever more workers a core, as a logarithm.
    crowding: f64,
    /// A limit that none of the three bounds explains.
    external: f64,
}

/// A priori CPU per request is D₀·exp(0.4·(1 − c/w)) where w workers share c cores: a worker that takes its turn on a core finds the
/// caches full of another's data, the more likely the more of them there are, and once all find it so, more make no difference.
/// Measured on two cores: three workers instead of two need 16 to 20 % more (Django, gevent: `benches/shop.py`) or 13 % (Wagtail,
/// gthread: `benches/wagtail.py`), which is a factor of 0.37 to 0.55; five instead of three another 10 % or none.
pub(super) const CROWDING: f64 = 0.4;
/// The weight of that belief against the trials.
const CROWDING_WEIGHT: f64 = 0.05;
/// Measured demands count from trials that kept the host this busy, if there are any: a demand at low load flatters or shames.
const BUSY: f64 = 0.8;
/// What is reached of each bound in practice.
const OF_CORES: f64 = 0.97;
const OF_WORKERS: f64 = 0.96;
const OF_SLOTS: f64 = 0.98;
const OF_EXTERNAL: f64 = 1.03;
/// Above this many times such a limit it was none. Trials scatter: with 1.03 a quick search takes a tenth of a trial more and spares no regret.
const EXCEEDS: f64 = 1.1;
/// How sharply one bound takes over from another. That of the slots does so gradually: requests do not come evenly, so that some
/// workers run dry while others have no slot left. Simulated by 2 to 8, 3 and less leave the least regret, half that of 8
/// (`benches/search.rs`); with 8 Wagtail's gthread workers were given two threads where four do a tenth more.
const SHARP: i32 = 8;
const UNEVEN: i32 = 3;
/// Below these shares neither cores, workers nor slots are what holds a trial.
const SPARE_CORES: f64 = 0.85;
const SPARE_WORKERS: f64 = 0.85;
const SPARE_SLOTS: f64 = 0.8;
/// With fewer slots than this requests wait for one while most are free: of a few, not all are used up within a bounded latency (M/M/c).
const FEW_SLOTS: u64 = 4;

impl Model {
    /// The model of a study, or `None` before a trial measured demands. Once there are undisturbed trials, it is of those alone:
    /// what other programs used is no demand of a request.
    #[must_use]
    pub fn fit(study: &Study) -> Option<Self> {
        let mut trials: Vec<(Candidate, &Measurement)> =
            study.measured().filter(|(_, measured)| measured.throughput > 0.0).collect();
        if trials.iter().any(|(_, measured)| measured.is_valid()) {
            trials.retain(|(_, measured)| measured.is_valid());
        }
        let cores = study.space.cpu();
        let places = f64::from(study.space.places());
        let (cpu, crowding) = fit_cpu(&trials, places)?;
        let beside: Vec<f64> = trials.iter().map(|(_, measured)| beside(measured, cores)).collect();
        Some(Self {
            cores,
            places,
            demand: Demand {
                cpu,
                beside: crate::stats::mean(&beside)?,
                time_in_worker: time_in_worker(&trials)?,
                cores_a_worker: cores_a_worker(&trials),
            },
            crowding,
            // At a fixed rate nothing is used up, whatever binds.
            external: if study.objective == Objective::Capacity { external_limit(&trials) } else { f64::INFINITY },
        })
    }

    /// The capacity expected of `candidate`, requests a second.
    #[must_use]
    pub fn capacity(&self, candidate: Candidate) -> f64 {
        let cpu = self.demand.cpu * (self.crowding * crowd(candidate.workers, self.places)).exp();
        let bounds = Bounds::new(candidate, self.cores, Demand { cpu, ..self.demand });
        let used_up = [OF_CORES * bounds.cores, OF_WORKERS * bounds.workers, OF_EXTERNAL * self.external];
        soft_minimum(&[soft_minimum(&used_up, SHARP), OF_SLOTS * bounds.slots], UNEVEN)
    }
}

/// The share of turns in which a worker finds that another one had the core.
pub(super) fn crowd(workers: Workers, places: f64) -> f64 {
    (1.0 - places / f64::from(workers.get())).max(0.0)
}

/// CPU per request with a worker a core, and its growth: ridge regression of ln D on 1 − c/w towards [`CROWDING`].
fn fit_cpu(trials: &[(Candidate, &Measurement)], places: f64) -> Option<(f64, f64)> {
    let busy: Vec<_> = trials.iter().filter(|(_, measured)| measured.cpu_mean().is_some_and(|share| share > BUSY)).collect();
    let chosen: Vec<_> = if busy.is_empty() { trials.iter().collect() } else { busy };
    let points: Vec<(f64, f64)> = chosen
        .iter()
        .filter_map(|(candidate, measured)| {
            let cpu = measured.cpu_seconds_per_request.filter(|cpu| *cpu > 0.0)?;
            Some((crowd(candidate.workers, places), cpu.ln()))
        })
        .collect();
    let crowd = crate::stats::mean(&points.iter().map(|point| point.0).collect::<Vec<_>>())?;
    let demand = crate::stats::mean(&points.iter().map(|point| point.1).collect::<Vec<_>>())?;
    let (mut cross, mut square) = (CROWDING * CROWDING_WEIGHT, CROWDING_WEIGHT);
    for (x, y) in &points {
        cross += (x - crowd) * (y - demand);
        square += (x - crowd).powi(2);
    }
    let slope = (cross / square).max(0.0);
    Some(((demand - slope * crowd).exp(), slope))
}

/// CPU time per request on the host that is not the workers'.
fn beside(measured: &Measurement, cores: f64) -> f64 {
    let generator = measured.generator_cpu.unwrap_or(0.0);
    let other = measured.cpu_mean().zip(measured.workers_cpu).map_or(generator, |(busy, workers)| busy * cores - workers);
    other.max(generator).max(0.0) / measured.throughput
}

/// The shortest plausible time in a worker: what the light probe saw, or what full slots and Little's law imply.
fn time_in_worker(trials: &[(Candidate, &Measurement)]) -> Option<f64> {
    let times = trials.iter().map(|(candidate, measured)| {
        let implied = if measured.label() == Label::Slots && measured.capacity > 0.0 {
            candidate.slots() as f64 / measured.capacity
        } else {
            0.0
        };
        measured.time_in_worker.unwrap_or(0.0).max(implied)
    });
    times.filter(|time| *time > 0.0).min_by(f64::total_cmp)
}

/// The most cores that one worker can keep busy: one, unless one kept more busy.
fn cores_a_worker(trials: &[(Candidate, &Measurement)]) -> f64 {
    if trials.iter().any(|(_, measured)| measured.has_many_cores_a_worker()) { f64::INFINITY } else { 1.0 }
}

/// The best capacity among trials that used up neither cores, workers nor slots: something else held them. What another trial was not held
/// by is no limit: these were unlucky.
fn external_limit(trials: &[(Candidate, &Measurement)]) -> f64 {
    let spare = |candidate: &Candidate, measured: &Measurement| {
        candidate.slots() >= FEW_SLOTS
            && measured.ending == Ending::Held
            && measured.cpu_mean().is_some_and(|busy| busy < SPARE_CORES)
            && measured.has_spare_workers(SPARE_WORKERS)
            && measured.slots_busy.is_some_and(|busy| busy < SPARE_SLOTS)
    };
    let held = trials.iter().filter(|(candidate, measured)| spare(candidate, measured)).map(|(_, measured)| measured.capacity);
    let limit = held.max_by(f64::total_cmp).unwrap_or(f64::INFINITY);
    let exceeded = trials.iter().any(|(_, measured)| measured.capacity > EXCEEDS * limit);
    if exceeded { f64::INFINITY } else { limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::APPS;
    use crate::study::{Flag, Outcome, Pace, Purpose, Suggestion, Task, Trial};
    use crate::units::Connections;

    /// A run of `benches/regret.py` on the shop (gthread) ended after 5 trials: 2 × 50 had held 341 with a fifth of the cores idle, and all
    /// neighbours of 5 × 4, which held 414, were predicted to hold no more.
    #[test]
    fn what_another_trial_exceeds_is_no_limit() {
        let app = &APPS[1];
        let baseline = app.space().baseline();
        let suggestion =
            Suggestion { candidate: baseline, purpose: Purpose::Baseline, task: Task::Measure, expected: None, rival: None };
        let Outcome::Measured(found) = app.host(Pace::Normal, 1).run(&suggestion) else { panic!("no numbers") };
        let spare = Measurement {
            capacity: 0.8 * found.capacity,
            throughput: 0.8 * found.throughput,
            utilisation: Some(0.7),
            worker_busy: Some(0.3),
            slots_busy: Some(0.1),
            ..*found.clone()
        };
        let predicted = |outcomes: &[Measurement]| {
            let mut study = app.study(Pace::Normal);
            for found in outcomes {
                study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(found.clone())) });
            }
            Model::fit(&study).unwrap().capacity(baseline) / found.capacity
        };
        assert!(predicted(std::slice::from_ref(&spare)) < 0.85, "as long as nothing else is known");
        assert!(predicted(&[spare, *found.clone()]) > 0.9, "{}", predicted(&[*found.clone()]));
    }

    /// One worker of a program with threads kept eight cores busy: more workers are no more.
    #[test]
    fn a_worker_that_keeps_many_cores_busy_is_not_bound_by_one() {
        let app = &APPS[3];
        let one = Candidate::new(Workers::new(1).unwrap(), Connections::new(100).unwrap());
        let predicted = |worker_busy, utilisation| {
            let mut study = app.study(Pace::Normal);
            let (purpose, task) = (Purpose::Baseline, Task::Measure);
            let found = Measurement {
                throughput: 250.0,
                utilisation: Some(utilisation),
                cpu_seconds_per_request: Some(8.0 * utilisation / 250.0),
                time_in_worker: Some(0.05),
                worker_busy: Some(worker_busy),
                slots_busy: Some(0.1),
                ..Measurement::of_capacity(250.0)
            };
            let suggestion = Suggestion { candidate: one, purpose, task, expected: None, rival: None };
            study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(found)) });
            Model::fit(&study).unwrap().capacity(one)
        };
        assert!(predicted(7.5, 0.97) > 220.0 && predicted(0.97, 0.97) < 40.0);
        let held_outside = predicted(1.5, 0.2);
        assert!((240.0..280.0).contains(&held_outside), "a database, say: {held_outside}");
    }

    #[test]
    fn what_other_programs_used_is_no_demand_once_it_is_known_without_them() {
        let app = &APPS[1];
        let (purpose, task, candidate) = (Purpose::Baseline, Task::Measure, app.space().baseline());
        let suggestion = Suggestion { candidate, purpose, task, expected: None, rival: None };
        let quiet = app.host(Pace::Normal, 1).run(&suggestion);
        let Outcome::Measured(mut disturbed) = quiet.clone() else { panic!("{quiet:?}") };
        (disturbed.utilisation, disturbed.flags) = (Some(1.0), vec![Flag::OtherPrograms]);
        let fitted = |outcomes: &[Outcome]| {
            let mut study = app.study(Pace::Normal);
            for outcome in outcomes {
                study.record(Trial { suggestion, outcome: outcome.clone() });
            }
            Model::fit(&study)
        };
        let disturbed = Outcome::Measured(disturbed);
        assert_eq!(fitted(&[disturbed.clone(), quiet.clone()]), fitted(std::slice::from_ref(&quiet)));
        let (with, without) = (fitted(&[disturbed]).unwrap(), fitted(&[quiet]).unwrap());
        let largest = *app.space().candidates().last().unwrap();
        assert!(with.capacity(largest) < 0.8 * without.capacity(largest), "the best guess until then");
    }
}
