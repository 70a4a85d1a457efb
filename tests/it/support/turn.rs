//! Who may use the machine. A test that compares speeds waits until no other test runs a program, and none starts one meanwhile.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

static TURNS: Mutex<Turns> = Mutex::new(Turns { beside: 0, alone: false, waiting: 0 });
static CHANGED: Condvar = Condvar::new();

struct Turns {
    beside: usize,
    alone: bool,
    /// Those who wait to be alone.
    waiting: usize,
}

/// The right to run a program, as long as it lives.
pub(crate) enum Turn {
    /// While others do.
    Beside,
    /// While nobody else does.
    Alone,
    /// In the turn of whoever starts it, who keeps that one longer.
    Within,
}

impl Turn {
    /// Waits while somebody is alone, or could be at once: whoever runs something already may run more, so nobody waits for itself.
    pub(crate) fn beside_others() -> Self {
        let mut turns = wait_while(|turns| turns.alone || (turns.waiting > 0 && turns.beside == 0));
        turns.beside += 1;
        Self::Beside
    }

    /// Waits until nobody runs anything. To be asked for by who runs nothing.
    pub(crate) fn alone() -> Self {
        wait_while(|_| false).waiting += 1;
        let mut turns = wait_while(|turns| turns.alone || turns.beside > 0);
        turns.waiting -= 1;
        turns.alone = true;
        Self::Alone
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = wait_while(|_| false);
        match self {
            Self::Beside => turns.beside -= 1,
            Self::Alone => turns.alone = false,
            Self::Within => {}
        }
        CHANGED.notify_all();
    }
}

fn wait_while(condition: impl Fn(&Turns) -> bool) -> MutexGuard<'static, Turns> {
    let turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    CHANGED.wait_while(turns, |turns| condition(turns)).unwrap_or_else(PoisonError::into_inner)
}
