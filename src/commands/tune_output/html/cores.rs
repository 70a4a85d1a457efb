//! What every core did at capacity, a bar a core: the two pictures of idle and of busy cores, before and after.

use std::fmt::Write as _;

use crate::commands::page::escape;
use crate::commands::tune_output::sentences::short;
use crate::study::CoreShare;
use crate::study::report::Side;

const WIDTH: f64 = 520.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 50.0;
/// Height of all bars together, and of one.
const ROOM: f64 = 420.0;
const TALLEST: f64 = 22.0;
const SHORTEST: f64 = 3.0;
/// Bars lower than this have no room for a name each.
const LEGIBLE: f64 = 12.0;
/// What a core must do to count as busy.
const BUSY: f64 = 0.5;

/// A part of a core's time: class and name.
type Part = (&'static str, &'static str, fn(&CoreShare) -> f64);

const PARTS: [Part; 4] = [
    ("user", "applications", |core| core.user),
    ("system", "kernel", |core| core.system),
    ("iowait", "waiting for a disk", |core| core.iowait),
    ("steal", "taken by other guests", |core| core.steal),
];

/// A section a side whose cores were measured.
pub(super) fn strips(sides: &[(&str, &Side)]) -> String {
    sides
        .iter()
        .filter_map(|(name, side)| Some((name, side, side.measurement.as_ref()?)))
        .map(|(name, side, found)| if found.cores.is_empty() { String::new() } else { strip(name, side, &found.cores) })
        .collect()
}

fn strip(name: &str, side: &Side, cores: &[CoreShare]) -> String {
    let busy = cores.iter().filter(|core| core.busy() >= BUSY).count();
    let title = format!("Cores, {name}");
    let held = side.capacity.map_or_else(String::new, |held| format!(" at {:.0} req/s", held.value));
    let caption = format!("{}{held}: {busy} of {} cores more than half busy.", short(side.candidate), cores.len());
    let each = (ROOM / cores.len() as f64).clamp(SHORTEST, TALLEST);
    let mut bars = String::new();
    for (index, core) in cores.iter().enumerate() {
        bar(&mut bars, core, index as f64 * each, each, (index as f64 * each) % (LEGIBLE + 4.0) < each || each >= LEGIBLE);
    }
    let keys = PARTS
        .iter()
        .map(|(class, name, _)| format!("<li><svg aria-hidden=true><rect class={class} width=22 height=14 /></svg>{name}</li>"))
        .collect::<Vec<_>>()
        .concat();
    format!(
        "<section><h2>{}</h2><p>{}</p><svg viewBox=\"0 0 {WIDTH} {:.1}\" role=img aria-label=\"{}\">{bars}</svg><ul class=keys>{keys}<li>\
         <svg aria-hidden=true><rect class=idle width=22 height=14 /></svg>idle</li></ul></section>",
        escape(&title),
        escape(&caption),
        each * cores.len() as f64,
        escape(&format!("{title}. {caption}"))
    )
}

fn bar(bars: &mut String, core: &CoreShare, top: f64, each: f64, named: bool) {
    let room = WIDTH - LEFT - RIGHT;
    let (height, middle) = ((each * 0.78).max(2.0), top + each / 2.0 + 4.0);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let about: Vec<String> = PARTS.iter().map(|(_, name, part)| format!("{name} {}", percent(part(core)))).collect();
    let mut from = 0.0;
    let mut drawn = format!("<rect class=idle x={LEFT} y={top:.1} width={room} height={height:.1} />");
    for (class, _, part) in PARTS {
        let share = part(core).clamp(0.0, 1.0 - from);
        let (x, width) = (LEFT + from * room, share * room);
        write!(drawn, "<rect class={class} x={x:.1} y={top:.1} width={width:.1} height={height:.1} />")
            .expect("invariant: writing to a string succeeds");
        from += share;
    }
    if named {
        let end = WIDTH - RIGHT + 8.0;
        write!(
            drawn,
            "<text x={} y={middle:.1} text-anchor=end>cpu{}</text><text x={end} y={middle:.1}>{}</text>",
            LEFT - 8.0,
            core.cpu,
            percent(core.busy())
        )
        .expect("invariant: writing to a string succeeds");
    }
    write!(bars, "<g><title>cpu{}: {}</title>{drawn}</g>", core.cpu, about.join(", "))
        .expect("invariant: writing to a string succeeds");
}
