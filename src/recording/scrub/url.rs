//! Where secrets are in a request target, another URL, or a form: the path, and the values of fields by name or look. A value may be a
//! URL itself, and encoded more than once.

use std::ops::Range;

use super::detect::{TextKind, detect};
use super::json::{json, may_be_json};
use super::layer::{DEEPEST, Layer};
use super::names;
use super::secret::{Coding, Found, Secret};

/// What is looked for in a part, and how deep that part is in others.
type Look = fn(&[u8], u8, &mut Vec<Found>);

/// Appends every secret in a URL, absolute or not. Of a server's name nothing is.
pub(super) fn url(text: &[u8], found: &mut Vec<Found>) {
    url_at(text, 0, found);
}

/// Appends every secret in a form, or a query.
pub(super) fn form(text: &[u8], found: &mut Vec<Found>) {
    pairs(text, 0, 0, found);
}

/// Appends every secret in a value whose field's name says nothing, and that is in so many other texts.
pub(super) fn value(text: &[u8], nested: u8, found: &mut Vec<Found>) {
    value_at(text, nested, found);
}

fn url_at(text: &[u8], depth: u8, found: &mut Vec<Found>) {
    let path = after_server(text, found);
    let end = memchr::memchr2(b'?', b'#', &text[path..]).map_or(text.len(), |at| path + at);
    if memchr::memchr(b'%', &text[path..end]).is_none() {
        within(text, path..end, depth, found, |path, _, found| detect(path, TextKind::Path, found));
    } else {
        for segment in parts(&text[..end], path, b"/") {
            within(text, segment, depth, found, segment_at);
        }
    }
    // Parameters of a path's segments: `/cart;jsessionid=…`.
    if let Some(parameters) = memchr::memchr(b';', &text[path..end]) {
        named(&text[..end], path + parameters + 1, b";/", found);
    }
    pairs(text, end, depth, found);
}

/// Only a value has an encoded slash in it.
fn segment_at(text: &[u8], depth: u8, found: &mut Vec<Found>) {
    if memchr::memchr(b'/', text).is_some() { value_at(text, depth, found) } else { detect(text, TextKind::Path, found) }
}

/// Where the path begins. A name and password before the server's are secret.
fn after_server(text: &[u8], found: &mut Vec<Found>) -> usize {
    let scheme = text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if !text[scheme..].starts_with(b"://") {
        return 0;
    }
    let server = scheme + 3;
    let end = text[server..].iter().position(|byte| b"/?#".contains(byte)).map_or(text.len(), |at| server + at);
    if let Some(user @ 1..) = memchr::memrchr(b'@', &text[server..end]) {
        found.push(Found { range: server..server + user, secret: Secret::Credentials, coding: Coding::Percent });
    }
    end
}

/// The fields of a query, from `from` on.
fn pairs(text: &[u8], from: usize, depth: u8, found: &mut Vec<Found>) {
    for part in parts(text, from, b"&;?#") {
        let equals = memchr::memchr(b'=', &text[part.clone()]).map(|at| part.start + at);
        let content = equals.map_or(part.start, |equals| equals + 1)..part.end;
        if content.is_empty() {
            continue;
        }
        if equals.is_some_and(|equals| names::is_secret(&text[part.start..equals])) {
            found.push(Found { range: content, secret: Secret::Field, coding: Coding::Percent });
        } else {
            within(text, content, depth, found, value_at);
        }
    }
}

/// Fields whose values are secret by name.
fn named(text: &[u8], from: usize, separators: &[u8], found: &mut Vec<Found>) {
    for part in parts(text, from, separators) {
        let equals = memchr::memchr(b'=', &text[part.clone()]).map(|at| part.start + at);
        if let Some(equals) = equals.filter(|equals| equals + 1 < part.end && names::is_secret(&text[part.start..*equals])) {
            found.push(Found { range: equals + 1..part.end, secret: Secret::Field, coding: Coding::Percent });
        }
    }
}

fn parts(text: &[u8], from: usize, separators: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = from;
    text[from..].split(|byte| separators.contains(byte)).map(move |part| {
        let start = at;
        at += part.len() + 1;
        start..start + part.len()
    })
}

fn value_at(text: &[u8], depth: u8, found: &mut Vec<Found>) {
    if depth >= DEEPEST {
        return detect(text, TextKind::Value, found);
    }
    if memchr::memchr(b'%', text).is_some() && Layer::percent(text).is_some() {
        return within(text, 0..text.len(), depth, found, value_at);
    }
    if may_be_json(text) && json(text, depth, found) {
        return;
    }
    // `=` at the end fills up base64.
    let has_fields = memchr::memchr3(b'?', b'&', b'=', text).is_some_and(|at| text[at..].iter().any(|byte| *byte != b'='));
    if has_fields {
        let is_url = text.starts_with(b"/") || memchr::memmem::find(text, b"://").is_some();
        if is_url {
            return url_at(text, depth + 1, found);
        }
        pairs(text, 0, depth + 1, found);
    } else {
        detect(text, TextKind::Value, found);
    }
}

