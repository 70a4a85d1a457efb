//! Small recordings for studies and replays.

/// A recording of these targets, one every ten milliseconds, as `record import` writes it.
pub(crate) fn recording<'a>(targets: impl IntoIterator<Item = &'a str>) -> String {
    let line = |(number, target): (u32, &str)| {
        let seconds = 1_700_000_000.0 + f64::from(number) / 100.0;
        format!("{{\"t\":{seconds:.2},\"m\":\"GET\",\"u\":\"{target}\",\"s\":200}}\n")
    };
    (0..).zip(targets).map(line).collect()
}
