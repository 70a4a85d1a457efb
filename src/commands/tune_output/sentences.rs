//! What a study found, in sentences that every form of the report says.

use std::num::NonZeroU32;

use crate::commands::figures;
use crate::commands::tune_output::noise::{blame, hint, remedy};
use crate::commands::tune_output::table::with_kinds;
use crate::commands::tune_output::{comparison, goal, limits};
use crate::config::Affinity;
use crate::study::confirm::Outcome as DuelOutcome;
use crate::study::report::Side;
use crate::study::{Candidate, Measurement, Objective, REDIRECTED, Report, Stop, Trial, UNEXPECTED_STATUS, plan};
use crate::units::Rate;

/// How a sentence begins that tells what makes numbers doubtful.
pub(super) const CARE: &str = "Take its numbers with care";

/// The verdict.
pub(super) fn headline(report: &Report) -> String {
    let Some(chosen) = report.recommended else {
        return refusal(report);
    };
    let chosen = configuration(chosen);
    let gain = report.best.as_ref().map(|best| goal::gain(report, best)).unwrap_or_default();
    let verdict = match report.outcome {
        Some(DuelOutcome::Better) => format!("Recommended: {chosen}, {gain}."),
        Some(DuelOutcome::NoDifference) if report.recommended == Some(report.baseline.candidate) => {
            format!("No difference seen between the best and the baseline. Recommended: the baseline, {chosen}.")
        }
        Some(DuelOutcome::NoDifference) => {
            let differs = report.unstable.iter().any(|found| found.candidate == report.baseline.candidate);
            let why = if differs { "is the same from boot to boot" } else { "needs less memory" };
            format!("No difference seen between the best and the baseline. Recommended: {chosen}, which {why}.")
        }
        Some(DuelOutcome::Worse) => {
            format!("What looked as good or better did not stand up to repetition. Recommended: the baseline, {chosen}.")
        }
        Some(DuelOutcome::Disturbed) => return disturbed(report, &chosen),
        Some(DuelOutcome::OnlyBest) if report.baseline.measurement.is_none() => {
            format!("Recommended: {chosen}. The baseline could not be measured, so nothing is said about the gain.")
        }
        Some(DuelOutcome::OnlyBest) if report.is_too_large(report.baseline.candidate) => {
            format!("Recommended: {chosen}. The baseline takes more memory than may be used, so nothing is said about the gain.")
        }
        Some(DuelOutcome::OnlyBest) if report.baseline.amount.is_some() => {
            format!("Recommended: {chosen}. The baseline failed when it was repeated, so nothing is said about the gain.")
        }
        Some(DuelOutcome::OnlyBest) => {
            let rate = report.objective.fixed_rate().map_or_else(|| "no rate".to_owned(), |at| format!("less than {at} req/s"));
            format!("Recommended: {chosen}. The baseline holds {rate} within the objective.")
        }
        Some(DuelOutcome::BaselineIsBest) | None if report.candidates < 2 => {
            return format!("Only {chosen}, the baseline, was measured: nothing can be said about others.");
        }
        Some(DuelOutcome::BaselineIsBest) | None => {
            format!(
                "No difference seen: nothing better than the baseline was found beyond the noise. Recommended: the baseline, {chosen}."
            )
        }
    };
    if report.spoilt {
        format!("{verdict} {} while this was repeated: take it as a hint.", blame(report))
    } else if report.confirmed || report.recommended == Some(report.baseline.candidate) {
        verdict
    } else {
        format!("{verdict} Not repeated: take it as a hint.")
    }
}

fn disturbed(report: &Report, chosen: &str) -> String {
    let blame = blame(report);
    let why = format!("{blame}, so best and baseline could not be compared.");
    if report.candidates < 2 {
        format!("{blame}, and only {chosen} was measured: nothing can be said about others.")
    } else if report.recommended == Some(report.baseline.candidate) {
        format!("{why} Recommended until then: the baseline, {chosen}.")
    } else {
        format!("{why} Nothing undisturbed is known of the baseline. Take this as a hint: {chosen}.")
    }
}