/// Looks at a part of `text` behind its percent-encoding, and says where in `text` what it found is.
fn within(text: &[u8], range: Range<usize>, depth: u8, found: &mut Vec<Found>, look: Look) {
    let earlier = found.len();
    let part = &text[range.clone()];
    let layer = if depth < DEEPEST && memchr::memchr(b'%', part).is_some() { Layer::percent(part) } else { None };
    match &layer {
        Some(layer) => look(&layer.plain, depth + 1, found),
        None => look(part, depth, found),
    }
    for one in &mut found[earlier..] {
        let written = layer.as_ref().map_or(one.range.clone(), |layer| layer.written(&one.range));
        one.range = range.start + written.start..range.start + written.end;
        if let (Coding::Json(above), Some(_)) = (&mut one.coding, &layer) {
            *above += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(text: &str) -> Vec<(Secret, &str)> {
        let mut found = Vec::new();
        url(text.as_bytes(), &mut found);
        super::super::secret::merge(&mut found);
        found.into_iter().map(|one| (one.secret, &text[one.range])).collect()
    }

    #[test]
    fn fields_are_found_by_name_and_by_look() {
        let text = "/reset?page=2&access_token=Ab3-xY9&keyword=shoes&apiKey=k1&q=ann%40example.org;e=a#key=%61";
        assert_eq!(
            secrets(text),
            [(Secret::Field, "Ab3-xY9"), (Secret::Field, "k1"), (Secret::Email, "ann%40example.org"), (Secret::Field, "%61")]
        );
        assert_eq!(secrets("/a;jsessionid=12/b;v=1?203.0.113.7"), [(Secret::Field, "12"), (Secret::Address, "203.0.113.7")]);
        assert_eq!(secrets("/?token=&=&a&x="), []);
    }

    #[test]
    fn a_server_is_no_secret_but_who_asks_it_is() {
        assert_eq!(secrets("http://10.0.0.1:80/a"), []);
        assert_eq!(secrets("https://ann:pw@host/a?mail=x"), [(Secret::Credentials, "ann:pw"), (Secret::Field, "x")]);
        assert_eq!(secrets("*"), []);
    }

    #[test]
    fn json_in_a_value_is_looked_through() {
        assert_eq!(secrets(r#"/?f={"token":"abc","page":1}"#), [(Secret::Field, "abc")]);
        assert_eq!(secrets("/?f=%7B%22a%22:[%7B%22pin%22%3A1234%7D]%7D"), [(Secret::Field, "1234")]);
        assert_eq!(secrets("/?f=%257B%2522token%2522%253A%2522a%255C%2522b%2522%257D"), [(Secret::Field, "a%255C%2522b")]);
        assert_eq!(secrets("/?next=%2Fa%3Ff%3D%257B%2522mail%2522%253A%2522x%2522%257D"), [(Secret::Field, "x")]);
        assert_eq!(secrets(r#"/?f={"a":"{\"token\":\"x\"}"}"#), [(Secret::Field, "x")]);
        let twice = r#"{\"token\":\"x\\\"\"}"#;
        assert_eq!(secrets(&format!(r#"/?f={{"a":"{twice}"}}"#)), [(Secret::Field, twice)], "all of what is escaped twice");
        assert_eq!(secrets("/?f=%7B%22page%22%3A1%7D&g=%7Btoken%7D&h=[]"), []);
    }

    #[test]
    fn urls_within_urls_are_looked_through() {
        assert_eq!(secrets("/login?next=%2Freset%3Ftoken%3Dabc%26a%3D1"), [(Secret::Field, "abc")]);
        assert_eq!(secrets("/?next=%2F%3Fmail%3Dann%2540example.org"), [(Secret::Field, "ann%2540example.org")]);
        assert_eq!(secrets("/?u=%2Fa%2Fann%2540example.org%3Fx"), [(Secret::Email, "ann%2540example.org")]);
        assert_eq!(secrets("/?q=what%20is%20203.0.113.7%3F"), [(Secret::Address, "203.0.113.7")]);
        assert_eq!(secrets("/u/ann%40example.org/x"), [(Secret::Email, "ann%40example.org")]);
        // An end to it.
        let mut deep = "?a=".repeat(1000);
        for _ in 0..10 {
            deep = deep.replace('%', "%25").replace('=', "%3D");
        }
        assert_eq!(secrets(&deep), []);
    }
}
