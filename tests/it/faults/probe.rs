//! What /proc tells about a process, what a test found, and worlds of their own.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::thread::nanosleep;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::support::parts;
use crate::support::process::Watched;

/// USER_HZ, in which /proc/PID/stat counts on every Linux.
const TICKS_A_SECOND: f64 = 100.0;
/// How much longer than its goal something may take where other tests keep the machine busy, and how long we may not be run at all.
const BUSY_FACTOR: u32 = 3;
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// Set in a test that runs in namespaces of its own.
const INSIDE: &str = "TUNINGFORK_TEST_INSIDE";

/// Tells what a test found, also for the table of `benches/faults.py`, and fails if it is not as it should be.
#[expect(clippy::print_stdout, reason = "shown where tests are run with --nocapture")]
#[track_caller]
pub(super) fn verdict(fault: &str, good: bool, found: &str) {
    println!("{fault}: {found}");
    if let Some(file) = std::env::var_os("FAULT_FINDINGS") {
        let mut findings = OpenOptions::new().create(true).append(true).open(file).expect("open FAULT_FINDINGS");
        let line = format!("{fault}\t{}\t{found}\n", if good { "ok" } else { "failed" });
        findings.write_all(line.as_bytes()).expect("write what was found");
    }
    assert!(good, "{fault}: {found}");
}

/// The monotonic clock.
pub(super) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).expect("invariant: below a second"))
}

/// Time that has passed.
pub(super) fn since(begun: Duration) -> Duration {
    now().saturating_sub(begun)
}

/// What a goal allows here, where several tests run at a time on whatever machine there is. The goals themselves are for `benches`.
pub(super) fn allowed(goal: Duration) -> Duration {
    goal * BUSY_FACTOR + BUSY_PAUSE
}

/// How long ago a process was made, to a hundredth of a second.
pub(super) fn age(pid: u32) -> Duration {
    let uptime = clock_gettime(ClockId::Boottime);
    let ticks = stat(pid).get(19).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    let uptime = Duration::new(uptime.tv_sec.unsigned_abs(), u32::try_from(uptime.tv_nsec).expect("invariant: below a second"));
    uptime.saturating_sub(Duration::from_secs_f64(ticks / TICKS_A_SECOND))
}

/// Compiles a library of `tests/apps`, to be preloaded (LD_PRELOAD), into this folder.
pub(super) fn library(source: &str, folder: &Path) -> PathBuf {
    let library = folder.join("preloaded.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(source);
    parts::output(Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source))
        .unwrap_or_else(|error| panic!("{error}"));
    library
}

/// Lets time pass: between requests of a load, or because the time is the fault.
pub(super) fn pause(span: Duration) {
    let seconds = i64::try_from(span.as_secs()).expect("invariant: tests do not take ages");
    // An interrupted pause is a shorter one.
    let _ = nanosleep(&Timespec { tv_sec: seconds, tv_nsec: i64::from(span.subsec_nanos()) });
}

/// The numbers of a process's open descriptors and what they are.
pub(super) fn open(pid: u32) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, fs::read_link(entry.path()).ok()?))).collect()
}

/// What whoever started the tests left open for us, and so for every program that we start. An upgrade closes it.
static STRAYS: LazyLock<Vec<(String, PathBuf)>> = LazyLock::new(|| {
    let is_inherited = |number: &str| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).map(OFlags::from_bits_retain);
        // The three standard ones stay where they are. What we open ourselves is closed at execve(2).
        !["0", "1", "2"].contains(&number) && flags.is_some_and(|flags| !flags.contains(OFlags::CLOEXEC))
    };
    open(std::process::id()).into_iter().filter(|(number, _)| is_inherited(number)).collect()
});

/// How many descriptors a process has open, strays left out.
pub(super) fn descriptors(pid: u32) -> usize {
    open(pid).iter().filter(|descriptor| !STRAYS.contains(descriptor)).count()
}

/// A field of /proc/PID/status, the first word of it as a number.
pub(super) fn status(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// CPU time of a process so far.
pub(super) fn cpu(pid: u32) -> Duration {
    let fields = stat(pid);
    let ticks: f64 = [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<f64>().ok()).sum();
    Duration::from_secs_f64(ticks / TICKS_A_SECOND)
}

/// The state of a process as one letter, `None` if there is none. Z is a dead one that nobody has reaped.
pub(super) fn state(pid: u32) -> Option<char> {
    stat(pid).first()?.chars().next()
}

/// The fields of /proc/PID/stat behind the name, which may hold anything; none for a process that is gone.
fn stat(pid: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().map(str::to_owned).collect()
}

/// The names of a process's threads.
pub(super) fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        tasks.filter_map(|task| Some(fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned())).collect();
    names.sort();
    names
}

/// The children of a process's main thread, dead ones included.
pub(super) fn children_of_main_thread(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Runs this very test again in network, process and mount namespaces of its own, and says whether we are in there: then the test
/// goes on, else it has been run.
pub(super) fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut unshare = Command::new("unshare");
    if !rustix::process::getuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    unshare.arg(std::env::current_exe().expect("this program")).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let said = parts::output(&mut unshare).unwrap_or_else(|error| panic!("{error}"));
    assert!(said.contains("1 passed"), "{said}");
    false
}

/// Lets these system calls of a process fail, as long as the result lives.
pub(super) fn failing(pid: u32, calls: &str, error: &str) -> Watched {
    let mut strace = Command::new(parts::strace());
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}"));
    strace.args(["-p", &pid.to_string(), "-o", "/dev/null", "-e", &trace, "-e", &inject]);
    let mut watched = Watched::start(strace, crate::support::journal::Journal::default());
    watched.wait("strace attached", |_| status(pid, "TracerPid").filter(|tracer| *tracer > 0));
    watched
}
