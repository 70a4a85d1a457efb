//! What a study is asked: the application, the traffic, the bounds.

use std::env;
use std::hash::Hasher;
use std::num::NonZeroU16;

use jiff::Timestamp;
use siphasher::sip::SipHasher13;

use super::files::Places;
use super::{CommandError, Options};
use crate::commands::say::say;
use crate::commands::traffic::{read, recorded};
use crate::commands::{configuration, demo};
use crate::config::{App, Config};
use crate::replay::{Plan, PlanOptions, Reuse};
use crate::study::{Budget, Dimensions, Objective, Pace, Slo, Space, Study};
use crate::sys::host::{CoreBound, Facts};
use crate::tune::Header;
use crate::units::{Connections, Workers};

/// Connections of the demo's baseline, those of the story the README tells.
const DEMO_CONNECTIONS: u32 = 10;

/// Everything that decides what a study finds.
pub(super) struct Question {
    pub(super) config: Config,
    pub(super) plan: Plan,
    pub(super) slo: Slo,
    pub(super) space: Space,
    pub(super) pace: Pace,
    budget: Budget,
    is_demo: bool,
}

impl Question {
    pub(super) fn ask(options: &Options, cores: NonZeroU16) -> Result<Self, CommandError> {
        let config = if options.demo { demo_config(cores)? } else { configuration::read(&options.config)? };
        let recording = match &options.traffic {
            Some(path) => read(path)?,
            None => recorded("the demo's traffic", demo::RECORDING)?,
        };
        // As nginx proxies to an upstream by default: a connection a request.
        let plan = Plan::compile(&recording, &PlanOptions::new(options.host.clone(), Reuse::PerRequest))?;
        if plan.dropped().total() > 0 {
            say(&plan.dropped().to_string());
        }
        let pace = if options.quick || options.demo { Pace::Quick } else { Pace::Normal };
        let budget = match options.budget {
            Some(time) => Budget { seconds: time.as_secs_f64(), ..pace.budget() },
            None => pace.budget(),
        };
        let space = space(&config, options, cores);
        Ok(Self { config, plan, slo: options.slo, space, pace, budget, is_demo: options.demo })
    }

    pub(super) fn study(&self) -> Study {
        Study::new(self.slo, self.space.clone(), self.pace, self.budget)
    }

    pub(super) fn header(&self) -> Header {
        Header {
            tuningfork_journal: Header::VERSION,
            slo: self.slo,
            space: self.space.clone(),
            objective: Objective::Capacity,
            pace: self.pace,
            fingerprint: self.fingerprint(),
            started: Timestamp::now().to_string(),
        }
    }

    /// Changes when the traffic or the application's own settings change.
    fn fingerprint(&self) -> String {
        let mut hasher = SipHasher13::new();
        for request in self.plan.requests() {
            hasher.write(self.plan.bytes(request));
        }
        hasher.write(format!("{:?}", self.config.app).as_bytes());
        format!("{:016x}", hasher.finish())
    }

    /// Says what is about to happen.
    pub(super) fn introduce(&self, facts: &Facts, places: &Places) {
        let app = match &self.config.app {
            App::Command(_) if self.is_demo => "the demo application".to_owned(),
            App::Command(app) => app.command.join(" "),
            App::Python(app) => format!("{} ({})", app.app, app.worker_class.name()),
        };
        let cores = facts.cores.usable;
        let why = match facts.cores.bound {
            CoreBound::Online => String::new(),
            CoreBound::Affinity => format!(" of {} (CPU affinity)", facts.cores.online),
            CoreBound::Quota => format!(" of {} (CPU quota)", facts.cores.online),
        };
        let baseline = self.space.baseline();
        let memory = facts.memory >> 30;
        say(&format!("Tuning {app} on {cores}{why} cores, {}, {memory} GiB, Linux {}", facts.cpu_model, facts.kernel));
        say(&format!(
            "{} requests, {}, baseline {} workers × {} connections",
            self.plan.requests().len(),
            self.slo,
            baseline.workers,
            baseline.connections
        ));
        say(&format!("what the workers write: {}", places.log.display()));
    }
}

fn demo_config(cores: NonZeroU16) -> Result<Config, CommandError> {
    let program = env::current_exe().map_err(CommandError::system("cannot find this program's own file"))?;
    let connections = Connections::new(DEMO_CONNECTIONS).unwrap_or(Connections::ONE);
    Ok(demo::config(&program, Workers::folk(cores), connections))
}

fn space(config: &Config, options: &Options, cores: NonZeroU16) -> Space {
    let dimensions = if config.app.collapses_connections() { Dimensions::WorkersOnly } else { Dimensions::WorkersAndConnections };
    let mut space = Space::ordinary(cores, dimensions, config.connections);
    space.workers = Some(config.workers);
    space.max_workers = options.max_workers.unwrap_or(space.max_workers.max(config.workers));
    space.max_connections = options.max_connections.unwrap_or(space.max_connections.max(config.connections));
    space.max_slots = options.max_total_connections;
    space
}
