//! UUIDs: ordinary ids of things.

/// Where its dashes are (RFC 9562, 4).
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// Whether `text` is one.
pub(in crate::recording) fn is_uuid(text: &[u8]) -> bool {
    let fits = |(at, byte): (usize, &u8)| if DASHES.contains(&at) { *byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.iter().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_have_their_places() {
        assert!(is_uuid(b"123e4567-e89b-12D3-a456-426614174000"));
        for other in [
            "123e4567e-89b-12d3-a456-426614174000",
            "123e4567-e89b-12d3-a456-42661417400",
            "123e4567-e89b-12d3-a456-42661417400g",
        ] {
            assert!(!is_uuid(other.as_bytes()), "{other}");
        }
    }
}
