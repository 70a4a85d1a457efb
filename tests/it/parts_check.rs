//! Every real part starts and says its version.

use std::path::Path;
use std::process::Command;

use crate::support::parts;

fn says(program: &Path, arguments: &[&str], expected: &str) {
    let said = parts::output(Command::new(program).args(arguments)).unwrap_or_else(|error| panic!("{error}"));
    assert!(said.contains(expected), "{expected:?} is not in: {said}");
}

#[test]
fn part_python_has_the_pinned_packages() {
    let python = parts::python();
    says(python, &["-m", "gunicorn.app.wsgiapp", "--version"], "27.0.1");
    says(python, &["-c", "import django, gevent, uvicorn; print('all', django.__version__)"], "all");
}

#[test]
fn part_nginx_starts() {
    says(parts::nginx(), &["-v"], "nginx version");
}

#[test]
fn part_prometheus_starts() {
    says(parts::prometheus(), &["--version"], "prometheus, version");
}

#[test]
fn part_promtool_starts() {
    says(parts::promtool(), &["--version"], "promtool, version");
}

#[test]
fn part_stress_ng_starts() {
    says(parts::stress_ng(), &["--version"], "stress-ng, version");
}

#[test]
fn part_wrk_starts() {
    // wrk ends with 1 after it said its version.
    let said = parts::output(Command::new(parts::wrk()).arg("-v")).unwrap_or_else(|said| said);
    assert!(said.contains("wrk "), "{said}");
}
