//! How many requests a second a simulated pre-fork server holds within its latency bound, as a function of workers and connections.
//!
//! An analytic model: queues at the cores, at each worker's event loop, at a lock, at a database and for slots, each by Sakasegawa's approximation of
//! M/G/m (Annals of the Institute of Statistical Mathematics 29, 1977), joined by a fixed point, because CPU per request, time in a downstream service and
//! the lock's holding time grow with the requests inside. It knows penalties that the search's own model does not: crowding of caches,
//! context switches, woken idle workers, hyper-threads, retrograde resources.

/// What a request needs, and what makes it need more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surface {
    pub(crate) cores: f64,
    /// CPU seconds of a request with a worker a core; the squared coefficient of variation.
    pub(crate) cpu: f64,
    pub(crate) cpu_cv2: f64,
    /// Seconds a request waits for others, holding its slot, and how they vary.
    pub(crate) wait: f64,
    pub(crate) wait_cv2: f64,
    /// Share by which CPU grows for every further worker a core (caches), saturating.
    pub(crate) crowding: f64,
    /// Share by which CPU grows for every request inside the same worker.
    pub(crate) juggling: f64,
    /// Share by which CPU grows with the logarithm of the threads of a worker (a lock of the interpreter).
    pub(crate) threading: f64,
    /// CPU seconds of a context switch, and of waking one idle worker for nothing.
    pub(crate) switching: f64,
    pub(crate) waking: f64,
    /// What a busy hyper-thread adds to its sibling's core; 1 without hyper-threads.
    pub(crate) sibling: f64,
    /// Servers of a database, and seconds of a request there. No servers: no database.
    pub(crate) servers: f64,
    pub(crate) query: f64,
    /// Seconds for which a request holds a lock that blocks its worker, and by what share every waiting worker lengthens them.
    pub(crate) lock: f64,
    pub(crate) contention: f64,
    /// Requests inside at which the wait has doubled; infinite if it does not grow.
    pub(crate) knee: f64,
    /// The bound of the 90th percentile of latency, seconds.
    pub(crate) bound: f64,
}

/// A server under a rate that it can bear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    /// Cores' worth of CPU, as the kernel counts it.
    pub(crate) busy: f64,
    /// Requests inside the workers.
    pub(crate) inside: f64,
}

/// Mean wait for `servers` servers, each `service` seconds a request, at utilisation `load` below 1.
fn queue(load: f64, servers: f64, service: f64, cv2: f64) -> f64 {
    f64::midpoint(1.0, cv2) * load.powf((2.0 * (servers + 1.0)).sqrt() - 1.0) / (servers * (1.0 - load)) * service
}

/// The quantile `z` standard deviations above the median of the log-normal distribution with this mean and variance.
fn log_normal(mean: f64, variance: f64, z: f64) -> f64 {
    let spread = (variance / mean.powi(2)).ln_1p();
    mean * (z * spread.sqrt() - spread / 2.0).exp()
}

/// The share of the queueing that is for one worker alone, because a request comes back to its worker after a wait; and how much of the rest becomes so
/// with many connections a worker, because a busy worker then takes requests that an idle one could serve.
const BOUND_TO_WORKER: f64 = 0.2;
const HOARDED: f64 = 0.4;
const HALF_HOARDED: f64 = 60.0;
const ROUNDS: usize = 14;

impl Surface {
    /// What busy threads can do, in cores.
    fn power(&self, threads: f64) -> f64 {
        let whole = if self.sibling < 1.0 { self.cores / 2.0 } else { self.cores };
        threads.min(whole) + (threads.min(self.cores) - whole).max(0.0) * self.sibling
    }

    /// The threads that are busy to do `work` cores' worth.
    fn threads(&self, work: f64) -> f64 {
        let whole = if self.sibling < 1.0 { self.cores / 2.0 } else { self.cores };
        work.min(whole) + (work - whole).max(0.0) / self.sibling
    }

    /// CPU seconds of a request when `inside` requests are inside and `runnable` workers want a core.
    fn demand(&self, workers: f64, connections: f64, inside: f64, runnable: f64) -> f64 {
        let crowd = (workers / self.cores - 1.0).max(0.0);
        let slice = (0.006 * self.cores / runnable.max(self.cores)).max(0.00075);
        let lost = if runnable > self.cores { self.switching / slice } else { 0.0 };
        let grown = (1.0 + self.crowding * crowd / (1.0 + 0.25 * crowd))
            * (1.0 + self.juggling * (inside / workers).min(connections))
            * (1.0 + self.threading * connections.ln());
        self.cpu * grown * (1.0 + lost) + self.waking * (workers - runnable).clamp(0.0, 16.0)
    }

