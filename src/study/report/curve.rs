//! Latency against the offered rate, from every probe of one candidate's trials: flat while there is room, steep beyond the knee.

use crate::stats::Latencies;
use crate::study::{Candidate, Outcome, Slo, Study};

/// The probes of one candidate, by rate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Ascending.
    pub points: Vec<Point>,
}

/// Latencies at one rate, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Requests a second.
    pub rate: f64,
    /// Median.
    pub p50: f64,
    /// The quantile that the objective bounds.
    pub bounded: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Requests behind it.
    pub requests: u64,
    /// Whether the rate was held by all probes at it.
    pub held: bool,
    /// Whether it is the light probe, whose clients wait for their answers; its rate is what they reached.
    pub light: bool,
}

impl Curve {
    /// The curve of `candidate` in `study`. Empty if its trials kept no latencies.
    #[must_use]
    pub fn of(study: &Study, candidate: Candidate) -> Self {
        let mut seen: Vec<Seen> = Vec::new();
        for trial in study.trials().iter().filter(|trial| trial.suggestion.candidate == candidate) {
            let (light, probes) = match &trial.outcome {
                Outcome::Measured(found) => (found.light.as_ref(), found.probes.as_slice()),
                Outcome::Challenged(found) => (None, found.probes.as_slice()),
                Outcome::Failed { .. } => continue,
            };
            let light = light.into_iter().map(|light| (light.throughput, true, true, &light.latencies));
            let probes = probes.iter().filter_map(|probe| Some((probe.rate, probe.held, false, probe.latencies.as_ref()?)));
            let all =
                light.chain(probes).map(|(rate, held, light, packed)| Seen { rate, held, light, latencies: packed.unpack() });
            seen.extend(all.filter(|seen| seen.latencies.count() > 0));
        }
        seen.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        let groups = seen.chunk_by(|one, other| one.light == other.light && other.rate < one.rate * SAME_RATE);
        Self { points: groups.map(|group| joined(group, &study.slo)).collect() }
    }
}

/// Probes whose rates are this close are one point: trials differ by noise.
const SAME_RATE: f64 = 1.01;

/// One probe.
struct Seen {
    rate: f64,
    held: bool,
    light: bool,
    latencies: Latencies,
}

fn joined(group: &[Seen], slo: &Slo) -> Point {
    let mut latencies = Latencies::new();
    for seen in group {
        latencies.add(&seen.latencies);
    }
    Point {
        rate: group.iter().map(|seen| seen.rate).sum::<f64>() / group.len() as f64,
        p50: latencies.quantile(0.5),
        bounded: latencies.quantile(slo.quantile().share()),
        p99: latencies.quantile(0.99),
        requests: latencies.count(),
        held: group.iter().all(|seen| seen.held),
        light: group.iter().all(|seen| seen.light),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stats::PackedLatencies;
    use crate::study::simulation::APPS;
    use crate::study::{Challenged, LightNote, Measurement, Pace, ProbeNote, Purpose, Suggestion, Task, Trial};

    fn packed(millis: u64) -> PackedLatencies {
        let mut latencies = Latencies::new();
        (0..10).for_each(|_| latencies.record(Duration::from_millis(millis)));
        PackedLatencies::of(&latencies)
    }

    #[test]
    fn probes_of_all_trials_are_joined_by_rate() {
        let mut study = APPS[0].study(Pace::Quick);
        let candidate = study.space.baseline();
        for rate in [200.0, 100.0] {
            let mut found = Measurement::of_capacity(0.0);
            found.light = Some(LightNote { throughput: rate / 10.0, latencies: packed(5) });
            let probe = |rate, millis| ProbeNote { rate, held: millis < 100, why: None, latencies: Some(packed(millis)) };
            found.probes = vec![probe(rate, 50), probe(rate * 1.5, 900), ProbeNote { latencies: None, ..probe(1.0, 1) }];
            let suggestion =
                Suggestion { candidate, purpose: Purpose::Baseline, task: Task::Measure, expected: None, rival: None };
            study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(found)) });
        }
        let probes = vec![ProbeNote { rate: 250.0, held: true, why: None, latencies: Some(packed(60)) }];
        let task = Task::Challenge { rate: 250.0 };
        let suggestion = Suggestion { candidate, purpose: Purpose::Challenge, task, expected: None, rival: None };
        let outcome = Outcome::Challenged(Challenged { probes, ..Challenged::new(true, 8.0) });
        study.record(Trial { suggestion, outcome });
        let curve = Curve::of(&study, candidate);
        let seen: Vec<_> = curve.points.iter().map(|point| (format!("{:.0}", point.rate), point.held, point.light)).collect();
        let expected =
            [("10", true), ("20", true), ("100", false), ("150", false), ("200", false), ("250", false), ("300", false)];
        assert_eq!(seen.iter().map(|(rate, _, light)| (rate.as_str(), *light)).collect::<Vec<_>>(), expected);
        assert_eq!(seen.iter().map(|(_, held, _)| *held).collect::<Vec<_>>(), [true, true, true, false, true, true, false]);
        assert!((curve.points[6].bounded - 0.9).abs() < 0.01);
    }
}
