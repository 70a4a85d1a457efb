//! How `tuningfork run` starts, and what a person reads when it does not.

use std::fs;
use std::process::{Command, Output};

use crate::support::parts;
use crate::support::process::End;
use crate::support::service::Service;

fn tuningfork(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tuningfork")).args(arguments).output().expect("run tuningfork")
}

fn run_with(config: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("tuningfork.toml");
    fs::write(&file, config.replace("@DIR@", &directory.path().display().to_string())).expect("write the configuration");
    let output = tuningfork(&["run", "-c", &file.display().to_string()]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).replace(&directory.path().display().to_string(), "@DIR@"))
}

#[test]
fn a_missing_configuration_ends_with_66() {
    let output = tuningfork(&["run", "-c", "/nonexistent/tuningfork.toml"]);
    assert_eq!(output.status.code(), Some(66));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/nonexistent/tuningfork.toml: No such file"), "{said}");
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once() {
    let (code, said) = run_with("workers = 0\nconections = 5\n[app]\nkind = \"python\"\n[listen]\naddress = \"nonsense\"\n");
    assert_eq!(code, Some(78));
    for part in [
        "tuningfork.toml:1: workers",
        "tuningfork.toml:2: conections",
        "connections",
        "app.app",
        "tuningfork.toml:6: listen.address",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

#[test]
fn a_port_in_use_ends_with_75_and_names_who_has_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("ask for the port");
    let (code, said) = run_with(&format!("[app]\nkind = \"command\"\ncommand = [\"true\"]\n[listen]\naddress = \"{address}\"\n"));
    assert_eq!(code, Some(75));
    assert!(said.contains(&format!("{address} is in use by pid {}", std::process::id())), "{said}");
}

#[test]
fn a_socket_that_cannot_be_made_ends_with_73() {
    let (code, said) =
        run_with("[app]\nkind = \"command\"\ncommand = [\"true\"]\n[listen]\naddress = \"unix:/nonexistent/web.sock\"\n");
    assert_eq!(code, Some(73));
    assert!(said.contains("unix:/nonexistent/web.sock: No such file or directory"), "{said}");
}

#[test]
fn a_socket_file_left_by_a_killed_supervisor_is_taken_over() {
    let service = Service::of_demo_workers(1, 10);
    let path = service.directory().join("web.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
    let mut running = service.ready();
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.stop(), End::Code(0));
    assert!(!path.exists(), "the socket file is left");
}

#[test]
fn a_unix_socket_gets_its_mode_and_owner() {
    use std::os::unix::fs::MetadataExt;

    let owner = rustix::process::getuid().as_raw();
    let name = parts::output(Command::new("id").args(["-un", &owner.to_string()])).expect("id");
    let config = r#"
workers = 1
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "9"]
[listen]
address = "@LISTEN@"
mode = "0640"
owner = "@OWNER@"
"#;
    let mut running = Service::with_config(&config.replace("@OWNER@", name.trim())).ready();
    let about = fs::metadata(running.directory().join("web.sock")).expect("the socket");
    assert_eq!((about.mode() & 0o777, about.uid()), (0o640, owner));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let service = Service::of_demo_workers(1, 10).file("web.sock", "precious");
    let mut running = service.start();
    assert_eq!(running.await_end(), End::Code(73));
    assert!(running.said().contains("a file that is no socket has this name"), "{}", running.said());
    assert_eq!(fs::read_to_string(running.directory().join("web.sock")).expect("the file"), "precious");
}

#[test]
fn the_socket_of_a_successor_is_not_removed() {
    let mut first = Service::of_demo_workers(1, 10).ready();
    let path = first.directory().join("web.sock");
    fs::remove_file(&path).expect("remove the socket file");
    let successor = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    assert_eq!(first.stop(), End::Code(0));
    assert!(path.exists(), "the successor cannot be reached any more");
    drop(successor);
}

#[test]
fn a_program_that_is_not_there_ends_with_3() {
    let config = "[app]\nkind = \"command\"\ncommand = [\"no-such-program\"]\n[listen]\naddress = \"unix:@DIR@/web.sock\"\n";
    let (code, said) = run_with(config);
    assert_eq!(code, Some(3));
    assert!(said.contains("\"no-such-program\" is not an executable file in PATH"), "{said}");
}

#[test]
fn workers_that_never_boot_end_with_3_after_three_attempts() {
    let mut running = Service::of_demo_workers(1, 10).file("boot_fail", "").start();
    assert_eq!(running.await_end(), End::Code(3));
    let said = running.said();
    assert_eq!(said.matches("ERROR worker ended").count(), 3, "{said}");
    assert!(said.contains("no worker became ready"), "{said}");
}

#[test]
fn a_worker_that_is_not_ready_in_time_is_ended() {
    let config = r#"
boot-timeout = 1
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "9", "--faults", "--steer", "@DIR@"]
[listen]
address = "@LISTEN@"
"#;
    let mut running = Service::with_config(config).file("never_ready", "").start();
    running.await_log("worker not ready within `boot-timeout`");
    assert_eq!(running.await_end(), End::Code(3));
}

