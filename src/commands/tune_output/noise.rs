//! What kept a study from measuring in peace, and what helps against it: the host, or the load generator itself.

use crate::study::{Flag, Outcome, Report, Trial};

/// What disturbed most of the trials that something disturbed.
fn disturber(report: &Report) -> Option<Flag> {
    let seen: Vec<Flag> = report.trials.iter().flat_map(flags).copied().collect();
    let count = |wanted: &Flag| seen.iter().filter(|flag| *flag == wanted).count();
    let kinds = [Flag::GeneratorLate, Flag::GeneratorShort, Flag::Steal, Flag::OtherPrograms];
    kinds.into_iter().filter(|flag| count(flag) > 0).max_by_key(count)
}

fn flags(trial: &Trial) -> &[Flag] {
    match &trial.outcome {
        Outcome::Measured(found) => &found.flags,
        Outcome::Challenged(found) => &found.flags,
        Outcome::Failed { .. } => &[],
    }
}

/// Who was to blame, as the beginning of a sentence.
pub(super) fn blame(report: &Report) -> &'static str {
    match disturber(report) {
        Some(Flag::GeneratorLate) => "The load generator kept sending late",
        Some(Flag::GeneratorShort) => "The load generator was at its limit",
        Some(_) | None => "The host was never quiet",
    }
}

/// What helps, as the middle of a sentence.
pub(super) fn remedy(report: &Report) -> &'static str {
    match disturber(report) {
        Some(Flag::GeneratorLate) => {
            "give the load generator real-time priority (CAP_SYS_NICE), or end what else runs on the host"
        }
        Some(Flag::GeneratorShort) => "allow it more open files (ulimit -n), or load from other machines (--trial-command)",
        Some(Flag::Steal) => "use a host whose cores other guests do not share",
        Some(_) | None => "end what else runs on the host",
    }
}
