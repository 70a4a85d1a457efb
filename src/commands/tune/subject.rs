//! What is tuned: an application that is started here and gets recorded traffic, or whatever another program measures.

use std::cell::RefCell;
use std::collections::HashSet;
use std::env;
use std::hash::Hasher;
use std::num::NonZeroU16;

use siphasher::sip::SipHasher13;

use super::{CommandError, Options, TuneError, program};
use crate::commands::figures::counted;
use crate::commands::say::say;
use crate::commands::traffic::{read, recorded};
use crate::commands::{configuration, demo};
use crate::config::{Address, Affinity, App, Care, Config, Origin};
use crate::recording::{Request, Summary};
use crate::replay::{Plan, PlanOptions, Reuse, Rewrite};
use crate::study::{Dimensions, Pace, Space};
use crate::sys::host::Facts;
use crate::tune::Coverage;
use crate::tune::external::Program;
use crate::units::{Connections, Workers};

/// Connections of the demo's baseline, those of the story the README tells.
const DEMO_CONNECTIONS: u32 = 10;

/// What runs the trials.
pub(super) enum Subject {
    /// This program, here.
    Local(Box<Local>),
    /// A program of the user's, wherever, and what the configuration file says of what it measures, if there is one.
    Program(Program, Option<Box<Config>>),
}

/// An application and its traffic.
pub(super) struct Local {
    pub(super) config: Config,
    pub(super) plan: Plan,
    recording: String,
    coverage: Option<Coverage>,
    is_demo: bool,
}

impl Subject {
    /// Reads what the arguments name. `cores` are those the application has, wherever it is.
    pub(super) fn take(options: &Options, pace: Pace, cores: NonZeroU16) -> Result<Self, CommandError> {
        match options.program.program(options.slo, pace, cores) {
            Some(program) => {
                let configured = options.has_configuration().then(|| configuration::read(&options.config)).transpose()?;
                Ok(Self::Program(program, configured.map(Box::new)))
            }
            None => Local::read(options, cores).map(|local| Self::Local(Box::new(local))),
        }
    }

    /// Its application, where there is one here.
    pub(super) fn app(&self) -> Option<&App> {
        match self {
            Self::Local(local) => Some(&local.config.app),
            Self::Program(..) => None,
        }
    }

    /// Which cores its workers keep to, as configured.
    pub(super) fn affinity(&self) -> Option<Affinity> {
        match self {
            Self::Local(local) => Some(local.config.confinement.cpu_affinity),
            Self::Program(..) => None,
        }
    }

    /// What may be tried, before the arguments limit it.
    pub(super) fn space(&self, cores: NonZeroU16, facts: &Facts) -> Space {
        match self {
            Self::Local(local) => local.space(cores, facts),
            Self::Program(_, Some(config)) => space_elsewhere(config, cores),
            Self::Program(_, None) => program::space(cores),
        }
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Program(program, _) => format!("what {} measures", program.command),
            Self::Local(local) => match &local.config.app {
                App::Command(_) if local.is_demo => "the demo application".to_owned(),
                App::Command(app) => app.command.join(" "),
                App::Python(app) => format!("{} ({})", app.app, app.worker_class.name()),
            },
        }
    }

    /// What its traffic is called.
    pub(super) fn traffic(&self) -> String {
        match self {
            Self::Local(local) => format!("{} of {}", counted(local.plan.requests().len() as u64, "request"), local.recording),
            Self::Program(..) => "traffic of its own".to_owned(),
        }
    }

    /// What of an application the traffic covers, where that is known.
    pub(super) const fn coverage(&self) -> Option<&Coverage> {
        match self {
            Self::Local(local) => local.coverage.as_ref(),
            Self::Program(..) => None,
        }
    }

    /// What tells one traffic from another.
    pub(super) fn traffic_print(&self) -> String {
        match self {
            Self::Local(local) => fingerprint(local.plan.requests().iter().map(|request| local.plan.bytes(request))),
            Self::Program(..) => String::new(),
        }
    }

    /// What tells one application from another. Of a program's the target tells it, and without one nobody knows: its command
    /// line may change while it measures the same.
    pub(super) fn application_print(&self) -> String {
        match self {
            Self::Local(local) => {
                let (app, care) = (format!("{:?}", local.config.app), local.config.care);
                let is_unix = matches!(local.config.listen.addresses.first(), Some(Address::Unix(_)));
                let cores = local.config.confinement.cpu_affinity;
                // What is as by default adds nothing, as before there was a choice.
                let cores = if cores == Affinity::None { "" } else { cores.name() };
                let care = if care == Care::default() { String::new() } else { format!("{care:?}") };
                let family = if is_unix { "unix" } else { "" };
                fingerprint([app, cores.to_owned() + &care + family].iter().map(String::as_bytes))
            }
            Self::Program(Program { target: Some(target), .. }, _) => fingerprint([b"trial program", target.as_bytes()]),
            Self::Program(Program { target: None, .. }, _) => "trial program".to_owned(),
        }
    }
}

