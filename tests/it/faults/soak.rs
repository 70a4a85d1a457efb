//! Everything one after the other: a minute in CI; `FAULT_SOAK_SECONDS=720` in the release build is the soak that precedes a
//! release. Same seed, same faults.
//!
//! A quiet phase; reloads, some of them broken; upgrades, some of them to bad programs; each fault of the chaos twice, then by
//! chance; SIGKILL of a supervisor under systemd; a quiet phase again. Nothing may be lost but what killed workers held, and the
//! supervisor ends with the descriptors and the memory it had.

mod chaos;
mod under_systemd;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use self::chaos::Chaos;
use super::live::Live;
use super::load::{Load, Mode, Offered, Report};
use super::probe::{descriptors, now, pause, since, status, verdict};
use super::reloads::Dice;
use super::subject::{Kind, PROGRAM, Subject};
use super::upgrades::{put_good, script};
use crate::support::PATIENCE;
use crate::support::hammer::Outcome;
use crate::support::http::Address;
use crate::support::root;
use crate::support::service::free_port;

/// Seconds of a soak of a minute: quiet, reloads, upgrades, chaos, systemd, quiet.
const PARTS: [f64; 6] = [5.0, 15.0, 12.5, 10.0, 10.0, 7.5];
const SEED: u64 = 1;
/// From one reload, upgrade or fault to the next.
const RELOADS_EVERY: Duration = Duration::from_secs(3);
const UPGRADES_EVERY: Duration = Duration::from_secs(6);
const FAULTS_EVERY: Duration = Duration::from_millis(500);
/// Most that the supervisor's own memory (RssAnon: not the pages of the program, which come and go with the kernel's need) may
/// grow in the second half of the chaos and after it, KiB.
const GROWTH: u64 = 1024;
/// Connections of a worker: as many requests may be lost with each that is killed.
const CONNECTIONS: u16 = 16;

/// What is under way.
struct Soak {
    live: Live,
    metrics: Address,
    /// A small disk for the pid file and the control socket.
    disk: Option<Disk>,
    begun: Duration,
    /// Finished and refused.
    reloads: [usize; 2],
    upgrades: [usize; 2],
    sent: usize,
    lost: BTreeMap<Outcome, usize>,
}

