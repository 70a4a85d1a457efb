//! The file as it was written: right types, known keys, every value with its place. Says nothing about whether the values make sense.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::keys::{self, Key, Section};
use super::problem::{Problems, plain, quote};
use super::reader::{NumberOrText, Reader, Text};

/// The largest file that is read, in bytes; a caller need not read more than one byte beyond it.
pub const MAX_BYTES: usize = 1 << 20;

/// Everything above and below the section headers. `None` is a key that is absent, or of which a problem is already known.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub(super) workers: Option<Spanned<NumberOrText>>,
    pub(super) connections: Option<Spanned<i64>>,
    pub(super) graceful_timeout: Option<Spanned<NumberOrText>>,
    pub(super) timeout: Option<Spanned<NumberOrText>>,
    pub(super) boot_timeout: Option<Spanned<NumberOrText>>,
    pub(super) pidfile: Option<Text>,
    pub(super) care: RawCare,
    pub(super) app: Option<RawApp>,
    pub(super) limits: RawLimits,
    pub(super) hooks: RawHooks,
    pub(super) listen: RawListen,
    pub(super) metrics: Option<RawMetrics>,
    pub(super) control: Option<RawControl>,
    pub(super) log: RawLog,
}

/// When workers are renewed.
#[derive(Debug, Default)]
pub(super) struct RawCare {
    pub(super) settle: Option<Spanned<NumberOrText>>,
    pub(super) max_unavailable: Option<Spanned<i64>>,
    pub(super) max_requests: Option<Spanned<i64>>,
    pub(super) max_requests_jitter: Option<Spanned<i64>>,
    pub(super) max_age: Option<Spanned<NumberOrText>>,
    pub(super) max_memory: Option<Spanned<NumberOrText>>,
    pub(super) fail_after: Option<Spanned<i64>>,
}

/// `[app]` of either kind.
#[derive(Debug)]
pub(super) struct RawApp {
    pub(super) header: Range<usize>,
    pub(super) kind: Option<Text>,
    pub(super) command: Option<Spanned<Vec<Text>>>,
    pub(super) readiness: Option<Spanned<NumberOrText>>,
    pub(super) app: Option<Text>,
    pub(super) interpreter: Option<Text>,
    pub(super) worker_class: Option<Text>,
    pub(super) preload: Option<bool>,
    pub(super) allow_threads: Option<Spanned<Vec<Text>>>,
    pub(super) gunicorn: Option<Spanned<Vec<Text>>>,
    pub(super) env: Option<Spanned<Vec<(Text, Text)>>>,
    pub(super) directory: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) group: Option<Text>,
    pub(super) umask: Option<Text>,
    pub(super) cpu_affinity: Option<Text>,
    pub(super) pass_env: Option<Spanned<Vec<Text>>>,
    /// The keys that are written, whatever their values.
    pub(super) written: Vec<(&'static Key, Range<usize>)>,
}

impl RawApp {
    /// Whether `key` is written, be its value right or wrong.
    pub(super) fn has(&self, key: &'static Key) -> bool {
        self.written.iter().any(|(written, _)| *written == key)
    }
}

/// `[limits]`.
#[derive(Debug, Default)]
pub(super) struct RawLimits {
    pub(super) open_files: Option<Spanned<NumberOrText>>,
    pub(super) processes: Option<Spanned<NumberOrText>>,
    pub(super) core: Option<Spanned<NumberOrText>>,
    pub(super) address_space: Option<Spanned<NumberOrText>>,
}

/// `[hooks]`.
#[derive(Debug, Default)]
pub(super) struct RawHooks {
    pub(super) before_fork: Option<Spanned<Vec<Text>>>,
    pub(super) after_ready: Option<Spanned<Vec<Text>>>,
    pub(super) on_exit: Option<Spanned<Vec<Text>>>,
}

/// `[listen]`.
#[derive(Debug, Default)]
pub(super) struct RawListen {
    pub(super) address: Option<Spanned<Vec<Text>>>,
    pub(super) backlog: Option<Spanned<i64>>,
    pub(super) mode: Option<Text>,
    pub(super) owner: Option<Text>,
}

/// `[metrics]`.
#[derive(Debug)]
pub(super) struct RawMetrics {
    pub(super) listen: Option<Text>,
}

