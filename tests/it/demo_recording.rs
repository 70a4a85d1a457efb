//! Writes the demo's recording, and checks that the committed one is what would be written. To change it: edit the shop below, then
//! `TUNINGFORK_REGENERATE=1 cargo test demo_recording`.

use std::fmt::Write as _;
use std::path::Path;

use tuningfork::commands::demo;

const REQUESTS: usize = 700;
/// Mean distance of two requests, milliseconds.
const GAP: u64 = 12;
/// 2025-01-01T00:00:00Z, milliseconds.
const START: u64 = 1_735_689_600_000;

/// A kind of page: its share of the requests in percent, CPU time in microseconds, wait in milliseconds, size of the answer in bytes.
struct Page {
    name: &'static str,
    share: usize,
    cpu: u64,
    wait: u64,
    bytes: u64,
}

const SHOP: [Page; 5] = [
    Page { name: "home", share: 40, cpu: 1_500, wait: 120, bytes: 6_000 },
    Page { name: "product", share: 35, cpu: 2_200, wait: 180, bytes: 9_000 },
    Page { name: "search", share: 12, cpu: 4_000, wait: 300, bytes: 12_000 },
    Page { name: "cart", share: 10, cpu: 2_500, wait: 220, bytes: 4_000 },
    Page { name: "report", share: 3, cpu: 9_000, wait: 600, bytes: 30_000 },
];

/// Quantiles of a log-normal distribution with median 1,000 and sigma 0.5, at (i + 1/2) / 16: most requests are near the median, some far above.
const AROUND_A_THOUSAND: [u64; 16] =
    [394, 517, 604, 678, 749, 818, 888, 962, 1_040, 1_126, 1_223, 1_336, 1_474, 1_657, 1_933, 2_538];
/// Quantiles of an exponential distribution with mean 1,000, at the same places: gaps between independent arrivals.
const GAPS_OF_A_THOUSAND: [u64; 16] = [32, 98, 170, 247, 330, 421, 521, 633, 758, 901, 1_068, 1_269, 1_520, 1_856, 2_367, 3_466];

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = mixed ^ (mixed >> 31);
        usize::try_from(mixed % bound as u64).expect("invariant: below a usize")
    }

    fn around(&mut self, typical: u64) -> u64 {
        typical * AROUND_A_THOUSAND[self.below(16)] / 1_000
    }

    fn page(&mut self) -> &'static Page {
        let mut left = self.below(100);
        SHOP.iter()
            .find(|page| {
                let found = left < page.share;
                left = left.wrapping_sub(page.share);
                found
            })
            .expect("invariant: the shares add up to 100")
    }
}

fn written() -> String {
    let mut chance = Chance(7);
    let mut millis = START;
    let meta = r#"{"meta":{"source":"demo","ts_meaning":"arrival","ts_resolution_ns":1000000}}"#;
    let mut text = format!("{meta}\n");
    for _ in 0..REQUESTS {
        millis += GAP * GAPS_OF_A_THOUSAND[chance.below(16)] / 1_000;
        let page = chance.page();
        let (cpu, wait, bytes) = (chance.around(page.cpu), chance.around(page.wait), page.bytes);
        writeln!(
            text,
            r#"{{"t":{}.{:03},"m":"GET","u":"/work?page={}&cpu_us={cpu}&wait_ms={wait}&bytes={bytes}","h":[["Connection","close"]],"s":200}}"#,
            millis / 1_000,
            millis % 1_000,
            page.name,
        )
        .expect("invariant: writing to a String succeeds");
    }
    text
}

#[test]
fn demo_recording_is_what_its_generator_writes() {
    let expected = written();
    if std::env::var_os("TUNINGFORK_REGENERATE").is_some() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/demo/recording.jsonl");
        std::fs::write(file, &expected).unwrap();
        return;
    }
    assert!(
        demo::RECORDING == expected.as_bytes(),
        "the recording is out of date: TUNINGFORK_REGENERATE=1 cargo test demo_recording"
    );
}

#[test]
fn demo_recording_is_small() {
    assert!(demo::RECORDING.len() < 100_000, "{} bytes", demo::RECORDING.len());
}
