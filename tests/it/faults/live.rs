//! A service that was started: who serves, what becomes of a reload and of an upgrade, and the audit at its end.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use rustix::process::Signal;

use super::probe;
use super::subject::{Kind, PROGRAM};
use crate::support::PATIENCE;
use crate::support::process::{End, children, lives};
use crate::support::service::Running;

/// What a service may leave in its directory, which is also where the runtime folder `tuningfork` is.
const EXPECTED_FILES: [&str; 11] = [
    "tuningfork.toml",
    "gunicorn.conf.py",
    "notify.sock",
    "boots",
    "ledger",
    "crash_on_boot",
    "boot_sleep",
    "tuningfork",
    PROGRAM,
    "run",
    "clock",
];
const HANDED_OVER: &str = "upgrade finished: the service is the successor's";

/// A service that was started.
pub(super) struct Live {
    pub(super) kind: Kind,
    running: Running,
    workers: usize,
    begun: Duration,
    /// From its start until all its workers were ready.
    pub(super) booted: Duration,
    /// Of the supervisor, and of its zygote, when all workers were ready.
    descriptors: [usize; 2],
}

impl Live {
    /// One that is on its way, with so many workers.
    pub(super) fn new(kind: Kind, running: Running, workers: usize) -> Self {
        Self { kind, running, workers, begun: probe::now(), booted: Duration::ZERO, descriptors: [0; 2] }
    }

    /// Waits for all its workers.
    pub(super) fn until_ready(mut self) -> Self {
        let workers = self.workers;
        if self.kind != Kind::Gunicorn {
            self.running.await_log("service ready");
        }
        self.await_ready_workers("all workers", |now| now.len() == workers);
        self.booted = probe::since(self.begun);
        self.descriptors = descriptors(self.running.pid(), &self.running.journal.lines());
        self
    }

    /// Waits until the workers that said that they are ready, and live, satisfy a condition.
    pub(super) fn await_ready_workers(&mut self, what: &str, satisfied: impl Fn(&[u32]) -> bool) -> Vec<u32> {
        self.running.wait(what, |lines| Some(serving(lines)).filter(|now| satisfied(now)))
    }

    /// The same, if it happens within this time.
    pub(super) fn see_ready_workers(&self, within: Duration, satisfied: impl Fn(&[u32]) -> bool) -> Option<Vec<u32>> {
        self.running.journal.wait(within, |lines| Some(serving(lines)).filter(|now| satisfied(now)))
    }

    /// The workers that live and have said that they are ready.
    pub(super) fn serving(&self) -> Vec<u32> {
        serving(&self.running.journal.lines())
    }

    /// Waits until whether it lives, and what it said, are as wished; not for ever.
    pub(super) fn see(&mut self, wished: impl Fn(bool, &[String]) -> bool) {
        for _ in 0..PATIENCE.as_secs() * 20 {
            let alive = self.running.is_alive();
            if wished(alive, &self.running.journal.lines()) {
                break;
            }
            probe::pause(Duration::from_millis(50));
        }
    }

    /// Does this again and again until it has ended; not for ever.
    pub(super) fn see_while(&mut self, action: impl Fn(&Self)) {
        for _ in 0..PATIENCE.as_secs() * 20 {
            if !self.running.is_alive() {
                break;
            }
            action(self);
            probe::pause(Duration::from_millis(50));
        }
    }

    /// Puts a file into its directory that steers boots, or a list that boots and requests are written into.
    pub(super) fn put(&self, name: &str, content: &str) {
        std::fs::write(self.running.directory().join(name), content).expect("write a file");
    }

    /// Takes it away.
    pub(super) fn take(&self, name: &str) {
        std::fs::remove_file(self.running.directory().join(name)).expect("remove a file");
    }

