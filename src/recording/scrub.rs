//! Replaces personal data and secrets before anything is written: client addresses, values of query parameters by name or look,
//! headers that carry credentials, bodies. A replacement has the length and alphabet of what it replaces and depends on it and a
//! key only, so equal stays equal and caches and sessions still join. Paths are kept: they are what is measured.
//! One-way, but not one-to-one: short values may fall together.

use std::borrow::Cow;

use siphasher::sip::SipHasher24;

use super::chance::mix;
use super::percent::{Octet, octets, push_encoded};
use super::request::{Header, Request, Target};

/// Any parameter whose name contains one of these.
const STEMS: [&str; 13] = [
    "token",
    "passw",
    "secret",
    "session",
    "signature",
    "credential",
    "email",
    "phone",
    "apikey",
    "oauth",
    "username",
    "surname",
    "csrf",
];
/// Any parameter of whose name one of these is a whole word: `api_key` and `userMail`, but not `keyword`.
const WORDS: [&str; 21] = [
    "key", "code", "sig", "pass", "pwd", "sid", "jwt", "otp", "pin", "mail", "card", "ssn", "iban", "addr", "address", "name",
    "login", "user", "nonce", "auth", "tel",
];
/// Headers whose value is replaced whole.
const HEADERS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "x-auth-token",
    "x-csrftoken",
    "x-forwarded-for",
];

/// The secret a scrub depends on. Draw a new one for every import and forget it.
#[derive(Clone, Copy)]
pub struct ScrubKey(pub [u8; 16]);

/// Replaces what a recording must not hold.
#[derive(Clone)]
pub struct Scrub {
    hasher: SipHasher24,
}

impl Scrub {
    /// What [`Meta`](super::Meta) calls this policy.
    pub const NAME: &str = "default";

    /// A scrub with its key.
    #[must_use]
    pub fn new(key: ScrubKey) -> Self {
        Self { hasher: SipHasher24::new_with_key(&key.0) }
    }

    /// A name for a client that does not tell its address.
    #[must_use]
    pub fn client(&self, address: &[u8]) -> Box<str> {
        format!("{:016x}", self.hasher.hash(address)).into()
    }

    /// Scrubs target and headers, and drops the body.
    ///
    /// # Panics
    ///
    /// Never: a replacement holds letters, digits and what stood there before.
    pub fn request(&self, request: &mut Request) {
        if let Cow::Owned(text) = self.url(request.target.as_str()) {
            request.target = Target::new(&text).expect("invariant: replacements are letters and digits");
        }
        for header in &mut request.headers {
            let value = if HEADERS.iter().any(|name| header.is(name)) {
                self.value(header.value())
            } else if let Cow::Owned(text) = self.url(header.value()) {
                text
            } else {
                continue;
            };
            *header = Header::new(header.name(), &value).expect("invariant: replacements are letters and digits");
        }
        request.body = Vec::new();
    }

    /// `text` with the values of its query replaced where they look like secrets; borrowed if there are none.
    fn url<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(query) = text.find('?').map(|mark| mark + 1) else {
            return Cow::Borrowed(text);
        };
        let mut scrubbed: Option<String> = None;
        let mut at = query;
        for pair in text[query..].split_inclusive(['&', ';']) {
            let content = pair.trim_end_matches(['&', ';']);
            if let Some((name, value)) = content.split_once('=')
                && (is_secret_name(name) || is_secret_value(value))
            {
                let from = at + name.len() + 1;
                scrubbed.get_or_insert_with(|| text.to_owned()).replace_range(from..from + value.len(), &self.value(value));
            }
            at += pair.len();
        }
        scrubbed.map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// As many bytes as `value`, of the same alphabet, with its ASCII punctuation in place.
    fn value(&self, value: &str) -> String {
        let seed = self.hasher.hash(value.as_bytes());
        let mut out = String::with_capacity(value.len());
        for (octet, index) in octets(value.as_bytes()).zip(0..) {
            let random = mix(seed, index);
            match octet {
                Octet::Plain(byte) => out.push(char::from(replacement(byte, random))),
                Octet::Encoded(byte) => push_encoded(&mut out, replacement(byte, random)),
            }
        }
        out
    }
}

