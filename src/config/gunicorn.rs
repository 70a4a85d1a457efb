//! What Gunicorn made of a command line, and what that is as a configuration of ours. Gunicorn has read it; nothing here does.
//! Refuses what would run as something else than what was asked for, and says of every other setting what becomes of it.

mod equivalent;
mod fates;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

pub use equivalent::equivalent;
pub use fates::{FATES, Fate, fate};

use super::WorkerClass;

/// A Gunicorn command line, and what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Gunicorn's arguments, verbatim.
    pub arguments: Vec<String>,
    /// The application, where something else than the arguments says which.
    pub app: Option<String>,
    /// The Python whose Gunicorn reads them.
    pub interpreter: PathBuf,
    /// Where they are to be understood, absolute.
    pub directory: PathBuf,
    /// The environment variable GUNICORN_CMD_ARGS.
    pub from_environment: Option<String>,
    /// Where Prometheus is to find the service: `[metrics]`.
    pub metrics: Option<String>,
    /// The path of the control socket: `[control]`.
    pub control: Option<String>,
}

/// What an interpreter's Gunicorn answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It understood the command line.
    Resolved(Box<Resolved>),
    /// It did not.
    Failed {
        /// Its words.
        message: String,
    },
    /// It has printed its help or its version, as it was asked to.
    Printed {},
}

/// A command line as Gunicorn understood it, with gunicorn.conf.py and the environment.
#[derive(Clone, Debug, Deserialize)]
pub struct Resolved {
    /// Gunicorn's version.
    pub gunicorn: String,
    /// `module:callable`.
    pub app: String,
    /// What serves requests.
    pub worker_class: ClassName,
    /// Where to listen, as `address` has it.
    pub addresses: Vec<String>,
    /// Who owns the workers, if not who asked.
    pub user: Option<String>,
    /// Their group, if not of who asked.
    pub group: Option<String>,
    /// The pidfile, absolute.
    pub pidfile: Option<String>,
    /// The files that were made for the log of another user's workers, absolute.
    #[serde(default)]
    pub log_files: Vec<PathBuf>,
    /// Every setting, in Gunicorn's order.
    pub settings: Vec<Setting>,
}

/// A worker class.
#[derive(Clone, Debug, Deserialize)]
pub struct ClassName {
    /// With its module.
    pub name: String,
    /// The one of Gunicorn's that it is or extends, as `worker-class` names it.
    pub family: Option<String>,
    /// Whether it is Gunicorn's itself.
    pub is_known: bool,
}

/// One of Gunicorn's settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value; of `raw_env` the names alone.
    pub value: Value,
    /// Whether it is Gunicorn's default.
    pub default: bool,
}

/// The command line cannot be served as it is. The message names every reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GunicornError {
    /// Gunicorn itself refuses it.
    #[error("Gunicorn does not understand its settings:\n{0}")]
    NotUnderstood(String),
    /// What the interpreter said is no answer.
    #[error("the interpreter's answer about its Gunicorn is unreadable: {0}")]
    Unreadable(String),
    /// It was asked for its help or its version, and has printed that.
    #[error("Gunicorn has printed what it was asked for, and read no settings")]
    Printed,
    /// Settings that cannot be honoured.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
}

/// What to say of a setting that was changed and does not do what Gunicorn would have done; of others nothing.
#[must_use]
pub fn remark(setting: &str) -> Option<String> {
    match fate(setting) {
        Some(Fate::Nothing(why) | Fate::Refused(why)) => Some(format!("{setting} has no effect: {why}")),
        None => Some(format!("{setting} is new to this version of tuningfork, and is left to Gunicorn's worker")),
        Some(Fate::Supervisor(_) | Fate::Worker) => None,
    }
}

/// What to say of a setting that asks for something else than what the configuration decides.
#[must_use]
pub fn remark_on_overruled(setting: &str) -> Option<String> {
    match fate(setting) {
        Some(Fate::Supervisor(how)) => Some(format!(
            "{setting} has no effect with this value: the configuration's own key decides, also where it is not written: {how}"
        )),
        Some(Fate::Nothing(_) | Fate::Refused(_) | Fate::Worker) | None => None,
    }
}

/// Every setting that cannot be honoured, and what to do instead.
pub fn refusals() -> impl Iterator<Item = (String, Value)> {
    FATES.iter().filter_map(|(name, fate)| match fate {
        Fate::Refused(instead) => Some(((*name).to_owned(), Value::from(*instead))),
        Fate::Supervisor(_) | Fate::Worker | Fate::Nothing(_) => None,
    })
}

