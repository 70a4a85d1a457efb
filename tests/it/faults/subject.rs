//! A service under test: tuningfork with the demo worker or with the faulty Python application, or that application under Gunicorn.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::probe;
use crate::support::PATIENCE;
use crate::support::http::Address;
use crate::support::parts;
use crate::support::process::{End, lives};
use crate::support::service::{Running, Service};

/// Gunicorn says what tuningfork's log says, and boots with it.
const GUNICORN_CONF: &str =
    "import os\ndef post_worker_init(worker):\n    os.write(2, f'worker ready pid={worker.pid} \\n'.encode())\n";
/// What a service may leave in its directory, which is also where the runtime folder `tuningfork` is.
const EXPECTED_FILES: [&str; 8] =
    ["tuningfork.toml", "gunicorn.conf.py", "notify.sock", "boots", "ledger", "crash_on_boot", "boot_sleep", "tuningfork"];

/// Who supervises what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// tuningfork and demo workers.
    Command,
    /// tuningfork and Python workers from a zygote.
    Python,
    /// Gunicorn.
    Gunicorn,
}

impl Kind {
    /// tuningfork with demo workers, unless the environment asks for Gunicorn.
    pub(super) fn under_test() -> Self {
        match std::env::var("SUPERVISOR_UNDER_TEST").as_deref() {
            Ok("gunicorn") => Self::Gunicorn,
            Ok(other) => panic!("SUPERVISOR_UNDER_TEST={other}: only gunicorn is known, and tuningfork where it is unset"),
            Err(_) => Self::Command,
        }
    }
}

/// A service to be started.
pub(super) struct Subject {
    kind: Kind,
    service: Service,
    workers: u16,
    connections: u16,
    class: &'static str,
    /// timeout, graceful-timeout, boot-timeout, in seconds.
    timing: [u16; 3],
    sections: String,
}

/// A service that was started.
pub(super) struct Live {
    pub(super) kind: Kind,
    running: Running,
    workers: usize,
    descriptors: usize,
}

impl Subject {
    /// Two workers; nothing is ever late.
    pub(super) fn of(kind: Kind) -> Self {
        let service = Service::with_config("");
        Self { kind, service, workers: 2, connections: 16, class: "sync", timing: [30, 30, 60], sections: String::new() }
    }

    /// So many workers.
    pub(super) fn workers(self, workers: u16) -> Self {
        Self { workers, ..self }
    }

    /// Connections of a worker, where its kind takes more than one.
    pub(super) fn connections(self, connections: u16) -> Self {
        Self { connections, ..self }
    }

    /// Gunicorn's worker class, where there is one.
    pub(super) fn class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    /// `timeout`, seconds.
    pub(super) fn timeout(mut self, seconds: u16) -> Self {
        self.timing[0] = seconds;
        self
    }

    /// `graceful-timeout`, seconds.
    pub(super) fn graceful_timeout(mut self, seconds: u16) -> Self {
        self.timing[1] = seconds;
        self
    }

    /// `boot-timeout`, seconds.
    pub(super) fn boot_timeout(mut self, seconds: u16) -> Self {
        self.timing[2] = seconds;
        self
    }

    /// On TCP instead of a unix socket.
    pub(super) fn on_tcp(self) -> Self {
        Self { service: self.service.on_tcp(), ..self }
    }

    /// More of tuningfork's configuration.
    pub(super) fn sections(self, sections: &str) -> Self {
        Self { sections: sections.to_owned(), ..self }
    }

    /// A file in its directory.
    pub(super) fn file(self, name: &str, content: &str) -> Self {
        Self { service: self.service.file(name, content), ..self }
    }

    /// Starts it and waits for all its workers.
    pub(super) fn ready(self) -> Live {
        self.start().until_ready()
    }

    /// Starts it by a program that becomes it, and waits for all its workers.
    pub(super) fn ready_through(self, program: Command) -> Live {
        self.start_through(program).until_ready()
    }

    /// Starts it.
    pub(super) fn start(self) -> Live {
        let program = match self.kind {
            Kind::Command | Kind::Python => Command::new(env!("CARGO_BIN_EXE_tuningfork")),
            Kind::Gunicorn => Command::new(parts::python()),
        };
        self.start_program(program)
    }

    /// Starts it by a program that becomes it.
    pub(super) fn start_through(self, mut program: Command) -> Live {
        program.arg(env!("CARGO_BIN_EXE_tuningfork"));
        self.start_program(program)
    }

