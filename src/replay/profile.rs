//! A rate that changes over time: straight lines between points, given as `0:100,60s:2000,2m:0`. Refuses points that go back in time,
//! rates that are negative or beyond a bound, and a profile that sends nothing.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::units::{self, Rate};

/// The most points of a profile.
pub const MAX_POINTS: usize = 1_000;
/// The longest profile: a day.
pub const MAX_LENGTH: Duration = Duration::from_hours(24);
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

/// Seconds from one point to a later one.
fn length(from: Point, to: Point) -> f64 {
    to.at.saturating_sub(from.at).as_secs_f64()
}

/// The integral of the rate between two points.
fn area(from: Point, to: Point) -> f64 {
    length(from, to) * f64::midpoint(from.rate, to.rate)
}

/// Tells by when a profile has sent how many requests: the inverse of the integral of the rate, by which a process of rate 1 becomes
/// one of the profile's rate (Çinlar, Introduction to Stochastic Processes, 1975, 4.7).
#[derive(Clone, Debug)]
pub(super) struct Inverse {
    profile: Profile,
    /// Added to every count.
    ahead: f64,
    /// The point at the start of the present line.
    place: usize,
    /// Requests before that point.
    before: f64,
}

impl Inverse {
    pub(super) const fn new(profile: Profile, ahead: f64) -> Self {
        Self { profile, ahead, place: 0, before: 0.0 }
    }

    /// Seconds after the start; `None` if it never sends so many. Counts must not fall from call to call.
    pub(super) fn when(&mut self, count: f64) -> Option<f64> {
        loop {
            let [from, to, ..] = self.profile.points.get(self.place..)? else {
                return None;
            };
            let rest = count + self.ahead - self.before;
            let area = area(*from, *to);
            if rest < area {
                return Some(from.at.as_secs_f64() + crossing(*from, *to, rest));
            }
            self.before += area;
            self.place += 1;
        }
    }
}

/// Seconds along a rising or falling line until the integral of the rate is `count`, which is less than that of the whole line: the
/// root of `slope/2 x^2 + rate x - count` in the form that loses no digits (Press et al., Numerical Recipes, 5.6).
fn crossing(from: Point, to: Point, count: f64) -> f64 {
    let length = length(from, to);
    let slope = (to.rate - from.rate) / length;
    let root = (from.rate * from.rate + 2.0 * slope * count).max(0.0).sqrt();
    // Nothing is needed at a rate of nothing.
    if count <= 0.0 { 0.0 } else { (2.0 * count / (from.rate + root)).min(length) }
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
    let at = units::span(time).map_err(|_| ProfileError::Time(time.to_owned()))?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn profile(text: &str) -> Profile {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<Profile>().unwrap_err().to_string()
    }

    fn evenly(profile: &Profile) -> Vec<f64> {
        let mut inverse = Inverse::new(profile.clone(), 0.5);
        (0..).map_while(|count| inverse.when(f64::from(count))).collect()
    }

    #[test]
    fn is_read_and_written() {
        let ramp = profile(" 0:100, 60s : 2000,1m30s:0");
        assert_eq!(ramp.to_string(), "0s:100,1m:2000,1m30s:0");
        assert_eq!(profile(&ramp.to_string()), ramp);
        assert_eq!((ramp.duration(), ramp.peak().per_second()), (Duration::from_secs(90), 2_000.0));
        assert!((ramp.requests() - 93_000.0).abs() < 1e-6);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!(refusal(""), r#""" is not TIME:RATE; a profile looks like 0:100,60s:2000"#);
        assert_eq!(refusal("0:100,60s"), r#""60s" is not TIME:RATE; a profile looks like 0:100,60s:2000"#);
        assert_eq!(refusal("0:100,6x:2"), r#""6x" is not a time; write it like 0, 90s or 2m"#);
        for rate in ["fast", "-1", "NaN", "inf", "1000001"] {
            let expected = format!("{rate:?} is not a rate between 0 and 1000000 requests a second");
            assert_eq!(refusal(&format!("0:{rate},1s:1")), expected);
        }
        assert_eq!(refusal("0:100"), "a profile needs at least two points, such as 0:100,60s:2000");
        assert_eq!(refusal("5s:1,6s:2"), "the first point must be at 0, not at 5s");
        assert_eq!(refusal("0:1,9s:2,8s:3"), "8s comes after 9s; the times must not go back");
        assert_eq!(refusal("0:1,2days:1"), "a profile lasts at most 1day");
        assert_eq!(refusal("0:0,9s:0"), "the rate is zero all the time; nothing would be sent");
        assert_eq!(refusal("0:1,0:1"), "the rate is zero all the time; nothing would be sent");
        assert_eq!(refusal(&"0:1,".repeat(MAX_POINTS + 1)), "a profile has at most 1000 points");
    }

    #[test]
    fn a_constant_profile_is_a_constant_rate() {
        let times = evenly(&profile("0:100,2s:100"));
        assert_eq!(times.len(), 200);
        for (count, time) in (0_u32..).zip(&times) {
            assert!((time - (f64::from(count) + 0.5) / 100.0).abs() < 1e-9);
        }
    }

    #[test]
    fn silence_is_kept_and_a_step_is_at_once() {
        let times = evenly(&profile("0:0,10s:0,10s:50,12s:50,12s:0,15s:0"));
        assert_eq!(times.len(), 100);
        assert!(times.iter().all(|time| (10.0..12.0).contains(time)), "{times:?}");
    }

    #[test]
    fn a_ramp_from_nothing_follows_the_square() {
        // The integral of 2t is t squared.
        let times = evenly(&profile("0:0,10s:20"));
        assert_eq!(times.len(), 100);
        for (count, time) in (0_u32..).zip(&times) {
            assert!((time * time - f64::from(count) - 0.5).abs() < 1e-9);
        }
    }

    fn any_profile() -> impl Strategy<Value = Profile> {
        prop::collection::vec((0_u64..4_000, 0_u32..200), 1..8).prop_map(|steps| {
            let mut at = Duration::ZERO;
            let mut points = vec![Point { at, rate: 1.0 }];
            for (millis, rate) in steps {
                at += Duration::from_millis(millis);
                points.push(Point { at, rate: f64::from(rate) });
            }
            Profile { points }
        })
    }

    /// The requests up to a time, by adding up.
    fn integral(profile: &Profile, until: f64) -> f64 {
        let upto = |ends: &[Point]| {
            let (from, whole) = (ends[0].at.as_secs_f64(), length(ends[0], ends[1]));
            let part = (until - from).clamp(0.0, whole);
            if whole == 0.0 { 0.0 } else { part * (ends[0].rate + (ends[1].rate - ends[0].rate) * part / whole / 2.0) }
        };
        profile.points.windows(2).map(upto).sum()
    }

    proptest! {
        #[test]
        fn as_many_are_sent_as_the_rate_adds_up_to(profile in any_profile()) {
            let times = evenly(&profile);
            prop_assert!((times.len() as f64 - profile.requests()).abs() <= 0.5 + 1e-6);
            prop_assert!(times.is_sorted());
            for (count, time) in (0_u32..).zip(&times) {
                prop_assert!((integral(&profile, *time) - f64::from(count) - 0.5).abs() < 1e-6);
            }
        }

        #[test]
        fn no_text_panics(text in "[0-9:,smh. -]{0,40}|\\PC{0,40}") {
            let _ = text.parse::<Profile>();
        }
    }
}
