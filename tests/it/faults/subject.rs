//! A service under test: tuningfork with the demo worker or with the faulty Python application, or that application under Gunicorn.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::live::Live;
use crate::support::http::Address;
use crate::support::parts;
use crate::support::service::{Service, free_port};

/// Gunicorn says what tuningfork's log says, and boots with it.
const GUNICORN_CONF: &str =
    "import os\ndef post_worker_init(worker):\n    os.write(2, f'worker ready pid={worker.pid} \\n'.encode())\n";

/// The link in a service's directory by which it is started, where that was asked for.
pub(super) const PROGRAM: &str = "program";
/// How long the first worker of a reload has to serve before the others are replaced: shorter than by default, as tests reload
/// all the time.
const SETTLE: &str = "100ms";

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

    /// So many upgrades, where a supervisor knows how to do them by itself: Gunicorn's operator has to end the old one.
    pub(super) fn upgrades(self, wanted: usize) -> usize {
        if self == Self::Gunicorn { 0 } else { wanted }
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
    /// Lines before and after those.
    top: String,
    sections: String,
    linked: bool,
}

impl Subject {
    /// Two workers; nothing is ever late.
    pub(super) fn of(kind: Kind) -> Self {
        let service = Service::with_config("");
        Self {
            kind,
            service,
            workers: 2,
            connections: 16,
            class: "sync",
            timing: [30, 30, 60],
            top: String::new(),
            sections: String::new(),
            linked: false,
        }
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

    /// By a link in its directory, where another program can take its place: [`PROGRAM`].
    pub(super) fn linked(self) -> Self {
        Self { linked: true, ..self }
    }

    /// Keys of tuningfork's configuration that belong to no section.
    pub(super) fn top(self, lines: &str) -> Self {
        Self { top: lines.to_owned(), ..self }
    }

    /// Its directory.
    pub(super) fn directory(&self) -> &Path {
        self.service.directory()
    }

    /// With a metrics endpoint, and a control socket in its directory.
    pub(super) fn with_doors(self) -> (Self, Address) {
        let metrics = format!("127.0.0.1:{}", free_port());
        let sections = format!("[metrics]\nlisten = \"{metrics}\"\n[control]\nsocket = \"@DIR@/control.sock\"\n");
        (self.sections(&sections), Address::Tcp(metrics))
    }

    /// Sections of tuningfork's configuration, and what belongs to `[listen]` before them.
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
            Kind::Command | Kind::Python if self.linked => {
                let link = self.service.directory().join(PROGRAM);
                symlink(env!("CARGO_BIN_EXE_tuningfork"), &link).expect("link the program");
                Command::new(link)
            }
            Kind::Command | Kind::Python => Command::new(env!("CARGO_BIN_EXE_tuningfork")),
            Kind::Gunicorn => Command::new(parts::python()),
        };
        self.start_program(program)
    }

    /// Starts it by a program that becomes it.
    pub(super) fn start_through(self, mut program: Command) -> Live {
        match self.kind {
            Kind::Command | Kind::Python => program.arg(env!("CARGO_BIN_EXE_tuningfork")),
            Kind::Gunicorn => program.arg(parts::python()),
        };
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
        Live::new(kind, running, workers)
    }

    fn config(&self) -> String {
        let [timeout, graceful, boot] = self.timing;
        let connections = if self.is_sync() { String::new() } else { format!("connections = {}\n", self.connections) };
        let app = if self.kind == Kind::Command { COMMAND_APP.to_owned() } else { python_app(self.class) };
        format!(
            "workers = {}\n{connections}settle = \"{SETTLE}\"\ntimeout = {timeout}\ngraceful-timeout = {graceful}\nboot-timeout = {boot}\n{}{app}\
             [listen]\naddress = \"@LISTEN@\"\n{}",
            self.workers, self.top, self.sections
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
