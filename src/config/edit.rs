//! Changes the numbers and the word `tune` finds in the text of a configuration file, and no other byte: comments, order, blank
//! space, line ends and byte order mark stay (toml_edit 0.25 loses the last two). Refuses a text in which they cannot be changed
//! without changing more.

use toml::de::{DeTable, DeValue};

use super::Affinity;
use crate::units::{Connections, Workers};

/// Why they cannot be changed in a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// The key is there, but no plain value.
    #[error("`{0}` is neither a number nor a word: change it by hand")]
    NotAValue(&'static str),
    /// There is no place for the word that a line could be put to.
    #[error("`app` is no section with a line for each key: set {CPU_AFFINITY} in it by hand")]
    NoSection,
}

const CPU_AFFINITY: &str = "cpu-affinity";

const MARK: char = '\u{feff}';

/// `text` with these numbers in the place of what it says, `"auto"` included. A number it does not say yet goes below the other
/// one, or to the top. `connections` is `None` where the kind of worker has none.
pub fn with_counts(text: &str, workers: Workers, connections: Option<Connections>) -> Result<String, EditError> {
    let text = set(text, "workers", workers.get().into(), "connections")?;
    match connections {
        Some(connections) => set(&text, "connections", connections.get(), "workers"),
        None => Ok(text),
    }
}

/// `text` with this `cpu-affinity` in `[app]`, in the place of what it says or below the last line of the section's first value.
pub fn with_affinity(text: &str, affinity: Affinity) -> Result<String, EditError> {
    let document = parsed(text)?;
    let app = document.get("app").map(toml::Spanned::get_ref);
    let Some(DeValue::Table(app)) = app else { return Err(EditError::NoSection) };
    let changed = match app.get(CPU_AFFINITY) {
        Some(value) => format!("{}\"{}\"{}", &text[..value.span().start], affinity.name(), &text[value.span().end..]),
        None if affinity == Affinity::default() => text.to_owned(),
        None => {
            let first = app.iter().map(|(_, value)| value.span().end).min().ok_or(EditError::NoSection)?;
            let rest = text[first..].find('\n').map_or(text.len(), |found| first + found + 1);
            let end = line_end(text);
            let open = if text[..rest].ends_with('\n') { "" } else { end };
            format!("{}{open}{CPU_AFFINITY} = \"{}\"{end}{}", &text[..rest], affinity.name(), &text[rest..])
        }
    };
    // An inline table, dotted keys and a section that goes on elsewhere have no such line.
    let is = |document: &DeTable<'_>| match document.get("app").map(toml::Spanned::get_ref) {
        Some(DeValue::Table(app)) => app.get(CPU_AFFINITY).and_then(|value| value.get_ref().as_str()) == Some(affinity.name()),
        Some(_) | None => false,
    };
    let unchanged = changed == text;
    parsed(&changed).is_ok_and(|document| unchanged || is(&document)).then_some(changed).ok_or(EditError::NoSection)
}

