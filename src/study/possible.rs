//! Whether the numbers of a trial can be: what somebody's editor wrote into a journal may be anything. Knows nothing of likely and unlikely.

use crate::study::{Challenged, CoreShare, Measurement, Outcome, ProbeNote, Suggestion, Trial};

/// More requests a second, seconds or cores than any trial has, and few enough that sums and products of them stay numbers.
const MOST: f64 = 1e12;
/// The same in bytes a second.
const MOST_GROWTH: f64 = 1e18;
/// Shares are counted by different clocks.
const MOST_SHARE: f64 = 1.1;

impl Trial {
    /// Whether its numbers can be.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let Suggestion { task, expected, rival, .. } = self.suggestion;
        [task.rate(), expected, rival].into_iter().flatten().all(is_amount)
            && match &self.outcome {
                Outcome::Measured(found) => found.is_possible(),
                Outcome::Challenged(Challenged { seconds, probes, .. }) => is_amount(*seconds) && are_possible(probes),
                Outcome::Failed { seconds, .. } => is_amount(*seconds),
            }
    }
}

impl Measurement {
    fn is_possible(&self) -> bool {
        let amounts = [self.capacity, self.throughput, self.seconds];
        let times = [self.p50, self.p90, self.p99, self.max, self.bounded, self.time_in_worker, self.lateness_p99];
        let each = [self.cpu_seconds_per_request, self.light.as_ref().map(|light| light.throughput)];
        let cores = [self.workers_cpu, self.generator_cpu, self.supervisor_cpu, self.beside_cpu, self.other_cpu];
        // A quota's account is of every core, and a worker may have threads on several.
        let more = [self.effective_cores, self.throttled, self.worker_busy, self.rest_iowait, self.ending.outclassed_by()];
        let shares = [self.errors, self.utilisation, self.slots_busy];
        let optional = times.into_iter().chain(each).chain(cores).chain(more).flatten();
        amounts.into_iter().chain(optional).all(is_amount)
            && shares.into_iter().flatten().all(|share| (0.0..=MOST_SHARE).contains(&share))
            && self.memory_growth.is_none_or(|growth| growth.abs() <= MOST_GROWTH)
            // What held a rate answered requests.
            && (self.capacity <= 0.0 || self.throughput > 0.0)
            && self.cores.iter().all(|CoreShare { user, system, iowait, steal, .. }| {
                [user, system, iowait, steal].into_iter().copied().all(is_amount)
            })
            && are_possible(&self.probes)
    }
}

fn are_possible(probes: &[ProbeNote]) -> bool {
    probes.iter().all(|probe| is_amount(probe.rate))
}

fn is_amount(value: f64) -> bool {
    (0.0..=MOST).contains(&value)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::stats::{Latencies, PackedLatencies};
    use crate::study::{Candidate, Ending, LightNote, Purpose, Task};
    use crate::units::{Connections, Workers};

    /// Trials that have every number there can be.
    fn trials() -> Vec<Value> {
        let candidate = Candidate::new(Workers::new(2).unwrap(), Connections::new(10).unwrap());
        let task = Task::Challenge { rate: 100.0 };
        let suggestion = Suggestion { candidate, purpose: Purpose::Jump, task, expected: Some(90.0), rival: Some(80.0) };
        let probes = vec![ProbeNote { rate: 100.0, held: true, why: None, latencies: None }];
        let light = Some(LightNote { throughput: 10.0, latencies: PackedLatencies::of(&Latencies::new()) });
        let (cores, ending) = (vec![CoreShare::default()], Ending::Outclassed(9.0));
        let found = Measurement { ending, cores, light, probes: probes.clone(), ..Measurement::of_capacity(1.0) };
        // What is absent could be there.
        let mut found = serde_json::to_value(found).unwrap();
        found.as_object_mut().unwrap().values_mut().filter(|value| value.is_null()).for_each(|value| *value = 1.into());
        let found: Measurement = serde_json::from_value(found).unwrap();
        let challenged = Challenged { probes, ..Challenged::new(true, 8.0) };
        let failed = Outcome::Failed { reason: "no memory".to_owned(), seconds: 1.0 };
        let outcomes = [Outcome::Measured(Box::new(found)), Outcome::Challenged(challenged), failed];
        outcomes.into_iter().map(|outcome| serde_json::to_value(Trial { suggestion, outcome }).unwrap()).collect()
    }

    /// The places of all numbers in `value`.
    fn numbers(value: &Value, above: &str, found: &mut Vec<String>) {
        match value {
            Value::Number(_) => found.push(above.to_owned()),
            Value::Object(object) => object.iter().for_each(|(key, value)| numbers(value, &format!("{above}/{key}"), found)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(index, value)| numbers(value, &format!("{above}/{index}"), found));
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }

    fn is_possible(trial: &Value) -> bool {
        serde_json::from_value::<Trial>(trial.clone()).is_ok_and(|trial| trial.is_possible())
    }

    #[test]
    fn no_number_of_a_trial_may_be_anything() {
        for trial in trials() {
            assert!(is_possible(&trial), "{trial}");
            let mut places = Vec::new();
            numbers(&trial, "", &mut places);
            assert!(places.len() > 3, "{places:?}");
            for place in places {
                for impossible in [-1e300, 1e300] {
                    let mut changed = trial.clone();
                    *changed.pointer_mut(&place).unwrap() = impossible.into();
                    assert!(!is_possible(&changed), "{place}: {impossible}");
                }
            }
        }
    }

    #[test]
    fn what_held_a_rate_answered_something() {
        let mut trial = trials().swap_remove(0);
        *trial.pointer_mut("/outcome/measured/throughput").unwrap() = 0.into();
        assert!(!is_possible(&trial), "{trial}");
        *trial.pointer_mut("/outcome/measured/capacity").unwrap() = 0.into();
        assert!(is_possible(&trial), "{trial}");
    }
}
