//! The checks of the fuzz targets, made with the seeds of the fuzzers. The targets themselves are in `fuzz/`.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks/mod.rs"]
mod checks;

#[test]
fn fuzz_seeds_pass_the_checks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for (name, _) in checks::CHECKS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no target");
        let seeds = fs::read_dir(root.join("seeds").join(name)).unwrap();
        let seeds: Vec<_> = seeds.map(|seed| fs::read(seed.unwrap().path()).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name} has no seed");
        for seed in seeds {
            checks::run(name, &seed);
            // Cut short and damaged, as a fuzzer begins.
            for at in 0..seed.len() {
                checks::run(name, &seed[..at]);
                let mut damaged = seed.clone();
                damaged[at] ^= 0x20;
                checks::run(name, &damaged);
            }
        }
    }
}