impl Local {
    fn read(options: &Options, cores: NonZeroU16) -> Result<Self, CommandError> {
        if options.traffic.is_none() && !options.demo {
            return Err(TuneError::NoTraffic.into());
        }
        let config = if options.demo { demo_config(cores)? } else { configuration::read(&options.config)? };
        // As nginx proxies to an upstream by default: a connection a request.
        let rewrite = Rewrite { set: options.header.clone(), remove: Vec::new() };
        let plan_options = PlanOptions { rewrite, ..PlanOptions::new(options.host.clone(), Reuse::PerRequest) };
        let (methods, summary) = (plan_options.methods.clone(), RefCell::new(Summary::default()));
        let counted = |request: &Request| {
            if methods.contain(&request.method) {
                summary.borrow_mut().add(request);
            }
            true
        };
        let traffic = match &options.traffic {
            Some(path) => read(path, plan_options, counted)?,
            None => recorded("the demo's traffic", demo::RECORDING, plan_options, counted)?,
        };
        let plan = traffic.draft.finish()?;
        if plan.dropped().total() > 0 {
            say(&plan.dropped().to_string());
        }
        let different: HashSet<&[u8]> = plan.requests().iter().map(|request| plan.bytes(request)).collect();
        // The demo's traffic stands for nothing else.
        let counts = Some(summary.into_inner()).filter(|_| !options.demo);
        let report = counts.and_then(|summary| summary.report());
        let coverage = report.and_then(|report| Coverage::of(different.len(), &report.routes));
        Ok(Self { config, plan, recording: recording_name(options), coverage, is_demo: options.demo })
    }

    fn space(&self, cores: NonZeroU16, facts: &Facts) -> Space {
        let mut space = space_of(&self.config, cores, Some(self.config.workers));
        space.quota = facts.cores.quota;
        space.allowed = Some(facts.cores.allowed).filter(|allowed| *allowed > cores);
        space.max_memory = facts.memory_to_fill();
        space
    }
}

/// What may be tried of an application that another program measures, on so many cores wherever they are.
fn space_elsewhere(config: &Config, cores: NonZeroU16) -> Space {
    let workers = match config.workers_from {
        Origin::File | Origin::WebConcurrency => Some(config.workers),
        // What follows from this host says nothing of another.
        Origin::Auto(_) => None,
    };
    space_of(config, cores, workers)
}

/// What may be tried of a configured application; `workers` are `None` where the file leaves them to the cores.
fn space_of(config: &Config, cores: NonZeroU16, workers: Option<Workers>) -> Space {
    let collapses = config.app.collapses_connections();
    let dimensions = if collapses { Dimensions::WorkersOnly } else { Dimensions::WorkersAndConnections };
    let mut space = Space::ordinary(cores, dimensions, config.connections);
    space.workers = workers;
    space.max_workers = workers.map_or(space.max_workers, |workers| space.max_workers.max(workers));
    space.max_connections = space.max_connections.max(config.connections);
    space
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

fn demo_config(cores: NonZeroU16) -> Result<Config, CommandError> {
    let program = env::current_exe().map_err(CommandError::system("cannot find this program's own file"))?;
    let connections = Connections::new(DEMO_CONNECTIONS).unwrap_or(Connections::ONE);
    Ok(demo::config(&program, Workers::folk(cores), connections))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Machine;
    use crate::study::Candidate;

    #[test]
    fn what_is_configured_is_the_baseline_also_where_another_program_measures() {
        let of = |workers, connections| Candidate::new(Workers::new(workers).unwrap(), Connections::new(connections).unwrap());
        let cores = |count| NonZeroU16::new(count).unwrap();
        let written = demo::config(Path::new("shop"), of(90, 20).workers, of(90, 20).connections);
        assert_eq!(space_elsewhere(&written, cores(16)).baseline(), of(90, 20));
        let automatic = Config { workers_from: Origin::Auto(Machine::of_cores(cores(2))), ..written };
        assert_eq!(space_elsewhere(&automatic, cores(16)).baseline(), of(33, 20));
    }
}
