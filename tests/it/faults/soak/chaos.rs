//! Faults of workers, of the supervisor's surroundings and of its clients, by seed. Some of them last for a while, and then end.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::{Disk, Soak};
use crate::faults::live::Live;
use crate::faults::probe::{descriptors, now};
use crate::faults::reloads::Dice;
use crate::support::PATIENCE;
use crate::support::cgroup::Cgroup;
use crate::support::http::{self, Address, Client};
use crate::support::process::{children, send};

/// How long a fault lasts that ends.
const LASTS: Duration = Duration::from_secs(2);
/// Clients of the metrics endpoint that say half a request.
const SLOW_CLIENTS: usize = 500;
/// Requests for 300 KB of log each.
const SPEWS: usize = 24;
/// How many kinds of faults there are.
pub(super) const FAULTS: u32 = 13;

/// What is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lasting {
    /// Every fork fails: no more processes.
    NoForks,
    /// No descriptor is left.
    NoDescriptors,
    /// Nobody reads the log.
    NoReader,
    /// The disk is full.
    NoSpace,
    /// Slow clients wait.
    SlowClients,
}

/// What has been done so far.
pub(super) struct Chaos {
    dice: Dice,
    /// Where the number of processes can be bounded.
    group: Option<Cgroup>,
    /// The limit that a supervisor without descriptors had.
    usual_descriptors: Option<Rlimit>,
    lasting: BTreeMap<Lasting, Duration>,
    slow: Vec<TcpStream>,
    counts: BTreeMap<&'static str, usize>,
}

impl Chaos {
    /// Prepares what faults need.
    pub(super) fn begin(live: &Live, dice: Dice) -> Self {
        let group = Cgroup::of("pids");
        if let Some(group) = &group {
            group.take(live.pid());
            for pid in children(live.pid()) {
                group.take(pid);
            }
        }
        Self { dice, group, usual_descriptors: None, lasting: BTreeMap::new(), slow: Vec::new(), counts: BTreeMap::new() }
    }

    /// Causes a fault by chance.
    pub(super) fn cause_one(&mut self, soak: &mut Soak) {
        let fault = self.dice.roll(u64::from(FAULTS));
        self.cause(soak, usize::try_from(fault).expect("small"));
    }

    /// Ends what has lasted for long enough, and causes the fault of this number; there are [`FAULTS`], and then the first again.
    pub(super) fn cause(&mut self, soak: &mut Soak, number: usize) {
        // Without descriptors nobody answers whom the next fault asks.
        let is_over = |(what, until): &(&Lasting, &Duration)| **until <= now() || **what == Lasting::NoDescriptors;
        let over: Vec<Lasting> = self.lasting.iter().filter(is_over).map(|(what, _)| *what).collect();
        for what in over {
            self.stop(soak, what);
        }
        let victim = usize::try_from(self.dice.roll(4)).expect("small");
        let victim = soak.live.serving().get(victim).copied();
        let name = match number % FAULTS as usize {
            0 => strike(victim, Signal::SEGV, "SEGV"),
            1 => strike(victim, Signal::KILL, "KILL"),
            2 => strike(victim, Signal::STOP, "STOP"),
            3 => hang(&soak.live),
            4 => {
                (0..1_000).for_each(|_| soak.live.signal(Signal::HUP));
                "1,000 HUP"
            }
            5 => {
                (0..100).for_each(|_| drop(http::get(&soak.metrics, "/metrics")));
                "100 scrapes"
            }
            6 => crowd(&soak.metrics),
            7 => self.start(soak, Lasting::SlowClients, victim),
            8 => self.start(soak, Lasting::NoForks, victim),
            9 => self.start(soak, Lasting::NoReader, victim),
            10 => self.start(soak, Lasting::NoSpace, victim),
            11 => {
                soak.live.signal(Signal::TTIN);
                soak.live.signal(Signal::TTOU);
                "TTIN, TTOU"
            }
            // The last, for it would keep others from happening.
            _ => self.start(soak, Lasting::NoDescriptors, victim),
        };
        *self.counts.entry(name).or_default() += 1;
    }