    /// The text of a file in its directory.
    pub(super) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.running.directory().join(name)).unwrap_or_default()
    }

    /// How many workers have booted since the file `boots` was put there.
    pub(super) fn boots(&self) -> usize {
        self.text("boots").lines().count()
    }

    /// HUP, and what came of it within this time.
    pub(super) fn reload(&mut self, within: Duration) -> Result<(), String> {
        let before = self.running.journal.lines();
        let old = serving(&before);
        self.running.signal(Signal::HUP);
        if self.kind == Kind::Gunicorn {
            return self.see_new_workers(within, &old);
        }
        let end = self.next_line(before.len(), within, is_end_of_reload)?;
        if end.contains("reload finished") { Ok(()) } else { Err(end) }
    }

    /// USR2, and what came of it within this time. The successor is the service from then on.
    pub(super) fn upgrade(&mut self, within: Duration) -> Result<(), String> {
        let (known, old) = (self.running.journal.lines().len(), self.running.pid());
        self.running.signal(Signal::USR2);
        let end = self.next_line(known, within, |line| !line.starts_with("notify:") && line.contains("upgrade f"))?;
        if !end.contains(HANDED_OVER) {
            return Err(end);
        }
        let successor = successor(std::slice::from_ref(&end)).ok_or_else(|| format!("no successor in {end:?}"))?;
        self.running.follow(successor);
        self.next_line(known, within, |line| line == format!("notify: MAINPID={successor}"))?;
        self.next_line(known, within, |line| line.contains("the service is ours now"))?;
        let gone = self.running.journal.wait(within, |_| (!lives(old)).then_some(()));
        gone.ok_or_else(|| "the predecessor does not leave".to_owned())
    }

    /// The supervisor that an upgrade made the service's, as far as is known by now, is the one that is spoken to.
    pub(super) fn follow_upgrades(&mut self) {
        if let Some(successor) = successor(&self.running.journal.lines()) {
            self.running.follow(successor);
        }
    }

    /// The first line after so many that is as wanted.
    fn next_line(&self, known: usize, within: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let found = |lines: &[String]| lines.iter().skip(known).find(|line| wanted(line)).cloned();
        self.running.journal.wait(within, found).ok_or_else(|| format!("nothing came of it within {within:?}"))
    }

    fn see_new_workers(&mut self, within: Duration, old: &[u32]) -> Result<(), String> {
        let wanted = self.workers;
        let renewed = |now: &[u32]| now.len() == wanted && now.iter().all(|pid| !old.contains(pid));
        let seen = self.see_ready_workers(within, renewed);
        if !self.running.is_alive() {
            return Err("the master ended".to_owned());
        }
        seen.map(drop).ok_or_else(|| format!("{} of {wanted} workers after {within:?}", self.serving().len()))
    }

    /// How many descriptors the supervisor and its zygote have open.
    pub(super) fn descriptors(&self) -> [usize; 2] {
        descriptors(self.running.pid(), &self.running.journal.lines())
    }

    /// The leak audit: nothing more is open than at the start; it stops, and leaves no process and no file.
    pub(super) fn audit(mut self) {
        let (pid, known) = (self.running.pid(), self.descriptors);
        let no_more = |now: [usize; 2]| now.iter().zip(known).all(|(now, known)| *now <= known);
        let settled = self.running.journal.wait(PATIENCE, |lines| no_more(descriptors(pid, lines)).then_some(()));
        assert!(
            settled.is_some() || self.kind == Kind::Gunicorn,
            "descriptors: {known:?} at the start, now {:?}: {:?}",
            self.descriptors(),
            probe::open(pid)
        );
        assert_eq!(self.running.stop(), End::Code(0));
        let files = std::fs::read_dir(self.running.directory()).expect("list the directory").flatten();
        let names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        let unknown: Vec<&String> = names.iter().filter(|name| !EXPECTED_FILES.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "files were left behind: {unknown:?}");
    }
}

/// How many descriptors a supervisor has open, and most of its children that are no workers: zygotes, and for a moment who is not ready.
pub(super) fn descriptors(supervisor: u32, lines: &[String]) -> [usize; 2] {
    let workers = serving(lines);
    let others = children(supervisor).into_iter().filter(|pid| !workers.contains(pid));
    [probe::descriptors(supervisor), others.map(probe::descriptors).max().unwrap_or(0)]
}

/// Who was the last to take a service over.
pub(super) fn successor(lines: &[String]) -> Option<u32> {
    let told = lines.iter().rev().find(|line| line.contains(HANDED_OVER))?;
    told.split("successor=").nth(1)?.split(' ').next()?.parse().ok()
}

fn is_end_of_reload(line: &str) -> bool {
    // STATUS tells of it too.
    !line.starts_with("notify:") && (line.contains("reload finished") || line.contains("reload failed"))
}

fn serving(lines: &[String]) -> Vec<u32> {
    let ready = lines.iter().filter(|line| line.contains("worker ready"));
    let pids = ready.filter_map(|line| line.split("pid=").nth(1)?.split(' ').next()?.parse().ok());
    let mut serving: Vec<u32> = pids.filter(|pid| lives(*pid)).collect();
    serving.sort_unstable();
    serving
}

impl Deref for Live {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Live {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}
