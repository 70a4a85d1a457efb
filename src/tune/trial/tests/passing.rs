//! Trials that another guest of the host disturbs at first, and then no more.

use super::*;

/// A server from whose first `left` probes another guest takes.
struct Passing {
    server: Server,
    left: u32,
}

impl Stage for Passing {
    fn probe(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError> {
        self.server.steal = if self.left > 0 { 0.05 } else { 0.0 };
        self.left = self.left.saturating_sub(1);
        self.server.probe(probe, decide)
    }
    fn rest(&mut self, seconds: f64) -> Result<Window, TrialError> {
        self.server.rest(seconds)
    }
    fn memory(&mut self) -> Result<u64, TrialError> {
        self.server.memory()
    }
    fn elapsed(&mut self) -> f64 {
        self.server.elapsed()
    }
}

#[test]
fn a_light_probe_or_warm_up_that_settles_a_trial_passes_the_gates() {
    let outclassed = suggestion(None, Some(400.0));
    let ending = |server, rival: &Suggestion, left| {
        let found = run(&mut Passing { server, left }, &terms(2, Pace::Quick), rival, &mut |_| ()).unwrap();
        let Outcome::Measured(found) = found else { panic!("{found:?}") };
        (std::mem::discriminant(&found.ending), found.flags)
    };
    let (weaker, slow) = (std::mem::discriminant(&Ending::Outclassed(0.0)), std::mem::discriminant(&Ending::TooSlow));
    // Warm-up and light probe; and once more.
    assert_eq!(ending(Server::new(2, 0.01, 0.05), &outclassed, 2), (weaker, vec![]));
    assert_eq!(ending(Server::new(2, 0.01, 0.05), &outclassed, u32::MAX), (weaker, vec![Flag::Steal]));
    assert_eq!(ending(Server::new(2, 0.01, 1.0), &outclassed, u32::MAX), (slow, vec![Flag::Steal]));
    // Given up in the warm-up.
    assert_eq!(ending(Server::new(2, 2.0, 0.05), &outclassed, 1), (slow, vec![]));
    assert_eq!(ending(Server::new(2, 2.0, 0.05), &outclassed, u32::MAX), (slow, vec![Flag::Steal]));
}

/// A server that hardly answers as long as another guest takes from it.
struct Stalled(Passing);

impl Stage for Stalled {
    fn probe(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError> {
        self.0.server.service = if self.0.left > 0 { 3.0 } else { 0.01 };
        self.0.probe(probe, decide)
    }
    fn rest(&mut self, seconds: f64) -> Result<Window, TrialError> {
        self.0.rest(seconds)
    }
    fn memory(&mut self) -> Result<u64, TrialError> {
        self.0.memory()
    }
    fn elapsed(&mut self) -> f64 {
        self.0.elapsed()
    }
}

#[test]
fn a_warm_up_that_was_repeated_leaves_no_doubt_of_the_first_one() {
    let flags = |left| {
        let mut stage = Stalled(Passing { server: Server::new(2, 0.01, 0.05), left });
        let found = run(&mut stage, &terms(2, Pace::Quick), &suggestion(None, None), &mut |_| ()).unwrap();
        let Outcome::Measured(found) = found else { panic!("{found:?}") };
        (found.ending, found.flags)
    };
    assert_eq!(flags(1), (Ending::Held, vec![]));
    assert_eq!(flags(u32::MAX), (Ending::TooSlow, vec![Flag::Steal]));
}
