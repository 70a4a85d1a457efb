//! `tuningfork gunicorn` and `tuningfork check`: a Gunicorn command line, with the settings that Gunicorn itself makes of it.

mod habits;
mod places;
mod words;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tuningfork::config::gunicorn::fate;

use crate::support::http;
use crate::support::parts;
use crate::support::process::{End, send};
use crate::support::root;
use crate::support::service::{Running, Service, free_port};

const WORKS: &str =
    "def application(environ, start_response):\n    start_response('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n";
/// A gunicorn.conf.py as people have them: hooks, logs, statsd. `@…@` are filled in.
const MAGAZINE: &str = include_str!("gunicorn/magazine.conf.py");

/// What a command of tuningfork prints, and its exit code.
fn tuningfork(directory: &Path, arguments: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.args(arguments).current_dir(directory).env_remove("GUNICORN_CMD_ARGS").env_remove("WEB_CONCURRENCY");
    let output = command.output().expect("run tuningfork");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (said.into_owned(), output.status.code().expect("an exit code"))
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("make a directory");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("write a file");
    }
    folder
}

fn interpreter() -> String {
    parts::python().display().to_string()
}

/// A small application in the service's directory, on its address.
fn small(more: &[&str]) -> Service {
    let python = interpreter();
    let arguments = ["--interpreter", &python, "-b", "@LISTEN@", "-w", "2"];
    Service::of_gunicorn(&[&arguments[..], more, &["web"]].concat()).file("web.py", WORKS)
}

#[test]
fn every_setting_of_the_installed_gunicorn_is_in_one_of_the_lists() {
    let list = "from gunicorn import config; print('\\n'.join(known.name for known in config.KNOWN_SETTINGS))";
    let said = parts::output(Command::new(parts::python()).args(["-c", list])).unwrap_or_else(|error| panic!("{error}"));
    let names: BTreeSet<&str> = said.lines().collect();
    assert!(names.len() > 100, "{said}");
    let unlisted: Vec<&&str> = names.iter().filter(|name| fate(name).is_none()).collect();
    assert!(unlisted.is_empty(), "add to src/config/gunicorn/fates.rs what becomes of {unlisted:?}");
}

