//! Adds up the CPU time of all the processes that filled a slot, so that a replacement does not set the counter back.
//! Time a process used between the last scrape and its end is lost: nobody was there to read it.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::time::Duration;

use super::WorkerRow;
use crate::units::{Slot, WorkerId};

/// What was counted so far. Bounded: one sum for every slot there ever was, one entry for every living worker.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    living: HashMap<(Slot, WorkerId), Duration>,
    ended: BTreeMap<Slot, Duration>,
}

impl Ledger {
    /// Enters what the rows read and gives the total of every slot among them. No total is ever less than before.
    pub(super) fn enter(&mut self, rows: &[WorkerRow]) -> BTreeMap<Slot, Duration> {
        let mut living = HashMap::with_capacity(rows.len());
        for row in rows {
            let Some(process) = &row.process else { continue };
            let key = (row.slot, process.worker);
            let known = self.living.remove(&key).unwrap_or_default();
            let read = process.reading.map_or(Duration::ZERO, |reading| reading.cpu);
            // The largest: a process that went away reads nothing, and one that is listed twice counts once.
            let counted: &mut Duration = living.entry(key).or_default();
            *counted = known.max(read).max(*counted);
        }
        for ((slot, _), last) in mem::replace(&mut self.living, living) {
            add(&mut self.ended, slot, last);
        }
        let ended = |row: &WorkerRow| (row.slot, self.ended.get(&row.slot).copied().unwrap_or_default());
        let mut totals: BTreeMap<_, _> = rows.iter().map(ended).collect();
        for ((slot, _), cpu) in &self.living {
            add(&mut totals, *slot, *cpu);
        }
        totals
    }
}

fn add(sums: &mut BTreeMap<Slot, Duration>, slot: Slot, span: Duration) {
    let sum = sums.entry(slot).or_default();
    *sum = sum.saturating_add(span);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::WorkerProcess;
    use crate::supervisor::event::WorkerState;
    use crate::units::Generation;
    use crate::usage::ProcessReading;
    use proptest::prelude::*;

    fn row(slot: u16, worker: u64, seconds: Option<u64>) -> WorkerRow {
        let reading = seconds.map(|seconds| ProcessReading { cpu: Duration::from_secs(seconds), ..ProcessReading::default() });
        let process = WorkerProcess { worker: WorkerId(worker), pid: 1, generation: Generation::FIRST, reading };
        WorkerRow { slot: Slot(slot), state: WorkerState::Ready, process: Some(process) }
    }

    fn seconds(ledger: &mut Ledger, rows: &[WorkerRow]) -> Vec<(u16, u64)> {
        ledger.enter(rows).into_iter().map(|(slot, total)| (slot.0, total.as_secs())).collect()
    }

    #[test]
    fn a_replacement_counts_on() {
        let mut ledger = Ledger::default();
        let empty = WorkerRow { slot: Slot(0), state: WorkerState::Waiting, process: None };
        assert_eq!(seconds(&mut ledger, &[row(0, 1, Some(10))]), [(0, 10)]);
        assert_eq!(seconds(&mut ledger, &[row(0, 1, Some(12)), row(0, 2, Some(1))]), [(0, 13)]);
        assert_eq!(seconds(&mut ledger, &[row(0, 1, None), row(0, 2, Some(2))]), [(0, 14)]);
        assert_eq!(seconds(&mut ledger, &[row(0, 2, Some(3))]), [(0, 15)]);
        assert_eq!(seconds(&mut ledger, &[empty]), [(0, 15)]);
        assert_eq!(seconds(&mut ledger, &[row(0, 3, None), row(1, 4, Some(7))]), [(0, 15), (1, 7)]);
        assert_eq!(seconds(&mut ledger, &[]), []);
        assert_eq!(seconds(&mut ledger, &[row(0, 5, Some(1)), row(1, 6, Some(1))]), [(0, 16), (1, 8)]);
    }

    proptest! {
        #[test]
        fn a_total_never_falls(scrapes: Vec<Vec<(u8, u8, Option<u8>)>>) {
            let (mut ledger, mut last) = (Ledger::default(), BTreeMap::new());
            for scrape in scrapes {
                let rows: Vec<_> =
                    scrape.into_iter().map(|(slot, worker, cpu)| row(u16::from(slot % 3), u64::from(worker % 5), cpu.map(u64::from))).collect();
                for (slot, total) in ledger.enter(&rows) {
                    prop_assert!(last.insert(slot, total).is_none_or(|before| before <= total));
                }
            }
        }
    }
}
