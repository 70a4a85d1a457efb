//! The way of requests from their sources into the recording: spread over their second, in order of arrival, numbered, written. Holds
//! a bounded number of them.

use std::io::{self, Write};

use super::arrival::{Arrival, Clock, Numbering, nanos};
use super::reorder::Reorder;
use super::seconds::{Seconds, Timed};
use super::sessions::Sessions;
use crate::recording::{JitterSeed, Meta, Request, UnixNanos, Writer};

/// Writes a recording whose requests come nearly in order.
pub(super) struct Outlet<W: Write> {
    seconds: Seconds,
    exit: Exit<W>,
}

/// What follows the spreading of whole seconds.
struct Exit<W: Write> {
    reorder: Reorder,
    sessions: Sessions,
    output: Output<W>,
    latest: UnixNanos,
    written: u64,
    out_of_order: u64,
}

/// Nothing is written before there is a request, so that a failed import leaves nothing behind.
enum Output<W: Write> {
    Untouched(W, Box<Meta>),
    Begun(Writer<W>),
    /// Beginning it failed.
    Lost,
}

impl<W: Write> Outlet<W> {
    pub(super) fn new(output: W, meta: Meta, seed: JitterSeed) -> Self {
        let exit = Exit {
            reorder: Reorder::default(),
            sessions: Sessions::default(),
            output: Output::Untouched(output, Box::new(meta)),
            latest: UnixNanos(i64::MIN),
            written: 0,
            out_of_order: 0,
        };
        Self { seconds: Seconds::new(seed), exit }
    }

    /// Another input begins.
    pub(super) fn begin_input(&mut self) {
        self.seconds.begin_input();
        self.exit.reorder.begin_input();
    }

    /// Takes a request and writes those that need not wait any longer.
    pub(super) fn take(&mut self, arrival: Arrival) -> io::Result<()> {
        match arrival.clock {
            Clock::Exact { noted } => {
                self.exit.reorder.push(arrival.request, arrival.place, noted);
                self.exit.release()
            }
            Clock::WholeSecond { back } => {
                self.seconds.push(Timed { request: arrival.request, back });
                while self.seconds.release(|timed| self.exit.take(timed))? {}
                Ok(())
            }
        }
    }

    /// Writes what is left. Returns the output, how many requests were written, and how many of them out of order.
    pub(super) fn finish(mut self) -> io::Result<(W, u64, u64)> {
        self.seconds.release_all(|timed| self.exit.take(timed))?;
        while let Some((request, place)) = self.exit.reorder.pop_any() {
            self.exit.write(request, place)?;
        }
        let output = match self.exit.output {
            Output::Untouched(output, _) => output,
            Output::Begun(writer) => writer.finish()?,
            Output::Lost => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        Ok((output, self.exit.written, self.exit.out_of_order))
    }
}

impl<W: Write> Exit<W> {
    /// Takes a request that has its place within its second.
    fn take(&mut self, timed: Timed) -> io::Result<()> {
        match timed.back {
            // In order already, and nothing to wait for.
            None if self.reorder.is_empty() => self.write(timed.request, Numbering::Told),
            back => {
                let noted = timed.request.at.0.saturating_add(back.map_or(0, nanos));
                self.reorder.push(timed.request, Numbering::Told, UnixNanos(noted));
                self.release()
            }
        }
    }

    fn release(&mut self) -> io::Result<()> {
        while let Some((request, place)) = self.reorder.pop() {
            self.write(request, place)?;
        }
        Ok(())
    }

    fn write(&mut self, mut request: Request, place: Numbering) -> io::Result<()> {
        match place {
            Numbering::Told => {}
            Numbering::Counted => self.sessions.number(&mut request),
        }
        self.written += 1;
        self.out_of_order += u64::from(request.at < self.latest);
        self.latest = self.latest.max(request.at);
        self.writer()?.write(&request)
    }

    fn writer(&mut self) -> io::Result<&mut Writer<W>> {
        if let Output::Untouched(..) = self.output
            && let Output::Untouched(output, meta) = std::mem::replace(&mut self.output, Output::Lost)
        {
            self.output = Output::Begun(Writer::new(output, &meta)?);
        }
        match &mut self.output {
            Output::Begun(writer) => Ok(writer),
            Output::Untouched(..) | Output::Lost => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
