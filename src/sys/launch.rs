//! What a worker is started with, and the generations it can be started from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;

use super::listen::{Listener, Listeners};
use super::log::{Mouth, Speaker, file};
use super::spawn::{FIRST_FD, Output, Process, Program, SpawnError, spawn};
use super::standing::{self, Person, Standing, StandingError, Variables};
use super::zygote::{Birth, LAST_WORDS, News, Occasion, Stage, Zygote};
use crate::config::{self, App, CommandApp, Config, PythonApp};
use crate::supervisor::event::Settings;
use crate::units::{Generation, Moment, Slot, WorkerId};

/// Variables that are addressed to the supervisor, never to its workers.
const NOT_FOR_WORKERS: [&str; 9] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "FDSTORE",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "MAINPID",
];
/// Variables that describe the supervisor's unit and streams (systemd.exec(5)), and its own setting: a worker gets them only by name.
const ONLY_BY_NAME: [&str; 10] = [
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "MANAGERPID",
    "MANAGERPIDFDID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "SYSTEMD_EXEC_PID",
    "TRIGGER_UNIT",
    "WEB_CONCURRENCY",
];

/// A zygote is replaced before a fork is asked for at most this often.
const REPLACEMENT_PAUSE: Duration = Duration::from_secs(10);

/// Old zygotes kept for what their server hooks have started: that of the start, and that of the last reload. Each has the whole
/// application.
const MAX_STAYING: usize = 2;

/// Whether a variable is one of those that workers inherit.
fn is_passed(key: &OsStr, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(stem) => key.as_bytes().starts_with(stem.as_bytes()) && !ONLY_BY_NAME.iter().any(|name| key == *name),
        None => key == pattern.as_str(),
    })
}

/// Our environment, without what workers must never see.
pub fn environment(ours: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    ours.filter(|(key, _)| !NOT_FOR_WORKERS.iter().any(|name| key == name)).collect()
}

/// Whether whom the configuration names can be found, and whether we may be them.
pub fn check(config: &Config) -> Result<(), StandingError> {
    Person::of(&config.confinement).map(drop)
}

/// What a generation's workers are to be: its configuration, and whom it names.
pub(super) struct Origin {
    pub(super) config: Arc<Config>,
    person: Option<Person>,
    /// What the person's environment says of it.
    home: Variables,
}

impl Origin {
    /// Whom `before` found for the same names is not looked up again: that may wait for a directory server, and workers with it.
    pub(super) fn of(config: Arc<Config>, before: Option<&Self>) -> Result<Self, StandingError> {
        let names = |config: &Config| (config.confinement.user.clone(), config.confinement.group.clone());
        if let Some(before) = before.filter(|before| names(&before.config) == names(&config)) {
            return Ok(Self { config, person: before.person.clone(), home: before.home.clone() });
        }
        let (person, home) = Person::of(&config.confinement)?.unzip();
        Ok(Self { config, person, home: home.unwrap_or_default() })
    }

    /// The number of the user that workers are, if it is somebody else than us.
    pub(super) fn stranger(&self) -> Option<u32> {
        self.person.as_ref().filter(|person| person.drops).map(|person| person.uid)
    }

    /// What to say of an interpreter that cannot be run.
    pub(super) fn refusal_of(&self, interpreter: &Path, error: &SpawnError) -> String {
        let user =
            standing::name_of(self.person.as_ref().map_or_else(|| rustix::process::geteuid().as_raw(), |person| person.uid));
        format!("the Python interpreter {} cannot be started by user {user}: {error}", interpreter.display())
    }

    /// Gunicorn's log files, and whom they are to be given to: workers that are somebody else than us may not be able to make them.
    fn log_files(&self) -> Option<(&[PathBuf], &Person)> {
        let person = self.person.as_ref().filter(|person| person.drops)?;
        match &self.config.app {
            App::Python(app) if !app.log_files.is_empty() => Some((&app.log_files, person)),
            App::Python(_) | App::Command(_) => None,
        }
    }

    /// Makes those that were moved away. May take as long as the file system likes.
    pub(super) fn make_log_files(&self) {
        for (path, person) in
            self.log_files().into_iter().flat_map(|(paths, person)| paths.iter().map(move |path| (path, person)))
        {
            if let Err(error) = file::make_for(path, person.uid, person.gid) {
                tracing::warn!(path = %path.display(), %error, "a log file of the workers cannot be made");
            }
        }
    }