fn refusal(report: &Report) -> String {
    let nearest = report.nearest.and_then(|number| Some((number, report.trials.get(number - 1)?.measurement()?)));
    let nearest = nearest.map(|(number, found)| {
        format!(
            " Nearest: trial {number}, {} {} and {}{}.",
            report.slo.quantile().name(),
            found.bounded.map_or_else(|| "–".to_owned(), figures::latency),
            with_kinds(&format!("{} of errors", found.errors.map_or_else(|| "–".to_owned(), figures::percent)), found),
            if found.has_crashed() { ", but workers ended on their own in it: see what they said last" } else { "" }
        )
    });
    let why = match report.stop {
        Stop::OnlyErrors => {
            let words = "The application answers only errors";
            let found = report.trials.iter().find_map(Trial::measurement);
            format!("{}.", found.map_or_else(|| words.to_owned(), |found| with_kinds(words, found)))
        }
        Stop::NothingStarts => "No configuration could be started.".to_owned(),
        Stop::NeverQuiet => {
            format!("{}, so nothing could be measured: {}, and try again.", blame(report), remedy(report))
        }
        Stop::Interrupted if report.trials.is_empty() => "The study is not finished, and nothing was measured so far.".to_owned(),
        Stop::Interrupted | Stop::NothingMeetsSlo | Stop::Converged | Stop::Certified | Stop::Budget | Stop::Trials => {
            let at = report.objective.fixed_rate().map_or_else(String::new, |at| format!(" at {at} req/s"));
            let which = if matches!(report.stop, Stop::Budget | Stop::Interrupted) { " that was tried" } else { "" };
            let most = report.space.max_memory.filter(|_| !report.too_large.is_empty());
            let within = most.map_or_else(String::new, |most| format!(" with {} of memory", figures::memory(most)));
            let lost = report.best.as_ref().filter(|_| report.outcome == Some(DuelOutcome::Worse));
            lost.map_or_else(
                || format!("No configuration{which} meets {}{at}{within}.{}", report.slo, nearest.unwrap_or_default()),
                |best| {
                    let best = configuration(best.candidate);
                    format!("What looked best, {best}, did not stand up to repetition, and the baseline does not meet {}{at}{within}.", report.slo)
                },
            )
        }
    };
    let is_refused = report.trials.iter().filter_map(Trial::measurement).any(|found| found.capacity <= 0.0 && is_refusal(found));
    format!("{why} Nothing is recommended.{}", if is_refused { REFUSED } else { "" })
}

/// What to do where an application answers otherwise than was recorded.
const REFUSED: &str = " An application that refuses the Host header or redirects to https needs --host or --header; what it does not serve to \
                       everybody, leave out (tuningfork record filter); tuningfork replay shows what it answers.";

/// Whether requests were answered otherwise than was recorded.
fn is_refusal(found: &Measurement) -> bool {
    found.errors_by_kind.keys().any(|kind| kind == UNEXPECTED_STATUS || kind == REDIRECTED)
}

/// What is certified, or why nothing is.
pub(super) fn certificate(report: &Report) -> String {
    format!("{}.", report.certificate.words(report.space.cpu()))
}

/// The side that is recommended.
pub(super) fn recommended_side(report: &Report) -> Option<&Side> {
    let chosen = report.recommended?;
    [report.best.as_ref(), Some(&report.baseline)].into_iter().flatten().find(|side| side.candidate == chosen)
}

