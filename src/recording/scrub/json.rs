//! Where secrets are in JSON: everything below a name that says so, and strings and numbers by their look. Refuses what is not JSON.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::detect::{TextKind, detect};
use super::layer::Layer;
use super::names::{Told, told};
use super::secret::{Coding, Found, Secret};
use super::url::value;

/// Whether a text is worth trying: an object or an array.
pub(super) fn may_be_json(text: &[u8]) -> bool {
    let trimmed = text.trim_ascii();
    matches!((trimmed.first(), trimmed.last()), (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')))
}

/// Appends every secret; `false` if `text` is not JSON, or nests too deep to tell. It is in so many other texts already.
pub(super) fn json(text: &[u8], nested: u8, found: &mut Vec<Found>) -> bool {
    if serde_json::from_slice::<IgnoredAny>(text).is_err() {
        return false;
    }
    let mut walk = Walk { text, found, nested, at: 0, depth: 0, secret_below: None, named: Told::Nothing };
    while walk.step() {}
    true
}

/// A walk over text that is known to be JSON.
struct Walk<'a> {
    text: &'a [u8],
    found: &'a mut Vec<Found>,
    nested: u8,
    at: usize,
    depth: usize,
    /// The depth of the array or object whose name was secret.
    secret_below: Option<usize>,
    /// What the name just read tells.
    named: Told,
}

impl Walk<'_> {
    fn step(&mut self) -> bool {
        let Some(byte) = self.text.get(self.at) else { return false };
        let start = self.at;
        self.at += 1;
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                if self.named == Told::Secret && self.secret_below.is_none() {
                    self.secret_below = Some(self.depth);
                }
                self.named = Told::Nothing;
            }
            b'}' | b']' => {
                self.secret_below = self.secret_below.filter(|depth| *depth != self.depth);
                self.depth -= 1;
            }
            b',' => self.named = Told::Nothing,
            b'"' => {
                let inside = self.rest_of_string();
                if self.is_name() { self.name(inside) } else { self.string(inside) }
            }
            b'-' | b'0'..=b'9' => {
                let others = self.text[start..].iter().take_while(|byte| b"+-.eE0123456789".contains(byte)).count();
                self.at = start + others;
                self.number(start..self.at);
            }
            _ => {}
        }
        true
    }

    fn rest_of_string(&mut self) -> Range<usize> {
        let start = self.at;
        loop {
            let special = memchr::memchr2(b'"', b'\\', &self.text[self.at..]).map(|offset| self.at + offset);
            let Some(special) = special else { return start..self.text.len() };
            if self.text[special] == b'"' {
                self.at = special + 1;
                return start..special;
            }
            self.at = special + 2;
        }
    }

    /// Whether the string that was just read is the name of what follows.
    fn is_name(&self) -> bool {
        self.text[self.at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
    }

    fn name(&mut self, inside: Range<usize>) {
        let text = &self.text[inside.clone()];
        let layer = Layer::json(text);
        self.named = told(layer.as_ref().map_or(text, |layer| &layer.plain));
        self.look(inside, layer.as_ref());
    }

    fn string(&mut self, inside: Range<usize>) {
        let text = &self.text[inside.clone()];
        let layer = Layer::json(text);
        let is_secret = self.secret_below.is_some() || self.named.is_secret(layer.as_ref().map_or(text, |layer| &layer.plain));
        if !is_secret {
            self.look(inside, layer.as_ref());
        } else if !inside.is_empty() {
            let coding = if layer.is_some() { Coding::Json(0) } else { Coding::Percent };
            self.found.push(Found { range: inside, secret: Secret::Field, coding });
        }
    }

    fn look(&mut self, inside: Range<usize>, layer: Option<&Layer>) {
        let earlier = self.found.len();
        value(layer.map_or(&self.text[inside.clone()], |layer| &layer.plain), self.nested + 1, self.found);
        let is_json = |one: &Found| matches!(one.coding, Coding::Json(_) | Coding::Number);
        if layer.is_some() && self.found[earlier..].iter().any(is_json) {
            // JSON in a string of JSON: what is behind both kinds of escapes cannot be put back in its place, so all of it goes.
            self.found.truncate(earlier);
            self.found.push(Found { range: inside, secret: Secret::Field, coding: Coding::Json(0) });
            return;
        }
        for one in &mut self.found[earlier..] {
            if let Some(layer) = layer {
                one.range = layer.written(&one.range);
                one.coding = Coding::Json(0);
            }
            one.range = inside.start + one.range.start..inside.start + one.range.end;
        }
    }

    fn number(&mut self, range: Range<usize>) {
        // An exponent stays: with another one the number might be none that the application can hold.
        let digits = self.text[range.clone()].iter().take_while(|byte| !b"eE".contains(byte)).count();
        let range = range.start..range.start + digits;
        if self.named == Told::Secret || self.secret_below.is_some() {
            self.found.push(Found { range, secret: Secret::Field, coding: Coding::Number });
            return;
        }
        let mut cards = Vec::new();
        detect(&self.text[range.clone()], TextKind::Value, &mut cards);
        self.found.extend(cards.first().map(|card| Found { range, secret: card.secret, coding: Coding::Number }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_name_and_by_look() {
        let text = br#"{"a":1,"user":{"id":7,"x":["y",{"z":null}]},"q":"\u0061nn@example.org","n":4111111111111111,"token" : "t\"k","b":"","t":true,"l":[-1.5]}"#;
        let mut found = Vec::new();
        assert!(json(text, 0, &mut found));
        let found: Vec<_> = found.into_iter().map(|one| (one.secret, str::from_utf8(&text[one.range]).unwrap())).collect();
        assert_eq!(
            found,
            [
                (Secret::Field, "7"),
                (Secret::Field, "y"),
                (Secret::Email, r"\u0061nn@example.org"),
                (Secret::Card, "4111111111111111"),
                (Secret::Field, r#"t\"k"#),
            ]
        );
    }

    #[test]
    fn a_number_with_an_exponent_is_secret_up_to_it() {
        let text = br#"{"pin":1234e0,"n":1e9,"user":[-1.5E+3],"c":4111111111111111e0}"#;
        let mut found = Vec::new();
        assert!(json(text, 0, &mut found));
        let found: Vec<_> = found.into_iter().map(|one| (one.coding, str::from_utf8(&text[one.range]).unwrap())).collect();
        assert_eq!(found, ["1234", "-1.5", "4111111111111111"].map(|digits| (Coding::Number, digits)));
    }

    #[test]
    fn some_names_tell_of_a_secret_if_the_value_looks_like_one() {
        let text = br#"{"state":"open","refresh":"a\u0031b2c3d4","access":["k3j9x0a8"],"ticket":4711}"#;
        let mut found = Vec::new();
        assert!(json(text, 0, &mut found));
        let found: Vec<_> = found.into_iter().map(|one| str::from_utf8(&text[one.range]).unwrap()).collect();
        assert_eq!(found, [r"a\u0031b2c3d4"]);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{\"a\":1}}", "a=b", &"[".repeat(500)] {
            assert!(!json(text.as_bytes(), 0, &mut Vec::new()), "{text}");
        }
    }
}
