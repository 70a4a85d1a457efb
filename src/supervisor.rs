//! Decides what happens to workers: `(Moment, Event) → Vec<Command>`.

pub mod event;
