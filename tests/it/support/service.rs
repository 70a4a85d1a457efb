//! `tuningfork run` under watch: a configuration in a directory of its own, a free socket, and everything it says.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::http::{self, Address, Reply};
use super::journal::Journal;
use super::process::{self, End, Watched};

/// A service to be started. In its configuration `@LISTEN@` is the address, `@DIR@` its directory, `@PROGRAM@` the binary under test.
pub(crate) struct Service {
    directory: TempDir,
    config: String,
    /// Of `tuningfork gunicorn`, where that is started instead of `tuningfork run`.
    gunicorn: Option<Vec<String>>,
    env: Vec<(String, String)>,
    address: Address,
}

/// A service that was started.
pub(crate) struct Running {
    watched: Watched,
    directory: TempDir,
    address: Address,
    /// Open descriptors of all workers when nobody was connected.
    idle_descriptors: usize,
}

/// A port of 127.0.0.1 that nobody used a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("find a free port");
    listener.local_addr().expect("ask for the port").port()
}

impl Service {
    /// A service with this configuration, on a unix socket.
    pub(crate) fn with_config(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("make a directory");
        let address = Address::Unix(directory.path().join("web.sock"));
        Self { directory, config: config.to_owned(), gunicorn: None, env: Vec::new(), address }
    }

    /// A service of demo workers with fault paths, steered by files in its directory.
    pub(crate) fn of_demo_workers(workers: u16, connections: u32) -> Self {
        Self::with_config(&format!(
            r#"
workers = {workers}
connections = {connections}
settle = 0
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "@DIR@"]
[listen]
address = "@LISTEN@"
"#
        ))
    }

    /// The same with another configuration.
    pub(crate) fn configured(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    /// A service of `tuningfork gunicorn` with these arguments, started in its directory.
    pub(crate) fn of_gunicorn(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { gunicorn: Some(arguments), ..Self::with_config("") }
    }

    /// On a free port of 127.0.0.1 instead of a unix socket.
    pub(crate) fn on_tcp(mut self) -> Self {
        self.address = Address::Tcp(format!("127.0.0.1:{}", free_port()));
        self
    }

    /// Writes a file into its directory: one that steers demo workers, or an application's.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.directory.path().join(name), content).expect("write a file");
        self
    }

    /// Writes a file in which `@LISTEN@` and the like are filled in.
    pub(crate) fn filled_file(self, name: &str, content: &str) -> Self {
        let content = filled(self.directory.path(), content, &self.address);
        self.file(name, &content)
    }

    /// Writes something else in its configuration.
    pub(crate) fn replacing(mut self, what: &str, other: &str) -> Self {
        self.config = self.config.replace(what, other);
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it will listen.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        self.start_by(Command::new(env!("CARGO_BIN_EXE_tuningfork")))
    }

    /// Adds to its configuration.
    pub(crate) fn extend(mut self, more: &str) -> Self {
        self.config.push_str(more);
        self
    }

    /// Starts it by a link of this name in its directory, and waits until it says that it is ready.
    pub(crate) fn ready_from(self, link: &str) -> Running {
        let program = self.directory.path().join(link);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tuningfork"), &program).expect("link the program");
        self.start_by(Command::new(program)).until_ready()
    }

    /// Starts it by a program that becomes it: `program` with `arguments` gets its command line as further arguments.
    pub(crate) fn ready_through(self, program: &Path, arguments: &[&str]) -> Running {
        let mut command = Command::new(program);
        command.args(arguments).arg(env!("CARGO_BIN_EXE_tuningfork"));
        self.start_by(command).until_ready()
    }

    /// The same without waiting for what it logs: nobody may be there to hear it.
    pub(crate) fn start_through(self, program: &Path, arguments: &[&str]) -> Running {
        let mut command = Command::new(program);
        command.args(arguments).arg(env!("CARGO_BIN_EXE_tuningfork"));
        self.start_by(command)
    }

    /// Starts it by a program that becomes it, without waiting.
    pub(crate) fn start_by(self, mut command: Command) -> Running {
        let file = write_config(self.directory.path(), &self.config, &self.address);
        match &self.gunicorn {
            Some(arguments) => {
                let filled = arguments.iter().map(|argument| filled(self.directory.path(), argument, &self.address));
                command.arg("gunicorn").args(filled).current_dir(self.directory.path());
            }
            None => {
                command.arg("run").arg("-c").arg(file);
            }
        }
        self.launch(command)
    }

    /// Starts another supervisor in its place.
    pub(crate) fn launch(self, mut command: Command) -> Running {
        let journal = Journal::default();
        let notify = self.directory.path().join("notify.sock");
        journal.hear(&notify);
        command.envs(self.env).env("NOTIFY_SOCKET", notify);
        // Where its control socket is by default, so that tests do not meet.
        command.env("XDG_RUNTIME_DIR", self.directory.path());
        Running {
            watched: Watched::start(command, journal),
            directory: self.directory,
            address: self.address,
            idle_descriptors: 0,
        }
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn ready(self) -> Running {
        self.start().until_ready()
    }
}