fn parsed(text: &str) -> Result<DeTable<'_>, EditError> {
    DeTable::parse(text).map(toml::Spanned::into_inner).map_err(|error| EditError::Syntax(error.to_string()))
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Sets `key`; if there is none, below the line of `other`.
fn set(text: &str, key: &'static str, number: u32, other: &str) -> Result<String, EditError> {
    let document = parsed(text)?;
    if let Some(value) = document.get(key) {
        return match value.get_ref() {
            DeValue::Integer(_) | DeValue::String(_) | DeValue::Float(_) => {
                let span = value.span();
                Ok(format!("{}{number}{}", &text[..span.start], &text[span.end..]))
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Err(EditError::NotAValue(key)),
        };
    }
    let end = line_end(text);
    let (above, below) = match document.get(other) {
        Some(value) => {
            text.split_at(text[value.span().end..].find('\n').map_or(text.len(), |found| value.span().end + found + 1))
        }
        None => text.split_at(if text.starts_with(MARK) { MARK.len_utf8() } else { 0 }),
    };
    let open = if above.is_empty() || above.ends_with(['\n', MARK]) { "" } else { end };
    Ok(format!("{above}{open}{key} = {number}{end}{below}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str) -> String {
        with_counts(text, Workers::new(9).unwrap(), Connections::new(50)).unwrap()
    }

    #[test]
    fn every_byte_but_the_numbers_stays() {
        let text = "\u{feff}# ours\r\nworkers  =  \"auto\"   # by the rule\r\n\n  'connections' = 1_0\t# few\n[app]\n# why\nkind='python'\n#end";
        assert_eq!(edited(text), text.replace("\"auto\"", "9").replace("1_0", "50"));
        let annotated = include_str!("../../config/tuningfork.toml");
        let expected = annotated.replace("workers = \"auto\"\n", "workers = 9\nconnections = 50\n");
        assert_eq!(edited(annotated), expected);
    }

    #[test]
    fn what_is_not_there_goes_below_the_other_number_or_to_the_top() {
        assert_eq!(edited("# head\n\n[app]\nworkers = 1\n"), "workers = 9\nconnections = 50\n# head\n\n[app]\nworkers = 1\n");
        assert_eq!(edited("workers = 2 # two\n# on app\n[app]\n"), "workers = 9 # two\nconnections = 50\n# on app\n[app]\n");
        assert_eq!(edited("timeout = 3\nconnections = 2 # two"), "timeout = 3\nconnections = 50 # two\nworkers = 9\n");
        assert_eq!(edited("\u{feff}a = 1\r\n"), "\u{feff}workers = 9\r\nconnections = 50\r\na = 1\r\n");
        assert_eq!(edited(""), "workers = 9\nconnections = 50\n");
    }

    #[test]
    fn a_kind_without_connections_gets_none() {
        assert_eq!(with_counts("workers = 1", Workers::new(4).unwrap(), None).unwrap(), "workers = 4");
    }

    #[test]
    fn what_is_no_value_is_left_alone() {
        let refused = |text| with_counts(text, Workers::new(9).unwrap(), None).unwrap_err();
        assert_eq!(refused("workers = [1]"), EditError::NotAValue("workers"));
        assert_eq!(refused("[workers]\na = 1"), EditError::NotAValue("workers"));
        assert!(matches!(refused("workers ="), EditError::Syntax(_)));
    }

    #[test]
    fn the_word_goes_into_its_section_and_all_else_stays() {
        let edited = |text: &str| with_affinity(text, Affinity::Spread);
        let text = "workers = 1\r\n[app] # ours\r\nkind = \"command\" # why\r\ncommand = [\r\n  \"a\",\r\n]\r\n[log]\r\n";
        let line = "kind = \"command\" # why\r\n";
        assert_eq!(edited(text).unwrap(), text.replace(line, &format!("{line}cpu-affinity = \"spread\"\r\n")));
        assert_eq!(edited("[app]\ncpu-affinity='none' # so\n").unwrap(), "[app]\ncpu-affinity=\"spread\" # so\n");
        assert_eq!(edited("[app]\nkind = 'python'").unwrap(), "[app]\nkind = 'python'\ncpu-affinity = \"spread\"\n");
        assert_eq!(with_affinity("[app]\nkind = 'python'", Affinity::None).unwrap(), "[app]\nkind = 'python'");
        let annotated = include_str!("../../config/tuningfork.toml");
        assert_eq!(edited(annotated).unwrap(), annotated.replace("cpu-affinity = \"none\"\n", "cpu-affinity = \"spread\"\n"));
        for text in ["workers = 1", "app = 1", "[app]", "app = {kind = 'python'}\n", "app.kind = 'python'\n"] {
            assert_eq!(edited(text).unwrap_err(), EditError::NoSection, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_result_says_the_numbers_and_all_else_as_before(text in "([ \t]|a = 1 *\r?\n|workers = [0-9]\n|connections=\"x\" ?#c?\n|#[ a]*\n|\\[t\\]\n){0,9}") {
            if let Ok(after) = with_counts(&text, Workers::new(9).unwrap(), Connections::new(50)) {
                let (mut before, mut after): (toml::Table, toml::Table) = (text.parse().unwrap(), after.parse().unwrap());
                proptest::prop_assert_eq!(after.remove("workers"), Some(9.into()));
                proptest::prop_assert_eq!(after.remove("connections"), Some(50.into()));
                before.remove("workers");
                before.remove("connections");
                proptest::prop_assert_eq!(before, after);
            }
        }
    }
}