    /// Begins what lasts, and kills a worker meanwhile: it is then that its replacement is hard to make.
    fn start(&mut self, soak: &mut Soak, what: Lasting, victim: Option<u32>) -> &'static str {
        if self.lasting.contains_key(&what) {
            return "lasts already";
        }
        let name = match what {
            Lasting::NoForks => {
                let Some(group) = &self.group else { return "left out" };
                group.set("pids.max", "pids.max", "1");
                strike(victim, Signal::KILL, "no forks")
            }
            Lasting::NoDescriptors => {
                let (pid, usual) = (process(soak.live.pid()), getrlimit(Resource::Nofile));
                let open = Rlimit { current: Some(descriptors(soak.live.pid()) as u64), ..usual };
                self.usual_descriptors = Some(prlimit(pid, Resource::Nofile, open).expect("prlimit"));
                strike(victim, Signal::KILL, "no descriptors")
            }
            Lasting::NoReader => {
                soak.live.journal.hold();
                // More than the pipe holds, from every worker: what is remembered of each is full then. Who asks is answered,
                // whoever reads, unless it asks one that was killed before.
                (0..SPEWS).for_each(|_| drop(http::get(soak.live.address(), "/spew/300000")));
                "no reader of the log"
            }
            Lasting::NoSpace => {
                let Some(disk) = &soak.disk else { return "left out" };
                disk.fill();
                soak.live.signal(Signal::HUP);
                strike(victim, Signal::KILL, "full disk")
            }
            Lasting::SlowClients => {
                self.slow = slow_clients(&soak.metrics);
                "slow clients"
            }
        };
        self.lasting.insert(what, now() + LASTS);
        name
    }

    fn stop(&mut self, soak: &mut Soak, what: Lasting) {
        self.lasting.remove(&what);
        match what {
            Lasting::NoForks => self.group.iter().for_each(|group| group.set("pids.max", "pids.max", "max")),
            Lasting::NoDescriptors => {
                let usual = self.usual_descriptors.take().expect("invariant: it began");
                prlimit(process(soak.live.pid()), Resource::Nofile, usual).expect("prlimit");
            }
            Lasting::NoReader => read_on(&mut soak.live),
            Lasting::NoSpace => soak.disk.iter().for_each(Disk::clear),
            Lasting::SlowClients => self.slow.clear(),
        }
    }

    /// Ends everything; what is under way comes to its end, and nobody waits any more.
    pub(super) fn end(&mut self, soak: &mut Soak) {
        let all: Vec<Lasting> = self.lasting.keys().copied().collect();
        for what in all {
            self.stop(soak, what);
        }
        soak.live.wait("the end of all reloads", |lines| {
            let count = |part: &str| lines.iter().filter(|line| !line.starts_with("notify:") && line.contains(part)).count();
            (count("reload begins") == count("reload finished") + count("reload failed")).then_some(())
        });
        // The repair of what kept failing does not wait for the old failures.
        assert_eq!(soak.live.reload(PATIENCE), Ok(()), "{}", soak.live.said());
        soak.measure();
    }

    /// How often what was caused.
    pub(super) fn counts(&self) -> &BTreeMap<&'static str, usize> {
        &self.counts
    }
}

/// The workers that ended as none should, as the log tells it: only they may have taken requests along.
pub(super) fn dead(live: &Live) -> Vec<u32> {
    let (mut pids, mut dead) = (BTreeMap::new(), Vec::new());
    for line in live.journal.lines() {
        let Some(id) = field(&line, "id=") else { continue };
        if line.contains("worker ready") {
            pids.insert(id.to_owned(), field(&line, "pid=").and_then(|pid| pid.parse::<u32>().ok()));
        } else if line.contains("worker ended") && line.contains("exit=\"signal") {
            dead.extend(pids.get(id).copied().flatten());
        }
    }
    dead
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(&format!(" {name}"))?.1.split(' ').next()
}

fn strike(victim: Option<u32>, signal: Signal, name: &'static str) -> &'static str {
    if let Some(pid) = victim {
        send(pid, signal);
    }
    name
}

/// Reads the log again, up to what is said from now on.
fn read_on(live: &mut Live) {
    let heard = |lines: &[String]| lines.iter().filter(|line| line.contains("log files are opened anew")).count();
    let before = heard(&live.journal.lines());
    live.journal.release();
    live.signal(Signal::USR1);
    live.wait("the rest of the log", |lines| (heard(lines) > before).then_some(()));
}

/// Some worker hangs. Nobody waits for its answer: there is none.
fn hang(live: &Live) -> &'static str {
    let address = live.address().clone();
    std::thread::spawn(move || http::get(&address, "/hang"));
    "hang"
}

/// Many at the metrics endpoint at once.
fn crowd(metrics: &Address) -> &'static str {
    let mut clients: Vec<_> = (0..100).filter_map(|_| Client::connect(metrics, PATIENCE).ok()).collect();
    for client in &mut clients {
        let _ = client.get("/metrics");
    }
    "100 scrapers at once"
}

fn slow_clients(metrics: &Address) -> Vec<TcpStream> {
    let Address::Tcp(metrics) = metrics else { panic!("invariant: on TCP") };
    let half = |_| {
        let mut client = TcpStream::connect(metrics).ok()?;
        client.write_all(b"GET /metrics HTT").ok()?;
        Some(client)
    };
    (0..SLOW_CLIENTS).filter_map(half).collect()
}

fn process(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).expect("a pid"))
}