/// A byte of the same class: digit, lower, upper; beyond ASCII, a lower-case letter; punctuation is kept.
fn replacement(byte: u8, random: u64) -> u8 {
    let pick = |first: u8, count: u64| first + u8::try_from(random % count).expect("invariant: below 26");
    match byte {
        b'0'..=b'9' => pick(b'0', 10),
        b'A'..=b'Z' => pick(b'A', 26),
        b'a'..=b'z' | 0x80.. => pick(b'a', 26),
        _ => byte,
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = percent_decode(name);
    let lower = name.to_ascii_lowercase();
    STEMS.iter().any(|stem| lower.contains(stem)) || words(&name).any(|word| WORDS.contains(&word.as_str()))
}

/// The words of a name, lower-cased: cut at punctuation and where a capital follows a small letter.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            spaced.push(' ');
        }
        spaced.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { ' ' });
        before = letter;
    }
    spaced.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// An e-mail address, or a JSON web token whatever its name.
fn is_secret_value(value: &str) -> bool {
    let value = percent_decode(value);
    let mail = value.split_once('@').is_some_and(|(local, host)| !local.is_empty() && host.contains('.'));
    mail || (value.starts_with("eyJ") && value.matches('.').count() == 2)
}

fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let plain = octets(text.as_bytes()).map(|octet| match octet {
        Octet::Plain(byte) | Octet::Encoded(byte) => byte,
    });
    Cow::Owned(String::from_utf8_lossy(&plain.collect::<Vec<_>>()).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scrub() -> Scrub {
        Scrub::new(ScrubKey([7; 16]))
    }

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let url = "/reset?page=2&access_token=Ab3-xY9&keyword=shoes&apiKey=k1&q=ann%40example.org;e=a";
        let scrubbed = scrub().url(url).into_owned();
        assert_eq!(scrubbed.len(), url.len());
        for gone in ["Ab3", "xY9", "=k1", "ann", "example"] {
            assert!(!scrubbed.contains(gone), "{gone} in {scrubbed}");
        }
        for kept in ["/reset?page=2&access_token=", "&keyword=shoes&apiKey=", "%40", ";e=a"] {
            assert!(scrubbed.contains(kept), "{kept} not in {scrubbed}");
        }
        assert_eq!(scrub().url(url), scrubbed, "equal stays equal");
        assert_ne!(Scrub::new(ScrubKey([8; 16])).url(url), scrubbed, "the key matters");
    }

    #[test]
    fn encoded_names_and_values_do_not_hide() {
        let scrubbed = scrub().url("/?%74oken=%70%61ss&x=eyJhbGciOi.eyJzdWIi.c2ln").into_owned();
        assert!(scrubbed.starts_with("/?%74oken=%") && !scrubbed.contains("%70%61ss") && !scrubbed.contains("eyJhbGciOi"));
    }

    #[test]
    fn names_are_told_apart() {
        for secret in ["token", "csrfmiddlewaretoken", "X-Amz-Signature", "api_key", "userMail", "KEY", "user[name]", "code"] {
            assert!(is_secret_name(secret), "{secret}");
        }
        for plain in ["keyword", "page", "decode", "zipcodes", "author", "sort", "monkey"] {
            assert!(!is_secret_name(plain), "{plain}");
        }
    }

    proptest! {
        #[test]
        fn length_is_kept_and_targets_stay_targets(text in "[!-~äé€]{0,60}") {
            let value = scrub().value(&text);
            prop_assert_eq!(value.len(), text.len());
            let url = format!("/?token={text}&b={text}");
            let scrubbed = scrub().url(&url).into_owned();
            prop_assert_eq!(scrubbed.len(), url.len());
            prop_assert!(Target::new(&scrubbed).is_some());
        }
    }
}
