//! The Host that is Linux: carries out the supervisor's commands, and turns signals, notifications and deaths into events.
//!
//! Lives on the main thread: forked children are tied to the thread that made them (PR_SET_PDEATHSIG, prctl(2)).

mod beside;
mod reopen;
mod succeed;
mod zygotes;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::process::{Pid, Signal};

use super::children::{Child, Children};
use super::clock;
use super::errand::Errand;
use super::hooks::{HookKind, Hooks};
use super::inherit;
use super::inquiry::{Inquiry, Meaning};
use super::launch::{self, Generations, Launch, Origin};
use super::listen::Listeners;
use super::log::{Log, Speaker};
use super::memory_watch::MemoryWatch;
use super::notify::NotifySocket;
use super::remote::Inbox;
use super::reserve::Reserve;
use super::shortage::Shortage;
use super::signals::{Heard, Signals};
use super::sleep::sleep;
use super::spawn::Output;
use super::standing;
use super::succession::{Estate, Predecessor, Successor};
use super::zygote::{News, Occasion, Order, Stage};
use crate::config::{App, Config, Readiness};
use crate::supervisor::event::{Command, Event, Reason, Settings, Wish};
use crate::supervisor::host::Host;
use crate::units::{Generation, Moment, Slot, WorkerId};

/// Messages of workers taken in one turn: a flood must not keep the loop from anything else.
const MAX_MESSAGES: usize = 256;

/// How the configuration of a generation is come by.
pub enum Loading {
    /// It is there, or cannot be had; the error is what the user reads.
    Done(Result<Arc<Config>, String>),
    /// An interpreter is asked for it.
    Asking(Inquiry, Meaning),
}

/// Loads the configuration of a generation.
pub type Loader<'a> = Box<dyn FnMut(Generation) -> Loading + 'a>;

/// What a host needs from its surroundings.
pub struct Surroundings<'a> {
    /// The process's signals.
    pub signals: &'a mut Signals,
    /// What the workers accept on.
    pub listeners: &'a Listeners,
    /// Wishes from other threads.
    pub inbox: Inbox,
    /// Loads configurations.
    pub loader: Loader<'a>,
    /// Where workers write.
    pub output: &'a Output,
    /// The supervisor's own log; a trial's supervisor has none.
    pub log: Option<Log>,
    /// The environment handed on to workers, without what is the supervisor's own.
    pub env: Vec<(OsString, OsString)>,
    /// What a successor would get, or why there can be none.
    pub estate: Result<Estate<'a>, &'static str>,
    /// Whose place is to be taken.
    pub predecessor: Option<&'a Predecessor>,
}

/// Linux as the supervisor sees it.
pub struct Linux<'a> {
    around: Surroundings<'a>,
    notify: NotifySocket,
    generations: Generations,
    /// Generations whose configuration is being asked for.
    inquiries: BTreeMap<Generation, (Inquiry, Option<Meaning>)>,
    children: Children,
    /// Signals for workers whose pid the zygote has not told yet.
    early: BTreeMap<WorkerId, Vec<Signal>>,
    successor: Option<Successor>,
    events: VecDeque<Event>,
    /// Our end was asked for, or came with the predecessor's, or the successor has the service.
    ends: bool,
    /// Who may have ended is to be looked at again: a worker was adopted, or the end of a zygote was told, which is now to be reaped.
    looks_again: bool,
    /// The place and origin of every worker that was ordered and has not ended.
    ordered: BTreeMap<WorkerId, (Slot, Generation)>,
    /// The numbers that workers had of whose end the supervisor is about to hear.
    ended: BTreeMap<WorkerId, u32>,
    hooks: Hooks,
    /// There is one once a configuration has a `max-memory`.
    memory: Option<MemoryWatch>,
    /// Log files are being made, which workers are to open then.
    log_files: Option<Errand>,
    /// And once more: they were to be opened anew meanwhile.
    log_files_again: bool,
    shortage: Shortage,
    reserve: Reserve,
}

impl<'a> Linux<'a> {
    /// Prepares this process to supervise. Fails only when the system refuses basic things.
    pub fn new(around: Surroundings<'a>) -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let reserve = Reserve::for_listeners(around.listeners.all().len());
        let events = around.predecessor.map(|_| Event::Preceded).into_iter().collect();
        Ok(Self {
            around,
            notify: NotifySocket::open()?,
            generations: Generations::default(),
            inquiries: BTreeMap::new(),
            children: Children::default(),
            early: BTreeMap::new(),
            successor: None,
            events,
            ends: false,
            looks_again: false,
            ordered: BTreeMap::new(),
            ended: BTreeMap::new(),
            hooks: Hooks::default(),
            memory: None,
            log_files: None,
            log_files_again: false,
            shortage: Shortage::watch(),
            reserve,
        })
    }

