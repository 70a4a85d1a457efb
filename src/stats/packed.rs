//! Latencies as a line of text: a compressed HdrHistogram (V2, base64) as its own tools write and read it. Refuses what is none, and what
//! would take more memory than any histogram of ours.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::Latencies;

/// A histogram of latencies, packed: a kilobyte where [`Latencies`] holds two hundred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackedLatencies(String);

/// The text is no packed histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a compressed HdrHistogram of latencies (V2, base64)")]
pub struct NotLatencies;

/// The compressed form begins with a cookie and a length, the inner one with a cookie, a length and 32 bytes more, each part of 4 bytes.
const OUTER_HEAD: usize = 8;
const INNER_HEAD: usize = 40;
/// A counter takes at most 9 bytes, and there are fewer than 2^15 of them.
const MOST_BYTES: usize = 9 << 15;

impl PackedLatencies {
    /// Packs them.
    #[must_use]
    pub fn of(latencies: &Latencies) -> Self {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(latencies.histogram(), &mut bytes)
            .expect("invariant: a histogram fits the format, and memory takes all bytes");
        Self(STANDARD.encode(bytes))
    }

    /// The latencies.
    #[must_use]
    pub fn unpack(&self) -> Latencies {
        unpack(&self.0).expect("invariant: checked when it was made")
    }
}

impl TryFrom<String> for PackedLatencies {
    type Error = NotLatencies;

    fn try_from(text: String) -> Result<Self, NotLatencies> {
        unpack(&text).map(|_| Self(text))
    }
}

impl From<PackedLatencies> for String {
    fn from(packed: PackedLatencies) -> Self {
        packed.0
    }
}

fn unpack(text: &str) -> Result<Latencies, NotLatencies> {
    if text.len() > MOST_BYTES {
        return Err(NotLatencies);
    }
    let packed = STANDARD.decode(text).map_err(|_| NotLatencies)?;
    let packed = packed.get(OUTER_HEAD..).ok_or(NotLatencies)?;
    let mut bytes = Vec::new();
    ZlibDecoder::new(packed).take(MOST_BYTES as u64).read_to_end(&mut bytes).map_err(|_| NotLatencies)?;
    // The reader believes the length it is told, and makes room for it.
    let told = bytes.get(4..8).and_then(|length| Some(u32::from_be_bytes(length.try_into().ok()?) as usize));
    if told.is_none_or(|told| told > bytes.len().saturating_sub(INNER_HEAD)) {
        return Err(NotLatencies);
    }
    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|_| NotLatencies)?;
    Latencies::of_histogram(&histogram).ok_or(NotLatencies)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn some() -> Latencies {
        let mut latencies = Latencies::new();
        for millis in (1..2000).step_by(7) {
            latencies.record(Duration::from_millis(millis));
        }
        latencies
    }

    #[test]
    fn what_is_packed_is_unpacked_the_same() {
        for latencies in [some(), Latencies::new()] {
            let text = serde_json::to_string(&PackedLatencies::of(&latencies)).unwrap();
            assert!(text.starts_with("\"HIST") && text.len() < 2000, "{text}");
            assert_eq!(serde_json::from_str::<PackedLatencies>(&text).unwrap().unpack(), latencies);
        }
    }

    #[test]
    fn refuses_what_is_no_histogram() {
        let good = PackedLatencies::of(&some()).0;
        let mut other = Histogram::<u64>::new_with_bounds(1, u64::MAX / 2, 3).unwrap();
        other.record(u64::MAX / 4).unwrap();
        let mut beyond = Vec::new();
        V2DeflateSerializer::new().serialize(&other, &mut beyond).unwrap();
        for text in ["", "HIST", "nonsense!", &good[..good.len() / 2], &STANDARD.encode([0; 64]), &STANDARD.encode(&beyond)] {
            assert_eq!(PackedLatencies::try_from(text.to_owned()), Err(NotLatencies), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn damaged_ones_are_refused_or_read(at in 0_usize..200, to in "[A-Za-z0-9+/]") {
            let mut text = PackedLatencies::of(&some()).0;
            let at = at % (text.len() - 4);
            text.replace_range(at..=at, &to);
            if let Ok(packed) = PackedLatencies::try_from(text) {
                assert!(packed.unpack().count() < u64::MAX);
            }
        }
    }
}
