//! A rate that changes over time: straight lines between points, given as `0:100,60s:2000,2m:0`. Refuses points that go back in time,
//! rates that are negative or beyond a bound, and a profile that sends nothing.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::units::Rate;

/// The most points of a profile.
pub const MAX_POINTS: usize = 1_000;
/// The longest profile: a day.
pub const MAX_LENGTH: Duration = Duration::from_secs(86_400);
/// The highest rate of a profile, requests a second.
pub const MAX_PROFILE_RATE: f64 = 1_000_000.0;

/// A rate as a piecewise linear function of time. At least two points, the first at zero, and not zero everywhere. Two points at one
/// time are a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    points: Vec<Point>,
}

/// The rate at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: Duration,
    rate: f64,
}

/// Why a text is no profile.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// A part is not `TIME:RATE`.
    #[error("{0:?} is not TIME:RATE; a profile looks like 0:100,60s:2000")]
    Point(String),
    /// A time cannot be read.
    #[error("{0:?} is not a time; write it like 0, 90s or 2m")]
    Time(String),
    /// A rate cannot be read or is out of range.
    #[error("{0:?} is not a rate between 0 and {MAX_PROFILE_RATE} requests a second")]
    Rate(String),
    /// One point is no profile.
    #[error("a profile needs at least two points, such as 0:100,60s:2000")]
    TooFew,
    /// A bound is reached.
    #[error("a profile has at most {MAX_POINTS} points")]
    TooMany,
    /// The first point is late.
    #[error("the first point must be at 0, not at {}", humantime::format_duration(*.0))]
    Start(Duration),
    /// A point is before the one in front of it.
    #[error("{} comes after {}; the times must not go back", humantime::format_duration(*.later), humantime::format_duration(*.earlier))]
    GoesBack {
        /// The time that should be earlier.
        earlier: Duration,
        /// The time that follows.
        later: Duration,
    },
    /// It lasts too long.
    #[error("a profile lasts at most {}", humantime::format_duration(MAX_LENGTH))]
    TooLong,
    /// Its rate is zero throughout.
    #[error("the rate is zero all the time; nothing would be sent")]
    Silent,
}

impl Profile {
    /// From the start to the last point, where sending ends.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.points.last().map_or(Duration::ZERO, |point| point.at)
    }

    /// The highest rate.
    #[must_use]
    pub fn peak(&self) -> Rate {
        let highest = self.points.iter().map(|point| point.rate).fold(0.0, f64::max);
        Rate::new(highest).unwrap_or_default()
    }

    /// How many requests it sends, on average if they arrive by chance.
    #[must_use]
    pub fn requests(&self) -> f64 {
        self.points.windows(2).map(|ends| area(ends[0], ends[1])).sum()
    }
}

/// The integral of the rate between two points.
fn area(from: Point, to: Point) -> f64 {
    (to.at - from.at).as_secs_f64() * f64::midpoint(from.rate, to.rate)
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let points = text.split(',').take(MAX_POINTS + 1).map(point).collect::<Result<Vec<_>, _>>()?;
        if points.len() > MAX_POINTS {
            return Err(ProfileError::TooMany);
        }
        let [first, .., last] = points.as_slice() else {
            return Err(ProfileError::TooFew);
        };
        if !first.at.is_zero() {
            return Err(ProfileError::Start(first.at));
        }
        if let Some([before, after]) = points.array_windows().find(|[before, after]| after.at < before.at) {
            return Err(ProfileError::GoesBack { earlier: before.at, later: after.at });
        }
        if last.at > MAX_LENGTH {
            return Err(ProfileError::TooLong);
        }
        let profile = Self { points };
        if profile.requests() > 0.0 { Ok(profile) } else { Err(ProfileError::Silent) }
    }
}

fn point(text: &str) -> Result<Point, ProfileError> {
    let (time, rate) = text.split_once(':').ok_or_else(|| ProfileError::Point(text.trim().to_owned()))?;
    let (time, rate) = (time.trim(), rate.trim());
    let at = match time {
        "0" => Duration::ZERO,
        _ => humantime::parse_duration(time).map_err(|_| ProfileError::Time(time.to_owned()))?,
    };
    let per_second = rate.parse().ok().filter(|rate| (0.0..=MAX_PROFILE_RATE).contains(rate));
    Ok(Point { at, rate: per_second.ok_or_else(|| ProfileError::Rate(rate.to_owned()))? })
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, point) in self.points.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", humantime::format_duration(point.at).to_string().replace(' ', ""), point.rate)?;
        }
        Ok(())
    }
}