    /// The process of a worker, once it is known.
    #[must_use]
    pub fn pid(&self, worker: WorkerId) -> Option<u32> {
        self.children.get(worker).and_then(|child| u32::try_from(child.pid.as_raw_nonzero().get()).ok())
    }

    /// The configuration in force for a generation.
    #[must_use]
    pub fn config(&self, generation: Generation) -> Option<&Arc<Config>> {
        self.generations.get(generation).map(|loaded| &loaded.origin.config)
    }

    fn prepare(&mut self, generation: Generation) {
        if generation != Generation::FIRST
            && self.around.listeners.make_again()
            && let Ok(estate) = &self.around.estate
        {
            estate.systemd.keep(self.around.listeners, &[inherit::HTTP.to_owned()]);
        }
        match (self.around.loader)(generation) {
            Loading::Done(loaded) => self.loaded(generation, loaded),
            Loading::Asking(inquiry, meaning) => {
                self.inquiries.insert(generation, (inquiry, Some(meaning)));
            }
        }
    }

    fn loaded(&mut self, generation: Generation, loaded: Result<Arc<Config>, String>) {
        let occasion = if generation == Generation::FIRST { Occasion::Start } else { Occasion::Reload };
        let result = loaded.and_then(|config| {
            let origin = Origin::of(config, self.generations.newest()).map_err(|error| error.to_string())?;
            if let Some(uid) = origin.stranger() {
                self.notify.give_to(uid).map_err(|error| error.to_string())?;
            }
            if origin.config.care.max_memory.is_some() && self.memory.is_none() {
                let watch = MemoryWatch::start(clock::now());
                self.memory = Some(watch.map_err(|error| format!("memory cannot be watched: {error}"))?);
            }
            let zygote = match &origin.config.app {
                App::Command(_) => None,
                App::Python(app) => Some(
                    launch::zygote(&self.launch_of(&origin), app, generation, occasion)
                        .map_err(|error| origin.refusal_of(&app.interpreter, &error))?,
                ),
            };
            Ok((Arc::new(origin), zygote))
        });
        match result {
            Ok((origin, zygote)) => {
                let settings = Settings::of(&origin.config);
                self.events.push_back(if zygote.is_some() {
                    Event::ConfigurationRead { generation, boot_timeout: settings.timing.boot_timeout }
                } else {
                    Event::Prepared { generation, settings }
                });
                self.generations.add(generation, origin, zygote);
            }
            Err(reason) => self.events.push_back(Event::PrepareFailed { generation, reason }),
        }
    }

    fn launch_of<'b>(&'b self, origin: &'b Origin) -> Launch<'b> {
        Launch {
            origin,
            listeners: self.around.listeners,
            output: self.around.output,
            env: &self.around.env,
            notify_socket: self.notify.path(),
        }
    }

    /// Makes a worker, after its hook if there is one.
    fn spawn(&mut self, worker: WorkerId, slot: Slot, generation: Generation) {
        self.ordered.insert(worker, (slot, generation));
        match self.run_hook(HookKind::BeforeFork, worker, None, None) {
            Ok(true) => {}
            Ok(false) => self.make(worker, slot, generation),
            Err(error) => self.events.push_back(Event::SpawnFailed { worker, reason: error.to_string() }),
        }
    }

    fn make(&mut self, worker: WorkerId, slot: Slot, generation: Generation) {
        let Some(origin) = self.generations.get(generation).map(|loaded| Arc::clone(&loaded.origin)) else {
            let reason = "its generation is not loaded".to_owned();
            return self.events.push_back(Event::SpawnFailed { worker, reason });
        };
        let result = match &origin.config.app {
            App::Python(_) => self.fork(worker, slot, generation),
            App::Command(app) => {
                launch::command(&self.launch_of(&origin), app, slot, worker).map_err(|error| error.to_string()).map(|process| {
                    let ready_at = match app.readiness {
                        Readiness::Notify => None,
                        Readiness::Alive(span) => Some(clock::now().after(span)),
                    };
                    let child = Child { pid: process.pid, pidfd: process.pidfd, slot, ready_at, generation, greeted: false };
                    self.children.add(worker, child);
                })
            }
        };
        if let Err(reason) = result {
            self.events.push_back(Event::SpawnFailed { worker, reason });
        }
    }

