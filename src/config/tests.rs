//! The parser as a whole: defaults, and texts that nobody would write.

mod messages;

use std::num::NonZeroU16;
use std::time::Duration;

use proptest::prelude::*;

use super::keys::{ALL, Section};
use super::*;

const ANNOTATED: &str = include_str!("../../config/tuningfork.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");
const SAMPLES: [&str; 4] = [
    include_str!("../../config/django.toml"),
    include_str!("../../config/fastapi.toml"),
    include_str!("../../config/node.toml"),
    include_str!("../../config/puma.toml"),
];

fn surroundings() -> Surroundings {
    Surroundings {
        web_concurrency: None,
        virtual_env: None,
        machine: Machine::of_cores(NonZeroU16::new(2).unwrap()),
        directory: PathBuf::from("/srv/shop"),
    }
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("tuningfork.toml"), &surroundings())
}

fn python(lines: &str) -> String {
    format!("[app]\nkind = \"python\"\napp = \"shop\"\n{lines}")
}

/// The annotated file with every key below `[app]` taken from the comments: the command kind, an owner and metrics.
fn annotated_command() -> String {
    let (top, rest) = ANNOTATED.split_once("\n[app]\n").unwrap();
    let (_, commented) = rest.split_once("\n#[app]\n").unwrap();
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    let top = top.replace("\n#connections", "\nconnections");
    format!("{top}\n[app]\n{}", commented.lines().map(uncomment).collect::<String>())
}

#[test]
fn the_annotated_file_shows_the_defaults() {
    assert_eq!(parse(ANNOTATED), parse(MINIMAL));
    assert_eq!(
        parse(MINIMAL).unwrap(),
        Config {
            app: App::Python(PythonApp {
                app: "project.wsgi:application".to_owned(),
                interpreter: PathBuf::from("python3"),
                worker_class: WorkerClass::Sync,
                preload: true,
                allow_threads: Vec::new(),
                gunicorn: None,
                log_files: vec![],
                env: Vec::new(),
                directory: PathBuf::from("/srv/shop"),
            }),
            listen: Listen {
                addresses: vec![Address::Tcp { host: "127.0.0.1".to_owned(), port: 8000 }],
                backlog: 2048,
                mode: 0o666,
                owner: None,
            },
            workers: Workers::new(5).unwrap(),
            workers_from: Origin::Auto(surroundings().machine),
            connections: Connections::ONE,
            timing: Timing {
                graceful_timeout: Duration::from_secs(30),
                timeout: Duration::from_secs(30),
                boot_timeout: Duration::from_mins(1),
            },
            care: Care::default(),
            confinement: Confinement::default(),
            hooks: Hooks::default(),
            pidfile: None,
            metrics: None,
            control: None,
            log: Log { format: LogFormat::Plain, file: None, capture: true },
        }
    );
}

#[test]
fn what_the_annotated_file_has_in_comments_holds_too() {
    let config = parse(&annotated_command()).unwrap();
    let defaults = parse("[app]\nkind = \"command\"\ncommand = [\"node\", \"server.js\", \"--fd={fd}\"]\n[metrics]\n[control]\nsocket = \"/run/tuningfork/shop/control.sock\"\n[log]\nfile = \"/var/log/tuningfork/shop.log\"").unwrap();
    let limits = Limits {
        open_files: Some(Limit::At(65_536)),
        processes: Some(Limit::At(4096)),
        core: Some(Limit::At(0)),
        address_space: Some(Limit::Unlimited),
    };
    let confinement = Confinement { limits, ..Confinement::default() };
    let program = || vec!["/usr/bin/env".to_owned(), "true".to_owned()];
    let hooks = Hooks { before_fork: program(), after_ready: program(), on_exit: program() };
    let listen = Listen { owner: Some("www-data:www-data".to_owned()), ..defaults.listen.clone() };
    assert_eq!(config, Config { listen, confinement, hooks, ..defaults });
    assert_eq!(config.connections.get(), 100);
    assert_eq!(config.control.unwrap().socket, Path::new("/run/tuningfork/shop/control.sock"));
    assert_eq!(config.metrics.unwrap().listen.to_string(), "127.0.0.1:9150");
}

