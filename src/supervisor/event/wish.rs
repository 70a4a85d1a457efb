//! What a person can ask for, and what becomes of it. Refuses nothing itself: that is decided where the wish is taken in.

use crate::units::{Generation, WorkerId, Workers};

/// What a person asks for, by signal or through the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// HUP: load configuration and code again, replace the workers one by one.
    Reload,
    /// TTIN, TTOU: another number of workers.
    Scale(Scale),
    /// WINCH: all workers leave, the supervisor and its sockets stay. A reload, or another number of workers, brings them back.
    Rest,
    /// USR1: open log files anew, after they were moved away.
    ReopenLogs,
    /// USR2: go on as a newer version of this program.
    Upgrade,
    /// One worker is asked to leave; another takes its place at once.
    Replace(WorkerId),
    /// TERM (graceful), INT and QUIT (quick).
    Stop(Haste),
}

/// How many workers are wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// So many.
    To(Workers),
    /// So many more, up to [`Workers::MAX`].
    More(u16),
    /// So many fewer. The last worker is never taken away.
    Fewer(u16),
}

/// What will be done about a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It is being done.
    Now,
    /// The reload that makes this generation fulfils it. Wishes that come while one is under way share the next.
    By(Generation),
    /// So many workers are wanted from now on; none while the service rests.
    Target(u16),
    /// The same, and it is not what was asked for: there are to be one at least, and at most [`Workers::MAX`].
    Limited(u16),
}

/// Why nothing will be done about a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A stop has begun.
    #[error("the service is stopping")]
    Stopping,
    /// It left, or never was.
    #[error("there is no worker {0} (`tuningfork ctl status` lists them)")]
    NoSuchWorker(WorkerId),
    /// It was told to leave before.
    #[error("worker {0} is leaving already; another takes its place if one is wanted")]
    Leaving(WorkerId),
    /// The kernel holds it.
    #[error("worker {0} is stuck: even SIGKILL has not ended it; another takes its place if one is wanted")]
    Stuck(WorkerId),
}

/// What becomes of a wish.
pub type Answer = Result<Granted, Refusal>;

/// How a stop treats requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// They are answered, within the graceful timeout.
    Graceful,
    /// They are dropped.
    Quick,
}
