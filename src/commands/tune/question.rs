//! What a study is asked: of which application, under which bounds, within which limits.

use std::path::Path;

use jiff::Timestamp;

use super::files::Places;
use super::subject::Subject;
use super::{CommandError, Options, TuneError};
use crate::commands::say::say;
use crate::commands::tune_output::configuration;
use crate::study::{Budget, Objective, Pace, Slo, Space};
use crate::sys::host::{CoreBound, Facts};
use crate::tune::{About, Coverage, Header, Journal};

/// Without so many nothing is compared.
const FEW_TRIALS: f64 = 3.0;

/// Everything that decides what a study finds.
pub(super) struct Question {
    pub(super) subject: Subject,
    pub(super) slo: Slo,
    pub(super) space: Space,
    pub(super) pace: Pace,
    budget: Budget,
    objective: Objective,
}

impl Question {
    pub(super) fn ask(options: &Options, facts: &Facts) -> Result<Self, CommandError> {
        options.program.check()?;
        let objective = options.wanted.objective()?;
        if options.program.is_given() && objective != Objective::Capacity {
            return Err(TuneError::NotByProgram("--objective").into());
        }
        let pace = if options.quick || options.demo { Pace::Quick } else { Pace::Normal };
        let cores = options.program.cores(facts.cores.usable);
        let subject = Subject::take(options, pace, cores)?;
        options.wanted.check_also(subject.app(), facts.cores.allowed)?;
        let mut usual = pace.budget(&options.slo);
        if objective != Objective::Capacity {
            // A fixed rate is looked at for as long whatever the latency.
            usual.seconds /= pace.stretch(&options.slo);
        }
        let budget = Budget { seconds: options.budget.map_or(usual.seconds, |time| time.as_secs_f64()), ..usual };
        let mut space = subject.space(cores, facts);
        space.max_workers = options.max_workers.unwrap_or(space.max_workers);
        space.max_connections = options.max_connections.unwrap_or(space.max_connections);
        space.max_slots = options.max_total_connections;
        space.affinity = subject.affinity().filter(|_| options.wanted.varies_affinity());
        space.max_memory = options.max_memory.or(space.max_memory);
        Ok(Self { subject, slo: options.slo, space, pace, budget, objective })
    }

    /// Keeps to the memory limit of the study in `journal`, which goes on: what is free now is another number.
    pub(super) fn keep_to_memory_limit(&mut self, journal: &Path) {
        // What cannot be read is refused where it is resumed.
        if let Ok(begun) = Journal::must_be_a_file(journal).and_then(|()| Journal::read(journal)) {
            self.space.max_memory = begun.header.space.max_memory;
        }
    }

    pub(super) fn header(&self, facts: &Facts) -> Header {
        Header {
            tuningfork_journal: Header::VERSION,
            slo: self.slo,
            space: self.space.clone(),
            objective: self.objective,
            pace: self.pace,
            budget: self.budget,
            traffic: self.subject.traffic_print(),
            application: self.subject.application_print(),
            about: About {
                started: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                app: self.subject.name(),
                host: self.host(facts),
                traffic: match self.gap() {
                    Some(gap) => format!("{} ({gap})", self.subject.traffic()),
                    None => self.subject.traffic(),
                },
                coverage: self.subject.coverage().cloned(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
            },
        }
    }

    /// Says what is about to happen.
    pub(super) fn introduce(&self, facts: &Facts, places: &Places) {
        say(&format!("Tuning {} on {}", self.subject.name(), self.host(facts)));
        say(&format!(
            "{}, {}, baseline {}{}",
            self.subject.traffic(),
            self.slo,
            configuration(self.space.baseline()),
            if self.space.baseline() != self.space.configured() {
                " within the limits"
            } else if self.space.folk().is_some() {
                " as configured"
            } else {
                ""
            }
        ));
        if let Some(gap) = self.gap() {
            say(&format!("warning: {gap}"));
        }
        let slowest = self.pace.slowest_trial(&self.slo);
        let is_slow = 2.0 * self.slo.latency().as_secs_f64() > self.pace.timing().probe_cap;
        if is_slow && FEW_TRIALS * slowest > self.budget.seconds && matches!(self.subject, Subject::Local(_)) {
            say(&format!(
                "warning: where requests take as long as {} allows, a trial may take {:.0} min: a study of a few needs a longer --budget",
                self.slo,
                (slowest / 60.0).ceil()
            ));
        }
        match self.objective {
            Objective::Capacity => {}
            Objective::Latency { at } => say(&format!("looking for the lowest latency at {} req/s", at.per_second())),
            Objective::Cost { at } => {
                say(&format!("looking for the fewest cores, then the least memory, at {} req/s", at.per_second()));
            }
        }
        say(&format!("what the {} write: {}", self.writers(), places.log.display()));
    }

    /// What the traffic does not show of an application, if it is too uniform.
    fn gap(&self) -> Option<String> {
        self.subject.coverage().and_then(Coverage::gap)
    }

    const fn writers(&self) -> &'static str {
        match self.subject {
            Subject::Local(_) => "workers",
            Subject::Program(..) => "trials",
        }
    }

    fn host(&self, facts: &Facts) -> String {
        match self.subject {
            Subject::Local(_) => host(facts),
            Subject::Program(..) => format!("{} cores", self.space.cores),
        }
    }
}

fn host(facts: &Facts) -> String {
    let (cores, online) = (facts.cores, facts.cores.online);
    let cores = match (cores.quota, cores.bound) {
        (Some(quota), _) => format!("{quota} of {online} (CPU quota)"),
        (None, CoreBound::Affinity) => format!("{} of {online} (CPU affinity)", cores.usable),
        (None, CoreBound::Online | CoreBound::Quota) => cores.usable.to_string(),
    };
    format!("{cores} cores, {}, {} GiB, Linux {}", facts.cpu_model, facts.memory_limit >> 30, facts.kernel)
}