#[test]
fn check_lists_every_setting_once_and_shows_no_secret() {
    let folder =
        folder_with(&[("gunicorn.conf.py", "raw_env = ['TOKEN=hush']\nkeepalive = 7\nreuse_port = True\nworkers = 3\n")]);
    let (said, code) = tuningfork(folder.path(), &["check", "--interpreter", &interpreter(), "--", "web"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("TOKEN") && !said.contains("hush"), "{said}");
    let lists: Vec<&str> = said.split("\nGunicorn ").skip(1).collect();
    assert_eq!(lists.len(), 3, "{said}");
    assert!(
        lists[0].contains("workers = 3") && lists[1].contains("keepalive = 7") && lists[2].contains("reuse_port = true"),
        "{said}"
    );
    let changed =
        |list: &str| list.lines().filter_map(|line| Some(line.trim().split_once(" = ")?.0.to_owned())).collect::<Vec<_>>();
    let defaults = |list: &str| {
        let line = list.lines().find_map(|line| line.trim().strip_prefix("at their defaults: ").map(str::to_owned));
        line.unwrap_or_default().split(", ").map(str::to_owned).collect::<Vec<_>>()
    };
    let all: Vec<String> = lists.iter().flat_map(|list| changed(list).into_iter().chain(defaults(list))).collect();
    let once: BTreeSet<&String> = all.iter().collect();
    assert_eq!(once.len(), all.len(), "{said}");
    assert!(once.len() > 100, "{said}");
}

#[test]
fn check_tells_what_is_wrong_with_a_file_all_at_once() {
    let folder = folder_with(&[("tuningfork.toml", "wokers = 1\n[app]\nkind = \"python\"\npreload = 1\n")]);
    let (said, code) = tuningfork(folder.path(), &["check"]);
    assert_eq!(code, 78, "{said}");
    for told in ["wokers", "app.preload", "app.app"] {
        assert!(said.contains(told), "{said}");
    }
    let valid = format!(
        "[app]\nkind = \"python\"\napp = \"web\"\ninterpreter = \"{}\"\nenv = {{ TOKEN = \"hush\" }}\ngunicorn = [\"--keep-alive\", \"9\"]\n",
        interpreter()
    );
    let folder = folder_with(&[("tuningfork.toml", &valid)]);
    let (said, code) = tuningfork(folder.path(), &["check"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("keepalive = 9") && said.contains("TOKEN") && !said.contains("hush"), "{said}");
}

#[test]
fn what_cannot_be_honoured_or_understood_does_not_start() {
    let folder = folder_with(&[("bad.py", "workers = 'many'\n"), ("web.py", WORKS)]);
    let python = interpreter();
    for (arguments, told) in [
        (&["--daemon", "web"][..], "systemd"),
        (&["--dirty-workers", "1", "web"], "dirty"),
        (&["--paste", "site.ini"], "paste"),
        (&["--no-such-option", "web"], "--no-such-option"),
        (&["-c", "bad.py", "web"], "many"),
        (&["-k", "no_such_class", "web"], "no_such_class"),
        (&["-w", "5000", "web"], "5000"),
        (&["-b", "bad:addr:x", "web"], "bind = bad:addr:x: 'addr' is not a valid port number."),
        (&["--certfile", "none.pem", "web"], "certfile = 'none.pem' cannot be read by user"),
        (&["--env", "NOVALUE", "web"], "environment setting 'NOVALUE' invalid"),
        (&[], "No application module specified"),
    ] {
        let (said, code) = tuningfork(folder.path(), &[&["gunicorn", "--interpreter", &python], arguments].concat());
        assert_eq!(code, 78, "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
        assert!(!said.contains("Traceback") || told == "many", "{arguments:?}: {said}");
    }
}

#[test]
fn what_gunicorn_prints_is_not_mixed_with_what_is_asked_for() {
    let settings = "print('{\"loglevel\": \"info\"}')\nworkers = 3\n";
    let folder = folder_with(&[("gunicorn.conf.py", settings), ("web.py", WORKS)]);
    let python = interpreter();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.args(["gunicorn", "--interpreter", &python, "--print-config", "web"]).current_dir(folder.path());
    let output = command.output().expect("run tuningfork");
    let (printed, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("workers = 3") && !printed.contains("loglevel"), "{printed}");
    assert!(told.contains("loglevel"), "{told}");
    let (said, code) = tuningfork(folder.path(), &["gunicorn", "--interpreter", &python, "--version"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("gunicorn (version"), "{said}");
    let (said, code) = tuningfork(folder.path(), &["gunicorn", "--interpreter", "/bin/true", "web"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("/bin/true ended before it had read Gunicorn's settings"), "{said}");
}

#[test]
fn a_configuration_of_gunicorn_is_not_read_as_ours() {
    let folder = folder_with(&[("gunicorn.conf.py", "workers = 3\n")]);
    for command in ["check", "run"] {
        let (said, code) = tuningfork(folder.path(), &[command, "-c", "gunicorn.conf.py"]);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("tuningfork gunicorn -c gunicorn.conf.py APP"), "{said}");
    }
}

#[test]
fn check_config_imports_the_application_as_gunicorns_does() {
    let folder = folder_with(&[("web.py", WORKS), ("broken.py", "import no_such_module\n")]);
    let python = interpreter();
    let check = |app| tuningfork(folder.path(), &["gunicorn", "--interpreter", &python, "--check-config", app]);
    assert_eq!(check("web").1, 0);
    let (said, code) = check("broken");
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("no_such_module"), "{said}");
}

#[test]
fn a_printed_configuration_runs_as_the_command_line_does() {
    let folder = folder_with(&[("gunicorn.conf.py", "keepalive = 7\nthreads = 3\nworker_class = 'gthread'\numask = 0o007\n")]);
    let python = interpreter();
    let (printed, code) = tuningfork(
        folder.path(),
        &["gunicorn", "--interpreter", &python, "--print-config", "--preload", "-b", "unix:web.sock", "-w", "2", "web"],
    );
    assert_eq!(code, 0, "{printed}");
    for line in ["workers = 2", "connections = 3", "worker-class = \"gthread\"", "preload = true", "mode = \"0660\""] {
        assert!(printed.lines().any(|shown| shown == line), "{line} is not in\n{printed}");
    }
    let unix = format!("\"unix:{}\"", folder.path().canonicalize().expect("a folder").join("web.sock").display());
    assert!(printed.contains(&unix), "{printed}");
    let app = "import gc\ndef application(environ, start_response):\n    start_response('200 OK', [])\n    return [str(environ['wsgi.multithread']).encode()]\n";
    std::fs::write(folder.path().join("web.py"), app).expect("write the application");
    let mut running = Service::with_config(&printed.replace(&unix, "\"@LISTEN@\"")).ready();
    assert_eq!(running.get("/").text(), "True");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn settings_come_from_the_environment_too_and_a_reload_reads_them_again() {
    let mut running =
        small(&["--preload"]).file("gunicorn.conf.py", "workers = 5\n").env("GUNICORN_CMD_ARGS", "--log-level debug").ready();
    running.await_log("workers=2");
    assert_eq!(running.get("/").text(), "ok");
    let before = running.workers();
    let file = running.directory().join("gunicorn.conf.py");
    for (text, told) in
        [("1 / 0\n", "ZeroDivisionError"), ("daemon = True\n", "systemd"), ("logconfig = 'none.ini'\n", "none.ini")]
    {
        std::fs::write(&file, text).expect("write the settings");
        running.signal(Signal::HUP);
        running.await_log(told);
    }
    running.await_log_times("reload failed, the old workers keep serving", 3);
    assert_eq!(running.workers(), before);
    assert_eq!(running.get("/").text(), "ok");
    let settles =
        "import os\ndef on_reload(server):\n    open(os.path.join(os.path.dirname(__file__), 'reloaded'), 'w').close()\n";
    std::fs::write(&file, settles).expect("write the settings");
    running.signal(Signal::HUP);
    running.await_log("reload finished");
    assert!(running.directory().join("reloaded").exists());
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn settings_that_hang_do_not_stop_the_supervisor() {
    let mut running = small(&["--preload"]).file("gunicorn.conf.py", "").ready();
    std::fs::write(running.directory().join("gunicorn.conf.py"), "import time\ntime.sleep(3600)\n").expect("write the settings");
    running.signal(Signal::HUP);
    running.await_log("reload begins");
    send(running.workers()[0], Signal::KILL);
    running.await_log_times("worker ready", 3);
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_bind_to_all_of_ipv6_is_reached_by_ipv4_too() {
    let port = free_port();
    let mut running = small(&["-b", &format!("[::]:{port}")]).ready();
    for host in ["127.0.0.1", "[::1]"] {
        let answer =
            http::get(&http::Address::Tcp(format!("{host}:{port}")), "/").unwrap_or_else(|error| panic!("{host}: {error}"));
        assert_eq!(answer.text(), "ok", "{host}");
    }
    running.await_log("(IPv4 too)");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_pidfile_names_the_service_while_it_runs() {
    let mut running = small(&["-p", "web.pid"]).ready();
    let file = running.directory().join("web.pid");
    assert_eq!(std::fs::read_to_string(&file).expect("a pidfile").trim(), running.pid().to_string());
    assert_eq!(running.stop(), End::Code(0));
    assert!(!file.exists());
}

#[test]
fn without_preload_a_broken_application_is_not_rolled_out_either() {
    let mut running = small(&[]).ready();
    running.await_log("with --preload it is imported once");
    let before = running.workers();
    std::fs::write(running.directory().join("web.py"), "import no_such_module\n").expect("write the application");
    running.signal(Signal::HUP);
    running.await_log("reload failed, the old workers keep serving");
    running.await_log("No module named 'no_such_module'");
    assert!(before.iter().all(|pid| running.workers().contains(pid)), "{before:?}");
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn threads_of_the_import_fail_a_reload_by_their_names() {
    let mut running = small(&["--preload"]).ready();
    let before = running.workers();
    let threaded =
        format!("import threading\nthreading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n{WORKS}");
    std::fs::write(running.directory().join("web.py"), threaded).expect("write the application");
    running.signal(Signal::HUP);
    running.await_log("reload failed, the old workers keep serving");
    running.await_log("poller");
    assert_eq!(running.workers(), before);
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_log_file_that_cannot_be_opened_again_ends_nobody() {
    let mut running = small(&["--error-logfile", "@DIR@/error.log", "--access-logfile", "@DIR@/access.log"]).ready();
    let workers = running.workers();
    let log = running.directory().join("error.log");
    std::fs::rename(&log, log.with_extension("1")).expect("move the log away");
    std::fs::create_dir(&log).expect("make a directory in its place");
    running.signal(Signal::USR1);
    // Both workers and the zygote.
    running.await_log_times("log files are not opened again, the old ones are kept", 3);
    send(workers[0], Signal::KILL);
    running.await_log_times("worker ready", 3);
    assert_eq!(running.get("/").text(), "ok");
    assert!(running.workers().contains(&workers[1]));
    assert_eq!(running.stop(), End::Code(0));
}

/// As Gunicorn's master makes them at its start.
#[test]
fn log_files_that_workers_may_not_make_are_made_for_them() {
    if root::is_missing() {
        return;
    }
    // A number that nobody has, as in a container; the unix socket is to be its too.
    let (nobody, packages) = (41_234, parts::packages().display().to_string());
    // The parts' own interpreter may lie where other users cannot go.
    let arguments = ["--interpreter", "/usr/bin/python3", "-b", "@LISTEN@", "--user", "41234", "--group", "41234"];
    let logs = ["--error-logfile", "@DIR@/error.log", "--access-logfile", "@DIR@/access.log", "web"];
    let service = Service::of_gunicorn(&[&arguments[..], &logs].concat()).file("web.py", WORKS).env("PYTHONPATH", &packages);
    std::fs::set_permissions(service.directory(), std::fs::Permissions::from_mode(0o755)).expect("open the directory");
    let mut running = service.ready();
    let socket = running.directory().join("web.sock").metadata().expect("the socket");
    assert_eq!((socket.uid(), socket.gid()), (nobody, nobody));
    let files = ["error.log", "access.log"].map(|name| running.directory().join(name));
    for file in &files {
        std::fs::rename(file, file.with_extension("1")).expect("move a log away");
    }
    running.signal(Signal::USR1);
    running.await_log("log files are opened anew");
    let address = running.address().clone();
    running.wait("a line in the new file", |_| {
        http::get(&address, "/visit").expect("an answer");
        std::fs::read_to_string(&files[1]).is_ok_and(|text| text.contains("/visit")).then_some(())
    });
    for file in &files {
        let about = file.metadata().expect("the new file");
        assert_eq!((about.uid(), about.gid()), (nobody, nobody));
    }
    assert!(!running.said().contains("not opened again"), "{}", running.said());
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_dead_zygote_is_replaced_before_a_fork_needs_it() {
    let mut running = small(&["--preload"]).ready();
    let workers = running.workers();
    let zygote = running.children().into_iter().find(|pid| !workers.contains(pid)).expect("the zygote");
    send(zygote, Signal::KILL);
    running.await_log_times("application loaded", 2);
    assert_eq!(running.workers(), workers);
    send(workers[0], Signal::KILL);
    running.await_log_times("worker ready", 3);
    assert_eq!(running.get("/").text(), "ok");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn how_a_zygote_ends_that_its_hooks_end_is_told() {
    let leaves = "import os\ndef child_exit(server, worker): os._exit(7)\n";
    let mut running = small(&["-c", "conf.py"]).file("conf.py", leaves).ready();
    send(running.workers()[0], Signal::KILL);
    running.await_log("the zygote ended with exit code 7; its workers keep serving");
    running.await_log_times("worker ready", 3);
    assert_eq!(running.stop(), End::Code(0));
    assert_eq!(running.said().matches("the zygote ended with").count(), 1, "{}", running.said());
}

/// Server hooks that note the end, and start a thread at the start and at each reload.
const THREADED: &str = r#"
import threading
def when_ready(server):
    threading.Thread(target=threading.Event().wait, name="exporter", daemon=True).start()
def on_reload(server):
    when_ready(server)
def on_exit(server):
    open("ended", "w").close()
"#;

/// As systemd does it: SIGTERM for the whole control group.
#[test]
fn last_hooks_are_called_when_the_zygote_is_told_to_stop_too() {
    let mut running = small(&["-c", "conf.py"]).file("conf.py", THREADED).ready();
    let workers = running.workers();
    let zygote = running.children().into_iter().find(|pid| !workers.contains(pid)).expect("the zygote");
    send(zygote, Signal::TERM);
    assert_eq!(running.stop(), End::Code(0));
    assert!(running.directory().join("ended").exists(), "{}", running.said());
    assert!(!running.said().contains("starting another"), "{}", running.said());
    assert!(!running.said().contains("left behind"), "{}", running.said());
}

#[test]
fn threads_of_reload_hooks_keep_only_the_first_and_the_last_zygote() {
    let mut running = small(&["-c", "conf.py"]).file("conf.py", THREADED).ready();
    for reload in 1..=4 {
        running.signal(Signal::HUP);
        running.await_log_times("reload finished", reload);
    }
    running.await_log_times("an earlier reload is ended", 2);
    running.await_children("three zygotes", |children| children.len() == 2 + 3);
    assert_eq!(running.stop(), End::Code(0));
}

fn site() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/wagtail")
}

/// A seeded Wagtail site with 8 gevent workers on one zygote, by an unmodified gunicorn.conf.py.
fn magazine(statsd: &UdpSocket) -> Running {
    let python = parts::wagtail_python();
    let interpreter = python.display().to_string();
    let service =
        Service::of_gunicorn(&["--interpreter", &interpreter, "-c", "@DIR@/gunicorn.conf.py", "--preload", "magazine.wsgi"]);
    let database = service.directory().join("magazine.sqlite3");
    for arguments in [&["manage.py", "migrate", "-v0"][..], &["manage.py", "seed"]] {
        let mut command = Command::new(python);
        command.args(arguments).current_dir(site()).env("MAGAZINE_DB", &database);
        parts::output(&mut command).unwrap_or_else(|error| panic!("{error}"));
    }
    let service = service.on_tcp();
    let settings = MAGAZINE
        .replace("@SITE@", &site().display().to_string())
        .replace("@STATSD@", &statsd.local_addr().expect("an address").to_string());
    service.filled_file("gunicorn.conf.py", &settings).ready()
}

/// Reads datagrams until they hold each of these.
fn await_metrics(statsd: &UdpSocket, wanted: &[&str]) {
    statsd.set_read_timeout(Some(Duration::from_secs(30))).expect("set a timeout");
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while !wanted.iter().all(|metric| said.contains(metric)) {
        let length = statsd.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}; of {wanted:?} came:\n{said}"));
        said += &String::from_utf8_lossy(&buffer[..length]);
        said.push('\n');
    }
}

#[test]
fn wagtail_runs_by_an_unmodified_gunicorn_conf_with_hooks_logs_and_statsd() {
    let statsd = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let mut running = magazine(&statsd);
    for _ in 0..16 {
        let page = running.get("/");
        assert_eq!(page.status, 200, "{}", page.text());
    }
    assert_eq!(running.get("/missing/").status, 404);
    await_metrics(
        &statsd,
        &[
            "magazine.gunicorn.workers:8|g",
            "magazine.gunicorn.requests:1|c",
            "gunicorn.request.status.404:1|c",
            "gunicorn.request.duration:",
        ],
    );
    let read = |running: &Running, name: &str| std::fs::read_to_string(running.directory().join(name)).unwrap_or_default();
    running.signal(Signal::HUP);
    running.await_log("reload finished");
    assert_eq!(running.get("/").status, 200);
    let access = running.directory().join("access.log");
    std::fs::rename(&access, running.directory().join("access.log.1")).expect("rotate the log");
    running.signal(Signal::USR1);
    running.await_in_file("access.log", "");
    running.get("/after-the-rotation/");
    running.await_in_file("access.log", "GET /after-the-rotation/ HTTP/1.1\" 404");
    assert_eq!(running.stop(), End::Code(0));
    assert!(read(&running, "access.log.1").contains("GET / HTTP/1.1\" 200"));
    let hooks = read(&running, "hooks.log");
    let times = |hook: &str| hooks.lines().filter(|line| line.split_whitespace().next() == Some(hook)).count();
    for (hook, count) in [("on_starting", 1), ("when_ready", 1), ("on_reload", 1), ("on_exit", 1)] {
        assert_eq!(times(hook), count, "{hook}:\n{hooks}");
    }
    for hook in ["pre_fork", "post_fork", "post_worker_init", "worker_exit", "child_exit"] {
        assert_eq!(times(hook), 16, "{hook}:\n{hooks}");
    }
    assert_eq!(times("pre_request"), times("post_request"), "{hooks}");
    assert!(read(&running, "error.log").contains("Booting worker with pid"), "{}", read(&running, "error.log"));
}
