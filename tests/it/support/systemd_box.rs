//! A real systemd in namespaces of its own: process 1 of a throw-away copy of this machine, with this program and its units installed.
//! What a test leaves there is gone with it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use super::process::{self, send};
use super::root;
use super::turn::Turn;

/// How long anything in the box is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Names a folder of Debian packages whose files are put over this machine's: another systemd.
const PACKAGES: &str = "SYSTEMD_BOX_PACKAGES";

/// Boots: mounts first, or systemd's cleaning of temporary files would reach those of this machine.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t proc proc "$root/proc"; mount -t sysfs sysfs "$root/sys"; mount --rbind /dev "$root/dev"
mount -t cgroup2 none "$root/sys/fs/cgroup"; mount -t tmpfs tmpfs "$root/run"; mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$program" "$root/opt/tuningfork-program"
ip link set lo up 2>/dev/null || ifconfig lo up
cd "$root"; mkdir -p old; pivot_root . old; umount -l /old; cd /
export container=box
exec /lib/systemd/systemd --system --unit=box.target --log-target=null
"#;

/// Units that would reach out of the box: devices, modules, the kernel's settings, the clock, the network.
const MASKED: [&str; 12] = [
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-binfmt.service",
    "systemd-random-seed.service",
    "systemd-timesyncd.service",
    "systemd-networkd.service",
    "networking.service",
    "ifupdown-wait-online.service",
    "dev-hugepages.mount",
];

/// All boxes see one cgroup hierarchy, the machine's: of two at a time, one would end and wait for the processes of the other, since both
/// run a service of this name.
static HIERARCHY: Mutex<()> = Mutex::new(());

/// A booted system.
pub(crate) struct SystemdBox {
    shell: Child,
    /// systemd itself, as this machine numbers it.
    pid: u32,
    folder: TempDir,
    _hierarchy: MutexGuard<'static, ()>,
    _turn: Turn,
}

impl SystemdBox {
    /// Boots one in which the service `shop` is installed with this configuration; `None`, and a word that nobody overlooks, where that
    /// cannot be: without root.
    pub(crate) fn boot(config: &str, drop_in: &str) -> Option<Self> {
        if root::is_missing() {
            return None;
        }
        let hierarchy = HIERARCHY.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Turn::beside_others();
        let folder = tempfile::Builder::new().prefix("systemd-box").tempdir_in("/var/tmp").expect("make a directory");
        let tmpfs = folder.path().join("box");
        fs::create_dir(&tmpfs).expect("make a directory");
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&tmpfs));
        for name in ["upper", "scratch", "root"] {
            fs::create_dir(tmpfs.join(name)).expect("make a directory");
        }
        let (upper, scratch, root) = (tmpfs.join("upper"), tmpfs.join("scratch"), tmpfs.join("root"));
        let layers = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), scratch.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&root));
        install(&root, config, drop_in);
        let mut shell = Command::new("unshare");
        shell.args(["--pid", "--fork", "--mount", "--uts", "--ipc", "--cgroup", "--net", "--kill-child", "bash", "-c", BOOT]);
        shell.env("root", &root).env("program", env!("CARGO_BIN_EXE_tuningfork")).stdin(Stdio::null());
        shell.stderr(fs::File::create(folder.path().join("boot.log")).expect("make a file"));
        let shell = shell.spawn().expect("run unshare");
        let mut boxed = Self { shell, pid: 0, folder, _hierarchy: hierarchy, _turn: turn };
        boxed.pid = await_some("systemd", || process::children(boxed.shell.id()).first().copied());
        await_some("the boot", || boxed.systemctl(&["is-active", "--quiet", "box.target"]).status.success().then_some(()));
        Some(boxed)
    }

    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }

    /// Where a path of the box is for this machine.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Runs a shell command in the box.
    pub(crate) fn sh(&self, command: &str) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.pid.to_string(), "--all", "sh", "-c", command]);
        nsenter.stdin(Stdio::null()).output().expect("run nsenter")
    }

    /// Runs one that has to succeed, and gives what it printed.
    pub(crate) fn must(&self, command: &str) -> String {
        let output = self.sh(command);
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{command}: {}\n{said}\n{}", output.status, self.told());
        said
    }

    fn systemctl(&self, arguments: &[&str]) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.pid.to_string(), "--all", "systemctl"]).args(arguments);
        nsenter.stdin(Stdio::null()).output().expect("run nsenter")
    }

    /// One property of the service.
    pub(crate) fn property(&self, name: &str) -> String {
        let output = self.systemctl(&["show", "--value", "--property", name, "tuningfork@shop.service"]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Waits until a property of the service is as wanted, and gives it.
    pub(crate) fn await_property(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        let began = SystemTime::now();
        loop {
            let value = self.property(name);
            if wanted(&value) {
                return value;
            }
            assert!(began.elapsed().is_ok_and(|took| took < PATIENCE), "{name} stays {value:?}\n{}", self.told());
            rest();
        }
    }

    /// Waits until something is there.
    pub(crate) fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let began = SystemTime::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed().is_ok_and(|took| took < PATIENCE), "not in time: {what}\n{}", self.told());
            rest();
        }
    }

    /// The service's main process, as the box numbers it.
    pub(crate) fn main_pid(&self) -> u32 {
        self.property("MainPID").parse().expect("a pid")
    }

    /// Everything the journal has of the service, and how it is.
    pub(crate) fn told(&self) -> String {
        let command = "systemctl status --no-pager -l 'tuningfork@*'; journalctl --no-pager -o short-precise -u 'tuningfork@*' -u init.scope";
        let boot = fs::read_to_string(self.folder.path().join("boot.log")).unwrap_or_default();
        format!("{boot}{}", String::from_utf8_lossy(&self.sh(command).stdout))
    }

    /// Waits until the journal has a line with this.
    pub(crate) fn await_journal(&self, part: &str) {
        self.until(part, || {
            String::from_utf8_lossy(&self.sh("journalctl --no-pager -o cat").stdout).contains(part).then_some(())
        });
    }

    /// Does something in the network of the box. Threads that it starts are there too.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.pid)).expect("the box's network");
        std::thread::scope(|scope| {
            let visitor = scope.spawn(|| {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), Some(LinkNameSpaceType::Network))
                    .expect("enter it");
                act()
            });
            visitor.join().expect("what was done inside")
        })
    }

    /// Sends a signal to a process of the box.
    pub(crate) fn kill(&self, signal: &str, pid: u32) {
        self.must(&format!("kill -{signal} {pid}"));
    }
}

