//! `report --compare A B`: two studies in one table. Refuses studies whose rates do not mean the same; tells what else differs, and what their
//! own reports doubt.

use std::path::Path;

use comfy_table::CellAlignment;

use super::{paper, read};
use crate::commands::CommandError;
use crate::commands::say::print;
use crate::commands::tune_output::{Paper, configuration, doubts, goal_name, interval, plain_table, ratio, short, trimmed};
use crate::printable::printable;
use crate::stats::Interval;
use crate::study::Objective;
use crate::study::report::compare::{Comparison, Difference, incomparable};
use crate::tune::{Header, Recorded};

/// Prints how two studies compare.
pub(super) fn compare(one: &Path, other: &Path) -> Result<(), CommandError> {
    let (first, second) = (read(one)?, read(other)?);
    let mut reasons = incomparable(&first.study(), &second.study());
    if first.header.traffic != second.header.traffic {
        reasons.push("traffic");
    }
    if !reasons.is_empty() {
        return Err(CommandError::Incomparable { one: one.to_owned(), other: other.to_owned(), reasons: reasons.join(", ") });
    }
    print(&text([&first, &second], paper()))
}

/// The comparison, ending in a newline.
fn text([first, second]: [&Recorded; 2], paper: Paper) -> String {
    let (one, other) = (first.study(), second.study());
    let found = Comparison::new(&one, &other);
    let what = goal_name(found.objective, &first.header.slo);
    let mut parts: Vec<String> =
        [("A", first), ("B", second)].map(|(name, study)| paper.wrap(&introduction(name, study))).to_vec();
    parts.push(table(&found, &what, paper));
    parts.push(paper.strong(&verdict(&found, &what)));
    for (name, recorded) in [("A", first), ("B", second)] {
        let report = recorded.report();
        let doubts: Vec<String> =
            doubts(name, &report, &recorded.header.about).iter().map(|sentence| paper.wrap(sentence)).collect();
        if !doubts.is_empty() {
            parts.push(doubts.join("\n"));
        }
    }
    let cautions = cautions(&first.header, &second.header);
    if !cautions.is_empty() {
        parts.push(paper.wrap(&format!("They also differ in: {}. What differs above may come from that.", cautions.join(", "))));
    }
    parts.join("\n\n").replacen("\n\n", "\n", 1) + "\n"
}

fn introduction(name: &str, study: &Recorded) -> String {
    let about = &study.header.about;
    let told = format!("{name}: {}; {} on {}; {} trials", about.started, about.app, about.host, study.trials.len());
    // In one line, so that nobody's words look like the verdict.
    printable(&told)
}

fn table(found: &Comparison, what: &str, paper: Paper) -> String {
    let mut table = plain_table(paper);
    table.set_header(["", &format!("A {what}"), &format!("B {what}"), "B / A", ""]);
    for row in &found.rows {
        let shown = |amount| interval(found.objective, amount);
        let [one, other] = row.amount.map(|amount| amount.map_or_else(|| "–".to_owned(), shown));
        let chosen: Vec<&str> = found
            .recommended
            .iter()
            .zip(["A", "B"])
            .filter(|(chosen, _)| **chosen == Some(row.candidate))
            .map(|(_, name)| name)
            .collect();
        let note = match chosen.as_slice() {
            [] => String::new(),
            [one] => format!("{one} recommends"),
            [..] => "both recommend".to_owned(),
        };
        table.add_row([short(row.candidate), one, other, row.ratio.map_or_else(|| "–".to_owned(), ratio), note]);
    }
    for column in table.column_iter_mut().take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    trimmed(&table)
}

fn verdict(found: &Comparison, what: &str) -> String {
    let [Some(one), Some(other)] = found.recommended.map(|chosen| chosen.map(configuration)) else {
        return "Nothing can be said: one of them recommends nothing.".to_owned();
    };
    let Some(between) = found.ratio else {
        return "Nothing can be said: something disturbed every trial of what one of them recommends. Measure that one again."
            .to_owned();
    };
    let numbers = told(between);
    let (more, less) = match found.objective {
        Objective::Capacity => ("holds more than".to_owned(), "holds less than".to_owned()),
        Objective::Latency { .. } => (format!("has a higher {what} than"), format!("has a lower {what} than")),
        Objective::Cost { .. } => (format!("takes more {what} than"), format!("takes fewer {what} than")),
    };
    match Difference::of(between) {
        Difference::NotSeen => format!("No difference seen between what they recommend, {one} and {other}: {numbers}."),
        Difference::Higher => format!("What B recommends ({other}) {more} what A recommends ({one}): {numbers}."),
        Difference::Lower => format!("What B recommends ({other}) {less} what A recommends ({one}): {numbers}."),
    }
}

