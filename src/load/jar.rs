//! Cookies as a target sets them during the run, by session: a recorded Cookie header is sent with the values set since, and without
//! the cookies that were deleted. Domains and paths are not looked at, as a session talks to one target. Refuses cookies beyond its
//! bounds, which then keep their recorded values.

use std::collections::HashMap;

use crate::replay::SessionId;

/// The most cookies of one session (RFC 6265, 6.1, asks for at least 50).
const MAX_COOKIES: usize = 64;
/// The longest cookie, name and value, bytes (RFC 6265, 6.1).
const MAX_COOKIE: usize = 4_096;
/// The most sessions that hold cookies at once.
const MAX_JARS: usize = 65_536;

/// The most memory that the cookies of all sessions take, bytes.
const MAX_BYTES: usize = 64 << 20;

/// The jars of all sessions.
#[derive(Debug, Default)]
pub(super) struct Jars {
    jars: HashMap<SessionId, Jar>,
    /// What their cookies take, bytes.
    bytes: usize,
}

/// Cookies that one session was told to keep, or to forget.
#[derive(Debug, Default)]
struct Jar(Vec<Cookie>);

#[derive(Debug)]
struct Cookie {
    name: Box<[u8]>,
    /// `None` if it was deleted.
    value: Option<Box<[u8]>>,
}

impl Jar {
    fn find(&self, name: &[u8]) -> Option<&Cookie> {
        self.0.iter().find(|cookie| *cookie.name == *name)
    }
}

impl Cookie {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

impl Jars {
    /// Follows a Set-Cookie header; `now` is Unix time in seconds.
    pub(super) fn set(&mut self, session: SessionId, header: &[u8], now: i64) {
        let mut parts = header.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let Some((name, value)) = parts.next().and_then(pair).filter(|(name, _)| !name.is_empty()) else {
            return;
        };
        let value = (!is_deleted(parts, now)).then_some(value);
        let known = self.jars.get(&session).and_then(|jar| jar.find(name));
        if known.is_some_and(|known| known.value.as_deref() == value) {
            return;
        }
        // Whether the new one fits or not, the target does not want the old one back.
        self.drop_cookie(session, name);
        let has_room = match self.jars.get(&session) {
            Some(Jar(jar)) => jar.len() < MAX_COOKIES,
            None => self.jars.len() < MAX_JARS,
        };
        let length = name.len() + value.map_or(0, <[u8]>::len);
        let bytes = self.bytes + size_of::<Cookie>() + length;
        if has_room && length <= MAX_COOKIE && bytes <= MAX_BYTES {
            let cookie = Cookie { name: name.into(), value: value.map(Into::into) };
            self.jars.entry(session).or_default().0.push(cookie);
            self.bytes = bytes;
        }
    }

    fn drop_cookie(&mut self, session: SessionId, name: &[u8]) {
        let Some(Jar(jar)) = self.jars.get_mut(&session) else { return };
        if let Some(at) = jar.iter().position(|cookie| *cookie.name == *name) {
            self.bytes -= jar.swap_remove(at).bytes();
        }
        if jar.is_empty() {
            self.jars.remove(&session);
        }
    }

    /// Appends the value of a Cookie header to `out`, with what was set since: nothing if all of it was deleted. Returns whether the
    /// target has set anything; if not, nothing is appended.
    pub(super) fn rewrite(&self, session: SessionId, recorded: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(jar) = self.jars.get(&session) else {
            return false;
        };
        let start = out.len();
        for part in recorded.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            let set = pair(part).and_then(|(name, _)| jar.find(name));
            let pieces: [&[u8]; 3] = match set {
                Some(Cookie { value: None, .. }) => continue,
                Some(Cookie { name, value: Some(value) }) => [name, b"=", value],
                None => [part, b"", b""],
            };
            if out.len() > start {
                out.extend_from_slice(b"; ");
            }
            for piece in pieces {
                out.extend_from_slice(piece);
            }
        }
        true
    }

    /// The session is over.
    pub(super) fn forget(&mut self, session: SessionId) {
        if let Some(Jar(jar)) = self.jars.remove(&session) {
            self.bytes -= jar.iter().map(Cookie::bytes).sum::<usize>();
        }
    }
}

fn pair(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', part)?;
    Some((part[..at].trim_ascii(), part[at + 1..].trim_ascii()))
}

/// Max-Age counts before Expires (RFC 6265, 5.3).
fn is_deleted<'a>(attributes: impl Iterator<Item = &'a [u8]>, now: i64) -> bool {
    let mut expired = false;
    for (name, value) in attributes.filter_map(pair) {
        if name.eq_ignore_ascii_case(b"max-age")
            && let Some(age) = str::from_utf8(value).ok().and_then(|age| age.parse::<i64>().ok())
        {
            return age <= 0;
        }
        if name.eq_ignore_ascii_case(b"expires") {
            expired |= date(value).is_some_and(|date| date <= now);
        }
    }
    expired
}

