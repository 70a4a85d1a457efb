//! Exact accounting of a recording: what was taken, what was written, and what was not and why.

use std::fmt;
use std::time::Duration;

use super::reason::Reason;

/// What a tap has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// For how long connections were taken.
    pub lasted: Duration,
    /// Connections of clients that went through the tap, on TCP and on unix sockets.
    pub tcp: u64,
    /// The same, unix sockets.
    pub unix: u64,
    /// TCP connections that this host accepted meanwhile, the tap's own left out; `None` where the kernel does not tell.
    pub host_tcp: Option<u64>,
    /// Our own TCP connections to the workers.
    pub own_tcp: u64,
    /// The tap's own connections that came back to it before a worker took them, and were relayed again.
    pub again: u64,
    /// Connections that could not be relayed.
    pub failed: u64,
    /// Connections that were cut when the time to finish was over.
    pub cut: u64,
    /// Attempts to take a connection that the system refused.
    pub refused: u64,
    /// Bytes that came from clients, and from workers.
    pub bytes: [u64; 2],
    /// Requests that the system took for the file.
    pub recorded: u64,
    /// Bytes of them, before compression.
    pub written: u64,
    /// Requests that are not, by reason, in the order of [`Reason::ALL`].
    pub skipped: [u64; Reason::ALL.len()],
    /// Connections that were relayed to their end but not read to it: what they carried after that is not counted.
    pub unread: u64,
}

impl Account {
    /// Counts requests that are not in the file.
    pub(super) fn skip(&mut self, reason: Reason, requests: u64) {
        *self.skipped(reason) += requests;
    }

    fn skipped(&mut self, reason: Reason) -> &mut u64 {
        let place = Reason::ALL.iter().position(|known| *known == reason).expect("invariant: ALL has every reason");
        &mut self.skipped[place]
    }

    /// Corrects what was recorded by what is found in a file that could not be written to its end.
    pub fn found(&mut self, requests: u64, bytes: u64) {
        let recorded = std::mem::replace(&mut self.recorded, requests);
        let unwritten = self.skipped(Reason::Unwritten);
        *unwritten = (*unwritten + recorded).saturating_sub(requests);
        self.written = bytes;
    }

    fn share(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.lasted.as_secs_f64();
        write!(f, "{} connections went through the tap in {seconds:.1} s", self.tcp + self.unix)?;
        match self.host_tcp.filter(|_| self.tcp > 0) {
            Some(all) => {
                let all = all.max(self.tcp);
                let share = self.tcp as f64 / all as f64 * 100.0;
                write!(f, "\n  TCP: {} of at most {all} that this host accepted meanwhile: at least {share:.0} %", self.tcp)?;
            }
            None if self.tcp > 0 => write!(f, "\n  TCP: {}; of how many is not known", self.tcp)?,
            None => {}
        }
        if self.unix > 0 {
            write!(f, "\n  unix sockets: {}; of how many is not known", self.unix)?;
        }
        Ok(())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} requests recorded, {} bytes of JSON Lines", self.recorded, self.written)?;
        self.share(f)?;
        write!(f, "\n  {} bytes came from clients, {} from workers", self.bytes[0], self.bytes[1])?;
        let counts = [
            (self.again, "came back to the tap before a worker took them, and were relayed again"),
            (self.failed, "could not be relayed: the workers took no connection, or could not be reached"),
            (self.cut, "were cut: they had not ended in time"),
            (self.unread, "were relayed whole but read in part; what they carried after that is not counted"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "\n  {count} {what}")?;
        }
        if self.refused > 0 {
            write!(f, "\n  {} times the system refused to take a connection", self.refused)?;
        }
        write!(f, "\n{} requests were seen and not recorded", self.skipped.iter().sum::<u64>())?;
        for (count, reason) in self.skipped.iter().zip(Reason::ALL).filter(|(count, _)| **count > 0) {
            write!(f, "\n  {count}: {}", reason.words())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_in_the_file_counts() {
        let mut account = Account { recorded: 5, ..Account::default() };
        account.skip(Reason::Unwritten, 10);
        account.found(12, 99);
        assert_eq!((account.recorded, account.written, *account.skipped(Reason::Unwritten)), (12, 99, 3));
    }

    #[test]
    fn everything_that_happened_is_told() {
        let mut account =
            Account { lasted: Duration::from_mins(1), tcp: 50, unix: 3, host_tcp: Some(400), recorded: 90, ..Account::default() };
        account.skip(Reason::CutOff, 2);
        account.unread = 2;
        account.cut = 1;
        insta::assert_snapshot!(account.to_string(), @"
        90 requests recorded, 0 bytes of JSON Lines
        53 connections went through the tap in 60.0 s
          TCP: 50 of at most 400 that this host accepted meanwhile: at least 12 %
          unix sockets: 3; of how many is not known
          0 bytes came from clients, 0 from workers
          1 were cut: they had not ended in time
          2 were relayed whole but read in part; what they carried after that is not counted
        2 requests were seen and not recorded
          2: the connection ended before it and its answer were complete
        ");
        let quiet = Account { unix: 1, ..Account::default() };
        insta::assert_snapshot!(quiet.to_string(), @"
        0 requests recorded, 0 bytes of JSON Lines
        1 connections went through the tap in 0.0 s
          unix sockets: 1; of how many is not known
          0 bytes came from clients, 0 from workers
        0 requests were seen and not recorded
        ");
    }
}