    fn standing(&self) -> Standing {
        Standing::new(&self.config.confinement, self.person.clone())
    }
}

/// What every worker of a generation shares.
pub(super) struct Launch<'a> {
    pub(super) origin: &'a Origin,
    pub(super) listeners: &'a Listeners,
    pub(super) output: &'a Output,
    pub(super) env: &'a [(OsString, OsString)],
    pub(super) notify_socket: &'a Path,
}

impl Launch<'_> {
    /// Pipes for a process of this generation. It may open them by their names (/dev/stderr), whoever it is.
    pub(super) fn mouth(&self, speaker: Speaker) -> io::Result<Option<Mouth>> {
        let mouth = self.output.mouth(speaker)?;
        if let (Some(mouth), Some(uid)) = (&mouth, self.origin.stranger()) {
            mouth.give_to(uid)?;
        }
        Ok(mouth)
    }

    /// Of ours what is passed on, the user's home, then the application's own, then what the contract says.
    fn env(&self, own: &[(String, String)], contract: &[(&str, String)]) -> Vec<(OsString, OsString)> {
        let config = &self.origin.config;
        let passed = self.env.iter().filter(|(key, _)| is_passed(key, &config.confinement.pass_env));
        let mut all: BTreeMap<OsString, OsString> = passed.chain(&self.origin.home).cloned().collect();
        all.extend(own.iter().map(|(key, value)| (key.into(), value.into())));
        all.insert("NOTIFY_SOCKET".into(), self.notify_socket.into());
        all.insert("TUNINGFORK_WORKERS".into(), config.workers.to_string().into());
        all.insert("TUNINGFORK_CONNECTIONS".into(), config.connections.to_string().into());
        all.extend(contract.iter().map(|(key, value)| ((*key).into(), value.into())));
        all.into_iter().collect()
    }
}

/// Starts a worker of kind `command`.
pub(super) fn command(launch: &Launch<'_>, app: &CommandApp, slot: Slot, worker: WorkerId) -> Result<Process, SpawnError> {
    let mouth = launch.mouth(Speaker::Worker { slot, worker }).map_err(SpawnError::pipes)?;
    let Config { connections, workers, timing, confinement, .. } = &*launch.origin.config;
    let cores = standing::cores(confinement.cpu_affinity, slot, *workers);
    let names = vec!["http"; launch.listeners.all().len()].join(":");
    let mut contract = vec![
        ("LISTEN_FDS", launch.listeners.all().len().to_string()),
        ("LISTEN_FDNAMES", names),
        ("TUNINGFORK_WORKER", slot.to_string()),
    ];
    if !timing.timeout.is_zero() {
        contract.push(("WATCHDOG_USEC", timing.timeout.as_micros().to_string()));
    }
    spawn(&Program {
        argv: config::expand(&app.command, FIRST_FD, *connections, slot, *workers),
        env: launch.env(&app.env, &contract),
        directory: &app.directory,
        fds: passed(launch.listeners),
        streams: launch.output.streams(mouth.as_ref()),
        standing: launch.origin.standing().on(cores.as_deref()),
        listen_pid: true,
    })
}

/// Starts a zygote, which begins to import the application.
pub(super) fn zygote(
    launch: &Launch<'_>,
    app: &PythonApp,
    generation: Generation,
    occasion: Occasion,
) -> Result<Zygote, SpawnError> {
    let mouth = launch.mouth(Speaker::Zygote(generation)).map_err(SpawnError::pipes)?;
    Zygote::start(&Birth {
        config: &launch.origin.config,
        app,
        env: launch.env(&app.env, &[]),
        listeners: passed(launch.listeners),
        streams: launch.output.streams(mouth.as_ref()),
        occasion,
        standing: launch.origin.standing(),
    })
}

/// A generation that is loaded or being loaded.
pub(super) struct Loaded {
    pub(super) origin: Arc<Origin>,
    zygote: Option<Zygote>,
    announced: bool,
    /// When its zygote was last replaced before anybody asked for a fork.
    replaced: Option<Moment>,
}

impl Loaded {
    pub(super) fn zygote_stage(&self) -> Option<Stage> {
        self.zygote.as_ref().map(Zygote::stage)
    }
}

