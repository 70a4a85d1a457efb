//! Who workers are and what they see: users, groups, limits, cores, environment and descriptors (faults F56, F57, F58).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::parts;
use crate::support::process::End;
use crate::support::root;
use crate::support::service::{Running, Service};

const COMMAND: &str = r#"
workers = 2
connections = 9
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{connections}", "--faults"]
@APP@
[listen]
address = "@LISTEN@"
"#;

const PYTHON: &str = r#"
workers = 2
[app]
kind = "python"
app = "web"
interpreter = "@PYTHON@"
@APP@
[listen]
address = "@LISTEN@"
"#;

/// Remembers who imported it.
const WEB: &str = r"
import os
IMPORTED_BY = '%d %d' % (os.getuid(), os.getgid())
def application(environ, start_response):
    body = IMPORTED_BY.encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";

/// Debian's and Ubuntu's user without a home, and a group that is not its first.
const NOBODY: &str = "65534";
const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn command(app: &str) -> Service {
    open(Service::with_config(&COMMAND.replace("@APP@", app)))
}

fn python(app: &str) -> Service {
    let python = parts::python().display().to_string();
    open(Service::with_config(&PYTHON.replace("@PYTHON@", &python).replace("@APP@", app))).file("web.py", WEB)
}

/// Other users may enter its directory.
fn open(service: Service) -> Service {
    fs::set_permissions(service.directory(), fs::Permissions::from_mode(0o755)).expect("open the directory");
    service
}

/// The fields of /proc/PID/status.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the status");
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

