//! Why a request that was seen is not in the recording.

/// The reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A header or the target is not text.
    NotText,
    /// Its body is longer than what is kept.
    BodyTooLong,
    /// The file is written more slowly than requests come.
    QueueFull,
    /// It was answered when the recording had reached its limit.
    TooLate,
    /// Writing the file failed.
    Unwritten,
    /// Nobody can say for sure where it ends.
    Malformed,
    /// Its head is too long.
    HeadTooLong,
    /// The connection went over to another protocol.
    Upgraded,
    /// It was sent before the one before it was answered.
    Pipelined,
    /// Nobody can say for sure where the answer ends.
    Answer,
    /// The connection ended before the request and its answer were complete, or nobody can say whether the answer was.
    CutOff,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::NotText,
        Self::BodyTooLong,
        Self::QueueFull,
        Self::TooLate,
        Self::Unwritten,
        Self::Malformed,
        Self::HeadTooLong,
        Self::Upgraded,
        Self::Pipelined,
        Self::Answer,
        Self::CutOff,
    ];

    /// What a user reads.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotText => "a header or the target is not text",
            Self::BodyTooLong => "the body is longer than 512 KiB",
            Self::QueueFull => "the file could not be written fast enough",
            Self::TooLate => "the limit of the recording was reached",
            Self::Unwritten => "the file could not be written",
            Self::Malformed => "not the HTTP/1 that is read here",
            Self::HeadTooLong => "the head is longer than 64 KiB",
            Self::Upgraded => "the connection went over to another protocol",
            Self::Pipelined => "sent before the request before it was answered",
            Self::Answer => "the answer is not the HTTP/1 that is read here",
            Self::CutOff => "the connection ended before it and its answer were complete",
        }
    }
}