    /// Asks the zygote, after replacing it if it has died.
    fn fork(&mut self, worker: WorkerId, slot: Slot, generation: Generation) -> Result<(), String> {
        let loaded = self.generations.get(generation).ok_or("its generation is not loaded")?;
        let origin = Arc::clone(&loaded.origin);
        if loaded.zygote_stage() == Some(Stage::Dead) {
            self.replace_zygote(generation)?;
        }
        let mouth = self.launch_of(&origin).mouth(Speaker::Worker { slot, worker }).map_err(|error| error.to_string())?;
        let zygote = self.generations.zygote(generation).ok_or("it has no zygote")?;
        let cores = standing::cores(origin.config.confinement.cpu_affinity, slot, origin.config.workers);
        let order = Order { worker, slot, cores, mouth };
        zygote.fork(order).map_err(|error| error.to_string())
    }

    fn replace_zygote(&mut self, generation: Generation) -> Result<(), String> {
        self.tell_end_of_zygote(generation);
        self.fail_unanswered(generation);
        tracing::warn!(%generation, "the zygote is dead; starting another");
        let loaded = self.generations.get(generation).ok_or("its generation is not loaded")?;
        let origin = Arc::clone(&loaded.origin);
        if let App::Python(app) = &origin.config.app {
            let launch = self.launch_of(&origin);
            let zygote = launch::zygote(&launch, app, generation, Occasion::Replacement).map_err(|error| error.to_string())?;
            self.generations.replace_zygote(generation, zygote);
        }
        Ok(())
    }

    /// The signal that ends a worker of this generation at once: what Gunicorn's workers take, and what every program does.
    fn quick_signal(&self, worker: WorkerId) -> Signal {
        let generation = self.children.get(worker).map(|child| child.generation);
        match generation.and_then(|generation| self.config(generation)).map(|config| &config.app) {
            Some(App::Python(_)) => Signal::QUIT,
            Some(App::Command(_)) | None => Signal::INT,
        }
    }

    fn signal(&mut self, worker: WorkerId, signals: &[Signal]) {
        match self.children.get(worker) {
            Some(child) => child.signal(signals),
            None if self.hooks.withdraw(worker) => self.not_made(worker),
            None => self.early.entry(worker).or_default().extend_from_slice(signals),
        }
    }

    /// Looks at everything that may have news. Wishes come before deaths, so that a worker that leaves on a stop is not replaced.
    fn look(&mut self) {
        let heard = self.around.signals.heard();
        self.events.extend(heard.iter().filter_map(|heard| match heard {
            Heard::Wish(wish) => Some(Event::Asked(*wish)),
            Heard::ChildEnded => None,
        }));
        self.events.extend(self.around.inbox.take());
        let now = clock::now();
        self.hear_of_succession();
        self.ends |= self.events.iter().any(asks_for_the_end);
        self.generations.see_off(now);
        self.hear_inquiries();
        self.hear_zygotes();
        self.hear_hooks();
        self.hear_workers();
        self.watch_memory();
        self.hear_of_log_files();
        let now = clock::now();
        self.events.extend(self.children.proved(now).into_iter().map(|worker| Event::BecameReady { worker }));
        if heard.contains(&Heard::ChildEnded) || self.looks_again {
            self.looks_again = false;
            self.reap();
            if !self.generations.forks_outstanding() {
                let mut known = self.beside_workers();
                known.extend(self.generations.needed_pids());
                self.children.reap_strangers(&known);
            }
        }
    }

    fn hear_inquiries(&mut self) {
        let answers = self.inquiries.iter_mut().filter_map(|(generation, (inquiry, meaning))| {
            let answer = inquiry.hear()?;
            Some((*generation, answer, meaning.take()?))
        });
        for (generation, answer, meaning) in answers.collect::<Vec<_>>() {
            self.inquiries.remove(&generation);
            self.loaded(generation, answer.map_err(|error| error.to_string()).and_then(|answer| meaning(&answer)));
        }
    }

    fn hear_workers(&mut self) {
        for (pid, said) in (0..MAX_MESSAGES).map_while(|_| self.notify.receive()) {
            self.children.note(pid, said);
        }
        let mut others = self.beside_workers();
        others.extend(self.generations.zygote_pids());
        others.extend(self.inquiries.values().map(|(inquiry, _)| inquiry.pid()));
        for (worker, said) in self.children.take_notes(self.generations.forks_outstanding(), &others) {
            if said.ready {
                self.events.push_back(Event::BecameReady { worker });
            }
            if said.beat {
                self.events.push_back(Event::Beat { worker });
            }
            if said.worn {
                self.events.push_back(Event::Worn { worker, reason: Reason::MaxRequests });
            }
            if said.leaving {
                self.events.push_back(Event::Leaving { worker });
            }
        }
    }

