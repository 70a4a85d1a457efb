//! Ways to search that know nothing of queues.

use tuningfork::study::{Candidate, Outcome, Pace, Purpose, Suggestion, Task};

use crate::regret;
use crate::simulation::{App, Chance, Host};
use crate::table::Run;

/// What a peer has tried, and what it would recommend.
struct Tried<'a> {
    app: &'a App,
    host: Host<'a>,
    best: f64,
    found: Vec<(Candidate, f64)>,
    run: Run,
}

impl<'a> Tried<'a> {
    fn new(app: &'a App, seed: u64, best: f64) -> Self {
        Self { app, host: app.host(Pace::Normal, seed), best, found: Vec::new(), run: Run::default() }
    }

    fn measure(&mut self, candidate: Candidate) -> f64 {
        let (purpose, task) = (Purpose::Neighbour, Task::Measure);
        let outcome = self.host.run(&Suggestion { candidate, purpose, task, expected: None, rival: None });
        let (capacity, seconds) = match outcome {
            Outcome::Measured(found) => (found.capacity, found.seconds),
            Outcome::Challenged(found) => (0.0, found.seconds),
            Outcome::Failed { seconds, .. } => (0.0, seconds),
        };
        self.found.push((candidate, capacity));
        self.run.seconds += seconds;
        let leader = self.found.iter().filter(|(_, capacity)| *capacity > 0.0).max_by(|one, other| one.1.total_cmp(&other.1));
        if let Some((candidate, _)) = leader {
            self.run.regrets.push(regret(self.app, Some(*candidate), self.best));
        }
        self.run.trials += 1;
        capacity
    }

    fn has(&self, candidate: Candidate) -> bool {
        self.found.iter().any(|(tried, _)| *tried == candidate)
    }
}

/// The rule of thumb, then candidates drawn evenly from the ladders.
pub(crate) fn random(app: &App, seed: u64, best: f64, trials: usize) -> Run {
    let mut chance = Chance::new(seed ^ 0xD1CE);
    let mut left = app.space().candidates();
    let mut tried = Tried::new(app, seed, best);
    tried.measure(app.space().baseline());
    while tried.found.len() < trials && !left.is_empty() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the length")]
        let drawn = ((chance.even() * left.len() as f64) as usize).min(left.len() - 1);
        tried.measure(left.swap_remove(drawn));
    }
    tried.run
}

/// From the rule of thumb along one axis while it improves, then along the other, until neither does.
pub(crate) fn coordinate_descent(app: &App, seed: u64, best: f64, trials: usize) -> Run {
    let space = app.space();
    let (workers, connections) = (space.worker_ladder(), space.connection_ladder());
    let mut tried = Tried::new(app, seed, best);
    let mut here = space.baseline();
    let mut capacity = tried.measure(here);
    loop {
        let before = here;
        for (along_workers, step) in [(false, 1), (false, -1), (true, 1), (true, -1)] {
            while tried.found.len() < trials {
                let next = if along_workers {
                    rung(&workers, here.workers, step).map(|workers| Candidate { workers, ..here })
                } else {
                    rung(&connections, here.connections, step).map(|connections| Candidate { connections, ..here })
                };
                let Some(next) = next.filter(|next| space.allows(*next) && !tried.has(*next)) else { break };
                let found = tried.measure(next);
                if found <= capacity {
                    break;
                }
                (here, capacity) = (next, found);
            }
        }
        if here == before || tried.found.len() >= trials {
            return tried.run;
        }
    }
}

fn rung<T: Copy + Ord>(ladder: &[T], from: T, step: isize) -> Option<T> {
    let here = ladder.binary_search(&from).unwrap_or_else(|next| next);
    ladder.get(here.checked_add_signed(step)?).copied()
}
