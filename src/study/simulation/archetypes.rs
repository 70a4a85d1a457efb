//! Ten kinds of application, each on 2 to 64 cores, with numbers that differ from seed to seed.

use super::{App, Chance, Surface};
use crate::study::Dimensions;

/// The kinds, in the order of their seeds.
pub(crate) const KINDS: [&str; 10] = [
    "I/O-bound gevent",
    "CPU-bound",
    "mixed",
    "database pool",
    "memory-limited",
    "lock, retrograde",
    "downstream, retrograde",
    "heavy tail",
    "hyper-threads",
    "gthread",
];

/// How CPU per request grows with crowded cores: between the 0.03 of the design study and the 0.3 measured on two cores with Django and
/// Wagtail (`study::model`).
const CROWDING: f64 = 0.1;
const CORES: [u16; 6] = [2, 4, 8, 16, 32, 64];

pub(crate) const PLAIN: Surface = Surface {
    cores: 2.0,
    cpu: 0.010,
    cpu_cv2: 1.0,
    wait: 0.0,
    wait_cv2: 0.5,
    crowding: 0.03,
    juggling: 0.0006,
    threading: 0.0,
    switching: 20e-6,
    waking: 10e-6,
    sibling: 1.0,
    servers: 0.0,
    query: 0.0,
    lock: 0.0,
    contention: 0.0,
    knee: f64::INFINITY,
    bound: 0.7,
};

/// The application of a seed: its kind goes round, everything else is drawn.
pub(crate) fn of_seed(seed: u64) -> App {
    let kind = usize::try_from(seed % 10).expect("invariant: below ten");
    let mut chance = Chance::new(seed.wrapping_mul(0x9E37) ^ 0xA11CE);
    let cores = CORES[usize::try_from((seed / 10) % 6).expect("invariant: below six")];
    drawn(kind, cores, &mut chance)
}

/// An application of a kind.
pub(crate) fn drawn(kind: usize, cores: u16, chance: &mut Chance) -> App {
    let mut about = |value: f64, spread: f64| value * (spread * chance.normal().clamp(-2.0, 2.0)).exp();
    let c = f64::from(cores);
    let plain = Surface { cores: c, crowding: about(CROWDING, 0.8), juggling: about(0.0006, 0.5), ..PLAIN };
    let mut app = App { name: KINDS[kind], cores, ..App::PLAIN };
    let cpu = about([0.010, 0.040, 0.012, 0.008, 0.012, 0.006, 0.006, 0.015, 0.010, 0.015][kind], 0.35);
    let wait = about([0.4, 0.003, 0.06, 0.005, 0.12, 0.02, 0.15, 0.03, 0.15, 0.1][kind], 0.4);
    let surface = Surface { cpu, wait, ..plain };
    app.surface = match kind {
        0 => Surface { wait_cv2: 0.3, bound: (2.2 * wait).max(0.7), ..surface },
        1 | 2 => surface,
        3 => {
            let query = about(0.02, 0.3);
            let servers = (about(0.85, 0.2) * c / cpu * query).ceil();
            // A slot holds a connection, and the database has few to spare.
            app.max_slots = Some(whole((about(8.0, 0.3) * servers).max(4.0 * c)));
            Surface { servers, query, ..surface }
        }
        4 => {
            app.memory_a_worker = about(350.0, 0.2) * MIB;
            app.max_memory = Some(whole(about(1.6, 0.25) * c * app.memory_a_worker + app.memory_base));
            surface
        }
        5 => Surface { lock: cpu / c / about(0.8, 0.15), contention: about(0.03, 0.4), ..surface },
        6 => Surface { knee: about(2.0, 0.2) * wait * c / cpu, bound: 4.0 * wait + 0.3, ..surface },
        7 => Surface { cpu_cv2: about(12.0, 0.3), bound: 0.4, ..surface },
        8 => Surface { sibling: about(0.3, 0.15), ..surface },
        _ => {
            app.max_connections = Some(64);
            Surface { threading: about(0.015, 0.4), ..surface }
        }
    };
    app
}

const MIB: f64 = 1_048_576.0;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
const fn whole(value: f64) -> u64 {
    value as u64
}

/// Ten applications by name for tests of single ones: as drawn, with the middle of every number.
pub(crate) const fn named(name: &'static str, cores: u16, surface: Surface) -> App {
    App { name, cores, surface, ..App::PLAIN }
}

/// As `sync`: one request a worker at a time.
pub(crate) const fn one_at_a_time(app: App) -> App {
    App { dimensions: Dimensions::WorkersOnly, ..app }
}
