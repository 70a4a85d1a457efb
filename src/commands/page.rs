//! One HTML page as reports share it: no script, nothing from elsewhere, light and dark, fit for print. Whatever comes from outside is
//! escaped.

mod axis;
mod chart;

use std::borrow::Cow;
use std::fmt;

pub(super) use axis::Axis;
pub(super) use chart::{Chart, Line};

const STYLE: &str = include_str!("page/style.css");

/// A page. Texts are escaped when it is written; `style` and `body` are taken as they are.
pub(super) struct Page<'a> {
    /// What it is about, in the window's title.
    pub(super) title: &'a str,
    /// The small line above the heading.
    pub(super) kicker: &'a str,
    /// The heading.
    pub(super) heading: &'a str,
    /// The line below it.
    pub(super) lead: &'a str,
    /// Rules of its own, besides those all pages share.
    pub(super) style: &'a str,
    /// Everything else.
    pub(super) body: &'a str,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <title>{}</title><style>\n{STYLE}{}</style></head><body><main>\
             <header><p class=kicker>{}</p><h1>{}</h1><p class=load>{}</p></header>\n{}\
             <footer>Made by tuningfork {}.</footer></main></body></html>\n",
            escape(self.title),
            self.style,
            escape(self.kicker),
            escape(self.heading),
            escape(self.lead),
            self.body,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// Text as it may stand in an element or a quoted attribute.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// How a note is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// As hoped.
    Good,
    /// Not as hoped.
    Bad,
    /// With care.
    Warn,
}

/// A sentence set apart.
pub(super) fn note(mood: Mood, text: &str) -> String {
    let class = match mood {
        Mood::Good => "good",
        Mood::Bad => "bad",
        Mood::Warn => "warn",
    };
    format!("<p class=\"note {class}\">{}</p>", escape(text))
}

/// Large numbers side by side, each with what it is.
pub(super) fn tiles(tiles: &[(String, String)]) -> String {
    let tile =
        |(number, of): &(String, String)| format!("<div class=tile><b>{}</b><span>{}</span></div>", escape(number), escape(of));
    format!("<div class=tiles>{}</div>\n", tiles.iter().map(tile).collect::<String>())
}

/// A table of names and what is to be said about each.
pub(super) fn words(title: &str, rows: &[(&str, String)]) -> String {
    let row = |(name, text): &(&str, String)| format!("<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(text));
    let rows = rows.iter().map(row).collect::<String>();
    format!("<section><h2>{}</h2><table class=words><tbody>{rows}</tbody></table></section>", escape(title))
}