/// The first Gunicorn whose stopping gthread and asgi workers answer what comes on a connection that they promised to keep.
const PROMISING_GUNICORN: u32 = 27;

/// What to say of a Gunicorn whose workers lose requests when they stop. Those of gevent are changed here, those of sync promise nothing.
#[must_use]
pub fn remark_on_age(version: &str, family: &str) -> Option<String> {
    let major: u32 = version.split('.').next()?.parse().ok()?;
    let keeps = family == WorkerClass::Gthread.name() || family == WorkerClass::Asgi.name();
    (keeps && major < PROMISING_GUNICORN).then(|| {
        format!(
            "a stopping {family} worker of gunicorn {version} may close a connection that it promised to keep: a request that is under way on it is lost, also at a reload; gunicorn {PROMISING_GUNICORN} answers it"
        )
    })
}

impl Resolved {
    /// Reads an interpreter's answer.
    ///
    /// # Errors
    ///
    /// Gunicorn's own words where it refused the command line, and every setting that cannot be honoured.
    pub fn read(answer: &str) -> Result<Self, GunicornError> {
        match serde_json::from_str(answer) {
            Ok(Answer::Resolved(resolved)) => resolved.accepted(),
            Ok(Answer::Printed {}) => Err(GunicornError::Printed),
            Ok(Answer::Failed { message }) => Err(GunicornError::NotUnderstood(message)),
            Err(error) => Err(GunicornError::Unreadable(error.to_string())),
        }
    }

    fn accepted(self) -> Result<Self, GunicornError> {
        let refused = self.changed().filter_map(|setting| match fate(&setting.name)? {
            Fate::Refused(instead) => Some(format!("gunicorn: {} cannot be honoured: {instead}", setting.name)),
            Fate::Supervisor(_) | Fate::Worker | Fate::Nothing(_) => None,
        });
        let refused: Vec<String> = refused.collect();
        if refused.is_empty() { Ok(self) } else { Err(GunicornError::Refused(refused)) }
    }

    fn changed(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(|setting| !setting.default)
    }

    /// What a user would not expect of those that have an effect.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = equivalent::adjustments(self);
        if self.worker_class.family.is_none() {
            let name = &self.worker_class.name;
            remarks
                .push(format!("worker_class {name} extends none of Gunicorn's sync, gthread, gevent and asgi: it runs as it is"));
        }
        if self.worker_class.family.is_none() && self.number("max_requests").is_some_and(|number| number > 0) {
            let words = "max_requests counts the requests of an ASGI application, and those that a worker class counts in its attribute nr; a class with neither is not renewed";
            remarks.push(words.to_owned());
        }
        if !self.is_set("preload_app") {
            let words = "each worker imports the application by itself, as with Gunicorn without --preload; with --preload it is imported once, for gevent too, and workers start in milliseconds";
            remarks.push(words.to_owned());
        }
        remarks
    }

    /// What to say of this Gunicorn's age. A service says it when the application is loaded.
    #[must_use]
    pub fn remark_on_age(&self) -> Option<String> {
        self.worker_class.family.as_deref().and_then(|family| remark_on_age(&self.gunicorn, family))
    }

    /// Settings by what becomes of them, in the order of [`Fate`]'s variants; what is not known is the worker's.
    #[must_use]
    pub fn by_fate(&self) -> [Vec<(&Setting, Fate)>; 3] {
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for setting in &self.settings {
            let fate = fate(&setting.name).unwrap_or(Fate::Worker);
            let place = match fate {
                Fate::Supervisor(_) => 0,
                Fate::Worker => 1,
                Fate::Nothing(_) | Fate::Refused(_) => 2,
            };
            lists[place].push((setting, fate));
        }
        lists
    }

    /// All remarks.
    #[must_use]
    pub fn all_remarks(&self) -> Vec<String> {
        self.changed().filter_map(|setting| remark(&setting.name)).chain(self.remark_on_age()).chain(self.remarks()).collect()
    }

    /// Whether a setting that is true or false is true.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.settings.iter().find(|setting| setting.name == name).map(|setting| &setting.value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.as_u64()
    }

    /// The worker class as `worker-class` names it. One of nobody's family has connections like asgi's.
    fn family(&self) -> WorkerClass {
        let family = self.worker_class.family.as_deref();
        WorkerClass::ALL.into_iter().find(|class| Some(class.name()) == family).unwrap_or(WorkerClass::Asgi)
    }
}