/// Every generation that may still be forked from.
#[derive(Default)]
pub(super) struct Generations {
    loaded: BTreeMap<Generation, Loaded>,
    /// Zygotes that are not needed any more and may end by themselves until then.
    leaving: Vec<(Zygote, Moment)>,
    /// Zygotes whose server hooks have started what goes on as long as the service.
    staying: Vec<Zygote>,
}

impl Generations {
    /// One without a zygote is loaded by now.
    pub(super) fn add(&mut self, generation: Generation, origin: Arc<Origin>, zygote: Option<Zygote>) {
        let announced = zygote.is_none();
        self.loaded.insert(generation, Loaded { origin, zygote, announced, replaced: None });
    }

    /// What the newest was loaded from.
    pub(super) fn newest(&self) -> Option<&Origin> {
        self.loaded.values().next_back().map(|loaded| &*loaded.origin)
    }

    pub(super) fn get(&self, generation: Generation) -> Option<&Loaded> {
        self.loaded.get(&generation)
    }

    /// Forgets a generation. Its zygote may call its last hooks first; where no other is left, the service is about to end, which
    /// it is told by [`Self::clear`].
    pub(super) fn remove(&mut self, generation: Generation, now: Moment) {
        let Some(mut zygote) = self.loaded.remove(&generation).and_then(|loaded| loaded.zygote) else { return };
        let is_last = self.loaded.is_empty();
        if !is_last && zygote.stays() {
            zygote.tell(News::Leave);
            self.staying.push(zygote);
            if self.staying.len() > MAX_STAYING {
                self.staying.remove(1);
                tracing::warn!(
                    "what Gunicorn's hook on_reload started at an earlier reload is ended: each reload starts it again"
                );
            }
            return;
        }
        let speaks = if is_last { zygote.calls_hooks() } else { zygote.dismiss(News::Leave) };
        if speaks {
            self.leaving.push((zygote, now.after(LAST_WORDS)));
        }
    }

    /// Forgets zygotes that have left, or had their time.
    pub(super) fn see_off(&mut self, now: Moment) {
        self.leaving.retain_mut(|(zygote, until)| {
            while zygote.hear().is_some() {}
            zygote.stage() != Stage::Dead && *until > now
        });
        self.staying.retain_mut(|zygote| {
            while zygote.hear().is_some() {}
            zygote.stage() != Stage::Dead
        });
    }

    /// When the next zygote that is leaving, or whose fate is open, has had its time.
    pub(super) fn next_timer(&self) -> Option<Moment> {
        let leaving = self.leaving.iter().map(|(_, until)| *until);
        leaving.chain(self.needed().filter_map(Zygote::fate_until)).min()
    }

    /// Zygotes whose end would be told.
    fn needed(&self) -> impl Iterator<Item = &Zygote> {
        self.loaded.values().filter_map(|loaded| loaded.zygote.as_ref()).filter(|zygote| !zygote.is_mourned())
    }

    /// Whose end is to be told: nobody else may reap them.
    pub(super) fn needed_pids(&self) -> impl Iterator<Item = Pid> {
        self.needed().map(Zygote::pid)
    }

    /// Ends all zygotes; the newest is told that the service ends.
    pub(super) fn clear(&mut self) {
        self.staying.clear();
        let newest = self.loaded.last_entry().and_then(|mut newest| newest.get_mut().zygote.take());
        self.loaded.clear();
        for mut zygote in self.leaving.drain(..).map(|(zygote, _)| zygote).chain(newest) {
            if zygote.dismiss(News::LeaveLast) && !zygote.ends_within(LAST_WORDS) {
                tracing::warn!("a server hook of Gunicorn's settings takes too long at the end, and is ended");
            }
        }
    }

    /// Tells what its hooks are called for to the zygote of a generation.
    pub(super) fn tell(&mut self, generation: Generation, news: News) {
        if let Some(zygote) = self.zygote(generation) {
            zygote.tell(news);
        }
    }

    /// Tells the newest zygote.
    pub(super) fn tell_newest(&mut self, news: News) {
        if let Some(generation) = self.loaded.keys().next_back().copied() {
            self.tell(generation, news);
        }
    }

    pub(super) fn zygote(&mut self, generation: Generation) -> Option<&mut Zygote> {
        self.loaded.get_mut(&generation)?.zygote.as_mut()
    }

    pub(super) fn replace_zygote(&mut self, generation: Generation, zygote: Zygote) {
        if let Some(loaded) = self.loaded.get_mut(&generation) {
            loaded.zygote = Some(zygote);
        }
    }

