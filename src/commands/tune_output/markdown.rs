//! The report as Markdown, as one would paste it into a pull request: the verdict, both configurations, what to paste; the trials folded.

use super::comparison::rows;
use super::sentences::{after_the_verdict, headline};
use super::table::{HEADERS, note, numbers};
use super::working::{certificate, excluded, generator};
use super::{PARTIAL, fragment, gap, hosts};
use crate::study::Report;
use crate::tune::About;
use crate::units::Rate;

/// The report, ending in a newline. `peak` is what many hosts should serve together, keeping a share `headroom` of each free.
#[must_use]
pub fn markdown(report: &Report, about: &About, peak: Option<Rate>, headroom: f64) -> String {
    let mut parts = Vec::new();
    if report.is_partial() {
        parts.push(format!("**{PARTIAL}**"));
    }
    parts.push(format!("**{}**", escape(&headline(report))));
    let told = after_the_verdict(report).into_iter().chain(gap(report, about));
    parts.push(told.map(|sentence| escape(&sentence)).collect::<Vec<_>>().join(" "));
    parts.extend(peak.map(|peak| escape(hosts(report, peak, headroom).trim_end())));
    parts.push(table(&rows(report)));
    let fragment = fragment(report);
    if !fragment.is_empty() {
        parts.push(format!("```toml\n{fragment}```"));
    }
    parts.push(folded("How that is known", &working(report, about)));
    if !report.trials.is_empty() {
        parts.push(folded(&format!("All {} trials", report.trials.len()), &trials(report)));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n") + "\n"
}

fn working(report: &Report, about: &About) -> String {
    let mut lines = vec![
        format!("- {}; {}; {}", escape(&about.app), escape(&about.host), escape(&about.traffic)),
        format!("- Must hold: {}", escape(&report.slo.to_string())),
    ];
    let named = certificate(report).into_iter().chain(generator(report));
    lines.extend(named.map(|(name, text)| format!("- {name}: {}", escape(&text))));
    lines.extend(excluded(report).iter().map(|(what, why)| format!("- Left out: {}: {}", escape(what), escape(why))));
    lines.join("\n")
}

fn trials(report: &Report) -> String {
    let head = HEADERS.map(str::to_owned).to_vec();
    let body = report.trials.iter().zip(1..).map(|(trial, number)| {
        let mut cells = numbers(number, trial);
        cells.push(note(trial));
        cells
    });
    table(&[head].into_iter().chain(body).collect::<Vec<_>>())
}

/// A table whose first row is its head and whose first column is text.
fn table(rows: &[Vec<String>]) -> String {
    let Some(head) = rows.first() else { return String::new() };
    let line = |cells: &[String]| format!("| {} |", cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | "));
    let rule = (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect::<Vec<_>>().join(" | ");
    let body = rows.iter().skip(1).map(|row| line(row));
    [line(head), format!("| {rule} |")].into_iter().chain(body).collect::<Vec<_>>().join("\n")
}

fn folded(summary: &str, inside: &str) -> String {
    format!("<details><summary>{summary}</summary>\n\n{inside}\n\n</details>")
}

/// Text that stays text: what Markdown or HTML inside it would read as a mark is escaped, and a line stays a line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' => escaped.extend(['\\', character]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '@' => escaped.push_str("&#64;"),
            '\n' | '\r' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_text() {
        assert_eq!(escape("a|b *c* <img src=x> @all\n# d"), "a\\|b \\*c\\* &lt;img src=x&gt; &#64;all \\# d");
    }
}
