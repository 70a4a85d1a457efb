//! Whether the traffic that is played can stand for an application's: how many of its routes it has, and how many different requests.

use serde::{Deserialize, Serialize};

use crate::recording::Counts;

/// What a recording covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Requests that are played.
    pub requests: u64,
    /// Different ones among them.
    pub different: u64,
    /// Their routes (methods and paths, with numbers, hashes and many names replaced); more, if there are very many.
    pub routes: u64,
    /// The commonest.
    pub commonest: String,
    /// How many requests are of that one.
    pub of_commonest: u64,
}

/// With fewer routes than this, or fewer different requests, the recording is no picture of an application's traffic.
const FEW_ROUTES: u64 = 3;
const FEW_REQUESTS: u64 = 10;
/// Nor is it if one route has this share of the requests.
const MOSTLY: f64 = 0.95;

impl Coverage {
    /// That of `different` requests, whose routes were counted; `None` if nothing is played.
    #[must_use]
    pub fn of(different: usize, routes: &Counts) -> Option<Self> {
        let (commonest, most) = routes.counts.first()?;
        Some(Self {
            requests: routes.other + routes.counts.iter().map(|(_, count)| count).sum::<u64>(),
            different: different as u64,
            routes: routes.counts.len() as u64,
            commonest: commonest.to_string(),
            of_commonest: *most,
        })
    }

    /// What the traffic does not show, in words, if it is too uniform.
    #[must_use]
    pub fn gap(&self) -> Option<String> {
        let share = self.of_commonest as f64 / self.requests.max(1) as f64;
        let commonest = &self.commonest;
        if self.routes == 1 {
            Some(format!("only 1 route in the recording, {commonest}, and what is found holds for that alone"))
        } else if self.routes < FEW_ROUTES {
            Some(format!("only {} routes in the recording, and what is found holds for those alone", self.routes))
        } else if self.different < FEW_REQUESTS {
            Some(format!("only {} different requests in the recording, and what is found holds for those alone", self.different))
        } else if share >= MOSTLY {
            let rounded = (share * 100.0).floor();
            Some(format!("{rounded} % of the requests are of one route, {commonest}, and what is found holds for that"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Summary, read};

    fn gap_of(targets: impl IntoIterator<Item = String>) -> Option<String> {
        let lines: Vec<String> = targets.into_iter().map(|target| format!(r#"{{"t":1,"m":"GET","u":"{target}"}}"#)).collect();
        let mut summary = Summary::default();
        read(lines.join("\n").as_bytes()).unwrap().requests.iter().for_each(|request| summary.add(request));
        Coverage::of(lines.len(), &summary.report().unwrap().routes).unwrap().gap()
    }

    #[test]
    fn few_routes_are_no_picture_of_an_application_however_many_queries() {
        let one = gap_of((0..20).map(|n| format!("/search?page={n}")));
        assert_eq!(one.unwrap(), "only 1 route in the recording, GET /search, and what is found holds for that alone");
        let two = gap_of((0..20).map(|n| if n % 2 == 0 { format!("/cart?{n}") } else { format!("/search?page={n}") }));
        assert_eq!(two.unwrap(), "only 2 routes in the recording, and what is found holds for those alone");
    }

    #[test]
    fn few_requests_and_one_route_that_has_nearly_all_are_none_either() {
        let route = |n: u8| char::from(b'a' + n % 4);
        let few = gap_of((0..9).map(|n| format!("/{}?{n}", route(n))));
        assert_eq!(few.unwrap(), "only 9 different requests in the recording, and what is found holds for those alone");
        let uniform = gap_of((0..100).map(|n| if n < 97 { format!("/a?{n}") } else { format!("/{}", route(n)) }));
        assert_eq!(uniform.unwrap(), "97 % of the requests are of one route, GET /a, and what is found holds for that");
        assert_eq!(gap_of((0..20).map(|n| format!("/{}?{n}", route(n)))), None);
    }
}
