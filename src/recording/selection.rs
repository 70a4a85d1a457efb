//! Which requests of a recording are meant: by method, target, status, host, client, and by chance. A request is kept if every
//! condition holds; one that does not tell what a condition asks for is not kept. Chance keeps or drops whole connections, so
//! that what is kept is traffic as it was, only less of it.

use std::hash::Hasher;
use std::str::FromStr;

use regex::Regex;
use siphasher::sip::SipHasher13;

use super::request::{Method, Request};

/// Conditions on requests. The default has none and keeps everything.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// One of these methods, if there are any.
    pub methods: Vec<Method>,
    /// What the target must match somewhere.
    pub target: Option<Regex>,
    /// What the target must not match.
    pub not_target: Option<Regex>,
    /// One of these statuses, if there are any.
    pub statuses: Vec<Statuses>,
    /// What the host must match somewhere.
    pub host: Option<Regex>,
    /// One of these clients or connections, as the recording names them, if there are any.
    pub clients: Vec<Box<str>>,
    /// Which share of the connections.
    pub sample: Option<Sample>,
}

impl Selection {
    /// Whether every condition holds for `request`.
    #[must_use]
    pub fn keeps(&self, request: &Request) -> bool {
        let target = request.target.as_str();
        let is_client = |client: &str| self.clients.iter().any(|wanted| **wanted == *client);
        (self.methods.is_empty() || self.methods.contains(&request.method))
            && self.target.as_ref().is_none_or(|wanted| wanted.is_match(target))
            && self.not_target.as_ref().is_none_or(|unwanted| !unwanted.is_match(target))
            && (self.statuses.is_empty()
                || request.status.is_some_and(|status| self.statuses.iter().any(|wanted| wanted.contains(status))))
            && self.host.as_ref().is_none_or(|wanted| request.host().is_some_and(|host| wanted.is_match(host)))
            && (self.clients.is_empty() || request.connection.as_deref().is_some_and(is_client))
            && self.sample.is_none_or(|sample| sample.keeps(request))
    }
}

/// Why a condition cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// It is no status.
    #[error("a status like 200, or a class of them like 5xx")]
    Status,
    /// It is no share.
    #[error("a share like 0.1 or 10%, above nothing and at most 100%")]
    Share,
}

/// One status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// All that begin with this digit.
    Class(u16),
}

impl Statuses {
    /// Whether `status` is meant.
    #[must_use]
    pub const fn contains(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => class == status / 100,
        }
    }
}

impl FromStr for Statuses {
    type Err = SelectionError;

    /// `200` or `5xx`.
    fn from_str(text: &str) -> Result<Self, SelectionError> {
        let digits = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"));
        let number: u16 = digits.unwrap_or(text).parse().map_err(|_| SelectionError::Status)?;
        match (digits, number) {
            (Some(_), 1..=9) => Ok(Self::Class(number)),
            (None, 100..=999) => Ok(Self::One(number)),
            (Some(_) | None, _) => Err(SelectionError::Status),
        }
    }
}

/// A share of the connections, drawn by a keyed hash of each one's name: equal arguments keep equal connections, in every file, and
/// a smaller share keeps a part of what a larger one of the same seed keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// How much is kept.
    pub share: Share,
    /// Another seed keeps other connections.
    pub seed: u64,
}

impl Sample {
    /// Whether the connection of `request` is kept. A request without a connection is drawn on its own.
    #[must_use]
    pub fn keeps(&self, request: &Request) -> bool {
        let mut hasher = SipHasher13::new_with_keys(self.seed, 0);
        if let Some(connection) = &request.connection {
            hasher.write(connection.as_bytes());
        } else {
            hasher.write_i64(request.at.0);
            hasher.write(request.target.as_str().as_bytes());
        }
        // 53 bits are what an f64 holds.
        let place = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
        place < self.share.get()
    }
}

