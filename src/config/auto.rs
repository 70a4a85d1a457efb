//! How many workers "auto" means: Gunicorn's rule of thumb for the cores that may be used, as far as the memory goes. Says how it came to its
//! number. Asks no host: the caller describes it.

use std::fmt;
use std::num::NonZeroU16;

use super::Bytes;
use crate::units::Workers;

/// What a worker is reckoned to need: a small Django project's worker has 60 to 100 MiB, of which those forked from one zygote share a part.
const WORKER_MEMORY: Bytes = Bytes(64 << 20);
const MIB: u64 = 1 << 20;

/// What of a host may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that can work for us at the same time: affinity and quota seen, a quota rounded up.
    pub cores: NonZeroU16,
    /// Cores that are online.
    pub online: NonZeroU16,
    /// What a control group allows, percent of a core.
    pub quota_percent: Option<u32>,
    /// Memory of the host, or less where a control group bounds it; absent if it is not known.
    pub memory: Option<Bytes>,
}

impl Machine {
    /// A host with so many cores of which nothing else is known.
    #[must_use]
    pub const fn of_cores(cores: NonZeroU16) -> Self {
        Self { cores, online: cores, quota_percent: None, memory: None }
    }

    /// How many workers it should have until somebody measures.
    #[must_use]
    pub fn workers(&self) -> Workers {
        let rule = Workers::folk(self.cores);
        self.room().map_or(rule, |room| rule.min(room))
    }

    /// How many workers its memory is enough for; at least one.
    fn room(&self) -> Option<Workers> {
        let most = self.memory?.0 / WORKER_MEMORY.0;
        Workers::new(u32::try_from(most.clamp(1, u64::from(Workers::MAX))).unwrap_or(1))
    }
}

/// How [`Machine::workers`] came to its number.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, online, quota_percent, memory } = self;
        match quota_percent {
            Some(percent) => write!(f, "{cores} of {online} cores (quota {percent} %)")?,
            None if cores < online => write!(f, "{cores} of {online} cores (affinity)")?,
            None if cores.get() == 1 => write!(f, "1 core")?,
            None => write!(f, "{cores} cores")?,
        }
        let rule = Workers::folk(*cores);
        write!(f, ", 2 × {cores} + 1 = {rule}")?;
        let Some((memory, room)) = memory.zip(self.room()) else { return Ok(()) };
        let (memory, each) = (memory.0 / MIB, WORKER_MEMORY.0 / MIB);
        if room < rule {
            write!(f, ", but {memory} MiB of memory / {each} MiB = {room}")
        } else {
            write!(f, ", {memory} MiB of memory are enough")
        }
    }
}

/// Who said how many workers there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file.
    File,
    /// The environment variable WEB_CONCURRENCY.
    WebConcurrency,
    /// Nobody: it follows from the host.
    Auto(Machine),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the configuration"),
            Self::WebConcurrency => f.write_str("WEB_CONCURRENCY"),
            Self::Auto(machine) => write!(f, "auto: {machine}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_how_many_workers_they_get() {
        let table = [
            ((2, 2, None, None), 5, "2 cores, 2 × 2 + 1 = 5"),
            ((16, 16, None, Some(64 << 30)), 33, "16 cores, 2 × 16 + 1 = 33, 65536 MiB of memory are enough"),
            ((4, 16, None, Some(8 << 30)), 9, "4 of 16 cores (affinity), 2 × 4 + 1 = 9, 8192 MiB of memory are enough"),
            ((2, 16, Some(200), Some(512 << 20)), 5, "2 of 16 cores (quota 200 %), 2 × 2 + 1 = 5, 512 MiB of memory are enough"),
            (
                (1, 8, Some(50), Some(128 << 20)),
                2,
                "1 of 8 cores (quota 50 %), 2 × 1 + 1 = 3, but 128 MiB of memory / 64 MiB = 2",
            ),
            ((8, 8, None, Some(1 << 20)), 1, "8 cores, 2 × 8 + 1 = 17, but 1 MiB of memory / 64 MiB = 1"),
            (
                (1000, 1000, None, Some(u64::MAX)),
                1024,
                "1000 cores, 2 × 1000 + 1 = 1024, 17592186044415 MiB of memory are enough",
            ),
        ];
        for ((cores, online, quota_percent, memory), workers, told) in table {
            let some = |count| NonZeroU16::new(count).unwrap();
            let machine = Machine { cores: some(cores), online: some(online), quota_percent, memory: memory.map(Bytes) };
            assert_eq!((machine.workers().get(), machine.to_string().as_str()), (workers, told));
        }
        assert_eq!(Origin::Auto(Machine::of_cores(NonZeroU16::MIN)).to_string(), "auto: 1 core, 2 × 1 + 1 = 3");
    }
}
