//! Every key of the file: where it stands and what a right value looks like. The only list of them.

use std::fmt;

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Above the first `[section]`.
    Top,
    /// `[app]`.
    App,
    /// `[limits]`.
    Limits,
    /// `[hooks]`.
    Hooks,
    /// `[listen]`.
    Listen,
    /// `[metrics]`.
    Metrics,
    /// `[control]`.
    Control,
    /// `[log]`.
    Log,
}

impl Section {
    /// The sections that have a header.
    pub(super) const NAMED: [Self; 7] =
        [Self::App, Self::Limits, Self::Hooks, Self::Listen, Self::Metrics, Self::Control, Self::Log];

    /// The name between the brackets; nothing for the top.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::App => "app",
            Self::Limits => "limits",
            Self::Hooks => "hooks",
            Self::Listen => "listen",
            Self::Metrics => "metrics",
            Self::Control => "control",
            Self::Log => "log",
        }
    }

    /// A name in this table, with the table's where that has one: `app.kind`.
    pub(super) fn path(self, name: &str) -> String {
        if self == Self::Top { name.to_owned() } else { format!("{}.{name}", self.name()) }
    }

    /// The keys that stand in this table.
    pub(super) fn keys(self) -> impl Iterator<Item = &'static Key> {
        ALL.into_iter().filter(move |key| key.section == self)
    }
}

/// One key of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Where it stands.
    pub(super) section: Section,
    /// Its name.
    pub(super) name: &'static str,
    /// What a right value looks like, to be read after "write".
    pub(super) form: &'static str,
}

impl Key {
    const fn new(section: Section, name: &'static str, form: &'static str) -> Self {
        Self { section, name, form }
    }

    /// What to do about a wrong value.
    pub(super) fn hint(&self) -> String {
        format!("write {}", self.form)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.section.path(self.name))
    }
}

const SPAN: &str = r#"whole seconds (30) or a span ("30s", "1m 30s"), more than 0 and at most a day"#;
const DIRECTORY: &str = "the path of a folder: absolute, or relative to the folder of this file";
const COUNT_LIMIT: &str = r#"a whole number, or "unlimited""#;
const SIZE_LIMIT: &str = r#"a size ("2 GiB", 0), or "unlimited""#;
const PROGRAM: &str = r#"a program and its arguments as an array of strings: ["/usr/local/bin/notify", "web"]"#;
const ENV: &str = r#"names and strings: { NAME = "value" }"#;

