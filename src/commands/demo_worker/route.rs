//! What a request target asks for. Refuses unknown paths and numbers beyond the bounds below. Pure.

use std::time::Duration;

const CPU_MAX: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_mins(10);
const BYTES_MAX: usize = 16 << 20;
const DESCRIPTORS_MAX: usize = 65_536;
const MEGABYTES_MAX: usize = 65_536;

/// Compute, wait, compute, answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// CPU time, half of it before the wait and half after.
    pub(super) cpu: Duration,
    /// What a database or another service would take.
    pub(super) wait: Duration,
    /// Size of the answer; `ok` if absent.
    pub(super) bytes: Option<usize>,
    /// The number a test gave it.
    pub(super) id: Option<u64>,
}

/// What a test can make a worker do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Die by SIGSEGV.
    Segv,
    /// Die by SIGABRT.
    Abort,
    /// End with this code.
    Exit(u8),
    /// Stop the loop for good: no heartbeat, no reaction to SIGTERM.
    Hang,
    /// Take no notice of SIGTERM from now on.
    IgnoreTerm,
    /// This many bytes to stderr.
    Spew(usize),
    /// Leave a process behind that outlives the worker.
    Orphan,
    /// Open this many descriptors and keep them.
    LeakFd(usize),
    /// Allocate and touch this many megabytes and keep them.
    Alloc(usize),
    /// Answer with the environment.
    Env,
    /// Answer with the open descriptors.
    Fds,
    /// Answer with process, user and group numbers.
    Ids,
    /// Answer with this status.
    Status(u16),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The demo's own business.
    Work(Work),
    /// A test's.
    Fault(Fault),
    /// Answered with this status and nothing else.
    Refused(u16),
}

/// Whether the fault paths exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Faults {
    /// They do.
    Served,
    /// They are unknown paths.
    Unknown,
}

/// Finds the way for a request target.
pub(super) fn route(target: &str, faults: Faults) -> Route {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/ok" | "/work" => work(query).map_or(Route::Refused(400), Route::Work),
        other => match faults {
            Faults::Served => fault(other, query),
            Faults::Unknown => Route::Refused(404),
        },
    }
}

fn work(query: &str) -> Option<Work> {
    let mut work = Work::default();
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("cpu_us", value) => work.cpu = Duration::from_micros(value.parse().ok()?),
            ("wait_ms", value) => work.wait = Duration::from_millis(value.parse().ok()?),
            ("id", value) => work.id = Some(value.parse().ok()?),
            ("bytes", value) => work.bytes = Some(value.parse().ok().filter(|bytes| *bytes <= BYTES_MAX)?),
            _ => {}
        }
    }
    (work.cpu <= CPU_MAX && work.wait <= WAIT_MAX).then_some(work)
}

fn fault(path: &str, query: &str) -> Route {
    let Some(path) = path.strip_prefix('/') else {
        return Route::Refused(404);
    };
    let (name, argument) = path.split_once('/').unwrap_or((path, ""));
    let up_to = |most: usize| argument.parse::<usize>().ok().filter(|number| *number <= most);
    let found = match name {
        "segv" => Some(Fault::Segv),
        "abort" => Some(Fault::Abort),
        "exit" => argument.parse().ok().map(Fault::Exit),
        "hang" => Some(Fault::Hang),
        "ignore-term" => Some(Fault::IgnoreTerm),
        "spew" => up_to(BYTES_MAX).map(Fault::Spew),
        "orphan" => Some(Fault::Orphan),
        "leakfd" => up_to(DESCRIPTORS_MAX).map(Fault::LeakFd),
        "alloc" => up_to(MEGABYTES_MAX).map(Fault::Alloc),
        "env" => Some(Fault::Env),
        "fds" => Some(Fault::Fds),
        "ids" => Some(Fault::Ids),
        "status" => argument.parse().ok().filter(|status| (200..=599).contains(status)).map(Fault::Status),
        "sleep" => return work(&format!("wait_ms={argument}&{query}")).map_or(Route::Refused(400), Route::Work),
        _ => return Route::Refused(404),
    };
    found.map_or(Route::Refused(400), Route::Fault)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn work_reads_its_three_numbers_and_passes_over_others() {
        let Route::Work(work) = route("/work?page=cart&cpu_us=1500&wait_ms=200&bytes=12", Faults::Unknown) else { panic!() };
        let (cpu, wait) = (Duration::from_micros(1500), Duration::from_millis(200));
        assert_eq!(work, Work { cpu, wait, bytes: Some(12), id: None });
    }

    #[test]
    fn numbers_beyond_the_bounds_are_refused() {
        for query in ["cpu_us=x", "cpu_us=", "cpu_us=10000001", "wait_ms=600001", "bytes=16777217", "wait_ms=-1"] {
            assert_eq!(route(&format!("/work?{query}"), Faults::Unknown), Route::Refused(400), "{query}");
        }
        for path in ["/exit/256", "/status/199", "/status/600", "/leakfd/", "/alloc/65537", "/spew/x", "/sleep/x"] {
            assert_eq!(route(path, Faults::Served), Route::Refused(400), "{path}");
        }
    }

    #[test]
    fn faults_are_unknown_paths_unless_asked_for() {
        assert_eq!(route("/exit/3", Faults::Served), Route::Fault(Fault::Exit(3)));
        assert_eq!(route("/hang", Faults::Served), Route::Fault(Fault::Hang));
        assert_eq!(route("/exit/3", Faults::Unknown), Route::Refused(404));
        assert_eq!(route("/exit3", Faults::Served), Route::Refused(404));
    }

    proptest! {
        #[test]
        fn no_target_panics(target in ".*") {
            let _ = route(&target, Faults::Served);
        }
    }
}
