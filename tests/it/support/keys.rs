//! The keys that the page about `tune --json` tells, and those that a result has. Also a part of the unit tests, which know every key there can be.

use std::collections::BTreeSet;

use serde_json::Value;

/// The keys in the tables of `page`: what stands between backticks in their first column.
pub(crate) fn documented(page: &str) -> Vec<String> {
    let tables = page.split("| key | unit | meaning |\n").skip(1);
    let rows = tables.flat_map(|table| table.lines().skip(1).take_while(|line| line.starts_with('|')));
    let first = rows.filter_map(|row| row.split('|').nth(1));
    first.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The path of every key below `value`: names joined by dots, with `[]` for each of a list.
pub(crate) fn paths(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect("", value, &mut found);
    found
}

fn collect(above: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
                collect(&path, value, found);
                found.insert(path);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(&format!("{above}[]"), value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether `documented`, in which a `*` is any path, is this one.
pub(crate) fn is(path: &str, documented: &str) -> bool {
    documented.split_once('*').map_or(path == documented, |(before, after)| {
        path.len() > before.len() + after.len() && path.starts_with(before) && path.ends_with(after)
    })
}
