//! The testbed that is this host: starts a candidate on a socket of its own by the same code as `run`, and plays the traffic against it.
//! Never touches the running service's listener.

mod backstage;
mod floor;
mod stage;

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::thread;

use crate::config::{Address, Config, Listen};
use crate::load::Target;
use crate::replay::Plan;
use crate::serve::serve;
use crate::study::{self, Candidate, Suggestion};
use crate::supervisor::Outcome;
use crate::supervisor::event::{Haste, Settings, Wish};
use crate::sys::linux::{Linux, Loading, Surroundings};
use crate::sys::listen::Listeners;
use crate::sys::private_folder::PrivateFolder;
use crate::sys::remote::{self, Remote};
use crate::sys::signals::Signals;
use crate::sys::spawn::Output;
use crate::sys::{clock, priority};
use crate::tune::trial::{self, Terms};
use crate::tune::{Step, Testbed, TrialError};
use backstage::{Backstage, Prompter};
use floor::Floor;
use stage::LiveStage;

/// What every trial of a study shares.
pub struct Live<'a> {
    config: &'a Config,
    plan: &'a Plan,
    terms: Terms,
    signals: &'a mut Signals,
    output: &'a Output,
    env: Vec<(OsString, OsString)>,
    private: PrivateFolder,
    floor: Floor,
    not_loaded: Option<String>,
}

impl<'a> Live<'a> {
    /// A testbed that starts `config`'s application with other numbers. `output` takes what workers write.
    pub fn new(
        config: &'a Config,
        plan: &'a Plan,
        terms: Terms,
        signals: &'a mut Signals,
        output: &'a Output,
        env: Vec<(OsString, OsString)>,
    ) -> io::Result<Self> {
        let (private, floor) = (PrivateFolder::make()?, Floor::now());
        Ok(Self { config, plan, terms, signals, output, env, private, floor, not_loaded: None })
    }

    /// Why the application of the last trial that could not load it was not loaded.
    #[must_use]
    pub fn not_loaded(&self) -> Option<&str> {
        self.not_loaded.as_deref()
    }

    fn configured(&self, candidate: Candidate) -> Config {
        let mut config = self.config.with(candidate.workers, candidate.connections);
        config.confinement.cpu_affinity = candidate.affinity.unwrap_or(config.confinement.cpu_affinity);
        config
    }

    /// Of the same family as the configured address, so that what is measured is what will run.
    fn private_listen(&self) -> Listen {
        let address = match self.config.listen.addresses.first() {
            Some(Address::Unix(_)) => Address::Unix(self.private.path().join("trial.sock")),
            Some(Address::Tcp { .. } | Address::Fd(_)) | None => Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 },
        };
        Listen { addresses: vec![address], owner: None, mode: 0o600, ..self.config.listen.clone() }
    }
}

impl Testbed for Live<'_> {
    fn run(&mut self, suggestion: &Suggestion, watch: &mut (dyn FnMut(Step) + Send)) -> Result<study::Outcome, TrialError> {
        if self.signals.asked_to_stop() {
            return Err(TrialError::Interrupted);
        }
        let started = clock::now();
        let fail = |reason: String| TrialError::Failed { reason, seconds: clock::now().since(started).as_secs_f64() };
        watch(Step::Starting);
        let config = Arc::new(self.configured(suggestion.candidate));
        let listeners = Listeners::bind(&self.private_listen()).map_err(|error| fail(error.to_string()))?;
        let target = target(&listeners).ok_or_else(|| fail("the trial's socket has no address".to_owned()))?;
        let (remote, inbox) = remote::pair().map_err(|error| fail(error.to_string()))?;
        let settings = Settings::of(&config);
        let loader = Box::new(move |_| Loading::Done(Ok(Arc::clone(&config))));
        let (signals, output, env) = (&mut *self.signals, self.output, self.env.clone());
        let estate = Err("a candidate has no successor");
        let around =
            Surroundings { signals, listeners: &listeners, inbox, loader, output, log: None, env, estate, predecessor: None };
        let mut host = Linux::new(around).map_err(|error| fail(error.to_string()))?;
        let backstage = Backstage::default();
        let mut stage = LiveStage::new(self.plan, target, &backstage, started, self.floor);
        let terms = self.terms;
        // The supervisor stays on this thread, which lives as long as the process: its children are tied to it.
        let (outcome, measured) = thread::scope(|scope| {
            let script = scope.spawn(|| {
                let _stop = StopAtEnd { remote, backstage: &backstage };
                // Without it, what is late is flagged.
                let _raised = priority::raise_this_thread();
                stage.await_ready().and_then(|()| trial::run(&mut stage, &terms, suggestion, watch))
            });
            let outcome = serve(&mut host, settings, &mut Prompter::new(&backstage));
            backstage.end();
            (outcome, script.join())
        });
        drop(host);
        let measured = measured.map_err(|_| fail("the measuring thread panicked".to_owned()))?;
        // A candidate that gives up on its own stops too, and the script takes that for an interruption.
        match outcome {
            Outcome::Stopped | Outcome::HandedOver => measured,
            Outcome::WorkersNotBooting { reason } | Outcome::WorkersKeepFailing { reason } => Err(fail(reason)),
            Outcome::AppNotLoaded { reason } => {
                self.not_loaded = Some(reason.clone());
                Err(fail(reason))
            }
        }
    }
}

/// Asks the candidate to leave when the script ends, however it ends.
struct StopAtEnd<'a> {
    remote: Remote,
    backstage: &'a Backstage,
}

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.backstage.expect_the_end();
        // Nothing is in flight that anybody waits for.
        self.remote.ask(Wish::Stop(Haste::Quick));
    }
}

fn target(listeners: &Listeners) -> Option<Target> {
    match listeners.all().first()?.address() {
        Address::Unix(path) => Some(Target::Unix(path.clone())),
        Address::Tcp { host, port } => Some(Target::Tcp((host.parse::<std::net::IpAddr>().ok()?, *port).into())),
        Address::Fd(_) => None,
    }
}
