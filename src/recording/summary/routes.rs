//! Counts of routes. Names of many words, as in `/product/amber-garden-lamp`, are told apart until there are many in one place; then
//! that place is one route.

use std::collections::BTreeMap;

use super::key_counts::KeyCounts;
use super::route::route;
use crate::recording::request::Request;

/// The most routes that are told apart.
const MAX_ROUTES: usize = 2_000;
/// The most names in one place that are told apart.
const MAX_NAMES: usize = 12;

/// Requests by method and route.
#[derive(Debug, Default)]
pub(super) struct Routes {
    counts: KeyCounts<Box<str>>,
    /// How many names were seen in a place.
    names: BTreeMap<Box<str>, usize>,
}

impl Routes {
    pub(super) fn add(&mut self, request: &Request) {
        let route = format!("{} {}", request.method, route(&request.target)).into_boxed_str();
        let Some(place) = place(&route) else {
            return self.counts.add(route, MAX_ROUTES);
        };
        let names = self.names.get(&place).copied().unwrap_or(0);
        if names > MAX_NAMES {
            return self.counts.add(place, MAX_ROUTES);
        }
        if !self.counts.has(&route) && (names > 0 || self.names.len() < MAX_ROUTES) {
            self.names.insert(place.clone(), names + 1);
        }
        self.counts.add(route, MAX_ROUTES);
        if names == MAX_NAMES && self.names.get(&place) > Some(&names) {
            self.counts.join(&place, |route| self::place(route).as_ref() == Some(&place));
        }
    }

    pub(super) const fn key_counts(&self) -> &KeyCounts<Box<str>> {
        &self.counts
    }
}

/// The route with its last segment replaced, if that is a name of several words.
fn place(route: &str) -> Option<Box<str>> {
    let slash = if route.ends_with('/') { "/" } else { "" };
    let path = route.strip_suffix('/').unwrap_or(route);
    let (before, name) = path.rsplit_once('/')?;
    let is_name = name.contains(['-', '_', '+']) || name.contains("%20");
    is_name.then(|| format!("{before}/{{name}}{slash}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;

    #[test]
    fn many_names_in_one_place_are_one_route() {
        let mut lines = Vec::new();
        for n in 0..100_u8 {
            let name = format!("{}-lamp", char::from(b'a' + n % 26));
            lines.push(format!(r#"{{"t":1,"m":"GET","u":"/product/{name}/"}}"#));
            lines.push(r#"{"t":1,"m":"GET","u":"/product/list/"}"#.to_owned());
            lines.push(format!(r#"{{"t":1,"m":"GET","u":"/about-us?{n}"}}"#));
        }
        let mut routes = Routes::default();
        for request in read(lines.join("\n").as_bytes()).unwrap().requests {
            routes.add(&request);
        }
        let counts: Vec<_> = routes.counts.iter().map(|(route, count)| (&**route, count)).collect();
        assert_eq!(counts, [("GET /about-us", 100), ("GET /product/list/", 100), ("GET /product/{name}/", 100)]);
    }
}
