//! Interpreters that cannot be run, told with who tried, and services of one folder, each reached by its own control socket.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{folder_with, interpreter, small, tuningfork};
use crate::support::parts;
use crate::support::process::{End, lives};
use crate::support::root;
use crate::support::service::Service;

#[test]
fn an_interpreter_that_cannot_be_run_is_named_with_who_tried() {
    let folder = folder_with(&[("python", "")]);
    let path = folder.path().join("python").display().to_string();
    let (said, code) = tuningfork(folder.path(), &["gunicorn", "--interpreter", "./python", "web"]);
    assert_eq!(code, 78, "{said}");
    let who = parts::output(Command::new("id").arg("-un")).unwrap_or_else(|error| panic!("{error}"));
    let who = format!("cannot be started by user {}: ", who.trim());
    assert!(said.contains(&path.replace("/python", "/./python")) && said.contains(&who), "{said}");
    assert!(said.contains("not an executable file"), "{said}");
    let (said, code) = tuningfork(folder.path(), &["check", "--interpreter", "/no/such/python", "--", "web"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains(&format!("/no/such/python {who}")) && said.contains("No such file"), "{said}");
}

#[test]
fn a_user_who_may_not_run_the_interpreter_is_named() {
    if root::is_missing() {
        return;
    }
    let folder = folder_with(&[]);
    let python = folder.path().join("python");
    std::os::unix::fs::symlink("/bin/true", &python).expect("make a link");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("close the folder");
    let config = format!(
        "[app]\nkind = \"python\"\napp = \"web\"\ndirectory = \"/\"\nuser = \"nobody\"\ninterpreter = \"{}\"\n[listen]\naddress = \"@LISTEN@\"\n",
        python.display()
    );
    let mut running = Service::with_config(&config).start();
    assert_eq!(running.await_end(), End::Code(4));
    let said = running.said();
    assert!(said.contains(&format!("{} cannot be started by user nobody: execve", python.display())), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
}

#[test]
fn two_services_of_one_folder_are_both_reached() {
    let mut first = small(&[]).ready();
    let folder = first.directory().display().to_string();
    let config = first.directory().join("tuningfork.toml");
    std::fs::remove_file(&config).expect("remove a file that neither of them reads");
    let runtime = format!("XDG_RUNTIME_DIR={folder}");
    let second = Service::of_gunicorn(&["--interpreter", &interpreter(), "-b", "@LISTEN@", "-w", "1", "web"]);
    let mut second = second.ready_through(Path::new("/usr/bin/env"), &["-C", &folder, &runtime]);
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
        command.env_remove("RUNTIME_DIRECTORY").env("XDG_RUNTIME_DIR", &folder).current_dir(&folder);
        let output = command.arg("ctl").args(arguments).output().expect("run ctl");
        (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.code())
    };
    let (said, code) = ctl(&["status"]);
    assert_eq!(code, Some(69), "{said}");
    let sockets: Vec<&str> = said.split("--socket ").skip(1).map(|rest| rest.split([',', '\n']).next().unwrap_or(rest)).collect();
    let found: BTreeSet<u64> = sockets
        .iter()
        .map(|socket| {
            let (said, code) = ctl(&["--json", "status", "--socket", socket]);
            assert_eq!(code, Some(0), "{said}");
            serde_json::from_str::<serde_json::Value>(&said).expect("JSON")["pid"].as_u64().expect("a pid")
        })
        .collect();
    assert_eq!(found, BTreeSet::from([first.pid().into(), second.pid().into()]), "{said}");
    assert_eq!(second.stop(), End::Code(0));
    let (said, code) = ctl(&["--json", "status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("\"pid\":{},", first.pid())), "{said}");
    // A file is another service, which does not run.
    std::fs::write(config, "").expect("write a configuration");
    for arguments in [&["-c", "tuningfork.toml", "stop", "--wait"][..], &["-c", "other.toml", "stop"], &["stop", "--wait"]] {
        let (said, code) = ctl(arguments);
        let expected = if arguments.contains(&"other.toml") { 66 } else { 69 };
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
        assert!(said.contains("--socket ") && lives(first.pid()), "{arguments:?}: {said}");
    }
    assert_eq!(first.stop(), End::Code(0));
}