    /// Hooks and a successor: children of ours that are neither workers nor zygotes.
    fn beside_workers(&self) -> Vec<Pid> {
        self.hooks.pids().into_iter().chain(self.successor.as_ref().map(Successor::pid)).collect()
    }

    /// Sleeps until something can be read or `until` has come.
    fn wait(&self, until: Option<Moment>) {
        let predecessor = self.around.predecessor.and_then(Predecessor::channel);
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.around.signals.fd(), self.around.inbox.fd(), self.notify.fd()];
        fds.extend(self.generations.channels());
        fds.extend(self.hooks.fds());
        fds.extend(self.successor.as_ref().and_then(Successor::channel));
        fds.extend(predecessor.as_deref().map(AsFd::as_fd));
        fds.extend(self.inquiries.values().map(|(inquiry, _)| inquiry.fd()));
        fds.extend(self.log_files.iter().map(Errand::fd));
        sleep(&fds, until);
    }
}

const fn asks_for_the_end(event: &Event) -> bool {
    matches!(event, Event::Asked(Wish::Stop(_)) | Event::Requested { wish: Wish::Stop(_), .. } | Event::Orphaned)
}

impl Host for Linux<'_> {
    fn now(&self) -> Moment {
        clock::now()
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Prepare { generation } => self.prepare(generation),
            Command::Retire { generation } => {
                self.inquiries.remove(&generation);
                self.generations.remove(generation, clock::now());
            }
            Command::ReopenLogs => self.reopen_logs(),
            Command::TellTarget(workers) => self.generations.tell_newest(News::Scaled { workers }),
            Command::Spawn { worker, slot, generation } => {
                self.reserve.release();
                self.spawn(worker, slot, generation);
                self.reserve.refill();
            }
            // A stopped worker takes SIGTERM only once it runs again.
            Command::Terminate { worker } => self.signal(worker, &[Signal::TERM, Signal::CONT]),
            Command::Quit { worker } => {
                let quick = self.quick_signal(worker);
                self.signal(worker, &[quick, Signal::CONT]);
            }
            Command::StartSuccessor => self.start_successor(),
            Command::HandOver { then_reload } => self.hand_over(then_reload),
            Command::EndSuccessor { haste } => self.end_successor(haste),
            Command::KillSuccessor => self.signal_successor(&[Signal::KILL]),
            Command::Abort { worker } => self.signal(worker, &[Signal::ABORT]),
            Command::Kill { worker } => match self.children.get(worker) {
                Some(child) => {
                    child.signal(&[Signal::KILL]);
                    child.kill_group();
                }
                // It was asked of a zygote that does not answer: without the zygote there is no worker to wait for.
                None if self.generations.give_up_on(worker) => {
                    tracing::warn!(id = %worker, "the zygote did not answer in time and is killed");
                }
                None => {
                    self.hooks.abandon(worker);
                    let reason = "it was never made".to_owned();
                    self.events.push_back(Event::SpawnFailed { worker, reason });
                }
            },
        }
    }

    fn queued_event(&mut self) -> Option<Event> {
        self.events.pop_front().map(|event| self.hand_out(event))
    }

    fn next_event(&mut self, deadline: Option<Moment>) -> Event {
        loop {
            if let Some(event) = self.queued_event() {
                return event;
            }
            if deadline.is_some_and(|deadline| deadline <= clock::now()) {
                // What is there already may make it untrue that nothing happened.
                self.look();
                if self.events.is_empty() {
                    return Event::Woke;
                }
                continue;
            }
            let timers =
                [self.children.next_timer(), self.generations.next_timer(), self.hooks.next_timer()].into_iter().flatten();
            self.wait(deadline.into_iter().chain(timers).min());
            self.look();
        }
    }
}

impl Drop for Linux<'_> {
    /// Nobody of ours outlives the supervisor but its successor: zygotes first, then workers and what they left behind.
    fn drop(&mut self) {
        self.inquiries.clear();
        self.generations.clear();
        let until = clock::now().after(self.hooks.longest());
        for (occasion, result) in self.hooks.finish(until, &self.around.env) {
            self.hook_ended(&occasion, result);
        }
        self.children.end_all(self.successor.as_ref().map(Successor::pid));
    }
}
