//! Changes the two numbers `tune` finds in the text of a configuration file, and no other byte: comments, order, blank space, line ends and
//! byte order mark stay (toml_edit 0.25 loses the last two). Refuses a text in which they cannot be changed without changing more.

use toml::de::{DeTable, DeValue};

use crate::units::{Connections, Workers};

/// Why the numbers cannot be changed in a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// The key is there, but no plain value.
    #[error("`{0}` is neither a number nor a word: change it by hand")]
    NotAValue(&'static str),
}

const MARK: char = '\u{feff}';

/// `text` with these numbers in the place of what it says, `"auto"` included. A number it does not say yet goes below the other one, or to the
/// top. `connections` is `None` where the kind of worker has none.
pub fn with_counts(text: &str, workers: Workers, connections: Option<Connections>) -> Result<String, EditError> {
    let text = set(text, "workers", workers.get().into(), "connections")?;
    match connections {
        Some(connections) => set(&text, "connections", connections.get(), "workers"),
        None => Ok(text),
    }
}

/// Sets `key`; if there is none, below the line of `other`.
fn set(text: &str, key: &'static str, number: u32, other: &str) -> Result<String, EditError> {
    let document = DeTable::parse(text).map_err(|error| EditError::Syntax(error.to_string()))?;
    let document = document.get_ref();
    if let Some(value) = document.get(key) {
        return match value.get_ref() {
            DeValue::Integer(_) | DeValue::String(_) | DeValue::Float(_) => {
                let span = value.span();
                Ok(format!("{}{number}{}", &text[..span.start], &text[span.end..]))
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Err(EditError::NotAValue(key)),
        };
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
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