/// A part of a whole: above 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// The whole.
    pub const ALL: Self = Self(1.0);

    /// `share` of the whole, or `None` if that is nothing, more than all, or not a number.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }

    /// The share, above 0 and at most 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = SelectionError;

    /// `0.1` or `10%`.
    fn from_str(text: &str) -> Result<Self, SelectionError> {
        let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        let share = number.trim().parse::<f64>().ok().and_then(|number| Self::new(number / whole));
        share.ok_or(SelectionError::Share)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::{Header, Target, UnixNanos};

    fn request(method: &str, target: &str, connection: Option<&str>) -> Request {
        Request {
            at: UnixNanos(7),
            method: Method::new(method).unwrap(),
            target: Target::new(target).unwrap(),
            connection: connection.map(Into::into),
            ordinal: None,
            headers: Vec::new(),
            body: Vec::new(),
            status: None,
            duration: None,
            response_bytes: None,
        }
    }

    fn pattern(text: &str) -> Regex {
        Regex::new(text).unwrap()
    }

    #[test]
    fn every_condition_must_hold() {
        let mut get = request("GET", "/a?x=1", Some("c1"));
        get.headers = vec![Header::new("host", "shop.example").unwrap()];
        get.status = Some(503);
        let holding = Selection {
            methods: vec![Method::new("POST").unwrap(), Method::new("GET").unwrap()],
            target: Some(pattern("^/a")),
            not_target: Some(pattern("^/b")),
            statuses: vec![Statuses::One(200), Statuses::Class(5)],
            host: Some(pattern("^shop")),
            clients: vec!["c1".into()],
            sample: Some(Sample { share: Share::ALL, seed: 1 }),
        };
        assert!(holding.keeps(&get) && Selection::default().keeps(&get));
        let broken = [
            Selection { methods: vec![Method::new("POST").unwrap()], ..holding.clone() },
            Selection { target: Some(pattern("^/b")), ..holding.clone() },
            Selection { not_target: Some(pattern("x=1")), ..holding.clone() },
            Selection { statuses: vec![Statuses::One(500)], ..holding.clone() },
            Selection { host: Some(pattern("^example")), ..holding.clone() },
            Selection { clients: vec!["c".into()], ..holding.clone() },
        ];
        for selection in broken {
            assert!(!selection.keeps(&get), "{selection:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_kept() {
        let bare = request("GET", "/", None);
        assert!(!Selection { statuses: vec![Statuses::Class(2)], ..Selection::default() }.keeps(&bare));
        assert!(!Selection { host: Some(pattern("")), ..Selection::default() }.keeps(&bare));
        assert!(!Selection { clients: vec!["".into()], ..Selection::default() }.keeps(&bare));
    }

    #[test]
    fn statuses_and_shares_are_parsed() {
        assert_eq!("404".parse(), Ok(Statuses::One(404)));
        assert_eq!("5xx".parse(), Ok(Statuses::Class(5)));
        for wrong in ["", "xx", "20", "55xx", "0xx", "-200", "1000", "2x"] {
            assert_eq!(wrong.parse::<Statuses>(), Err(SelectionError::Status), "{wrong}");
        }
        assert_eq!("10%".parse(), Ok(Share(0.1)));
        assert_eq!("1".parse(), Ok(Share::ALL));
        for wrong in ["", "%", "0", "-1", "1.1", "101%", "NaN", "inf"] {
            assert_eq!(wrong.parse::<Share>(), Err(SelectionError::Share), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_about_that_share_of_connections_and_of_lone_requests() {
        let sample = Sample { share: Share(0.3), seed: 1 };
        let kept = (0..10_000).filter(|n| sample.keeps(&request("GET", "/", Some(&n.to_string())))).count();
        assert!((2_850..3_150).contains(&kept), "{kept}");
        let kept = (0..10_000).filter(|n| sample.keeps(&request("GET", &format!("/{n}"), None))).count();
        assert!((2_850..3_150).contains(&kept), "{kept}");
    }

    proptest! {
        #[test]
        fn a_connection_is_kept_whole_and_a_smaller_share_is_part_of_a_larger(
            connection in "[a-z]{0,4}", share in 0.01..1.0, seed: u64, less in 0.01..1.0,
        ) {
            let large = Sample { share: Share(share), seed };
            let small = Sample { share: Share(share * less), seed };
            let (first, later) = (request("GET", "/", Some(&connection)), request("POST", "/x", Some(&connection)));
            prop_assert_eq!(large.keeps(&first), large.keeps(&later));
            prop_assert!(!small.keeps(&first) || large.keeps(&first));
        }
    }
}