impl Running {
    /// Waits until it has sent an assignment that begins like this (`READY=1`, `STATUS=…`).
    pub(crate) fn await_notice(&mut self, beginning: &str) {
        let wanted = format!("notify: {beginning}");
        self.watched.wait(beginning, |lines| lines.iter().any(|line| line.starts_with(&wanted)).then_some(()));
    }

    /// Waits until it has logged a line that holds this.
    pub(crate) fn await_log(&mut self, part: &str) {
        self.watched.wait(part, |lines| lines.iter().any(|line| line.contains(part)).then_some(()));
    }

    /// Waits until so many logged lines hold this, since the start.
    pub(crate) fn await_log_times(&mut self, part: &str, times: usize) {
        self.watched.wait(part, |lines| (lines.iter().filter(|line| line.contains(part)).count() >= times).then_some(()));
    }

    /// Waits until a file in its directory is there and holds this.
    pub(crate) fn await_in_file(&mut self, name: &str, part: &str) {
        let file = self.directory.path().join(name);
        self.watched.wait(part, |_| std::fs::read_to_string(&file).is_ok_and(|text| text.contains(part)).then_some(()));
    }

    /// Waits until a worker has accepted a connection.
    pub(crate) fn await_busy(&mut self) {
        let (parent, idle) = (self.watched.pid(), self.idle_descriptors);
        self.watched.wait("a connection", |_| (descriptors(parent) > idle).then_some(()));
    }

    /// The living workers, as the log tells them: the zygote is a child too.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let lines = self.watched.journal.lines();
        let ready = lines.iter().filter(|line| line.contains("worker ready"));
        let pids = ready.filter_map(|line| line.split("pid=").nth(1)?.split(' ').next()?.parse().ok());
        pids.filter(|pid| process::lives(*pid)).collect()
    }

    fn until_ready(mut self) -> Self {
        self.await_notice("READY=1");
        // The two channels are not in step: with this line all that was logged on the way has arrived too.
        self.await_log("service ready");
        self.idle_descriptors = descriptors(self.watched.pid());
        self
    }

    /// Waits until its children satisfy a condition, and gives them.
    pub(crate) fn await_children(&mut self, what: &str, satisfied: impl Fn(&[u32]) -> bool) -> Vec<u32> {
        let parent = self.watched.pid();
        self.watched.wait(what, |_| Some(process::children(parent)).filter(|children| satisfied(children)))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its configuration file as it stands.
    pub(crate) fn config(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("tuningfork.toml")).expect("read the configuration")
    }

    /// Replaces its configuration file; the service reads it at the next HUP.
    pub(crate) fn reconfigure(&self, config: &str) {
        write_config(self.directory.path(), config, &self.address);
    }

    /// A GET that has to be answered.
    pub(crate) fn get(&self, path: &str) -> Reply {
        http::get(&self.address, path).unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.watched.said()))
    }

    /// SIGTERM, and the end, with no process left.
    pub(crate) fn stop(&mut self) -> End {
        self.watched.signal(Signal::TERM);
        self.watched.await_end()
    }
}

impl Deref for Running {
    type Target = Watched;

    fn deref(&self) -> &Watched {
        &self.watched
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Watched {
        &mut self.watched
    }
}

/// Open descriptors of all children.
fn descriptors(parent: u32) -> usize {
    let open = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    process::children(parent).iter().map(open).sum()
}

/// `template` with what stands for an address, a directory and the program.
fn filled(directory: &Path, template: &str, address: &Address) -> String {
    let listen = match address {
        Address::Tcp(address) => address.clone(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    };
    template
        .replace("@LISTEN@", &listen)
        .replace("@DIR@", &directory.display().to_string())
        .replace("@PROGRAM@", env!("CARGO_BIN_EXE_tuningfork"))
}

fn write_config(directory: &Path, template: &str, address: &Address) -> std::path::PathBuf {
    let text = filled(directory, template, address);
    let file = directory.join("tuningfork.toml");
    std::fs::write(&file, text).expect("write the configuration");
    file
}
