//! Reads an answer as it comes in: where it ends, what it hashes to, and which cookies it sets.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::clock;
use super::jar::Jars;
use crate::replay::{SessionId, Witness};

/// What else is done with an answer than finding its end.
pub(super) struct Reader<'a> {
    /// Content goes here, if contents are compared.
    pub(super) hasher: Option<&'a mut SipHasher13>,
    /// Cookies go here, if a jar is kept.
    pub(super) jar: Option<(&'a mut Jars, SessionId)>,
}

impl Witness for Reader<'_> {
    fn content(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.write(bytes);
        }
    }

    fn cookie_set(&mut self, value: &[u8]) {
        if let Some((jars, session)) = &mut self.jar {
            jars.set(*session, value, clock::unix_seconds());
        }
    }
}
