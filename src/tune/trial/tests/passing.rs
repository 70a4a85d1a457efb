//! Trials that another guest of the host disturbs at first, and then no more.

use super::*;

/// A server from whose first `left` probes another guest takes, and whose requests take `meanwhile` until then.
struct Passing {
    server: Server,
    left: u32,
    meanwhile: f64,
}

impl Stage for Passing {
    fn probe(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError> {
        let service = self.server.service;
        (self.server.steal, self.server.service) = if self.left > 0 { (0.05, self.meanwhile) } else { (0.0, service) };
        self.left = self.left.saturating_sub(1);
        let found = self.server.probe(probe, decide);
        self.server.service = service;
        found
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
    let ending = |server: Server, rival: &Suggestion, left| {
        let meanwhile = server.service;
        let found = run(&mut Passing { server, left, meanwhile }, &terms(2, Pace::Quick), rival, &mut |_| ()).unwrap();
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

#[test]
fn a_warm_up_that_was_repeated_leaves_no_doubt_of_the_first_one() {
    let flags = |left| {
        // It hardly answers as long as it is disturbed.
        let mut stage = Passing { server: Server::new(2, 0.01, 0.05), left, meanwhile: 3.0 };
        let found = run(&mut stage, &terms(2, Pace::Quick), &suggestion(None, None), &mut |_| ()).unwrap();
        let Outcome::Measured(found) = found else { panic!("{found:?}") };
        (found.ending, found.flags)
    };
    assert_eq!(flags(1), (Ending::Held, vec![]));
    assert_eq!(flags(u32::MAX), (Ending::TooSlow, vec![Flag::Steal]));
}
