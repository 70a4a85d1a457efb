//! Reads values of the right type out of a TOML table, and goes on after a wrong one. Refuses keys that nobody knows.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Section};
use super::problem::{Problems, plain, quote};

/// A value that is written as a number or as a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NumberOrText {
    Number(i64),
    Text(String),
}

/// A string with its place.
pub(super) type Text = Spanned<String>;

/// One table of the file. What it lacks reads as absent.
pub(super) struct Reader<'a, 'p, 't> {
    section: Section,
    table: &'a DeTable<'a>,
    problems: &'p mut Problems<'t>,
}

impl<'a, 'p, 't> Reader<'a, 'p, 't> {
    /// Reads `table`, which is `section`; complains about its unknown keys at once.
    pub(super) fn new(section: Section, table: &'a DeTable<'a>, problems: &'p mut Problems<'t>) -> Self {
        for (name, value) in table {
            let is_header = section == Section::Top && Section::NAMED.iter().any(|named| named.name() == name.get_ref());
            if is_header || section.keys().any(|key| key.name == name.get_ref()) {
                continue;
            }
            let path = section.path(&plain(name.get_ref()));
            let message = if value.get_ref().is_table() { "unknown section" } else { "unknown key" };
            problems.at(name.span(), path, message, keys::suggest(section, name.get_ref()));
        }
        Self { section, table, problems }
    }

    /// The table under `section`'s header, with the header's place.
    pub(super) fn section(&mut self, section: Section) -> Option<(&'a DeTable<'a>, Range<usize>)> {
        let value = self.table.get(section.name())?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let name = section.name();
            let message = format!("is {}, but {name} is a section", described(value.get_ref()));
            self.problems.at(value.span(), name, message, format!("write [{name}] on a line of its own, its keys below"));
        }
        table.map(|table| (table, value.span()))
    }

    /// A string.
    pub(super) fn text(&mut self, key: &'static Key) -> Option<Text> {
        let value = self.value(key)?;
        self.text_at(value, &key.to_string(), &key.hint())
    }

    /// A whole number.
    pub(super) fn number(&mut self, key: &'static Key) -> Option<Spanned<i64>> {
        let value = self.value(key)?;
        match whole_number(value.get_ref()) {
            Some(number) => Some(Spanned::new(value.span(), number)),
            None => self.refuse_type(value, &key.to_string(), &key.hint()),
        }
    }

    /// `true` or `false`.
    pub(super) fn truth(&mut self, key: &'static Key) -> Option<bool> {
        let value = self.value(key)?;
        let truth = value.get_ref().as_bool();
        truth.or_else(|| self.refuse_type(value, &key.to_string(), &key.hint()))
    }

    /// A whole number or a string.
    pub(super) fn number_or_text(&mut self, key: &'static Key) -> Option<Spanned<NumberOrText>> {
        let value = self.value(key)?;
        if let Some(number) = whole_number(value.get_ref()) {
            return Some(Spanned::new(value.span(), NumberOrText::Number(number)));
        }
        let text = self.text_at(value, &key.to_string(), &key.hint())?;
        Some(Spanned::new(text.span(), NumberOrText::Text(text.into_inner())))
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, key: &'static Key) -> Option<Spanned<bool>> {
        let value = self.value(key)?;
        match value.get_ref().as_bool() {
            Some(truth) => Some(Spanned::new(value.span(), truth)),
            None => self.refuse_type(value, &key.to_string(), &key.hint()),
        }
    }

    /// An array of strings.
    pub(super) fn texts(&mut self, key: &'static Key) -> Option<Spanned<Vec<Text>>> {
        let value = self.value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            return self.refuse_type(value, &key.to_string(), &key.hint());
        };
        let mut texts = Vec::with_capacity(array.len());
        for (place, element) in array.iter().enumerate() {
            texts.push(self.text_at(element, &format!("{key}[{place}]"), &in_quotes(element.get_ref())));
        }
        // An element that is missing would shift the others' meaning.
        let texts = texts.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Spanned::new(value.span(), texts))
    }

    /// An array of strings, or one string.
    pub(super) fn text_or_texts(&mut self, key: &'static Key) -> Option<Spanned<Vec<Text>>> {
        let value = self.value(key)?;
        if value.get_ref().is_array() {
            return self.texts(key);
        }
        let text = self.text(key)?;
        Some(Spanned::new(text.span(), vec![text]))
    }

    /// A table of strings, in the order of its names.
    pub(super) fn text_table(&mut self, key: &'static Key) -> Option<Spanned<Vec<(Text, Text)>>> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            return self.refuse_type(value, &key.to_string(), &key.hint());
        };
        let mut entries = Vec::with_capacity(table.len());
        for (name, entry) in table {
            let path = format!("{key}.{}", plain(name.get_ref()));
            if let Some(text) = self.text_at(entry, &path, &in_quotes(entry.get_ref())) {
                entries.push((Spanned::new(name.span(), name.get_ref().to_string()), text));
            }
        }
        Some(Spanned::new(value.span(), entries))
    }

    fn value(&self, key: &'static Key) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert_eq!(key.section, self.section, "invariant: {key} is read from its own section");
        self.table.get(key.name)
    }

    fn text_at(&mut self, value: &Spanned<DeValue<'_>>, path: &str, hint: &str) -> Option<Text> {
        let Some(text) = value.get_ref().as_str() else {
            return self.refuse_type(value, path, hint);
        };
        if text.contains('\0') {
            let hint = "remove it: no path, argument or variable can hold one";
            self.problems.at(value.span(), path, "contains a NUL character", hint);
            return None;
        }
        Some(Spanned::new(value.span(), text.to_owned()))
    }

    fn refuse_type<T>(&mut self, value: &Spanned<DeValue<'_>>, path: &str, hint: &str) -> Option<T> {
        self.problems.at(value.span(), path, format!("is {}", described(value.get_ref())), hint);
        None
    }
}

/// `None` also for a number that exceeds 64 bits: it is out of every key's range.
fn whole_number(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn described(value: &DeValue<'_>) -> String {
    match (value.as_str(), value.as_integer(), value.as_bool()) {
        (Some(text), _, _) => format!("the string {}", quote(text)),
        (_, Some(number), _) if number.as_str().len() <= 40 => format!("the number {number}"),
        (_, _, Some(truth)) => format!("the boolean {truth}"),
        _ if value.is_array() || value.is_integer() => format!("an {}", value.type_str()),
        _ => format!("a {}", value.type_str()),
    }
}

fn in_quotes(value: &DeValue<'_>) -> String {
    match (value.as_integer(), value.as_bool()) {
        (Some(number), _) => format!("write {}", quote(&number.to_string())),
        (_, Some(truth)) => format!("write \"{truth}\""),
        (None, None) => "write a string, in quotes".to_owned(),
    }
}