/// How many hosts a peak needs, or why that is not known, in a sentence that ends in a newline; empty if nothing is recommended.
#[must_use]
pub fn hosts(report: &Report, peak: Rate, headroom: f64) -> String {
    let Some(side) = recommended_side(report) else { return String::new() };
    if let Some(at) = report.objective.fixed_rate() {
        return format!(
            "Hosts for a peak are not known: every trial served {at} req/s, and nobody looked for more (--objective capacity).\n"
        );
    }
    let capacity = side.capacity.and_then(|capacity| Rate::new(capacity.value));
    let Some(hosts) = capacity.and_then(|capacity| plan::hosts(peak, capacity, headroom)) else {
        return format!("A peak of {} req/s needs more hosts like this one than can be counted.\n", peak.per_second());
    };
    let plural = if hosts == NonZeroU32::MIN { "" } else { "s" };
    format!(
        "A peak of {} req/s needs {hosts} host{plural} like this one, {:.0} % of each kept free.\n",
        peak.per_second(),
        headroom * 100.0
    )
}

/// A configuration in words.
pub(in crate::commands) fn configuration(candidate: Candidate) -> String {
    let counted = |count: u32, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    format!(
        "{} × {}{}",
        counted(candidate.workers.get().into(), "worker"),
        counted(candidate.connections.get(), "connection"),
        match candidate.affinity {
            None | Some(Affinity::None) => "",
            Some(Affinity::Spread) => ", spread over the cores",
            Some(Affinity::Pin) => ", each pinned to a core",
        }
    )
}

/// A configuration in short.
pub(in crate::commands) fn short(candidate: Candidate) -> String {
    let cores = candidate.affinity.filter(|affinity| *affinity != Affinity::None);
    let cores = cores.map_or_else(String::new, |affinity| format!(" {}", affinity.name()));
    format!("{} × {}{cores}", candidate.workers, candidate.connections)
}

/// Which of the two compared differ from boot to boot.
fn unstable(report: &Report) -> impl Iterator<Item = String> {
    let told = |amount| goal::value(report.objective, amount);
    report.unstable.iter().map(move |found| {
        let (least, most) = (told(found.least), told(found.most));
        format!("{CARE}: {} differs from boot to boot: {least} in one trial and {most} in another.", short(found.candidate))
    })
}

/// Which boots of the two compared do not count, as they did far less than the others.
fn accidents(report: &Report) -> impl Iterator<Item = String> {
    report.accidents.iter().map(|boot| {
        let amount = goal::value(report.objective, boot.amount);
        format!(
            "{CARE}: one of {} boots of {} did far less than the others, {amount}, and is not counted (trial {}). If that was no accident of this \
             host, expect it in service too.",
            boot.boots,
            short(boot.candidate),
            boot.trial
        )
    })
}

/// That the host was not the same throughout.
fn drift(report: &Report) -> Option<String> {
    let drift = report.drift?;
    Some(format!(
        "{CARE}: the host changed while the study ran. CPU time per request of {} was {} in one trial and {} in another, {:.0} % more.",
        short(drift.candidate),
        figures::latency(drift.least),
        figures::latency(drift.most),
        drift.spread() * 100.0
    ))
}

/// What both sides came to by an objective other than capacity.
fn amounts(report: &Report) -> Option<String> {
    report.objective.fixed_rate()?;
    let chosen = recommended_side(report)?;
    let of = |side: &Side| side.amount.map_or_else(|| "not met".to_owned(), |amount| goal::interval(report.objective, amount));
    let memory = |side: &Side| match report.objective {
        Objective::Cost { .. } => side.measurement.as_ref().and_then(|found| found.memory_bytes),
        Objective::Capacity | Objective::Latency { .. } => None,
    };
    let whole = |side: &Side| match memory(side) {
        Some(bytes) => format!("{} and {} of memory", of(side), figures::memory(bytes)),
        None => of(side),
    };
    let other = if chosen.candidate == report.baseline.candidate {
        String::new()
    } else {
        format!("; the baseline: {}", whole(&report.baseline))
    };
    Some(format!("{}: {}{other}.", goal::name(report.objective, &report.slo), whole(chosen)))
}

/// What took more memory than may be used, and so is nothing to recommend.
fn too_large(report: &Report) -> impl Iterator<Item = String> {
    let most = figures::memory(report.space.max_memory.unwrap_or_default());
    report.too_large.iter().map(move |found| {
        let what = if found.candidate == report.baseline.candidate { ", the baseline," } else { "" };
        format!(
            "{}{what} took {} of memory, and {most} may be used (--max-memory): it is not recommended.",
            short(found.candidate),
            figures::memory(found.memory_bytes)
        )
    })
}