/// `[control]`.
#[derive(Debug)]
pub(super) struct RawControl {
    pub(super) header: Range<usize>,
    pub(super) socket: Option<Text>,
    /// Whether `socket` is written, be its value right or wrong.
    pub(super) has_socket: bool,
}

/// `[log]`.
#[derive(Debug, Default)]
pub(super) struct RawLog {
    pub(super) format: Option<Text>,
    pub(super) file: Option<Text>,
    pub(super) capture: Option<Spanned<bool>>,
}

/// Reads the file, or says why it is not TOML. Problems inside are added, and what is left is returned.
pub(super) fn read(text: &str, problems: &mut Problems<'_>) -> Option<RawConfig> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes", text.len());
        problems.in_file("", message, format!("a configuration has at most {MAX_BYTES}"));
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        report_syntax(text, &errors, problems);
        return None;
    }
    let mut top = Reader::new(Section::Top, document.get_ref(), problems);
    let app = top.section(Section::App);
    let limits = top.section(Section::Limits);
    let hooks = top.section(Section::Hooks);
    let listen = top.section(Section::Listen);
    let metrics = top.section(Section::Metrics);
    let control = top.section(Section::Control);
    let log = top.section(Section::Log);
    let mut raw = RawConfig {
        workers: top.number_or_text(&keys::WORKERS),
        connections: top.number(&keys::CONNECTIONS),
        graceful_timeout: top.number_or_text(&keys::GRACEFUL_TIMEOUT),
        timeout: top.number_or_text(&keys::TIMEOUT),
        boot_timeout: top.number_or_text(&keys::BOOT_TIMEOUT),
        pidfile: top.text(&keys::PIDFILE),
        care: read_care(&mut top),
        app: None,
        limits: RawLimits::default(),
        hooks: RawHooks::default(),
        listen: RawListen::default(),
        metrics: None,
        control: None,
        log: RawLog::default(),
    };
    raw.app = app.map(|(table, header)| read_app(table, header, problems));
    raw.limits = limits.map(|(table, _)| read_limits(table, problems)).unwrap_or_default();
    raw.hooks = hooks.map(|(table, _)| read_hooks(table, problems)).unwrap_or_default();
    raw.listen = listen.map(|(table, _)| read_listen(table, problems)).unwrap_or_default();
    raw.metrics = metrics.map(|(table, _)| read_metrics(table, problems));
    raw.log = log.map(|(table, _)| read_log(table, problems)).unwrap_or_default();
    raw.control = control.map(|(table, header)| read_control(table, header, problems));
    if !document.get_ref().contains_key(Section::App.name()) {
        let hint = r#"write [app] and below it kind = "python" and app = "module:callable""#;
        problems.in_file(Section::App.name(), "the section is missing", hint);
    }
    Some(raw)
}

fn read_care(top: &mut Reader<'_, '_, '_>) -> RawCare {
    RawCare {
        settle: top.number_or_text(&keys::SETTLE),
        max_unavailable: top.number(&keys::MAX_UNAVAILABLE),
        max_requests: top.number(&keys::MAX_REQUESTS),
        max_requests_jitter: top.number(&keys::MAX_REQUESTS_JITTER),
        max_age: top.number_or_text(&keys::MAX_AGE),
        max_memory: top.number_or_text(&keys::MAX_MEMORY),
        fail_after: top.number(&keys::FAIL_AFTER),
    }
}

fn read_limits(table: &DeTable<'_>, problems: &mut Problems<'_>) -> RawLimits {
    let mut reader = Reader::new(Section::Limits, table, problems);
    RawLimits {
        open_files: reader.number_or_text(&keys::OPEN_FILES),
        processes: reader.number_or_text(&keys::PROCESSES),
        core: reader.number_or_text(&keys::CORE),
        address_space: reader.number_or_text(&keys::ADDRESS_SPACE),
    }
}

fn read_hooks(table: &DeTable<'_>, problems: &mut Problems<'_>) -> RawHooks {
    let mut reader = Reader::new(Section::Hooks, table, problems);
    RawHooks {
        before_fork: reader.texts(&keys::BEFORE_FORK),
        after_ready: reader.texts(&keys::AFTER_READY),
        on_exit: reader.texts(&keys::ON_EXIT),
    }
}

