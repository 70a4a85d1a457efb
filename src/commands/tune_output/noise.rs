//! What kept a study from measuring in peace, and what helps against it: the host, or the load generator itself.

use crate::study::{Flag, Report};

/// Who was to blame, as the beginning of a sentence.
pub(super) fn blame(report: &Report) -> &'static str {
    match report.disturber() {
        Some(Flag::GeneratorLate) => "The load generator kept sending late",
        Some(Flag::GeneratorShort) => "The load generator was at its limit",
        Some(_) | None => "The host was never quiet",
    }
}

/// What helps, as the middle of a sentence.
pub(super) fn remedy(report: &Report) -> &'static str {
    match report.disturber() {
        Some(Flag::GeneratorLate) => {
            "give the load generator real-time priority (CAP_SYS_NICE), or end what else runs on the host"
        }
        Some(Flag::GeneratorShort) => "allow it more open files (ulimit -n), or load from other machines (--trial-command)",
        Some(Flag::Steal) => "use a host whose cores other guests do not share",
        Some(_) | None => "end what else runs on the host",
    }
}

/// What to do about a doubt that the load generator's own state explains, as a sentence.
pub(super) fn hint(doubts: &[Flag]) -> Option<&'static str> {
    doubts.iter().find_map(|flag| match flag {
        Flag::GeneratorLate => Some(
            "The load generator is late where the cores are full, above all without precedence: give it real-time priority (CAP_SYS_NICE), if it has none.",
        ),
        Flag::GeneratorShort => Some(
            "The application may hold more than the load generator can offer: allow it more open files (ulimit -n), or load from other machines \
             (--trial-command).",
        ),
        Flag::Steal
        | Flag::OtherPrograms
        | Flag::WorkerCrashed
        | Flag::NotSteady
        | Flag::Leaking
        | Flag::DoesNotRecover
        | Flag::NotBracketed
        | Flag::FewRequests
        | Flag::Accident
        | Flag::HostChanged => None,
    })
}