#[test]
fn the_annotated_file_has_every_key_and_no_other() {
    let mut section = Section::Top;
    let mut written = Vec::new();
    for line in ANNOTATED.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(header) = line.strip_prefix('[') {
            section = *Section::NAMED.iter().find(|known| format!("{}]", known.name()) == header).expect(header);
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with(' ')) {
            written.push((section.name(), name));
        }
    }
    let known = ALL.map(|key| (key.section.name(), key.name));
    assert!(known.iter().all(|key| written.contains(key)), "missing from the file: {known:?} {written:?}");
    assert!(written.iter().all(|key| known.contains(key)), "unknown to the parser: {known:?} {written:?}");
}

#[test]
fn the_samples_are_right() {
    for sample in SAMPLES {
        let config = parse(sample).unwrap_or_else(|errors| panic!("{}", errors.render(sample, Colour::Plain)));
        assert!(!config.app.collapses_connections());
    }
}

#[test]
fn web_concurrency_is_the_default_and_the_file_wins() {
    let with = |variable: &str, line: &str| {
        let surroundings = Surroundings { web_concurrency: Some(variable.to_owned()), ..surroundings() };
        let config = Config::parse(&format!("{line}\n{}", python("")), Path::new("t"), &surroundings);
        config.map(|config| config.workers.get()).map_err(|errors| errors.to_string())
    };
    assert_eq!(with("3", ""), Ok(3));
    assert_eq!(with(" 3\n", "workers = \"auto\""), Ok(3));
    assert_eq!(with("3", "workers = 7"), Ok(7));
    assert_eq!(with("", ""), Ok(5), "an empty variable is none");
    assert_eq!(with("x", "workers = 7"), Ok(7), "a variable nobody needs is not looked at");
    insta::assert_snapshot!(with("0", "").unwrap_err(), @r#"environment: WEB_CONCURRENCY: "0" is not a number of workers (set it to a whole number from 1 to 1024, unset it, or write workers in the file)"#);
}

#[test]
fn the_virtual_environment_gives_the_interpreter() {
    let with = |lines: &str| {
        let surroundings = Surroundings { virtual_env: Some(PathBuf::from("/venv")), ..surroundings() };
        match Config::parse(&python(lines), Path::new("t"), &surroundings).unwrap().app {
            App::Python(app) => app.interpreter,
            App::Command(_) => panic!("a python app was written"),
        }
    };
    assert_eq!(with(""), Path::new("/venv/bin/python"));
    assert_eq!(with("interpreter = \"pypy3\""), Path::new("pypy3"));
    assert_eq!(with("interpreter = \"./env/bin/python\""), Path::new("/srv/shop/env/bin/python"));
    assert_eq!(with("interpreter = \"/usr/bin/python3\""), Path::new("/usr/bin/python3"));
}

#[test]
fn applications_are_named_as_in_gunicorn() {
    for (written, expected) in [
        ("shop", "shop:application"),
        ("shop.wsgi:app", "shop.wsgi:app"),
        ("shop:create_app()", "shop:create_app()"),
        ("shop:create_app('eu', debug=False)", "shop:create_app('eu', debug=False)"),
        ("läden._wsgi2:app", "läden._wsgi2:app"),
    ] {
        let config = parse(&format!("[app]\nkind = \"python\"\napp = \"{written}\"")).unwrap();
        assert!(matches!(config.app, App::Python(app) if app.app == expected), "{written}");
    }
}

#[test]
fn spans_are_seconds_or_words() {
    let timing = |lines: &str| parse(&format!("{lines}\n{}", python(""))).unwrap().timing;
    assert_eq!(timing("timeout = 0").timeout, Duration::ZERO);
    assert_eq!(timing("timeout = \"0s\"").timeout, Duration::ZERO);
    assert_eq!(timing("graceful-timeout = \"1m 30s\"").graceful_timeout, Duration::from_secs(90));
    assert_eq!(timing("boot-timeout = \"1day\"").boot_timeout, Duration::from_hours(24));
}

#[test]
fn what_a_reload_does_not_change_is_named() {
    let before = parse(&python("")).unwrap();
    let unchanged: [&str; 0] = [];
    assert_eq!(before.fixed_until_restart(&before), unchanged);
    let reloaded = parse(&format!("workers = 3\nsettle = 1\n{}", python("preload = false\n"))).unwrap();
    assert_eq!(before.fixed_until_restart(&reloaded), unchanged);
    let sections = "[listen]\nbacklog = 1\n[metrics]\n[control]\nsocket = \"c.sock\"\n[log]\nformat = \"json\"\n";
    let newer = parse(&format!("pidfile = \"web.pid\"\n{}", python(sections))).unwrap();
    assert_eq!(before.fixed_until_restart(&newer), ["pidfile", "[listen]", "[metrics]", "[control]", "[log]"]);
}

#[test]
fn sync_workers_keep_one_connection() {
    let (workers, connections) = (Workers::new(3).unwrap(), Connections::new(20).unwrap());
    let sync = parse(&python("")).unwrap();
    assert_eq!(sync.with(workers, connections), Config { workers, ..sync.clone() });
    let threads = parse(&python("worker-class = \"gthread\"")).unwrap();
    assert_eq!(threads.with(workers, connections), Config { workers, connections, ..threads.clone() });
    assert!(parse(&format!("connections = 1\n{}", python(""))).is_ok());
    assert!(parse(&format!("\u{feff}connections = 1\r\n{}", python(""))).is_ok(), "a byte-order mark and CRLF are no mistake");
}

#[test]
fn a_fragment_is_read_again() {
    let (workers, connections) = (Workers::new(2).unwrap(), Connections::new(100).unwrap());
    let fragment = fragment(workers, connections);
    assert_eq!(fragment, "workers = 2\nconnections = 100\n");
    let config = parse(&format!("{fragment}{}", python("worker-class = \"asgi\""))).unwrap();
    assert_eq!((config.workers, config.connections), (workers, connections));
}

#[test]
fn a_report_is_bounded() {
    let lines: Vec<_> = (0..=MAX_PROBLEMS).map(|number| format!("x{number} = 1")).collect();
    let text = lines.join("\n");
    let errors = parse(&text).unwrap_err();
    assert_eq!((errors.problems.len(), errors.unshown), (MAX_PROBLEMS, 2), "101 keys and no [app]");
    assert!(errors.to_string().ends_with("\ntuningfork.toml: and 2 more"));
    assert!(errors.render(&text, Colour::Plain).ends_with("102 problems in the configuration, 100 of them are shown"));
}

#[test]
fn a_monstrous_file_is_refused() {
    let key = "k".repeat(MAX_BYTES / 2);
    for text in [
        "[".repeat(MAX_BYTES),
        format!("a={}", "[".repeat(MAX_BYTES - 2)),
        format!("a={}", "{a=".repeat(MAX_BYTES / 4)),
        "a.".repeat(MAX_BYTES / 2),
        "a=1\n".repeat(MAX_BYTES / 4),
        format!("{key} = 1"),
        "x".repeat(MAX_BYTES + 1),
    ] {
        let errors = parse(&text).unwrap_err();
        assert!(errors.to_string().len() < 20_000);
        assert!(errors.render(&text, Colour::Ansi).len() < 100_000);
    }
}

#[test]
fn an_excerpt_of_another_text_is_not_a_panic() {
    let errors = parse("[app]\nkind = \"é\"").unwrap_err();
    for text in ["", "é", "[app]\nkind =\"é\"", "\n\n\n\n"] {
        assert!(!errors.render(text, Colour::Plain).is_empty());
    }
}

#[test]
fn a_mistake_has_no_echo() {
    for class in ["3", "\"gevnet\""] {
        let errors = parse(&format!("connections = 10\n{}", python(&format!("worker-class = {class}")))).unwrap_err();
        assert_eq!(errors.problems.len(), 1, "connections may be right: {errors}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_a_refusal(text in "(?s).{0,200}") {
        read_and_render(&text);
    }

    #[test]
    fn any_change_of_a_right_file_is_a_configuration_or_a_refusal(
        source in 0..2_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "(?s)[\\[\\]{}='\"#.\n\0 a0-]{0,3}|.{0,2}"), 1..8),
    ) {
        let mut letters: Vec<char> = [ANNOTATED.to_owned(), annotated_command()][source].chars().collect();
        for (place, removed, inserted) in changes {
            let begin = place.index(letters.len() + 1);
            let end = (begin + removed).min(letters.len());
            letters.splice(begin..end, inserted.chars());
        }
        read_and_render(&letters.into_iter().collect::<String>());
    }
}

fn read_and_render(text: &str) {
    if let Err(errors) = parse(text) {
        assert!(!errors.problems.is_empty());
        assert!(errors.problems.iter().all(|problem| !problem.message.is_empty() && !problem.hint.is_empty()));
        assert!(errors.to_string().contains(": "));
        assert!(!errors.render(text, Colour::Ansi).is_empty());
    }
}