fn variables(pid: u32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("read the environment");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split('\0').filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn assert_is_nobody(pid: u32) {
    let status = status(pid);
    assert_eq!(status["Uid"], [NOBODY; 4].join(" "));
    assert_eq!(status["Gid"], [NOBODY; 4].join(" "));
    assert_eq!(status["Groups"], NOBODY, "those of the user, none of ours");
    for capability in CAPABILITIES {
        assert_eq!(status[capability], "0000000000000000", "{capability}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    let variables = variables(pid);
    assert_eq!(variables["USER"], "nobody");
    assert_ne!(variables["HOME"], "/root");
}

#[test]
fn f58_workers_of_a_root_are_the_user_and_nothing_more() {
    if root::is_missing() {
        return;
    }
    let mut running = command("user = \"nobody\"").ready_through(Path::new("/usr/bin/setpriv"), &["--groups", "0,4,27"]);
    for pid in running.children() {
        assert_is_nobody(pid);
    }
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f58z_the_zygote_drops_before_it_imports() {
    if root::is_missing() {
        return;
    }
    // The parts' own interpreter may lie where other users cannot go.
    let packages = format!("user = \"nobody\"\nenv = {{ PYTHONPATH = \"{}\" }}", parts::packages().display());
    let mut running = python(&packages)
        .replacing(&parts::python().display().to_string(), "/usr/bin/python3")
        .ready_through(Path::new("/usr/bin/setpriv"), &["--groups", "0,4,27"]);
    assert_eq!(running.get("/").text(), format!("{NOBODY} {NOBODY}"));
    let all = running.children();
    assert_eq!(all.len(), 3);
    for pid in all {
        assert_is_nobody(pid);
    }
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_group_beside_the_users_own_is_taken() {
    if root::is_missing() {
        return;
    }
    let mut running = command("user = \"nobody\"\ngroup = \"4\"").ready();
    let status = status(running.children()[0]);
    assert_eq!((status["Gid"].as_str(), status["Groups"].as_str()), ("4 4 4 4", "4"));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_root_that_stays_root_takes_a_group() {
    if root::is_missing() {
        return;
    }
    let mut running = command("group = \"4\"").ready();
    let status = status(running.children()[0]);
    assert_eq!((status["Uid"].as_str(), status["Gid"].as_str()), ("0 0 0 0", "4 4 4 4"));
    assert!(status["Groups"].split(' ').any(|group| group == "4"), "{}", status["Groups"]);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_hook_that_may_not_signal_the_supervisor_is_told_so() {
    if root::is_missing() {
        return;
    }
    let app = format!(
        "user = \"nobody\"\nenv = {{ PYTHONPATH = \"{}\" }}\ngunicorn = [\"-c\", \"conf.py\"]",
        parts::packages().display()
    );
    let hook = "def when_ready(server):\n    server.reload()\n";
    let service = python(&app).file("conf.py", hook).replacing(&parts::python().display().to_string(), "/usr/bin/python3");
    let mut running = service.start();
    running.await_end();
    let told = format!("server.reload(): this process runs as user {NOBODY} and may not signal the supervisor");
    assert!(running.said().contains(&told), "{}", running.said());
}

/// What the application writes on the zygote's channel must not make a root signal others.
#[test]
fn a_zygote_cannot_name_a_process_that_is_not_a_worker() {
    let mut bystander = std::process::Command::new("sleep").arg("600").spawn().expect("start a bystander");
    let forged = format!(
        "import os\nfor worker in range(9):\n    os.write(3, b'{{\"forked\": {{\"worker\": %d, \"pid\": {}}}}}' % worker)\n{WEB}",
        bystander.id()
    );
    let mut running = python("").file("web.py", &forged).ready();
    assert_eq!(running.get("/").status, 200);
    assert_eq!(running.children().len(), 3);
    assert_eq!(running.stop(), End::Code(0));
    assert!(running.said().contains("the zygote answered what it was not asked"), "{}", running.said());
    assert_eq!(bystander.try_wait().expect("look at the bystander"), None);
    bystander.kill().expect("end the bystander");
    bystander.wait().expect("reap the bystander");
}

#[test]
fn a_user_that_is_not_there_is_named_at_the_start() {
    let mut running = command("user = \"no-such-user\"").start();
    assert_eq!(running.await_end(), End::Code(78));
    assert!(running.said().contains("app.user: there is no user \"no-such-user\""), "{}", running.said());
}

#[test]
fn limits_and_umask_hold_in_workers() {
    let lines = "umask = \"0027\"\n[limits]\nopen-files = 333\nprocesses = 4444\ncore = 0\naddress-space = \"64 GiB\"";
    for (service, path) in [(command(lines), "/ok"), (python(lines), "/")] {
        let mut running = service.ready();
        assert_eq!(running.get(path).status, 200);
        for pid in running.children() {
            assert_eq!(status(pid)["Umask"], "0027");
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("read the limits");
            for (name, wanted) in [
                ("Max open files", "333 333"),
                ("Max processes", "4444 4444"),
                ("Max core file size", "0 0"),
                ("Max address space", "68719476736 68719476736"),
            ] {
                let line = limits.lines().find(|line| line.starts_with(name)).expect(name);
                let values: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
                assert_eq!(values.join(" "), wanted, "{name}");
            }
        }
        assert_eq!(running.stop(), End::Code(0));
    }
}

#[test]
fn pinned_workers_keep_to_one_core_each() {
    for service in [command("cpu-affinity = \"pin\""), python("cpu-affinity = \"pin\"")] {
        let mut running = service.ready();
        let allowed = cores(running.pid());
        let mut workers = running.workers();
        workers.sort_unstable();
        let mut kept: Vec<_> = workers.iter().flat_map(|pid| cores(*pid)).collect();
        kept.sort_unstable();
        let mut wanted: Vec<_> = (0..2).map(|slot| allowed[slot % allowed.len()]).collect();
        wanted.sort_unstable();
        assert_eq!(kept, wanted);
        assert_eq!(running.stop(), End::Code(0));
    }
}

/// The cores a process may use.
fn cores(pid: u32) -> Vec<u16> {
    let list = status(pid).remove("Cpus_allowed_list").expect("the cores");
    let ranges = list.split(',').map(|range| {
        let (first, end) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u16>().expect("a core")..=end.parse::<u16>().expect("a core")
    });
    ranges.flatten().collect()
}

#[test]
fn f56_workers_see_what_is_passed_on_and_nothing_of_the_supervisors_own() {
    let ours = [
        ("SECRET", "s3cret"),
        ("APP_MODE", "live"),
        ("APP_KEY", "k"),
        ("WATCHDOG_USEC", "99999999"),
        ("LISTEN_FDNAMES", "theirs"),
        ("JOURNAL_STREAM", "8:1"),
        ("CREDENTIALS_DIRECTORY", "/run/credentials/x"),
        ("INVOCATION_ID", "1"),
    ];
    let told = |service: Service| {
        let service = ours.into_iter().fold(service, |service, (name, value)| service.env(name, value));
        let mut running = service.ready();
        let seen: Vec<_> = running.children().into_iter().map(variables).collect();
        assert_eq!(running.stop(), End::Code(0));
        seen
    };
    for make in [command, python] {
        for seen in told(make("")) {
            assert_eq!(
                (seen["SECRET"].as_str(), seen["APP_MODE"].as_str()),
                ("s3cret", "live"),
                "Django reads its settings there"
            );
            assert_not_told(&seen, &["WATCHDOG_PID", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY", "INVOCATION_ID"]);
            assert_ne!(seen.get("LISTEN_FDNAMES").map(String::as_str), Some("theirs"));
            assert!(seen["NOTIFY_SOCKET"].ends_with("/notify"), "{}", seen["NOTIFY_SOCKET"]);
        }
        let list = "pass-env = [\"APP_*\", \"CREDENTIALS_DIRECTORY\", \"TUNINGFORK_TEST_MARK\"]\nenv = { OWN = \"1\" }";
        for seen in told(make(list)) {
            assert_not_told(&seen, &["SECRET", "HOME", "JOURNAL_STREAM"]);
            for name in ["APP_MODE", "APP_KEY", "CREDENTIALS_DIRECTORY", "OWN"] {
                assert!(seen.contains_key(name), "{name} is missing");
            }
            let known = ["APP_", "CREDENTIALS_DIRECTORY", "OWN", "TUNINGFORK_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_USEC"];
            assert!(seen.keys().all(|name| known.iter().any(|known| name.starts_with(known))), "{seen:?}");
        }
    }
}

fn assert_not_told(seen: &BTreeMap<String, String>, names: &[&str]) {
    for name in names {
        assert!(!seen.contains_key(*name), "{name} was passed on");
    }
}

#[test]
fn f57_workers_have_no_descriptor_but_their_own() {
    let mut running = command("").ready_through(Path::new("/bin/sh"), &["-c", "exec 9</etc/hostname; exec \"$@\"", "sh"]);
    for pid in running.workers() {
        let mut open = descriptors(&running, pid);
        // Its own: an epoll instance, an eventfd, the way to the supervisor, whatever it opened after execve.
        open.retain(|(_, target)| !target.starts_with("anon_inode:") && !target.starts_with("socket:"));
        let files: Vec<_> = open.iter().filter(|(number, _)| *number > 2).collect();
        assert_eq!(files, Vec::<&(u32, String)>::new(), "nothing of the supervisor's");
    }
    assert_eq!(running.stop(), End::Code(0));
    let mut running = python("").ready_through(Path::new("/bin/sh"), &["-c", "exec 9</etc/hostname; exec \"$@\"", "sh"]);
    for pid in running.children() {
        let open = descriptors(&running, pid);
        assert!(open.iter().all(|(_, target)| target != "/etc/hostname"), "{open:?}");
    }
    assert_eq!(running.stop(), End::Code(0));
}

fn descriptors(running: &Running, pid: u32) -> Vec<(u32, String)> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).unwrap_or_else(|error| panic!("{error}\n{}", running.said()));
    let entries = folder.flatten().filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, target.display().to_string()))
    });
    entries.collect()
}
