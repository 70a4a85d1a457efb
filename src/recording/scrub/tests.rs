//! Secrets of every kind are planted in every place; none survives.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::super::chance::mix;
use super::super::text::percent::push_encoded;
use super::super::{Audit, Fidelity, Method, Recording, UnixNanos, audit, read, write};
use super::secret::Coding;
use super::*;

const PLANTED: u64 = 600;
/// Kinds of secrets that are planted.
const KINDS: u64 = 9;
/// A field of a query, at its end.
const FIELD: &str = "json=";

fn scrub() -> Scrub {
    Scrub::new(ScrubKey([7; 16])).with_bodies(BodyPolicy::Scrubbed)
}

fn request(target: &str, headers: &[(&str, &str)], body: &str) -> Request {
    Request {
        at: UnixNanos(0),
        method: Method::new("POST").unwrap(),
        target: Target::new(target).unwrap(),
        connection: None,
        ordinal: None,
        headers: headers.iter().map(|(name, value)| Header::new(name, value).unwrap()).collect(),
        body: body.into(),
        status: None,
        duration: None,
        response_bytes: None,
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    text.bytes().for_each(|byte| push_encoded(&mut out, byte));
    out
}

fn hex(n: u64) -> String {
    format!("{:016x}{:016x}", mix(11, n), mix(12, n))
}

/// A number that passes Luhn's check.
fn card(n: u64) -> String {
    let body = format!("4{:014}", mix(13, n) % 100_000_000_000_000);
    let sum: u32 = body
        .bytes()
        .rev()
        .zip(0..)
        .map(|(byte, at)| {
            let digit = u32::from(byte - b'0');
            if at % 2 == 1 { digit } else { digit * 2 - if digit > 4 { 9 } else { 0 } }
        })
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

fn iban(n: u64) -> String {
    let account = mix(14, n) % 1_000_000_000_000_000_000;
    // D is 13 and E is 14.
    let rest = (u128::from(account) * 1_000_000 + 131_400) % 97;
    format!("DE{:02}{account:018}", 98 - rest)
}

/// A telephone number. Of a hundred with so few digits one carries a seal by chance, and cannot be told from a replacement.
fn phone(n: u64) -> String {
    let numbers = (21..).map(|of| format!("+4915{:09}", mix(of, n) % 1_000_000_000));
    numbers.into_iter().find(|number| seal_of(number.as_bytes(), Coding::Percent) == Seal::Missing).unwrap()
}

/// A key of a service.
fn key(n: u64) -> String {
    match n % 4 {
        0 => format!("AKIA{}", &hex(n).to_uppercase()[..16]),
        1 => format!("ghp_{}", hex(n)),
        2 => format!("xoxb-{}-{}", mix(18, n), &hex(n)[..16]),
        _ => format!("sk_live_{}", &hex(n)[..24]),
    }
}

/// The `n`th secret: eight of them have a look of their own.
fn secret(n: u64) -> String {
    let random = mix(15, n);
    match n % KINDS {
        0 => format!("ann{n}.smith@mail{n}.example.org"),
        1 => card(n),
        2 => {
            let part = |of: u64| URL_SAFE_NO_PAD.encode(mix(of, n).to_be_bytes());
            format!("eyJhbGciOiJIUzI1NiJ9{}.{}.{}", part(1), part(2), part(3))
        }
        3 => iban(n),
        4 => format!("2001:db8:{:x}:{:x}::{:x}", random & 0xffff | 0x1000, random >> 16 & 0xffff | 0x1000, n + 1),
        5 => phone(n),
        6 => hex(n),
        7 => key(n),
        _ => STANDARD.encode([mix(16, n).to_be_bytes(), mix(17, n).to_be_bytes(), mix(18, n).to_be_bytes()].concat()),
    }
}

/// A request with a secret in one of the places where it is known by its look, or one where it is by the place.
fn planted(n: u64) -> Request {
    let secret = secret(n);
    // Blanks in a URL, and slashes in a segment, cannot be as they are.
    let (in_query, in_path) = (secret.replace('+', "%2B"), encoded(&secret).replace("%2F", "-"));
    let form = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")];
    let json = [("Content-Type", "application/json")];
    // What the name of a cookie or a header cannot hold, or ends it.
    let as_name = encoded(&secret);
    match n / KINDS % 25 {
        0 => request(&format!("/search?page=1&q={in_query}"), &[], ""),
        1 => request(&format!("/search?q={}&page=1", encoded(&secret)), &[], ""),
        2 => request(&format!("/a?password={in_query}"), &[], ""),
        3 => request("/a", &[("Cookie", &format!("theme=dark; sid={secret}; a=b"))], ""),
        4 => request("/a", &[("Authorization", &format!("Bearer {secret}"))], ""),
        5 => request("/a", &[("X-Custom", &secret)], ""),
        6 if n % KINDS != KINDS - 1 => request(&format!("/users/{}/orders", secret.replace('+', "%2B")), &[], ""),
        6 => request("/users", &[("proxy-authorization", &secret)], ""),
        7 => request(&format!("/users/{in_path}"), &[], ""),
        8 => request("/a", &form, &format!("page=1&comment={in_query}&x=y")),
        9 => request("/a", &form, &format!("api_key={}", encoded(&secret))),
        10 => request("/a", &json, &format!(r#"{{"page":1,"comment":"{secret}"}}"#)),
        11 => request("/a", &json, &format!(r#"{{"user":{{"any":["x","{secret}"]}},"n":1}}"#)),
        12 => request("/a", &json, &format!(r#"{{"text":"{}"}}"#, secret.replace('a', "\\u0061").replace('4', "\\u0034"))),
        13 => request("/a", &[("Referer", &format!("https://example.org/reset?x={in_query}"))], ""),
        14 => request("/a", &[("REFERER", &format!("https://example.org/?token={in_query}#a"))], ""),
        15 => request(&format!("/login?next={}", encoded(&format!("/x?code={in_query}"))), &[], ""),
        16 => request("/a", &[("Content-Type", "text/plain")], &format!("about {secret}, and more")),
        17 => request(&format!("/a;jsessionid={in_query}?x=1"), &[], ""),
        18 => request("/a", &[("X-FORWARDED-FOR", &format!("{secret}, 10.0.0.1"))], ""),
        19 => request(&format!("/?{in_query}"), &[], ""),
        20 => request(&format!("/a?f={}", encoded(&format!(r#"{{"x":["{secret}"]}}"#))), &[], ""),
        21 => request("/a", &[("Cookie", &format!("theme=dark; {as_name}=1"))], ""),
        22 => request(&format!("/search?page=1&{as_name}=1&a=b"), &[], ""),
        23 => request("/a", &form, &format!("page=1&{as_name}=on")),
        _ => request("/a", &[("Set-Cookie", &format!("id={secret}"))], ""),
    }
}

/// What of a request could tell a secret, with every encoding taken off.
fn decoded(request: &Request) -> String {
    let headers = request.headers.iter().map(|header| header.value().to_owned());
    let texts = [request.target.as_str().to_owned(), String::from_utf8_lossy(&request.body).into_owned()];
    let mut text: String = texts.into_iter().chain(headers).collect::<Vec<_>>().join("\n");
    for _ in 0..3 {
        text = text.replace("\\u0061", "a").replace("\\u0034", "4");
        if let Some(layer) = layer::Layer::percent(text.as_bytes()) {
            text = String::from_utf8_lossy(&layer.plain).into_owned();
        }
    }
    text
}

fn audited(requests: Vec<Request>) -> Audit {
    let mut lines = Vec::new();
    write(&Recording { requests, ..Recording::default() }, &mut lines).unwrap();
    audit(lines.as_slice()).unwrap()
}

fn lengths(request: &Request) -> Vec<usize> {
    let headers = request.headers.iter().map(|header| header.value().len());
    [request.target.as_str().len(), request.body.len()].into_iter().chain(headers).collect()
}

#[test]
fn none_of_600_planted_secrets_survives() {
    let survives = |n: u64, request: &Request| {
        let secret = secret(n);
        [secret.replace('/', "-"), secret].iter().any(|secret| decoded(request).contains(secret))
    };
    let (mut scrubbed, mut found, mut surviving) = (Vec::new(), 0, Vec::new());
    for n in 0..PLANTED {
        let original = planted(n);
        assert!(survives(n, &original), "{n} is planted: {original:?}");
        let before = audited(vec![original.clone()]);
        assert!(!before.secrets.is_empty(), "{n} is not found: {original:?}");
        found += u64::from(!before.is_clean());
        let mut request = original.clone();
        scrub().request(&mut request);
        assert_eq!(lengths(&request), lengths(&original), "{request:?}");
        if survives(n, &request) {
            surviving.push(n);
        }
        let after = audited(vec![request.clone()]);
        assert!(after.is_clean(), "{n}: {:?} in {request:?}", after.secrets);
        scrubbed.push(request);
    }
    assert_eq!((found, surviving), (PLANTED, vec![]));

    // Once more in the bytes of the file.
    let mut file = Vec::new();
    write(&Recording { requests: scrubbed, ..Recording::default() }, &mut file).unwrap();
    let file = String::from_utf8(file).unwrap();
    for n in 0..PLANTED {
        for form in [secret(n), encoded(&secret(n)), secret(n).replace('+', "%2B")] {
            assert!(!file.contains(&form), "{n}: {form}");
        }
    }
    let bodies = read(file.as_bytes()).unwrap().requests.into_iter().filter(|request| !request.body.is_empty());
    assert!(bodies.count() > 100);
}

#[test]
fn equal_stays_equal_in_every_place() {
    let id = hex(1);
    let mut request = request(
        &format!("/a?session={id}"),
        &[("Cookie", &format!("a=b; sid={id}")), ("X-Session", &id), ("Authorization", &format!("Bearer {id}"))],
        "",
    );
    scrub().request(&mut request);
    let replacement = request.target.as_str()["/a?session=".len()..].to_owned();
    assert!(replacement != id && replacement.len() == id.len());
    assert!(request.headers.iter().all(|header| header.value().ends_with(&replacement)), "{request:?}");
    let mut other = planted(3 * KINDS);
    let once = {
        let mut once = other.clone();
        scrub().request(&mut once);
        once
    };
    Scrub::new(ScrubKey([8; 16])).request(&mut other);
    assert_ne!(other, once, "the key matters");
}

#[test]
fn ordinary_requests_are_left_as_they_are() {
    let mut request = request(
        "/articles/2024/the-best-cake/?page=2&sort=asc&id=3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        &[
            ("Host", "example.org"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            ("Referer", "https://example.org/articles/?page=1"),
            ("If-None-Match", "\"5f2b-5c8a9d3f4e2c0\""),
        ],
        "",
    );
    let original = request.clone();
    scrub().request(&mut request);
    assert_eq!(request, original);
}

#[test]
fn bodies_are_dropped_unless_wanted() {
    let mut request = request("/", &[("Content-Type", "application/json")], r#"{"a":1,"token":"abcd"}"#);
    let mut dropped = request.clone();
    Scrub::new(ScrubKey([7; 16])).request(&mut dropped);
    assert_eq!(dropped.body, b"");
    scrub().request(&mut request);
    let body = String::from_utf8(request.body).unwrap();
    assert!(body.starts_with(r#"{"a":1,"token":""#) && !body.contains("abcd"), "{body}");
}

#[test]
fn a_client_that_is_an_address_is_found() {
    let mut request = request("/", &[], "");
    request.connection = Some("203.0.113.7:51234".into());
    let found = audited(vec![request.clone(), request.clone()]);
    assert_eq!(found.secrets[&Secret::Address].lines, [2, 3]);
    request.connection = Some(scrub().client(b"203.0.113.7:51234"));
    assert!(audited(vec![request]).is_clean());
}

#[test]
fn what_a_recording_says_of_itself_is_scrubbed_and_audited() {
    let said = ["secret=hunter2hunter2 203.0.113.7", "made for ann@example.org", "about 10.0.0.1"];
    let meta = |words: &str| Meta {
        source: Some(words.to_owned()),
        notes: vec![words.to_owned()],
        fidelity: Some(Fidelity { bodies: None, responses: Some(words.to_owned()), ..Fidelity::default() }),
        ..Meta::default()
    };
    for words in said {
        let audited = |meta: Meta| {
            let mut lines = Vec::new();
            write(&Recording { meta, requests: vec![request("/", &[], "")], ..Recording::default() }, &mut lines).unwrap();
            audit(lines.as_slice()).unwrap()
        };
        let before = audited(meta(words));
        assert!(before.secrets.values().all(|seen| seen.lines == [1] && seen.count == 3) && !before.is_clean(), "{before:?}");
        let after = scrub().meta(meta(words));
        let (source, notes) = (after.source.clone().unwrap(), after.notes.clone());
        assert!(source != words && source.len() == words.len() && notes == [source], "{after:?}");
        assert!(audited(after).is_clean());
    }
}

#[test]
fn a_secret_within_a_secret_is_replaced_with_it() {
    for n in 0..PLANTED {
        // The value of the parameter, and a token that is a part of it.
        let mut request = request(&format!("/a;auth=Bx9{}=éé?b", hex(n)), &[], "");
        scrub().request(&mut request);
        let audit = audited(vec![request.clone()]);
        assert!(audit.is_clean(), "{n}: {:?} in {request:?}", audit.secrets);
    }
}

#[test]
fn a_replacement_that_makes_an_address_with_what_is_beside_it_is_drawn_again() {
    for n in 0..PLANTED {
        // A token whose last part is, of every fourth replacement, the beginning of an IPv6 address.
        let mut request = request(&format!("/?q=NNNNNNNNNNNNNNN1/8My2/Y{n:03}:105::003"), &[], "");
        scrub().request(&mut request);
        let audit = audited(vec![request.clone()]);
        assert!(audit.is_clean(), "{n}: {:?} in {request:?}", audit.secrets);
    }
}

proptest! {
    #[test]
    fn whatever_is_scrubbed_is_clean_and_as_long(
        pieces in prop::collection::vec((0..400_u64, "[a-z0-9 .@:+&=?/%\";é-]{0,8}"), 1..6),
        json in any::<bool>(),
    ) {
        let text: String = pieces.iter().map(|(n, other)| if n % 4 == 0 { other.clone() } else { secret(*n) + other }).collect();
        let body = if json { serde_json::json!({ "a": text, "key": [text, 12], "n": pieces[0].0 }).to_string() } else { text.clone() };
        let path = text.replace(' ', "+");
        let target = if json { format!("/{path}?{FIELD}{}", encoded(&body)) } else { format!("/{path}") };
        let kind = if json { "application/json" } else { "application/x-www-form-urlencoded" };
        let headers = [("Content-Type", kind), ("Referer", &text), ("User-Agent", &text), ("Cookie", &text), ("X-A", &text)];
        let original = request(&target, &headers, &body);
        let mut request = original.clone();
        scrub().request(&mut request);
        prop_assert_eq!(lengths(&request), lengths(&original));
        let is_json = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).is_ok();
        prop_assert!(!json || is_json(&request.body));
        let in_query = request.target.as_str().rsplit_once(FIELD).map(|(_, field)| layer::Layer::percent(field.as_bytes()).unwrap().plain);
        prop_assert!(in_query.is_none_or(|text| is_json(&text)), "{request:?}");
        let audit = audited(vec![request.clone()]);
        prop_assert!(audit.is_clean(), "{:?} in {:?}", audit.secrets, request);
    }

    #[test]
    fn no_text_panics(target in "[!-~äé€]{1,80}", value in "[ -~äé€]{0,80}", body in prop::collection::vec(any::<u8>(), 0..80), kind in 0..3_usize) {
        let kind = ["application/json", "application/x-www-form-urlencoded", "image/png"][kind];
        let mut request = request(&target, &[("Content-Type", kind), ("Cookie", &value), ("Referer", &value), ("X-A", &value)], "");
        request.body = body;
        let before = lengths(&request);
        scrub().request(&mut request);
        prop_assert_eq!(lengths(&request), before);
    }
}