/// "Thu, 01 Jan 1970 00:00:00 GMT", or with dashes, as older servers write it.
fn date(value: &[u8]) -> Option<i64> {
    let text = str::from_utf8(value).ok()?.replace('-', " ");
    let zoned = jiff::fmt::rfc2822::parse(&text).ok()?;
    Some(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn sent(headers: &[&str], recorded: &str) -> Option<String> {
        let mut jars = Jars::default();
        for header in headers {
            jars.set(SessionId(1), header.as_bytes(), NOW);
        }
        let mut out = b"Cookie: ".to_vec();
        let changed = jars.rewrite(SessionId(1), recorded.as_bytes(), &mut out);
        assert!(!jars.rewrite(SessionId(2), recorded.as_bytes(), &mut out), "another session");
        changed.then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_the_target_set_replaces_what_was_recorded() {
        assert_eq!(sent(&[], "a=1"), None);
        assert_eq!(sent(&["a=new; Path=/; HttpOnly"], "a=1; b=2").unwrap(), "Cookie: a=new; b=2");
        assert_eq!(sent(&["a=x", "a=y==", "c=3"], "b=2;a=1").unwrap(), "Cookie: b=2; a=y==");
        assert_eq!(sent(&["a=\"q\""], "flag; a=1").unwrap(), "Cookie: flag; a=\"q\"");
    }

    #[test]
    fn deleted_cookies_are_not_sent() {
        for gone in [
            "a=; Max-Age=0",
            "a=x; max-age=-5; Expires=Tue, 01 Jan 2036 00:00:00 GMT",
            "a=; expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/",
            "a=; Expires=Thu, 01-Jan-1970 00:00:00 GMT",
        ] {
            assert_eq!(sent(&[gone], "a=1; b=2").unwrap(), "Cookie: b=2", "{gone}");
        }
        for kept in [
            "a=x; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "a=x; Expires=whenever",
            "a=x; Max-Age=soon",
            "a=x; Expires=Tue, 01 Jan 2036 00:00:00 GMT",
        ] {
            assert_eq!(sent(&[kept], "a=1").unwrap(), "Cookie: a=x", "{kept}");
        }
        assert_eq!(sent(&["a=; Max-Age=0", "a=back"], "a=1").unwrap(), "Cookie: a=back");
        assert_eq!(sent(&["a=; Max-Age=0"], "a=1").unwrap(), "Cookie: ");
    }

    #[test]
    fn jars_are_bounded() {
        let mut jars = Jars::default();
        for number in 0..2 * MAX_COOKIES {
            jars.set(SessionId(0), format!("n{number}=v").as_bytes(), NOW);
        }
        assert_eq!(jars.jars[&SessionId(0)].0.len(), MAX_COOKIES);
        jars.set(SessionId(0), format!("n0={}", "v".repeat(MAX_COOKIE)).as_bytes(), NOW);
        assert!(
            jars.jars[&SessionId(0)].find(b"n0").is_none(),
            "the recorded value is sent, not one that the target has replaced"
        );
        assert_eq!(jars.jars[&SessionId(0)].0.len(), MAX_COOKIES - 1);
        for session in 0..=MAX_JARS as u64 {
            jars.set(SessionId(session), b"a=b", NOW);
        }
        assert_eq!(jars.jars.len(), MAX_JARS);
        jars.forget(SessionId(3));
        assert_eq!(jars.jars.len(), MAX_JARS - 1);
        for rubbish in ["", "=", "=x", ";;;", "a", "\u{fc}=\u{fc}"] {
            jars.set(SessionId(3), rubbish.as_bytes(), NOW);
        }
    }

    #[test]
    fn a_refused_cookie_makes_no_jar() {
        let mut jars = Jars::default();
        let long = format!("a={}", "v".repeat(MAX_COOKIE));
        jars.set(SessionId(0), long.as_bytes(), NOW);
        assert!(!jars.rewrite(SessionId(0), b"a=1", &mut Vec::new()) && jars.jars.is_empty());
        jars.set(SessionId(0), b"a=2", NOW);
        jars.set(SessionId(0), long.as_bytes(), NOW);
        assert!(jars.jars.is_empty() && jars.bytes == 0);
    }

    #[test]
    fn the_memory_of_all_jars_is_bounded() {
        let mut jars = Jars::default();
        let long = format!("a={}", "v".repeat(MAX_COOKIE - 1));
        for session in 0..=(MAX_BYTES / MAX_COOKIE) as u64 {
            jars.set(SessionId(session), long.as_bytes(), NOW);
        }
        assert!(jars.bytes <= MAX_BYTES && jars.bytes > MAX_BYTES - 2 * MAX_COOKIE);
        jars.set(SessionId(0), b"a=short", NOW);
        jars.set(SessionId(u64::MAX), b"a=fits", NOW);
        assert_eq!(jars.jars[&SessionId(u64::MAX)].0.len(), 1);
        for session in 0..=(MAX_BYTES / MAX_COOKIE) as u64 {
            jars.forget(SessionId(session));
        }
        jars.forget(SessionId(u64::MAX));
        assert_eq!(jars.bytes, 0);
    }
}
