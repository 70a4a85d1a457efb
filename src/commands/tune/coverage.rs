//! Whether the traffic that is played can stand for an application's: how many different requests it has, and of how many routes.

use crate::commands::figures::counted;
use crate::recording::Counts;

/// With fewer different requests than this, the recording is no picture of an application's traffic.
const FEW_REQUESTS: usize = 10;
/// Nor is it if one route has this share of the requests.
const MOSTLY: f64 = 0.95;

/// What the traffic does not show, if it is too uniform. `different` requests are played; `routes` counts all that are played.
pub(super) fn gap(different: usize, routes: &Counts) -> Option<String> {
    if different < FEW_REQUESTS {
        let few = counted(different as u64, "different request");
        return Some(format!("only {few} in the recording, and what is found holds for those alone"));
    }
    let all = routes.other + routes.counts.iter().map(|(_, count)| count).sum::<u64>();
    let (commonest, most) = routes.counts.first()?;
    let share = *most as f64 / all as f64;
    let rounded = (share * 100.0).floor();
    (share >= MOSTLY)
        .then(|| format!("{rounded} % of the requests are of one route, {commonest}, and what is found holds for that"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Summary, read};

    fn gap_of(targets: impl IntoIterator<Item = String>) -> Option<String> {
        let lines: Vec<String> = targets.into_iter().map(|target| format!(r#"{{"t":1,"m":"GET","u":"{target}"}}"#)).collect();
        let mut summary = Summary::default();
        read(lines.join("\n").as_bytes()).unwrap().requests.iter().for_each(|request| summary.add(request));
        gap(lines.len(), &summary.report().unwrap().routes)
    }

    #[test]
    fn one_route_with_many_queries_is_no_picture_of_an_application() {
        let uniform = gap_of((0..20).map(|n| format!("/search?page={n}")));
        assert_eq!(uniform.unwrap(), "100 % of the requests are of one route, GET /search, and what is found holds for that");
        let few = gap_of((0..9).map(|n| format!("/search?page={n}")));
        assert_eq!(few.unwrap(), "only 9 different requests in the recording, and what is found holds for those alone");
        let mixed = (0..20).map(|n| if n % 10 == 0 { format!("/cart?{n}") } else { format!("/search?page={n}") });
        assert_eq!(gap_of(mixed), None);
    }
}