fn told(between: Interval) -> String {
    format!("{:.2} times ({:.2} to {:.2})", between.value, between.low, between.high)
}

/// What differs and may explain a difference.
fn cautions(one: &Header, other: &Header) -> Vec<&'static str> {
    let parts = [
        (one.space.cores == other.space.cores, "cores"),
        (one.about.host == other.about.host, "host"),
        (one.application == other.application, "application's configuration"),
        (one.pace == other.pace, "pace"),
    ];
    parts.into_iter().filter(|(same, _)| !same).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::{APPS, App, studied};
    use crate::study::{Flag, Measurement, Outcome, Pace, Purpose, Stop, Trial};
    use crate::tune::{About, Coverage};

    fn recorded(app: &App, seed: u64) -> Recorded {
        let study = studied(app, Pace::Normal, seed);
        let about = About {
            started: "2026-03-01T12:00:00Z".to_owned(),
            app: "shop".to_owned(),
            host: "a host".to_owned(),
            ..About::default()
        };
        let header = Header {
            tuningfork_journal: Header::VERSION,
            slo: study.slo,
            space: study.space.clone(),
            objective: study.objective,
            pace: study.pace,
            budget: study.budget,
            traffic: "f00d".to_owned(),
            application: app.name.to_owned(),
            about,
        };
        Recorded { header, trials: study.trials().to_vec(), ended: Some(Stop::Converged), torn: false, gap: None }
    }

    #[test]
    fn two_studies_side_by_side() {
        let faster = APPS[2].faster(1.4);
        let (slow, fast) = (recorded(&APPS[2], 1), recorded(&faster, 2));
        let paper = Paper { width: 100, colour: false };
        insta::assert_snapshot!(text([&slow, &fast], paper));
        assert!(text([&slow, &slow], paper).contains("No difference seen"));
    }

    #[test]
    fn what_the_report_of_one_study_doubts_is_doubted_beside_another_too() {
        let (sound, mut doubtful) = (recorded(&APPS[2], 1), recorded(&APPS[2].faster(1.4), 2));
        doubtful.ended = None;
        doubtful.trials.retain(|trial| trial.suggestion.purpose != Purpose::Confirm);
        let chosen = doubtful.report().recommended.unwrap();
        let is_of_it =
            |trial: &&Trial| trial.suggestion.candidate == chosen && trial.measurement().is_some_and(Measurement::is_usable);
        let Some(Trial { suggestion, outcome: Outcome::Measured(found) }) = doubtful.trials.iter().find(is_of_it).cloned() else {
            panic!("it was measured")
        };
        let unsteady = Measurement { flags: vec![Flag::NotSteady], ..*found };
        let failed = Outcome::Failed { reason: "no memory".to_owned(), seconds: 1.0 };
        let more = [Outcome::Measured(Box::new(unsteady)), failed].map(|outcome| Trial { suggestion, outcome });
        doubtful.trials.extend(more);
        let commonest = "GET /".to_owned();
        doubtful.header.about.coverage = Some(Coverage { requests: 9, different: 9, routes: 1, commonest, of_commonest: 9 });
        let told = text([&sound, &doubtful], Paper { width: 200, colour: false });
        for part in [
            "B is not finished.",
            "What B recommends was not repeated: take it as a hint.",
            "Take B's numbers with care: not steady.",
            "Take B's numbers with care: a trial of the recommended configuration failed.",
            "Take B's numbers with care: only 1 route in the recording, GET /, and what is found holds for that alone.",
        ] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
        assert!(!["A's numbers", "A is not", "A recommends was"].iter().any(|part| told.contains(part)), "{told}");
    }
}
