//! Real programs the tests need, made on first use in `tests/parts` (ignored by git): a virtual environment with pinned packages,
//! and nginx, Prometheus, wrk and others, from the system or unpacked from its packages without root. What cannot be had fails,
//! and says how to get it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where system administrators' programs are, which PATH often lacks.
const ALSO: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The interpreter of a virtual environment that holds what `tests/requirements.txt` pins.
pub(crate) fn python() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| locked(|| virtual_environment("venv", "requirements.txt")))
}

/// Where its packages lie: Gunicorn serves other interpreters too.
pub(crate) fn packages() -> PathBuf {
    let library = python().parent().and_then(Path::parent).expect("invariant: bin/python").join("lib");
    let versions = std::fs::read_dir(library).expect("list the library").flatten();
    versions.map(|version| version.path().join("site-packages")).find(|path| path.is_dir()).expect("packages")
}

/// The interpreter of another one, for the Wagtail site of `tests/apps/wagtail`.
pub(crate) fn wagtail_python() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| locked(|| virtual_environment("wagtail", "apps/wagtail/requirements.txt")))
}

/// The interpreter of another one, beside the load generators Locust and k6.
pub(crate) fn load_python() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| locked(|| virtual_environment("load", "load-requirements.txt")))
}

/// Any Python 3, for scripts that need no package.
pub(crate) fn system_python() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| {
        installed("python3").unwrap_or_else(|| panic!("python3 is missing: apt-get install python3 python3-venv"))
    })
}

/// nginx.
pub(crate) fn nginx() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| program("nginx", "nginx"))
}

/// The Prometheus server.
pub(crate) fn prometheus() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| program("prometheus", "prometheus"))
}

/// Prometheus's own checker.
pub(crate) fn promtool() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| program("promtool", "prometheus"))
}

/// The load generator wrk.
pub(crate) fn wrk() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| program("wrk", "wrk"))
}

/// The system call tracer.
pub(crate) fn strace() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| program("strace", "strace"))
}

/// A database.
pub(crate) fn redis() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| program("redis-server", "redis-server"))
}

/// What keeps cores busy.
pub(crate) fn stress_ng() -> &'static Path {
    static PART: OnceLock<PathBuf> = OnceLock::new();
    PART.get_or_init(|| program("stress-ng", "stress-ng"))
}

/// systemd's checker of units.
pub(crate) fn systemd_analyze() -> PathBuf {
    installed("systemd-analyze").unwrap_or_else(|| panic!("systemd-analyze is missing: apt-get install systemd"))
}

/// Runs a program to its end and gives its stdout and stderr, or all that can be said about its failure.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text.into_owned()) } else { Err(format!("{shown}: {}\n{text}", output.status)) }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parts")
}

/// Makes a part while no other test, in this process or another one, makes any.
fn locked(make: impl FnOnce() -> Result<PathBuf, String>) -> PathBuf {
    fs::create_dir_all(folder()).expect("make tests/parts");
    let lock = File::create(folder().join("lock")).expect("open the lock of tests/parts");
    lock.lock().expect("lock tests/parts");
    make().unwrap_or_else(|error| panic!("{error}"))
}

fn virtual_environment(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let base = system_python();
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(requirements);
    let pins = fs::read_to_string(&requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    let stamp = format!("{}{pins}", output(Command::new(base).arg("--version"))?);
    let (venv, stamped) = (folder().join(name), folder().join(format!("{name}.stamp")));
    let python = venv.join("bin/python");
    let is_usable = || output(Command::new(&python).args(["-c", "import pip"])).is_ok();
    if fs::read_to_string(&stamped).is_ok_and(|made| made == stamp) && is_usable() {
        return Ok(python);
    }
    output(Command::new(base).args(["-m", "venv", "--clear"]).arg(&venv))
        .map_err(|error| format!("{error}\nno virtual environment could be made: apt-get install python3-venv"))?;
    let install = ["-m", "pip", "--quiet", "--require-virtualenv", "--disable-pip-version-check", "install", "-r"];
    output(Command::new(&python).args(install).arg(&requirements))
        .map_err(|error| format!("{error}\npip could not install {}: is the package index reachable?", requirements.display()))?;
    fs::write(&stamped, stamp).map_err(|error| error.to_string())?;
    Ok(python)
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&path).chain(ALSO.map(PathBuf::from)).map(|folder| folder.join(name)).find(is_program)
}

fn program(name: &str, package: &str) -> PathBuf {
    installed(name).unwrap_or_else(|| {
        locked(|| {
            unpacked(name, package)
                .map_err(|error| format!("{error}\n{name} is missing: apt-get update && apt-get install {package}"))
        })
    })
}

/// Downloads a Debian package and those it needs that are not installed, and unpacks them. Needs neither root nor the right to
/// start services.
fn unpacked(name: &str, package: &str) -> Result<PathBuf, String> {
    let root = folder().join("debs").join(package);
    let wrapper = root.join(name);
    if wrapper.exists() {
        return Ok(wrapper);
    }
    fs::create_dir_all(&root).map_err(|error| error.to_string())?;
    let plan = output(Command::new("apt-get").args(["-s", "-qq", "install", "--no-install-recommends", package]))?;
    let mut missing: BTreeSet<&str> = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next()).collect();
    missing.insert(package);
    output(Command::new("apt-get").args(["-qq", "download"]).args(missing).current_dir(&root))?;
    for entry in fs::read_dir(&root).map_err(|error| error.to_string())?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg").arg("-x").arg(entry.path()).arg(root.join("tree")))?;
        }
    }
    // Its libraries lie beside it. Written last: a wrapper stands for a finished part.
    let text = format!(
        "#!/bin/sh\nroot='{}'\nlib=$(ls -d \"$root\"/usr/lib/*-linux-gnu* \"$root\"/lib/*-linux-gnu* 2>/dev/null | paste -s -d :)\n\
         for folder in bin sbin; do\n  program=\"$root/usr/$folder/{name}\"\n\
         \x20 if [ -x \"$program\" ]; then LD_LIBRARY_PATH=\"$lib\" exec \"$program\" \"$@\"; fi\ndone\n\
         echo \"{name} is not in the package {package}\" >&2\nexit 127\n",
        root.join("tree").display()
    );
    fs::write(&wrapper, text).map_err(|error| error.to_string())?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    Ok(wrapper)
}
