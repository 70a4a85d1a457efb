//! What a study is asked: the application, the traffic, the bounds.

use std::env;
use std::hash::Hasher;
use std::num::NonZeroU16;

use jiff::Timestamp;
use siphasher::sip::SipHasher13;

use super::files::Places;
use super::{CommandError, Options};
use crate::commands::figures::counted;
use crate::commands::say::say;
use crate::commands::traffic::{read, recorded};
use crate::commands::{configuration, demo};
use crate::config::{App, Config};
use crate::replay::{Plan, PlanOptions, Reuse};
use crate::study::{Budget, Dimensions, Pace, Slo, Space, Study};
use crate::sys::host::{CoreBound, Facts};
use crate::tune::{About, Header};
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
    recording: String,
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
        Ok(Self {
            config,
            plan,
            slo: options.slo,
            space,
            pace,
            budget,
            recording: recording_name(options),
            is_demo: options.demo,
        })
    }

    pub(super) fn study(&self) -> Study {
        Study::new(self.slo, self.space.clone(), self.pace, self.budget)
    }

    pub(super) fn header(&self, facts: &Facts) -> Header {
        Header {
            tuningfork_journal: Header::VERSION,
            slo: self.slo,
            space: self.space.clone(),
            pace: self.pace,
            budget: self.budget,
            traffic: fingerprint(self.plan.requests().iter().map(|request| self.plan.bytes(request))),
            application: fingerprint([format!("{:?}", self.config.app).as_bytes()]),
            about: About {
                started: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                app: self.app(),
                host: host(facts),
                traffic: self.traffic(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
            },
        }
    }

    fn app(&self) -> String {
        match &self.config.app {
            App::Command(_) if self.is_demo => "the demo application".to_owned(),
            App::Command(app) => app.command.join(" "),
            App::Python(app) => format!("{} ({})", app.app, app.worker_class.name()),
        }
    }

    fn traffic(&self) -> String {
        format!("{} of {}", counted(self.plan.requests().len() as u64, "request"), self.recording)
    }

    /// Says what is about to happen.
    pub(super) fn introduce(&self, facts: &Facts, places: &Places) {
        let baseline = self.space.baseline();
        say(&format!("Tuning {} on {}", self.app(), host(facts)));
        say(&format!(
            "{}, {}, baseline {} workers × {} connections",
            self.traffic(),
            self.slo,
            baseline.workers,
            baseline.connections
        ));
        say(&format!("what the workers write: {}", places.log.display()));
    }
}

fn recording_name(options: &Options) -> String {
    let name = options.traffic.as_deref().map(|path| path.file_name().unwrap_or(path.as_os_str()));
    name.map_or_else(|| "the demo's traffic".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = SipHasher13::new();
    parts.into_iter().for_each(|part| hasher.write(part));
    format!("{:016x}", hasher.finish())
}

fn host(facts: &Facts) -> String {
    let why = match facts.cores.bound {
        CoreBound::Online => String::new(),
        CoreBound::Affinity => format!(" of {} (CPU affinity)", facts.cores.online),
        CoreBound::Quota => format!(" of {} (CPU quota)", facts.cores.online),
    };
    let (cores, memory) = (facts.cores.usable, facts.memory >> 30);
    format!("{cores}{why} cores, {}, {memory} GiB, Linux {}", facts.cpu_model, facts.kernel)
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
