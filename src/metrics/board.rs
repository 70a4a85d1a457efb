//! Hands the supervisor's state from its main thread to whoever reads it. Refuses to make the writer wait:
//! the lock is held for the exchange of one pointer, never for building, reading or freeing what it points to.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

/// The latest value somebody published.
#[derive(Debug, Default)]
pub struct Board<T>(Mutex<Arc<T>>);

impl<T> Board<T> {
    /// A board that shows `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    /// Shows `value` from now on.
    pub fn publish(&self, value: T) {
        let value = Arc::new(value);
        let old = mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), value);
        drop(old);
    }

    /// What is shown now.
    #[must_use]
    pub fn read(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_keeps_what_it_read() {
        let board = Board::new(vec![1]);
        let first = board.read();
        board.publish(vec![1, 2]);
        assert_eq!((first.len(), board.read().len()), (1, 2));
    }
}
