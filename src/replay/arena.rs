//! The bytes of all requests of a plan, equal ones once. Refuses more than a bound.

use std::collections::HashMap;

use siphasher::sip::SipHasher13;

use super::options::PlanOptions;
use super::plan::PlanError;
use super::wire::encode;
use crate::recording::Request;

/// The most bytes of distinct requests.
pub const MAX_ARENA: usize = 512 << 20;

/// Where a request lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// Request bytes under construction.
#[derive(Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    /// By hash. Requests whose hashes collide are stored twice, which costs only space.
    places: HashMap<u64, Place>,
}

impl Arena {
    pub(super) fn place(&mut self, request: &Request, options: &PlanOptions) -> Result<Place, PlanError> {
        let from = self.bytes.len();
        encode(request, options, &mut self.bytes);
        let hash = SipHasher13::new().hash(&self.bytes[from..]);
        if let Some(place) = self.places.get(&hash) {
            let stored = place.offset as usize..place.offset as usize + place.length as usize;
            if self.bytes[stored] == self.bytes[from..] {
                self.bytes.truncate(from);
                return Ok(*place);
            }
        }
        if self.bytes.len() > MAX_ARENA {
            return Err(PlanError::TooLarge { limit: MAX_ARENA, what: "bytes" });
        }
        let fits = |size: usize| u32::try_from(size).expect("invariant: MAX_ARENA is below 4 GiB");
        let place = Place { offset: fits(from), length: fits(self.bytes.len() - from) };
        self.places.insert(hash, place);
        Ok(place)
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.shrink_to_fit();
        self.bytes
    }
}
