//! Where secrets are in a request target, another URL, or a form: the path, the names of fields by look, and their values by name or
//! look. A value may be a URL itself, and encoded more than once.

use std::ops::Range;

use super::detect::{SHORTEST, TextKind, detect};
use super::json::{json, may_be_json};
use super::layer::{DEEPEST, Layer};
use super::names;
use super::secret::{Coding, Found, Secret};
use super::user::{BEHIND_SCHEME, server_end, users};

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

/// Appends every secret in the name of a field.
pub(super) fn field_name(text: &[u8], range: Range<usize>, found: &mut Vec<Found>) {
    name_at(text, range, 0, found);
}

/// Appends every secret in a value whose field's name says nothing, and that is in so many other texts.
pub(super) fn value(text: &[u8], nested: u8, found: &mut Vec<Found>) {
    value_at(text, nested, found);
}

fn url_at(text: &[u8], depth: u8, found: &mut Vec<Found>) {
    users(text, |range| found.push(credentials(range)));
    let path = after_server(text);
    let end = memchr::memchr2(b'?', b'#', &text[path..]).map_or(text.len(), |at| path + at);
    if memchr::memchr(b'%', &text[path..end]).is_none() {
        within(text, path..end, depth, found, |path, _, found| detect(path, TextKind::Path, found));
    } else {
        for segment in parts(&text[..end], path, b"/") {
            within(text, segment, depth, found, segment_at);
        }
        // A URL in the path is more than a segment.
        if memchr::memchr(b'@', &text[..end]).is_some() || memchr::memmem::find(&text[..end], b"%40").is_some() {
            within(text, 0..end, depth, found, |path, _, found| users(path, |range| found.push(credentials(range))));
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

/// Where the path begins.
fn after_server(text: &[u8]) -> usize {
    // RFC 3986, 3.1
    let scheme = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    if text[scheme..].starts_with(BEHIND_SCHEME) { server_end(text, scheme + BEHIND_SCHEME.len()) } else { 0 }
}

const fn credentials(range: Range<usize>) -> Found {
    Found { range, secret: Secret::Credentials, coding: Coding::Percent }
}

/// The fields of a query, from `from` on.
fn pairs(text: &[u8], from: usize, depth: u8, found: &mut Vec<Found>) {
    for part in parts(text, from, b"&;?#") {
        let equals = memchr::memchr(b'=', &text[part.clone()]).map(|at| part.start + at);
        let content = equals.map_or(part.start, |equals| equals + 1)..part.end;
        if let Some(equals) = equals {
            name_at(text, part.start..equals, depth, found);
        }
        if content.is_empty() {
            continue;
        }
        if equals.is_some_and(|equals| names::told(&text[part.start..equals]).is_secret(&text[content.clone()])) {
            found.push(Found { range: content, secret: Secret::Field, coding: Coding::Percent });
        } else {
            within(text, content, depth, found, value_at);
        }
    }
}

/// Nearly every name is shorter than anything that has a look.
fn name_at(text: &[u8], range: Range<usize>, depth: u8, found: &mut Vec<Found>) {
    if range.len() >= SHORTEST {
        within(text, range, depth, found, value_at);
    }
}

/// Fields whose values are secret, as their names tell.
fn named(text: &[u8], from: usize, separators: &[u8], found: &mut Vec<Found>) {
    for part in parts(text, from, separators) {
        let equals = memchr::memchr(b'=', &text[part.clone()]).map(|at| part.start + at);
        let Some(equals) = equals else { continue };
        let content = equals + 1..part.end;
        if !content.is_empty() && names::told(&text[part.start..equals]).is_secret(&text[content.clone()]) {
            found.push(Found { range: content, secret: Secret::Field, coding: Coding::Percent });
        }
    }
}

/// The parts between separators, from `from` on.
pub(super) fn parts(text: &[u8], from: usize, separators: &[u8]) -> impl Iterator<Item = Range<usize>> {
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
        let is_url = text.starts_with(b"/") || memchr::memmem::find(text, BEHIND_SCHEME).is_some();
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
    fn names_of_fields_are_looked_at_too() {
        assert_eq!(secrets("/?ann@example.org=1&b=2"), [(Secret::Email, "ann@example.org")]);
        assert_eq!(secrets("/?a=1&4111111111111111=1"), [(Secret::Card, "4111111111111111")]);
        assert_eq!(secrets("/?ann%40example.org=1"), [(Secret::Email, "ann%40example.org")]);
        assert_eq!(secrets("/?user_ann@example.org=x"), [(Secret::Email, "user_ann@example.org"), (Secret::Field, "x")]);
        assert_eq!(secrets(r#"/?{"token":"abc"}="#), [(Secret::Field, "abc")]);
        assert_eq!(secrets("/?next=/a?ann%40example.org%3D1"), [(Secret::Email, "ann%40example.org")]);
        assert_eq!(secrets("/?utm_campaign=1&filter[category][]=2&_=3&%=4"), []);
    }

    #[test]
    fn who_asks_a_server_is_a_secret_wherever_the_url_stands() {
        for (text, who) in [
            ("/?next=postgres://admin:hunter2@db/shop", "admin:hunter2"),
            ("/?u=redis%3A%2F%2F%3Ahun%3Bter2%40redis", "%3Ahun%3Bter2"),
            ("/?u=see+http://ann:p%26w@db,+please", "ann:p%26w"),
            ("/?u=mongodb%2Bsrv%3A%2F%2Fann%3Apw%40db%2Fshop%3Fx%3Dy", "ann%3Apw"),
            (r#"/?f={"dsn":"amqp:\/\/ann:pw@mq"}"#, "ann:pw"),
            ("/proxy/http://admin:hunter2@intranet/x", "admin:hunter2"),
            ("/proxy/http%3A//admin:hunter2@intranet/x", "admin:hunter2"),
            ("/proxy/http://admin:hunter2%40intranet/x", "admin:hunter2"),
            ("postgresql+psycopg2://admin:hunter2@db/shop?a=b", "admin:hunter2"),
            ("http://ann:p@w@host", "ann:p@w"),
            ("/?://a://http://ann:pw@db", "ann:pw"),
            ("/?u=redis://:p&w=1;2@db/0", ":p&w=1;2"),
            ("/?next=//ann:pw@host/x", "ann:pw"),
            ("/?next=%2F%2Fann%3Apw%40host", "ann%3Apw"),
            ("//ann:pw@host/x?a=b", "ann:pw"),
        ] {
            assert_eq!(secrets(text), [(Secret::Credentials, who)], "{text}");
        }
        for text in ["/https://medium.com/@ann/x", "/?u=https://cdn/a@b/c@d", "/?u=http://@db", "/a://", "/?u=http://a/#@"] {
            assert_eq!(secrets(text), [], "{text}");
        }
    }

    #[test]
    fn a_field_behind_a_url_keeps_its_name() {
        for server in ["http://shop.example", "http://shop.example:8080", "http://[::1]:80", "//shop.example"] {
            for next in ["&", ";"] {
                let text = format!("/?next={server}{next}email=ann@example.org");
                assert_eq!(secrets(&text), [(Secret::Field, "ann@example.org")], "{text}");
            }
        }
    }

    #[test]
    fn some_names_tell_of_a_secret_if_the_value_looks_like_one() {
        for secret in
            ["state=af0ifjsldkj", "ticket=ST-185-aA5Yuv", "refresh=3f2504e0-4f89-11d3-9a0c-0305e82c3301", "access=a%31b2c3d4"]
        {
            let (_, value) = secret.split_once('=').unwrap();
            assert_eq!(secrets(&format!("/?a=1&{secret}")), [(Secret::Field, value)]);
        }
        assert_eq!(secrets("/?state=open&access=read-only&refresh=1&ticket=4711&order[state]=Baden-Wuerttemberg"), []);
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