const PYTHON: &str = r#"
[app]
kind = "python"
app = "web"
interpreter = "@PYTHON@"
[listen]
address = "@LISTEN@"
"#;

fn python_config() -> String {
    PYTHON.replace("@PYTHON@", &parts::python().display().to_string())
}

#[test]
fn an_application_that_cannot_be_imported_ends_with_4_and_its_traceback() {
    let mut running = Service::with_config(&python_config()).file("web.py", "import no_such_module\n").start();
    assert_eq!(running.await_end(), End::Code(4));
    let said = running.said();
    assert!(said.contains("web.py\", line 1"), "{said}");
    assert!(said.contains("ModuleNotFoundError: No module named 'no_such_module'"), "{said}");
}

#[test]
fn how_a_python_ended_that_did_not_survive_the_import_is_told() {
    for (app, told) in [
        ("import os\nos._exit(7)\n", "the Python process ended with exit code 7 while it imported"),
        ("import os\nos.kill(os.getpid(), 11)\n", "the Python process ended with signal 11 while it imported"),
    ] {
        let mut running = Service::with_config(&python_config()).file("web.py", app).start();
        assert_eq!(running.await_end(), End::Code(4));
        assert!(running.said().contains(told), "{}", running.said());
    }
}

#[test]
fn an_interpreter_without_gunicorn_is_told_what_to_install() {
    let directory = tempfile::tempdir().expect("make a directory");
    let made = Command::new(parts::system_python()).args(["-m", "venv", "--without-pip"]).arg(directory.path()).status();
    assert!(made.expect("run python3").success());
    let python = directory.path().join("bin/python");
    let config = PYTHON.replace("@PYTHON@", &python.display().to_string());
    let mut running = Service::with_config(&config).file("web.py", "").start();
    assert_eq!(running.await_end(), End::Code(4));
    let said = running.said();
    assert!(said.contains("pip install") && said.contains("gunicorn") && said.contains(&python.display().to_string()), "{said}");
}

#[test]
fn web_concurrency_sets_the_number_of_workers() {
    let config = r#"
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "9"]
[listen]
address = "@LISTEN@"
"#;
    let mut running = Service::with_config(config).env("WEB_CONCURRENCY", "3").ready();
    assert_eq!(running.children().len(), 3);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_socket_that_a_service_manager_passes_is_used() {
    let script = "import os, socket, sys\n\
                  s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(16)\n\
                  open(sys.argv[1] + '/port', 'w').write(str(s.getsockname()[1]))\n\
                  os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n\
                  os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
                  os.execv(sys.argv[2], sys.argv[2:])\n";
    let service = Service::of_demo_workers(2, 10);
    let directory = service.directory().display().to_string();
    let mut running = service.ready_through(parts::system_python(), &["-c", script, &directory]);
    let port = fs::read_to_string(running.directory().join("port")).expect("read the port");
    let address = crate::support::http::Address::Tcp(format!("127.0.0.1:{port}"));
    assert_eq!(crate::support::http::get(&address, "/ok").expect("an answer").status, 200);
    assert_eq!(running.stop(), End::Code(0));
}
