//! Replaces personal data and secrets before anything is written: client addresses, headers that are not known to be harmless,
//! bodies, and values of fields whose name or look gives them away; what neither does stays. A replacement has the length and
//! alphabet of what it replaces and depends on it and a key only, so equal stays equal and caches and sessions still join. The
//! rest of a path is kept: it is what is measured. One-way, but not one-to-one: short values may fall together.

mod detect;
mod json;
mod layer;
mod names;
mod place;
mod replace;
mod secret;
mod url;
mod user;

use siphasher::sip::SipHasher24;

use super::Meta;
use super::request::{Header, Request, Target};

pub use secret::Secret;

pub(super) use place::{Content, body, connection, header, target, words};
use replace::is_sealed;
pub(super) use replace::{Seal, seal_of};
pub(super) use secret::{Found, merge};

/// A replacement may, with what stands beside it, look like a secret again: so often it is looked for. Where a token and an address
/// share a part, one replacement in four has to be drawn again; after so many rounds one in 10^19 is left, and an audit tells of it.
const ROUNDS: usize = 64;

/// The secret a scrub depends on. Draw a new one for every import and forget it.
#[derive(Clone, Copy)]
pub struct ScrubKey(pub [u8; 16]);

/// What becomes of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyPolicy {
    /// They are not kept.
    #[default]
    Dropped,
    /// Forms and JSON keep what is not secret; of others only length and classes of bytes are left.
    Scrubbed,
}

/// Replaces what a recording must not hold.
#[derive(Clone)]
pub struct Scrub {
    hasher: SipHasher24,
    bodies: BodyPolicy,
}

impl Scrub {
    /// What [`Meta`](super::Meta) calls this policy.
    pub const NAME: &str = "default";

    /// A scrub with its key, which drops bodies.
    #[must_use]
    pub fn new(key: ScrubKey) -> Self {
        Self { hasher: SipHasher24::new_with_key(&key.0), bodies: BodyPolicy::Dropped }
    }

    /// The same with another use of bodies.
    #[must_use]
    pub fn with_bodies(self, bodies: BodyPolicy) -> Self {
        Self { bodies, ..self }
    }

    /// What becomes of bodies.
    #[must_use]
    pub const fn bodies(&self) -> BodyPolicy {
        self.bodies
    }

    /// A name for a client that does not tell its address.
    #[must_use]
    pub fn client(&self, address: &[u8]) -> Box<str> {
        format!("{:016x}", self.hasher.hash(address)).into()
    }

    /// What a recording says about itself, and strangers may have written, once it is scrubbed.
    #[must_use]
    pub fn meta(&self, mut meta: Meta) -> Meta {
        for said in meta.texts() {
            if let Some(scrubbed) = self.scrubbed(said.as_bytes(), words) {
                *said = text(scrubbed);
            }
        }
        meta.scrubbed(self.bodies)
    }

    /// Scrubs target, headers and body. The connection's name is left: who makes one from an address uses [`client`](Self::client).
    ///
    /// # Panics
    ///
    /// Never: a replacement holds letters, digits and what stood there before.
    pub fn request(&self, request: &mut Request) {
        match self.bodies {
            BodyPolicy::Dropped => request.body = Vec::new(),
            BodyPolicy::Scrubbed => {
                let content = Content::of(request);
                if let Some(scrubbed) = self.scrubbed(&request.body, |text, found| body(text, content, found)) {
                    request.body = scrubbed;
                }
            }
        }
        if let Some(scrubbed) = self.scrubbed(request.target.as_str().as_bytes(), target) {
            let scrubbed = Target::new(&text(scrubbed));
            request.target = scrubbed.expect("invariant: no replacement has blanks or control characters");
        }
        for one in &mut request.headers {
            let value = self.scrubbed(one.value().as_bytes(), |value, found| header(one.name(), value, found));
            if let Some(value) = value {
                let scrubbed = Header::new(one.name(), &text(value));
                *one = scrubbed.expect("invariant: no replacement has control characters");
            }
        }
    }

    /// `text` without the secrets that `look` finds in it, or `None` if there are none.
    fn scrubbed(&self, text: &[u8], look: impl Fn(&[u8], &mut Vec<Found>)) -> Option<Vec<u8>> {
        let mut found = Vec::new();
        look(text, &mut found);
        if found.is_empty() {
            return None;
        }
        let mut text = text.to_vec();
        merge(&mut found);
        for _ in 0..ROUNDS {
            for one in found.drain(..) {
                replace::replace(&mut text[one.range], one.coding, &self.hasher);
            }
            look(&text, &mut found);
            // First joined: a part of what carries a seal carries none, and replacing it would break the seal of the whole.
            merge(&mut found);
            found.retain(|one| !is_sealed(&text[one.range.clone()], one.coding));
            if found.is_empty() {
                break;
            }
        }
        Some(text)
    }
}

fn text(scrubbed: Vec<u8>) -> String {
    String::from_utf8(scrubbed).expect("invariant: a character is replaced whole or not at all")
}

#[cfg(test)]
mod tests;
