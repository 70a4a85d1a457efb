//! Carries out what a test asks a worker to suffer.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Signal, getgid, getgroups, getpid, getppid, getuid, kill_process};

use super::route::Fault;

const MEGABYTE: usize = 1 << 20;
/// Longer than any test, shorter than a person's patience with a process nobody owns.
const ORPHAN_SECONDS: &str = "300";

/// What a worker leaked so far.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    descriptors: Vec<File>,
    memory: Vec<Vec<u8>>,
}

/// What follows from a fault.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The request is answered.
    Answer(u16, String),
    /// SIGTERM means nothing from now on; the request is answered.
    DeafToTerm,
    /// The worker ends without an answer.
    End(ExitCode),
}

impl Leaks {
    /// Allocates `megabytes` and writes to each page, so that they count as resident.
    pub(super) fn take_memory(&mut self, megabytes: usize) {
        // Not one value throughout: pages that are equal could be merged.
        let fill = |index: usize| u8::try_from(index % 251).unwrap_or(0);
        self.memory.extend((0..megabytes).map(|_| (0..MEGABYTE).map(fill).collect::<Vec<u8>>()));
    }

    /// Carries it out. Some faults do not return.
    pub(super) fn perform(&mut self, fault: Fault) -> Outcome {
        match fault {
            Fault::Segv => loop {
                // Rust's own handler takes the first one and restores the default.
                let _ = kill_process(getpid(), Signal::SEGV);
            },
            Fault::Abort => std::process::abort(),
            Fault::Exit(code) => Outcome::End(ExitCode::from(code)),
            Fault::Hang => loop {
                rustix::event::pause();
            },
            Fault::IgnoreTerm => Outcome::DeafToTerm,
            Fault::Spew(bytes) => done(std::io::stderr().write_all(&b"spew ".repeat(bytes / 5 + 1)[..bytes])),
            Fault::Orphan => orphan(),
            Fault::LeakFd(count) => {
                let opened: Result<Vec<File>, _> = (0..count).map(|_| File::open("/dev/null")).collect();
                done(opened.map(|files| self.descriptors.extend(files)))
            }
            Fault::Alloc(megabytes) => {
                self.take_memory(megabytes);
                Outcome::Answer(200, "ok\n".to_owned())
            }
            Fault::Env => Outcome::Answer(200, environment()),
            Fault::Fds => Outcome::Answer(200, descriptors()),
            Fault::Ids => Outcome::Answer(200, ids()),
            Fault::Status(status) => Outcome::Answer(status, String::new()),
        }
    }
}

fn done(result: std::io::Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Answer(200, "ok\n".to_owned()),
        Err(error) => Outcome::Answer(500, format!("{error}\n")),
    }
}

fn orphan() -> Outcome {
    // The shell leaves at once: its child is nobody's.
    let script = format!("sleep {ORPHAN_SECONDS} >/dev/null 2>&1 & echo $!");
    match Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output() {
        Ok(output) => Outcome::Answer(200, String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => Outcome::Answer(500, format!("{error}\n")),
    }
}

fn environment() -> String {
    let mut lines: Vec<String> =
        std::env::vars_os().map(|(name, value)| format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy())).collect();
    lines.sort();
    lines.concat()
}

fn descriptors() -> String {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return String::new();
    };
    let mut open: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
        })
        .collect();
    open.sort();
    let lines: Vec<String> = open.iter().map(|(number, target)| format!("{number} {target}\n")).collect();
    lines.concat()
}

fn ids() -> String {
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let mut text = format!("pid {}\nparent {parent}\n", getpid().as_raw_nonzero());
    let groups: Vec<String> = getgroups().unwrap_or_default().iter().map(|group| group.as_raw().to_string()).collect();
    write!(text, "user {}\ngroup {}\ngroups {}\n", getuid().as_raw(), getgid().as_raw(), groups.join(" "))
        .expect("invariant: writing to a String succeeds");
    text
}