/// How what is recommended compares with Gunicorn's rule of thumb, where that is another configuration than the two of the duel.
fn beside_the_rule(report: &Report) -> Option<String> {
    let rule = report.rule.as_ref()?;
    let (name, what) = (short(rule.candidate), goal::name(report.objective, &report.slo));
    Some(match (rule.amount, rule.ratio) {
        (None, _) if report.is_too_large(rule.candidate) => {
            format!("Gunicorn's rule of thumb, {name}, takes more memory than may be used.")
        }
        (None, _) if rule.is_unmet => format!("Gunicorn's rule of thumb, {name}, does not meet the objective."),
        (None, _) => {
            format!("Gunicorn's rule of thumb, {name}, cannot be compared: no trial of it was both finished and undisturbed.")
        }
        (Some(_), None) => format!(
            "Gunicorn's rule of thumb, {name}, cannot be compared: something disturbed every trial of it or of what is recommended."
        ),
        (Some(_), Some(ratio)) => {
            let seen = if ratio.contains(1.0) { "No difference seen beside" } else { "Beside" };
            format!(
                "{seen} Gunicorn's rule of thumb, {name}: {} times its {what}, by trials that were not made in turn.",
                comparison::ratio(ratio)
            )
        }
    })
}

/// What follows the verdict: what binds, what makes its numbers doubtful, what is certified, and whether the search was cut short.
pub(super) fn after_the_verdict(report: &Report) -> Vec<String> {
    let mut sentences = Vec::new();
    if report.recommended.is_some() {
        sentences.extend(amounts(report));
        sentences.extend(beside_the_rule(report));
        sentences.extend(limits::binding(report));
        sentences.extend(limits::beside(report));
        let doubts: Vec<&str> = report.doubts.iter().map(|flag| flag.words()).collect();
        if !doubts.is_empty() {
            sentences.push(format!("{CARE}: {}.", doubts.join(", ")));
            sentences.extend(hint(&report.doubts).map(str::to_owned));
        }
        if report.failures > 0 {
            let trials = if report.failures == 1 { "a trial".to_owned() } else { format!("{} trials", report.failures) };
            sentences.push(format!("{CARE}: {trials} of the recommended configuration failed."));
        }
        sentences.extend(unstable(report));
        sentences.extend(accidents(report));
        sentences.extend(drift(report));
        // It bounds capacities, and says nothing where none was looked for.
        if report.objective == Objective::Capacity {
            sentences.push(certificate(report));
        }
    }
    sentences.extend(too_large(report));
    if report.spoilt || report.outcome == Some(DuelOutcome::Disturbed) {
        sentences.push(format!("Before it is measured again: {}.", remedy(report)));
    }
    let is_cut = matches!(report.stop, Stop::Budget | Stop::Interrupted);
    let missing = report.missing_pairs;
    if missing > 0 && report.confirmed && !is_cut {
        sentences.push(format!(
            "{CARE}: {missing} of the pairs of repetitions that a ratio should be of are missing: there was no time left, or the host \
             was not quiet."
        ));
    }
    let untried = if report.untried { " before every promising configuration was tried" } else { "" };
    match report.stop {
        Stop::Budget => {
            let pairs = match missing {
                0 => String::new(),
                _ => format!(" It had no room for {missing} of the pairs of repetitions that a ratio should be of."),
            };
            sentences.push(format!("The budget was used up{untried}.{pairs}"));
        }
        Stop::Trials => {
            sentences.push("The search ended at its limit of trials, before every promising configuration was tried.".to_owned());
        }
        Stop::Converged
        | Stop::Certified
        | Stop::OnlyErrors
        | Stop::NothingMeetsSlo
        | Stop::NothingStarts
        | Stop::NeverQuiet
        | Stop::Interrupted => {}
    }
    sentences
}
