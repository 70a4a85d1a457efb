//! What keeps the recommended configuration from doing more, with what shows it, and what its requests need of other programs of the host.

use super::comparison::ratio;
use super::sentences::{recommended_side, short};
use crate::commands::figures::{latency, share};
use crate::study::{Cause, Evidence, Report};

/// Share of what can be had from which what other programs do for the requests is worth a sentence: the kernel's work for connections is in it too.
const TELLING: f64 = 0.05;

/// What binds, in a sentence or two, if that was looked for.
pub(super) fn binding(report: &Report) -> Option<String> {
    let binding = report.binding.as_ref()?;
    let what = match binding.cause {
        Some(Cause::Disk(waiting)) => {
            format!("the disk, for which the cores waited {:.0} % of their time", waiting * 100.0)
        }
        Some(Cause::Bound(light)) => format!(
            "the latency bound itself. Under light load {} is {} already, of {}",
            report.slo.quantile().name(),
            latency(light),
            latency(report.slo.latency().as_secs_f64())
        ),
        Some(Cause::Queue { light, loaded }) => format!(
            "requests queue for something outside of cores, workers and connections (a lock, a database, a service). Half of them took {}, \
             and {} under light load",
            latency(loaded),
            latency(light)
        ),
        None => binding.label.words().to_owned(),
    };
    let shown = binding.evidence.as_ref().map_or_else(String::new, evidence);
    Some(format!("What stops it from doing more: {what}.{shown}"))
}

/// What shows it, as a sentence after another.
fn evidence(shown: &Evidence) -> String {
    let Evidence { fewer, more, ratio: gain } = shown;
    let found = if shown.is_certain() { "More connections are no help" } else { "No gain was seen from more connections" };
    format!(
        " {found}: {} has {:.1} times those of {} and held {} times as much (trials of the one: {}, of the other: {}), while {} and {} of the cores were busy.",
        short(more.candidate),
        shown.times(),
        short(fewer.candidate),
        ratio(*gain),
        more.trials,
        fewer.trials,
        share(Some(more.utilisation)),
        share(Some(fewer.utilisation))
    )
}

/// What other programs of the host did for the requests, where that is much.
pub(super) fn beside(report: &Report) -> Option<String> {
    let found = recommended_side(report)?.measurement.as_ref()?;
    let used = found.beside_cpu.filter(|used| *used >= TELLING * report.space.cpu())?;
    Some(format!(
        "Other programs of this host needed {} of CPU for each request ({used:.2} cores in all): a database, a cache, a proxy or the kernel's network. \
         Counted as demand.",
        latency(found.beside_seconds_per_request()?)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tune_output::tests::formulas::sliced;
    use crate::stats::Interval;

    #[test]
    fn a_database_on_the_same_host_is_told_with_its_demand() {
        let of = |cores| beside(&sliced(None, |found| (found.beside_cpu, found.throughput) = (Some(cores), 100.0)));
        assert_eq!(of(0.09), None);
        let told = of(0.2).unwrap();
        assert!(
            told.starts_with("Other programs of this host needed 2.0ms of CPU for each request (0.20 cores in all): a database"),
            "{told}"
        );
    }

    #[test]
    fn what_binds_outside_is_told_with_what_shows_it() {
        let mut report = sliced(None, |_| ());
        let candidate = report.recommended.unwrap();
        let shown = |trials, utilisation| crate::study::Shown { candidate, trials, capacity: 402.0, utilisation };
        let ratio = Interval { value: 1.01, low: 0.98, high: 1.04 };
        report.binding = Some(crate::study::Binding {
            label: crate::study::Label::Other,
            cause: Some(Cause::Queue { light: 0.04, loaded: 0.3 }),
            evidence: Some(Evidence { fewer: shown(1, 0.5), more: shown(4, 0.6), ratio }),
        });
        let of = |cause| {
            let mut report = report.clone();
            report.binding.as_mut().unwrap().cause = cause;
            binding(&report).unwrap()
        };
        let causes = [Some(Cause::Queue { light: 0.04, loaded: 0.3 }), Some(Cause::Bound(0.62)), Some(Cause::Disk(0.4)), None];
        let told: Vec<String> = causes.into_iter().map(of).collect();
        let name = short(candidate);
        let gain = format!(
            "{name} has 1.0 times those of {name} and held 1.01 (0.98 to 1.04) times as much (trials of the one: 4, of the other: 1), while \
             60% and 50% of the cores were busy."
        );
        for (sentence, part) in told.iter().zip([
            "Half of them took 300ms, and 40ms under light load.",
            "p90 is 620ms already, of 700ms.",
            "waited 40 %",
            "something outside them",
        ]) {
            assert!(sentence.contains(part), "{sentence}");
            assert!(sentence.ends_with(&format!(" More connections are no help: {gain}")), "{sentence}");
        }
        report.binding.as_mut().unwrap().evidence.as_mut().unwrap().ratio = Interval { high: 1.09, ..ratio };
        let unsure = binding(&report).unwrap();
        assert!(unsure.contains(" No gain was seen from more connections: ") && unsure.contains("(0.98 to 1.09)"), "{unsure}");
    }
}