impl Drop for SystemdBox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::stderr().write_all(self.told().as_bytes());
        }
        send(self.pid, rustix::process::Signal::KILL);
        let _ = self.shell.wait();
        for mount in ["root", ""] {
            let _ = Command::new("umount").arg("-l").arg(self.folder.path().join("box").join(mount)).status();
        }
    }
}

/// What the box has beside what this machine has.
fn install(root: &Path, config: &str, drop_in: &str) {
    if let Some(folder) = std::env::var_os(PACKAGES) {
        for package in fs::read_dir(folder).expect("list the packages").flatten() {
            // Where this machine has a link to a folder (/lib), the folder's files go where it leads.
            let unpack = "dpkg-deb --fsys-tarfile \"$0\" | tar -x --keep-directory-symlink -C \"$1\"";
            run(Command::new("sh").args(["-c", unpack]).arg(package.path()).arg(root));
        }
    }
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("invariant: it is in a folder")).expect("make a folder");
        fs::write(path, text).expect("write a file");
    };
    let units = root.join("etc/systemd/system");
    for unit in MASKED {
        let _ = fs::remove_file(units.join(unit));
        std::os::unix::fs::symlink("/dev/null", units.join(unit)).expect("mask a unit");
    }
    for unit in ["tuningfork@.service", "tuningfork@.socket"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit)).expect("read a unit");
        write(&format!("etc/systemd/system/{unit}"), &text);
    }
    if !drop_in.is_empty() {
        write("etc/systemd/system/tuningfork@shop.service.d/test.conf", drop_in);
    }
    write("etc/systemd/system/box.target", "[Unit]\nRequires=basic.target systemd-journald.service\nAfter=basic.target\n");
    write("etc/systemd/journald.conf.d/box.conf", "[Journal]\nStorage=volatile\nRateLimitBurst=0\n");
    write("etc/tuningfork/shop.toml", config);
    write("opt/tuningfork-program", "");
    let program = root.join("usr/local/bin/tuningfork");
    let _ = fs::remove_file(&program);
    std::os::unix::fs::symlink("/opt/tuningfork-program", program).expect("link the program");
    for (file, line) in
        [("etc/passwd", "tuningfork:x:971:971::/nonexistent:/usr/sbin/nologin\n"), ("etc/group", "tuningfork:x:971:\n")]
    {
        let text = fs::read_to_string(root.join(file)).expect("read a file");
        write(file, &(text + line));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = SystemTime::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed().is_ok_and(|took| took < PATIENCE), "not in time: {what}");
        rest();
    }
}

/// Nobody announces what systemd does: it is looked at now and then.
fn rest() {
    let (lock, changed) = (std::sync::Mutex::new(()), std::sync::Condvar::new());
    drop(changed.wait_timeout(lock.lock().expect("a lock of our own"), LOOK));
}