    fn start_program(self, mut program: Command) -> Live {
        let (kind, workers) = (self.kind, usize::from(self.workers));
        let running = match kind {
            Kind::Command | Kind::Python => {
                let config = self.config();
                self.service.configured(&config).start_by(program)
            }
            Kind::Gunicorn => {
                program.args(["-m", "gunicorn"]).args(self.gunicorn_arguments());
                let directory = self.service.directory().display().to_string();
                self.service.file("gunicorn.conf.py", GUNICORN_CONF).env("FAULTY_DIR", &directory).launch(program)
            }
        };
        Live { kind, running, workers, descriptors: 0 }
    }

    fn config(&self) -> String {
        let [timeout, graceful, boot] = self.timing;
        let connections = if self.is_sync() { String::new() } else { format!("connections = {}\n", self.connections) };
        let app = if self.kind == Kind::Command { COMMAND_APP.to_owned() } else { python_app(self.class) };
        format!(
            "workers = {}\n{connections}timeout = {timeout}\ngraceful-timeout = {graceful}\nboot-timeout = {boot}\n{app}\
             [listen]\naddress = \"@LISTEN@\"\n{}",
            self.workers, self.sections
        )
    }

    fn is_sync(&self) -> bool {
        self.kind == Kind::Python && self.class == "sync"
    }

    fn gunicorn_arguments(&self) -> Vec<String> {
        let [timeout, graceful, _] = self.timing;
        let bind = match self.service.address() {
            Address::Tcp(address) => address.clone(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        };
        let threads = if self.class == "gthread" { self.connections } else { 1 };
        let line = format!(
            "-w {} -k {} --threads {threads} -b {bind} --timeout {timeout} --graceful-timeout {graceful} --no-control-socket \
             --chdir {} -c {} faulty:application",
            self.workers,
            self.class,
            application().display(),
            self.service.directory().join("gunicorn.conf.py").display()
        );
        line.split(' ').map(str::to_owned).collect()
    }
}

const COMMAND_APP: &str = r#"
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{connections}", "--faults", "--steer", "@DIR@"]
"#;

/// Where the faulty Python application is.
fn application() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/faulty")
}

fn python_app(class: &str) -> String {
    format!(
        "[app]\nkind = \"python\"\napp = \"faulty:application\"\nworker-class = \"{class}\"\ninterpreter = \"{}\"\ndirectory = \"{}\"\n\
         env = {{ FAULTY_DIR = \"@DIR@\", PYTHONDONTWRITEBYTECODE = \"1\" }}\n",
        parts::python().display(),
        application().display()
    )
}

impl Live {
    fn until_ready(mut self) -> Self {
        let workers = self.workers;
        if self.kind != Kind::Gunicorn {
            self.running.await_log("service ready");
        }
        self.await_ready_workers("all workers", |now| now.len() == workers);
        self.descriptors = probe::descriptors(self.running.pid());
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
        let ends = |lines: &[String]| lines.iter().filter(|line| is_end_of_reload(line)).count();
        let known = ends(&before);
        let end = self.running.journal.wait(within, |lines| {
            let ended = ends(lines) > known;
            ended.then(|| lines.iter().rev().find(|line| is_end_of_reload(line)).cloned()).flatten()
        });
        match end {
            Some(line) if line.contains("reload finished") => Ok(()),
            Some(line) => Err(line),
            None => Err(format!("the reload did not end within {within:?}")),
        }
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

    /// The leak audit: nothing more is open than at the start; it stops, and leaves no process and no file.
    pub(super) fn audit(mut self) {
        let (pid, known) = (self.running.pid(), self.descriptors);
        let settled = self.running.journal.wait(PATIENCE, |_| (probe::descriptors(pid) <= known).then_some(()));
        assert!(
            settled.is_some() || self.kind == Kind::Gunicorn,
            "descriptors: {known} at the start, now {:?}",
            probe::open(pid)
        );
        assert_eq!(self.running.stop(), End::Code(0));
        let files = std::fs::read_dir(self.running.directory()).expect("list the directory").flatten();
        let names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        let unknown: Vec<&String> = names.iter().filter(|name| !EXPECTED_FILES.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "files were left behind: {unknown:?}");
    }
}

fn is_end_of_reload(line: &str) -> bool {
    line.contains("reload finished") || line.contains("reload failed")
}

fn serving(lines: &[String]) -> Vec<u32> {
    let ready = lines.iter().filter(|line| line.contains("worker ready"));
    let pids = ready.filter_map(|line| line.split("pid=").nth(1)?.split(' ').next()?.parse().ok());
    pids.filter(|pid| lives(*pid)).collect()
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