/// A file system of 64 KiB.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir(path).expect("make a folder");
        if root::is_missing() {
            return None;
        }
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=16", "tmpfs"]).arg(path).status();
        assert!(mounted.expect("run mount").success(), "mount");
        Some(Self { path: path.to_owned() })
    }

    /// Not a byte and not a name more fits.
    fn fill(&self) {
        // Whether the last block is written in part is the same to us.
        let _ = fs::write(self.path.join("filler"), vec![b'x'; 128 << 10]);
        for number in 0.. {
            if fs::write(self.path.join(format!("filler-{number}")), "").is_err() {
                break;
            }
        }
    }

    fn clear(&self) {
        let files = fs::read_dir(&self.path).expect("list the disk").flatten();
        for file in files.filter(|file| file.file_name().to_string_lossy().starts_with("filler")) {
            fs::remove_file(file.path()).expect("remove a file");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

impl Soak {
    fn start() -> Self {
        let metrics = format!("127.0.0.1:{}", free_port());
        let sections = format!("[metrics]\nlisten = \"{metrics}\"\n[control]\nsocket = \"@DIR@/run/control.sock\"\n");
        let subject =
            Subject::of(Kind::Command).workers(4).connections(CONNECTIONS).timeout(2).graceful_timeout(5).boot_timeout(5);
        let subject = subject.on_tcp().linked().file("ledger", "").top("pidfile = \"@DIR@/pid\"\n").sections(&sections);
        let disk = Disk::mount(&subject.directory().join("run"));
        let live = subject.ready();
        let (reloads, upgrades, lost) = ([0, 0], [0, 0], BTreeMap::new());
        Self { live, metrics: Address::Tcp(metrics), disk, begun: now(), reloads, upgrades, sent: 0, lost }
    }

    /// Load in one mode while something is done again and again. It goes on until its report is asked for.
    fn phase(&mut self, span: Duration, mode: Mode, every: Duration, mut act: impl FnMut(&mut Self, usize)) -> Offered {
        let rate = if cfg!(debug_assertions) { 200.0 } else { 2_000.0 };
        let load = Load { clients: 32, ..Load::new(self.live.address(), mode, rate) }.start();
        let begun = now();
        for number in 0.. {
            if since(begun) >= span {
                break;
            }
            act(self, number);
            let next = (every * u32::try_from(number + 1).expect("few")).min(span);
            pause(next.saturating_sub(since(begun)));
        }
        load
    }

    /// Ends the load of a phase, counts it in, and says where its losses were. Numbers begin again in the next.
    fn account(&mut self, name: &str, load: Offered, dead: impl FnOnce(&Live) -> Vec<u32>) -> Report {
        let report = load.finish();
        let dead = dead(&self.live);
        let places = report.places(&self.live.text("ledger"), &dead);
        assert!(places.twice.is_empty(), "{name}: read twice: {:?}", places.twice);
        assert!(
            places.with_the_living.is_empty(),
            "{name}: lost by workers that lived on: {:?}, {}; dead: {dead:?}\n{}",
            places.with_the_living,
            report.classes(),
            self.live.said()
        );
        let held = places.never_read + places.with_the_dead;
        assert!(
            held <= dead.len() * usize::from(CONNECTIONS),
            "{name}: {held} lost with {} workers: {}",
            dead.len(),
            report.classes()
        );
        assert!(!report.lost.values().any(|outcome| *outcome == Outcome::Refused), "{name}: refused: {}", report.classes());
        self.live.put("ledger", "");
        self.sent += report.sent;
        for outcome in report.lost.values() {
            *self.lost.entry(*outcome).or_default() += 1;
        }
        self.tell(name, &report);
        report
    }

    #[expect(clippy::print_stdout, reason = "a soak is watched with --nocapture")]
    fn tell(&self, name: &str, report: &Report) {
        let (lost, spans) = (report.classes(), report.spans());
        println!("{:4.0} s  {name}: {} requests, lost: {lost}; {spans}", since(self.begun).as_secs_f64(), report.sent);
    }

    fn reload(&mut self, number: usize) {
        let file = self.live.directory().join("tuningfork.toml");
        let (broken, good) = (number % 10 == 3, self.live.config());
        match (broken, self.reloads[1] % 2) {
            (true, 0) => self.live.put("boot_fail", ""),
            (true, _) => fs::write(&file, "workers = = 4\n").expect("write the configuration"),
            (false, _) => {}
        }
        let ended = self.live.reload(PATIENCE);
        match (broken, self.reloads[1] % 2) {
            (true, 0) => self.live.take("boot_fail"),
            (true, _) => fs::write(&file, good).expect("write the configuration"),
            (false, _) => {}
        }
        assert_eq!(ended.is_err(), broken, "{ended:?}");
        self.reloads[usize::from(broken)] += 1;
    }

    /// Every fifth is to a bad program; the disk is full in one of the others.
    fn upgrade(&mut self) {
        let number = self.upgrades.iter().sum::<usize>();
        let (program, main) = (self.live.directory().join(PROGRAM), self.live.pid());
        let bad = number % 5 == 1;
        let full = self.disk.as_ref().filter(|_| number % 5 == 2);
        if bad {
            script(&program, "exit 9");
        } else {
            put_good(&program, number);
        }
        full.inspect(|disk| disk.fill());
        let ended = self.live.upgrade(PATIENCE);
        full.inspect(|disk| disk.clear());
        assert_eq!(ended.is_err(), bad, "{ended:?}\n{}", self.live.said());
        assert_eq!(main == self.live.pid(), bad, "the chain of main processes");
        self.upgrades[usize::from(bad)] += 1;
    }

    /// Descriptors, the memory that is its own, and all that is resident, KiB.
    fn measure(&mut self) -> (usize, [u64; 2]) {
        self.live.await_ready_workers("four workers", |now| now.len() == 4);
        let memory = ["RssAnon", "VmRSS"].map(|field| status(self.live.pid(), field).expect("its memory"));
        (descriptors(self.live.pid()), memory)
    }
}

#[test]
fn soak() {
    let seconds =
        std::env::var("FAULT_SOAK_SECONDS").map_or(60.0, |seconds| seconds.parse().expect("FAULT_SOAK_SECONDS is a number"));
    let [quiet, reloading, upgrading, chaotic, killing, after] = PARTS.map(|part| Duration::from_secs_f64(part * seconds / 60.0));
    let mut soak = Soak::start();
    let nobody = |_: &Live| Vec::new();
    let load = soak.phase(quiet, Mode::New, quiet, |_, _| ());
    let first = soak.account("quiet", load, nobody);
    let (mut all_reloads, every) = (0, UPGRADES_EVERY.min(upgrading / 3));
    for mode in [Mode::New, Mode::KeepAlive, Mode::Post16k] {
        let load = soak.phase(reloading / 3, mode, RELOADS_EVERY, |soak, _| {
            soak.reload(all_reloads);
            all_reloads += 1;
        });
        soak.account("reloads", load, nobody);
    }
    for mode in [Mode::New, Mode::KeepAlive, Mode::Post16k] {
        let load = soak.phase(upgrading / 3, mode, every, |soak, _| soak.upgrade());
        soak.account("upgrades", load, nobody);
    }
    let mut chaos = Chaos::begin(&soak.live, Dice::of(SEED));
    // Twice: memory for the worst of each is taken when two come together.
    let load = soak.phase(FAULTS_EVERY * 2 * chaos::FAULTS, Mode::New, FAULTS_EVERY, |soak, number| chaos.cause(soak, number));
    chaos.end(&mut soak);
    soak.account("each fault", load, chaos::dead);
    let mut dead_before = chaos::dead(&soak.live).len();
    // In chaos memory for the worst that comes together is taken and kept: more in the first minute, little in each that follows.
    // What leaks is taken in each.
    let (mut open, mut memory) = (0, [0, 0]);
    for half in ["chaos", "chaos again"] {
        (open, memory) = soak.measure();
        let load = soak.phase(chaotic / 2, Mode::New, FAULTS_EVERY, |soak, _| chaos.cause_one(soak));
        chaos.end(&mut soak);
        soak.account(half, load, |live| chaos::dead(live).split_off(dead_before));
        dead_before = chaos::dead(&soak.live).len();
    }
    let killed = under_systemd::kill_again_and_again(killing);
    let load = soak.phase(after, Mode::New, after, |_, _| ());
    let last = soak.account("quiet again", load, nobody);
    let pid = soak.live.pid();
    soak.live.wait("no more descriptors than before", |_| (descriptors(pid) <= open).then_some(()));
    let (descriptors, later) = soak.measure();
    let grown = later[0].saturating_sub(memory[0]);
    let classes: BTreeMap<String, usize> = soak.lost.iter().map(|(class, count)| (format!("{class:?}"), *count)).collect();
    let millis = |report: &Report| [0.5, 0.99, 1.0].map(|share| (report.span(share).as_secs_f64() * 1e4).round() / 10.0);
    let found = json!({
        "seconds": seconds, "seed": SEED, "sent": soak.sent, "lost_with_killed_workers": classes, "reloads": soak.reloads, "upgrades": soak.upgrades,
        "faults": chaos.counts(), "under_systemd": killed, "ms_p50_p99_max_at_first": millis(&first), "ms_p50_p99_max_at_last": millis(&last),
        "descriptors": [open, descriptors], "kib_own_and_resident_before": memory, "kib_own_and_resident_after": later,
    });
    verdict("soak", grown < GROWTH, &found.to_string());
    drop(soak.disk.take());
    soak.live.audit();
}