    /// Whether a dead zygote is worth replacing before a fork is asked for: it could fork, and did not die twice in a row.
    pub(super) fn may_replace_at_once(&mut self, generation: Generation, now: Moment) -> bool {
        let Some(loaded) = self.loaded.get_mut(&generation) else { return false };
        let could_fork = loaded.zygote.as_ref().is_some_and(Zygote::has_imported);
        let may = could_fork && loaded.replaced.is_none_or(|last| now.since(last) >= REPLACEMENT_PAUSE);
        if may {
            loaded.replaced = Some(now);
        }
        may
    }

    /// Whether the supervisor has not been told yet whether this generation is usable.
    pub(super) fn is_unannounced(&self, generation: Generation) -> bool {
        self.loaded.get(&generation).is_some_and(|loaded| !loaded.announced)
    }

    /// What to tell the supervisor, the first time.
    pub(super) fn announce(&mut self, generation: Generation) -> Option<Settings> {
        let loaded = self.loaded.get_mut(&generation).filter(|loaded| !loaded.announced)?;
        loaded.announced = true;
        Some(Settings::of(&loaded.origin.config))
    }

    pub(super) fn with_zygotes(&self) -> Vec<Generation> {
        self.loaded.iter().filter(|(_, loaded)| loaded.zygote.is_some()).map(|(generation, _)| *generation).collect()
    }

    fn zygotes(&self) -> impl Iterator<Item = &Zygote> {
        let zygotes = self.loaded.values().filter_map(|loaded| loaded.zygote.as_ref());
        zygotes.chain(self.leaving.iter().map(|(zygote, _)| zygote)).chain(&self.staying)
    }

    /// Channels of living zygotes.
    pub(super) fn channels(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.zygotes().filter(|zygote| zygote.stage() != Stage::Dead).map(Zygote::channel)
    }

    /// Of all zygotes.
    pub(super) fn zygote_pids(&self) -> impl Iterator<Item = Pid> {
        self.zygotes().map(Zygote::pid)
    }

    /// Ends the zygote that was asked for this worker and has not answered. Returns whether there is one.
    pub(super) fn give_up_on(&mut self, worker: WorkerId) -> bool {
        let asked = self.loaded.values_mut().filter_map(|loaded| loaded.zygote.as_mut()).find(|zygote| zygote.owes_that(worker));
        asked.map(Zygote::end).is_some()
    }

    /// Those whose workers need somebody to make their log files.
    pub(super) fn with_log_files(&self) -> Vec<Arc<Origin>> {
        let origins = self.loaded.values().map(|loaded| &loaded.origin);
        origins.filter(|origin| origin.log_files().is_some()).cloned().collect()
    }

    /// Workers of later forks write where their zygote has opened its log files.
    pub(super) fn reopen_logs(&self) {
        self.loaded.values().filter_map(|loaded| loaded.zygote.as_ref()).for_each(Zygote::reopen_logs);
    }

    /// Whether a worker may exist whose pid is not known yet.
    pub(super) fn forks_outstanding(&self) -> bool {
        self.loaded.values().filter_map(|loaded| loaded.zygote.as_ref()).any(Zygote::owes)
    }
}

/// The listening sockets in the order in which they are passed on.
fn passed(listeners: &Listeners) -> Vec<BorrowedFd<'_>> {
    listeners.all().iter().map(Listener::fd).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::config::{Machine, Surroundings};

    fn config(user: &str, workers: u8) -> Arc<Config> {
        let text = format!("workers = {workers}\n[app]\nkind = \"command\"\ncommand = [\"true\"]\nuser = \"{user}\"\n");
        let machine = Machine::of_cores(NonZeroU16::MIN);
        let surroundings =
            Surroundings { web_concurrency: None, virtual_env: None, machine, directory: PathBuf::from("/srv/shop") };
        Arc::new(Config::parse(&text, Path::new("t"), &surroundings).unwrap())
    }

    #[test]
    fn a_user_is_looked_up_again_only_under_another_name() {
        let us = rustix::process::geteuid().as_raw().to_string();
        let mut before = Origin::of(config(&us, 1), None).unwrap();
        before.home = vec![("HOME".into(), "/as/found/before".into())];
        assert_eq!(Origin::of(config(&us, 2), Some(&before)).unwrap().home, before.home);
        assert!(Origin::of(config("no-such-user", 1), Some(&before)).is_err());
    }
}