    /// The server under `rate`, or `None` if it cannot bear it.
    pub(crate) fn under(&self, workers: f64, connections: f64, rate: f64) -> Option<Point> {
        let slots = workers * connections;
        let processors = workers.min(self.cores);
        let power = self.power(processors);
        let (mut inside, mut runnable, mut waiting) = (rate * (self.cpu + self.wait), rate * self.cpu, 0.0);
        let mut last = None;
        for _ in 0..ROUNDS {
            let cpu = self.demand(workers, connections, inside, runnable.min(workers));
            let load = rate * cpu / power;
            let holding = self.lock * (1.0 + self.contention * waiting);
            // A burst must not start a growth that does not end.
            let burst = (waiting + 2.0 * (waiting + 1.0_f64).sqrt()).min(workers - 1.0);
            let locked = holding * (1.0 + waiting);
            let own = rate * (cpu * processors / power + locked) / workers;
            let queries = if self.servers > 0.0 { rate * self.query / self.servers } else { 0.0 };
            if load >= 1.0 || own >= 1.0 || queries >= 1.0 || rate * self.lock * (1.0 + self.contention * burst) >= 1.0 {
                return None;
            }
            let held = rate * holding;
            waiting = (held / (1.0 - held).max(1e-6)).min(workers - 1.0);
            // Workers that share a core interleave short and long requests.
            let cv2 = 1.0 + (self.cpu_cv2 - 1.0) * (self.cores / workers).min(1.0);
            let service = cpu * processors / power;
            let alone = BOUND_TO_WORKER + HOARDED * connections / (connections + HALF_HOARDED);
            let queued = (1.0 - alone) * queue(load, processors, service, cv2) + alone * queue(own, 1.0, service, cv2) * 0.5;
            let outside = self.wait * (1.0 + (inside / self.knee).powi(2));
            let answered = if self.servers > 0.0 { queue(queries, self.servers, self.query, 1.0) + self.query } else { 0.0 };
            let residence = queued + service + locked + outside + answered;
            let taken = 1.02 * rate * residence / slots;
            if taken >= 1.0 {
                return None;
            }
            let admission = queue(taken, slots, residence, 0.5);
            let mean = admission + residence;
            let variance = admission * admission
                + queued * queued
                + self.cpu_cv2 * service * service
                + self.wait_cv2 * outside * outside
                + answered * answered
                + locked * locked;
            runnable = rate * (queued + service);
            inside = 0.5 * inside + 0.5 * (rate * residence).min(slots);
            let quantile = |z| log_normal(mean, variance, z);
            let busy = self.threads(rate * cpu).min(self.cores);
            last = Some(Point { p50: quantile(0.0), p90: quantile(1.2816), p99: quantile(2.3263), busy, inside });
        }
        last.filter(|point| self.survives_bursts(point, slots, rate))
    }

    /// Whether a service that slows down with the requests in it recovers from a burst.
    fn survives_bursts(&self, point: &Point, slots: f64, rate: f64) -> bool {
        let burst = (point.inside + 3.0 * point.inside.sqrt()).min(slots);
        let outside = self.wait * (1.0 + (burst / self.knee).powi(2));
        self.knee.is_infinite() || burst / (self.cpu + outside) >= 0.999 * rate
    }

    fn holds(&self, workers: f64, connections: f64, rate: f64) -> bool {
        self.under(workers, connections, rate).is_some_and(|point| point.p90 <= self.bound)
    }

    /// The highest rate held within the bound, to a thousandth.
    pub(crate) fn capacity(&self, workers: f64, connections: f64) -> f64 {
        let slots = workers * connections;
        let (mut held, mut missed) = (0.0, (self.cores.min(workers) / self.cpu).min(slots / (self.cpu + self.wait)));
        for _ in 0..11 {
            let rate = 0.5 * (held + missed);
            if self.holds(workers, connections, rate) {
                held = rate;
            } else {
                missed = rate;
            }
        }
        0.5 * (held + missed)
    }
}