fn read_app(table: &DeTable<'_>, header: Range<usize>, problems: &mut Problems<'_>) -> RawApp {
    let mut reader = Reader::new(Section::App, table, problems);
    let place = |key: &'static Key| table.get_key_value(key.name).map(|(name, _)| (key, name.span()));
    RawApp {
        header,
        kind: reader.text(&keys::KIND),
        command: reader.texts(&keys::COMMAND),
        readiness: reader.number_or_text(&keys::READINESS),
        app: reader.text(&keys::APP),
        interpreter: reader.text(&keys::INTERPRETER),
        worker_class: reader.text(&keys::WORKER_CLASS),
        preload: reader.truth(&keys::PRELOAD),
        allow_threads: reader.texts(&keys::ALLOW_THREADS),
        gunicorn: reader.texts(&keys::GUNICORN),
        env: reader.text_table(&keys::ENVIRONMENT),
        directory: reader.text(&keys::APP_DIRECTORY),
        user: reader.text(&keys::USER),
        group: reader.text(&keys::GROUP),
        umask: reader.text(&keys::UMASK),
        cpu_affinity: reader.text(&keys::CPU_AFFINITY),
        pass_env: reader.texts(&keys::PASS_ENV),
        written: Section::App.keys().filter_map(place).collect(),
    }
}

fn read_listen(table: &DeTable<'_>, problems: &mut Problems<'_>) -> RawListen {
    let mut reader = Reader::new(Section::Listen, table, problems);
    RawListen {
        address: reader.text_or_texts(&keys::ADDRESS),
        backlog: reader.number(&keys::BACKLOG),
        mode: reader.text(&keys::MODE),
        owner: reader.text(&keys::OWNER),
    }
}

fn read_metrics(table: &DeTable<'_>, problems: &mut Problems<'_>) -> RawMetrics {
    let mut reader = Reader::new(Section::Metrics, table, problems);
    RawMetrics { listen: reader.text(&keys::METRICS_LISTEN) }
}

fn read_log(table: &DeTable<'_>, problems: &mut Problems<'_>) -> RawLog {
    let mut reader = Reader::new(Section::Log, table, problems);
    RawLog {
        format: reader.text(&keys::LOG_FORMAT),
        file: reader.text(&keys::LOG_FILE),
        capture: reader.boolean(&keys::LOG_CAPTURE),
    }
}

fn read_control(table: &DeTable<'_>, header: Range<usize>, problems: &mut Problems<'_>) -> RawControl {
    let has_socket = table.contains_key(keys::CONTROL_SOCKET.name);
    let mut reader = Reader::new(Section::Control, table, problems);
    RawControl { header, socket: reader.text(&keys::CONTROL_SOCKET), has_socket }
}

/// One problem a line, the first that the parser met: the others are mostly consequences.
fn report_syntax(text: &str, errors: &[Error], problems: &mut Problems<'_>) {
    let newlines: Vec<usize> = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
    let mut places: Vec<(usize, Range<usize>, &str)> = errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or(0..0);
            (newlines.partition_point(|newline| *newline < span.start), span, error.message())
        })
        .collect();
    places.sort_by_key(|(line, ..)| *line);
    places.dedup_by_key(|(line, ..)| *line);
    for (_, span, message) in places {
        let (message, hint) = explain_syntax(message, text.get(span.clone()).unwrap_or(""));
        problems.at(span, "", message, hint);
    }
}

/// What is wrong and what to do. Knows the parser's most frequent messages; any other stays, with what the parser expected.
fn explain_syntax(message: &str, source: &str) -> (String, String) {
    let (message, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    match message {
        "string values must be quoted" if source.is_empty() => {
            ("the value is missing".to_owned(), "write one after the =".to_owned())
        }
        "string values must be quoted" => (format!("{} is not in quotes", plain(source)), format!("write {}", quote(source))),
        "unexpected leading zero" => {
            ("a number cannot begin with 0".to_owned(), r#"write it without, or a permission mode in quotes: "0660""#.to_owned())
        }
        "duplicate key" => (format!("{} stands here for the second time", plain(source)), "remove one of the two".to_owned()),
        _ if expected.is_empty() => (message.to_owned(), "see https://toml.io for how a file is written".to_owned()),
        _ => (message.to_owned(), format!("expected {expected}")),
    }
}
