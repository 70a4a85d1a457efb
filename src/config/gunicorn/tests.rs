use std::path::Path;

use super::*;
use crate::config::{App, Config, Surroundings};

fn command(arguments: &[&str]) -> CommandLine {
    CommandLine {
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        app: None,
        interpreter: PathBuf::from("/srv/venv/bin/python"),
        directory: PathBuf::from("/srv/shop"),
        from_environment: None,
        metrics: None,
        control: None,
    }
}

/// An answer in which these settings are changed; as JSON.
fn answer(class: &str, changed: &str) -> String {
    format!(
        r#"{{"resolved": {{"gunicorn": "27.0.1", "app": "shop.wsgi", "worker_class": {{"name": "gunicorn.workers.x.X", "family": "{class}",
        "is_known": true}}, "addresses": ["unix:/run/\"app\".sock", "[::1]:8000"], "user": null, "group": null, "pidfile": null,
        "settings": [{changed}]}}}}"#
    )
}

fn setting(name: &str, value: &str) -> String {
    format!(r#"{{"name": "{name}", "value": {value}, "default": false}}"#)
}

fn parsed(resolved: &Resolved, command: &CommandLine) -> Config {
    let surroundings = Surroundings {
        web_concurrency: None,
        virtual_env: None,
        machine: crate::config::Machine::of_cores(std::num::NonZeroU16::MIN),
        directory: command.directory.clone(),
    };
    let text = equivalent(resolved, command);
    Config::parse(&text, Path::new("tuningfork.toml"), &surroundings).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

#[test]
fn a_command_line_becomes_a_configuration() {
    let changed = [
        setting("workers", "33"),
        setting("worker_connections", "10"),
        setting("threads", "4"),
        setting("timeout", "90"),
        setting("graceful_timeout", "20"),
        setting("umask", "7"),
        setting("preload_app", "true"),
    ];
    let resolved = Resolved::read(&answer("gevent", &changed.join(","))).unwrap();
    let command = command(&["-c", "it's \"here\"\\.py", "shop.wsgi"]);
    let config = parsed(&resolved, &command);
    assert_eq!((config.workers.get(), config.connections.get()), (33, 10));
    assert_eq!(config.timing.timeout.as_secs(), 90);
    assert_eq!(config.timing.boot_timeout.as_secs(), 90);
    assert_eq!(config.timing.graceful_timeout.as_secs(), 20);
    assert_eq!(config.listen.mode, 0o660);
    assert_eq!(config.listen.addresses.len(), 2);
    let App::Python(app) = config.app else { panic!("{:?}", config.app) };
    assert_eq!(app.gunicorn, Some(command.arguments));
    assert!(app.preload);
    assert_eq!(app.app, "shop.wsgi:application");
    assert_eq!(resolved.all_remarks(), Vec::<String>::new());
}

#[test]
fn numbers_that_cannot_stay_are_told() {
    let changed = [setting("timeout", "1"), setting("graceful_timeout", "0"), setting("worker_connections", "100000")];
    let resolved = Resolved::read(&answer("gevent", &changed.join(","))).unwrap();
    let config = parsed(&resolved, &command(&[]));
    assert_eq!(config.timing.timeout.as_secs(), 2);
    assert_eq!(config.timing.graceful_timeout.as_secs(), 1);
    assert_eq!(config.connections.get(), 65_535);
    let remarks = resolved.remarks().join("\n");
    for told in
        ["timeout = 1 becomes 2", "graceful_timeout = 0 becomes 1", "worker_connections = 100000 becomes 65535", "--preload"]
    {
        assert!(remarks.contains(told), "{remarks}");
    }
}

#[test]
fn a_sync_worker_has_no_connections() {
    let resolved = Resolved::read(&answer("sync", &setting("worker_connections", "1000"))).unwrap();
    assert!(!equivalent(&resolved, &command(&[])).contains("\nconnections"));
    assert_eq!(parsed(&resolved, &command(&[])).connections.get(), 1);
}

#[test]
fn what_cannot_be_honoured_is_refused_all_at_once() {
    let changed = [setting("daemon", "true"), setting("dirty_workers", "1"), setting("reuse_port", "true")];
    let Err(GunicornError::Refused(refused)) = Resolved::read(&answer("sync", &changed.join(","))) else { panic!("accepted") };
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("daemon") && refused[0].contains("systemd"), "{refused:?}");
}

#[test]
fn what_has_no_effect_or_is_unknown_is_told() {
    let changed = [setting("reuse_port", "true"), setting("quantum", "1"), setting("keepalive", "5")];
    let resolved = Resolved::read(&answer("sync", &changed.join(","))).unwrap();
    let told: Vec<String> = resolved.all_remarks().into_iter().filter(|remark| !remark.contains("--preload")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("reuse_port has no effect"), "{told:?}");
    assert!(told[1].starts_with("quantum is new"), "{told:?}");
}

#[test]
fn a_gunicorn_that_loses_requests_is_named_where_its_workers_do() {
    for (version, family, told) in [
        ("22.0.0", "gthread", true),
        ("26.2.0", "asgi", true),
        ("26.2.0", "sync", false),
        ("26.2.0", "gevent", false),
        ("27.0.0", "gthread", false),
        ("28.0.dev1", "asgi", false),
        ("unknown", "gthread", false),
    ] {
        assert_eq!(remark_on_age(version, family).is_some(), told, "{version} {family}");
    }
    let old = answer("gthread", "").replace("27.0.1", "23.0.0");
    let remarks = Resolved::read(&old).unwrap().all_remarks();
    assert!(remarks[0].contains("gthread worker of gunicorn 23.0.0"), "{remarks:?}");
}

#[test]
fn gunicorns_own_words_are_the_error() {
    let error = Resolved::read(r#"{"failed": {"stage": "settings", "message": "no such option"}}"#).unwrap_err();
    assert!(error.to_string().ends_with("no such option"), "{error}");
    for broken in ["", "{}", "null", "{\"resolved\": {}}"] {
        assert!(matches!(Resolved::read(broken), Err(GunicornError::Unreadable(_))), "{broken}");
    }
}
