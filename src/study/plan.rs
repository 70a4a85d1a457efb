//! How many hosts a peak needs.

use std::num::NonZeroU32;

use crate::units::Rate;

/// Hosts needed so that each of them runs at most at a share `1 − headroom` of `capacity` during `peak`. `None` if a host has no capacity left
/// then: capacity 0, or a headroom outside 0..1.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within u32 first")]
pub fn hosts(peak: Rate, capacity: Rate, headroom: f64) -> Option<NonZeroU32> {
    let usable = capacity.per_second() * (1.0 - headroom);
    if !(0.0..1.0).contains(&headroom) || usable <= 0.0 {
        return None;
    }
    // A peak that fits to a millionth fits: 3 × 100 / 100 must not become 4 by rounding.
    let needed = (peak.per_second() / usable - 1e-6).ceil().max(1.0);
    (needed <= f64::from(u32::MAX)).then(|| NonZeroU32::new(needed as u32)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts_for(peak: f64, capacity: f64, headroom: f64) -> Option<u32> {
        hosts(Rate::new(peak).unwrap(), Rate::new(capacity).unwrap(), headroom).map(NonZeroU32::get)
    }

    #[test]
    fn rounds_up_and_keeps_headroom() {
        assert_eq!(hosts_for(300.0, 100.0, 0.0), Some(3));
        assert_eq!(hosts_for(301.0, 100.0, 0.0), Some(4));
        assert_eq!(hosts_for(300.0, 100.0, 0.3), Some(5));
        assert_eq!(hosts_for(0.0, 100.0, 0.3), Some(1));
    }

    #[test]
    fn no_capacity_no_answer() {
        assert_eq!(hosts_for(1.0, 0.0, 0.3), None);
        assert_eq!(hosts_for(1.0, 1.0, 1.0), None);
        assert_eq!(hosts_for(1.0, 1.0, f64::NAN), None);
        assert_eq!(hosts_for(1e300, 1e-3, 0.0), None);
    }
}