pub(super) static WORKERS: Key = Key::new(Section::Top, "workers", r#"a whole number from 1 to 1024, or "auto""#);
pub(super) static CONNECTIONS: Key = Key::new(Section::Top, "connections", "a whole number from 1 to 65535");
pub(super) static GRACEFUL_TIMEOUT: Key = Key::new(Section::Top, "graceful-timeout", SPAN);
pub(super) static TIMEOUT: Key = Key::new(
    Section::Top,
    "timeout",
    r#"whole seconds (30) or a span ("30s", "1m 30s"), at most a day; 0 asks for no heartbeat"#,
);
pub(super) static BOOT_TIMEOUT: Key = Key::new(Section::Top, "boot-timeout", SPAN);

pub(super) static SETTLE: Key = Key::new(
    Section::Top,
    "settle",
    r#"whole seconds (5) or a span ("5s"), at most a day; 0 does not watch a reload's first worker"#,
);
pub(super) static MAX_UNAVAILABLE: Key = Key::new(Section::Top, "max-unavailable", "a whole number from 1 to 1024");
pub(super) static MAX_REQUESTS: Key = Key::new(Section::Top, "max-requests", "a whole number; 0 renews no worker for it");
pub(super) static MAX_REQUESTS_JITTER: Key = Key::new(Section::Top, "max-requests-jitter", "a whole number");
pub(super) static MAX_AGE: Key =
    Key::new(Section::Top, "max-age", r#"whole seconds or a span ("12h", "7 days"), at most a year; 0 renews no worker for it"#);
pub(super) static MAX_MEMORY: Key =
    Key::new(Section::Top, "max-memory", r#"a size ("512 MiB", "2 GiB"); 0 renews no worker for it"#);
pub(super) static FAIL_AFTER: Key = Key::new(Section::Top, "fail-after", "a whole number; 0 never gives up");

pub(super) static PIDFILE: Key =
    Key::new(Section::Top, "pidfile", "the path of a file: absolute, or relative to the folder of this file");

pub(super) static KIND: Key = Key::new(Section::App, "kind", r#""python" or "command""#);
pub(super) static COMMAND: Key =
    Key::new(Section::App, "command", r#"the program and its arguments as an array of strings: ["node", "server.js"]"#);
pub(super) static READINESS: Key =
    Key::new(Section::App, "readiness", r#""notify", or how long a worker must stay alive to count as ready, such as "2s""#);
pub(super) static APP: Key =
    Key::new(Section::App, "app", r#""module:callable", such as "project.wsgi:application" or "site:create_app()""#);
pub(super) static INTERPRETER: Key =
    Key::new(Section::App, "interpreter", r#"the path of a Python, such as "venv/bin/python", or a name looked up in PATH"#);
pub(super) static WORKER_CLASS: Key = Key::new(Section::App, "worker-class", r#""sync", "gthread", "gevent" or "asgi""#);
pub(super) static PRELOAD: Key = Key::new(Section::App, "preload", "true or false");
pub(super) static ALLOW_THREADS: Key = Key::new(
    Section::App,
    "allow-threads",
    r#"the names of threads as an array of strings, * for any ending: ["OtelBatchSpanProcessor", "ddtrace*"]"#,
);
pub(super) static GUNICORN: Key =
    Key::new(Section::App, "gunicorn", r#"Gunicorn's arguments as an array of strings: ["-c", "gunicorn.conf.py"]"#);
pub(super) static ENVIRONMENT: Key = Key::new(Section::App, "env", ENV);
pub(super) static APP_DIRECTORY: Key = Key::new(Section::App, "directory", DIRECTORY);

pub(super) static USER: Key = Key::new(Section::App, "user", r#"the name or number of a user: "www-data""#);
pub(super) static GROUP: Key = Key::new(Section::App, "group", r#"the name or number of a group: "www-data""#);
pub(super) static UMASK: Key = Key::new(Section::App, "umask", r#"the bits to take away in octal, in quotes: "0027""#);
pub(super) static CPU_AFFINITY: Key = Key::new(Section::App, "cpu-affinity", r#""none", "spread" or "pin""#);
pub(super) static PASS_ENV: Key =
    Key::new(Section::App, "pass-env", r#"an array of names, * at the end of one for any ending: ["PATH", "LANG", "DJANGO_*"]"#);

pub(super) static OPEN_FILES: Key = Key::new(Section::Limits, "open-files", COUNT_LIMIT);
pub(super) static PROCESSES: Key = Key::new(Section::Limits, "processes", COUNT_LIMIT);
pub(super) static CORE: Key = Key::new(Section::Limits, "core", SIZE_LIMIT);
pub(super) static ADDRESS_SPACE: Key = Key::new(Section::Limits, "address-space", SIZE_LIMIT);

pub(super) static BEFORE_FORK: Key = Key::new(Section::Hooks, "before-fork", PROGRAM);
pub(super) static AFTER_READY: Key = Key::new(Section::Hooks, "after-ready", PROGRAM);
pub(super) static ON_EXIT: Key = Key::new(Section::Hooks, "on-exit", PROGRAM);

pub(super) static ADDRESS: Key =
    Key::new(Section::Listen, "address", r#""host:port", "[v6]:port", "unix:/path" or "fd:N", or an array of them"#);
pub(super) static BACKLOG: Key = Key::new(Section::Listen, "backlog", "a whole number from 1 to 2147483647");
pub(super) static MODE: Key = Key::new(Section::Listen, "mode", r#"the permission bits in octal, in quotes: "0660""#);
pub(super) static OWNER: Key = Key::new(Section::Listen, "owner", r#""user", "user:group" or ":group""#);
pub(super) static METRICS_LISTEN: Key = Key::new(Section::Metrics, "listen", r#""host:port", "[v6]:port" or "unix:/path""#);
pub(super) static CONTROL_SOCKET: Key =
    Key::new(Section::Control, "socket", r#"the path of a unix socket to make, such as "/run/tuningfork/shop/control.sock""#);
pub(super) static LOG_FORMAT: Key = Key::new(Section::Log, "format", r#""plain" or "json""#);
pub(super) static LOG_FILE: Key = Key::new(Section::Log, "file", r#"the path of a file, such as "/var/log/shop.log""#);
pub(super) static LOG_CAPTURE: Key = Key::new(Section::Log, "capture", "true or false");

/// Every key, in the order of the annotated file.
pub(super) static ALL: [&Key; 45] = [
    &WORKERS,
    &CONNECTIONS,
    &GRACEFUL_TIMEOUT,
    &TIMEOUT,
    &BOOT_TIMEOUT,
    &SETTLE,
    &MAX_REQUESTS,
    &MAX_REQUESTS_JITTER,
    &MAX_AGE,
    &MAX_MEMORY,
    &MAX_UNAVAILABLE,
    &FAIL_AFTER,
    &PIDFILE,
    &KIND,
    &APP,
    &WORKER_CLASS,
    &INTERPRETER,
    &PRELOAD,
    &ALLOW_THREADS,
    &GUNICORN,
    &COMMAND,
    &READINESS,
    &APP_DIRECTORY,
    &ENVIRONMENT,
    &PASS_ENV,
    &USER,
    &GROUP,
    &UMASK,
    &CPU_AFFINITY,
    &OPEN_FILES,
    &PROCESSES,
    &CORE,
    &ADDRESS_SPACE,
    &BEFORE_FORK,
    &AFTER_READY,
    &ON_EXIT,
    &ADDRESS,
    &BACKLOG,
    &MODE,
    &OWNER,
    &METRICS_LISTEN,
    &CONTROL_SOCKET,
    &LOG_FORMAT,
    &LOG_FILE,
    &LOG_CAPTURE,
];

/// What people write who come from Gunicorn, and our key for it.
static FROM_GUNICORN: [(&str, &Key); 12] = [
    ("bind", &ADDRESS),
    ("chdir", &APP_DIRECTORY),
    ("child-exit", &ON_EXIT),
    ("preload-app", &PRELOAD),
    ("pythonpath", &APP_DIRECTORY),
    ("raw-env", &ENVIRONMENT),
    ("threads", &CONNECTIONS),
    ("post-worker-init", &AFTER_READY),
    ("pid", &PIDFILE),
    ("pre-fork", &BEFORE_FORK),
    ("worker-connections", &CONNECTIONS),
    ("wsgi-app", &APP),
];

/// What the author of the unknown key `name` in `section` most likely wants to do.
pub(super) fn suggest(section: Section, name: &str) -> String {
    let kebab = name.to_lowercase().replace('_', "-");
    let here = || section.keys().map(|key| key.name).chain(headers(section));
    if let Some(known) = here().find(|known| *known == kebab) {
        return format!("write {known}");
    }
    let is_header = headers(Section::Top).any(|header| header == kebab);
    if let Some(key) = ALL.into_iter().find(|key| key.name == kebab && !is_header) {
        return format!("move it {}", place(key.section));
    }
    if let Some((_, key)) = FROM_GUNICORN.iter().find(|(known, _)| *known == kebab) {
        return if key.section == section {
            format!("write {}", key.name)
        } else {
            format!("write {} {}", key.name, place(key.section))
        };
    }
    match nearest(&kebab, here()) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("known here: {}", here().collect::<Vec<_>>().join(", ")),
    }
}

fn headers(section: Section) -> impl Iterator<Item = &'static str> {
    let named = if section == Section::Top { Section::NAMED.as_slice() } else { &[] };
    named.iter().map(|section| section.name())
}

fn place(section: Section) -> String {
    if section == Section::Top { "above the first [section]".to_owned() } else { format!("under [{}]", section.name()) }
}

/// The longest name that is compared with the known ones: comparing costs the product of both lengths.
const LONGEST_COMPARED: usize = 40;

/// The word of `known` that differs from `name` in at most a third of its letters.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    if name.len() > LONGEST_COMPARED {
        return None;
    }
    let tolerance = (name.chars().count() / 3).max(1);
    known
        .map(|word| (distance(name, word), word))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many letters to insert, remove or replace to make `right` of `left` (Levenshtein 1966, two rows).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != *other);
            current.push(replaced.min(above[column + 1] + 1).min(current[column] + 1));
        }
        above = current;
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_gets_a_way_out() {
        let table = [
            (Section::Top, "graceful_timeout", "write graceful-timeout"),
            (Section::Top, "wokers", "did you mean workers?"),
            (Section::Top, "lisen", "did you mean listen?"),
            (Section::Top, "backlog", "move it under [listen]"),
            (Section::Listen, "workers", "move it above the first [section]"),
            (Section::Top, "bind", "write address under [listen]"),
            (Section::Top, "worker_connections", "write connections"),
            (Section::App, "worker_connections", "write connections above the first [section]"),
            (Section::Metrics, "retries", "known here: listen"),
            (Section::Top, "user", "move it under [app]"),
            (Section::Listen, "umask", "move it under [app]"),
            (Section::Top, "max_requests", "write max-requests"),
            (Section::Listen, "listen", "known here: address, backlog, mode, owner"),
        ];
        for (section, name, expected) in table {
            assert_eq!(suggest(section, name), expected, "{name}");
        }
    }

    #[test]
    fn distance_counts_single_letters() {
        for (left, right, expected) in [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("é", "e", 1)] {
            assert_eq!(distance(left, right), expected);
            assert_eq!(distance(right, left), expected);
        }
    }

    #[test]
    fn a_long_name_is_not_compared() {
        assert_eq!(nearest(&"w".repeat(LONGEST_COMPARED + 1), ["workers"].into_iter()), None);
    }

    #[test]
    fn every_name_stands_once_in_its_section() {
        for (place, key) in ALL.iter().enumerate() {
            assert!(!ALL[..place].iter().any(|other| other.section == key.section && other.name == key.name), "{key}");
        }
    }
}
