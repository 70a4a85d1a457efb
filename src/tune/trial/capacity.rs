//! The highest rate held within the objective: a light probe for the demands, the rate they bound, then steps and bisection around it.
//!
//! The capacity is what was answered while the highest held rate was offered, not that rate, nor the middle of the bracket √(held × missed):
//! for seconds a server also holds rates above those that it holds for long, because a queue needs time to grow, and that outweighs
//! that the highest rate held is the bracket's lower end. On simulated servers of 200 requests a second (the tests' `Server`: 3 kinds, with
//! and without an expectation, 40 seeds each, normal pace) the answered rate errs by +0.1 ± 2.0 %, the one offered by +1.1 ± 2.9 %, the
//! middle by +2.9 ± 2.9 %; on ones of 40 a second by +2.3 ± 4.4 %, +3.1 ± 5.1 % and +4.9 ± 5.1 %.

use super::gates::{disturbance, excuse};
use super::script::{Judged, Script};
use crate::stats::{Latencies, PackedLatencies};
use crate::study::queueing::{Bounds, Demand, LIGHT_MARGIN};
use crate::study::{Decision, Ending, Flag, LightNote, Measurement, RateSearch, Slo, Suggestion, Window};
use crate::tune::{Step, TrialError};
use crate::units::Rate;

/// How busy the light probe keeps the cores the workers can use, and with how many clients at most.
const LIGHT: f64 = 0.4;
const MOST_CLIENTS: f64 = 256.0;
/// How many times as long as with the few clients of the warm-up the median request takes from which on those of the light probe, if they are
/// more, may queue for something that is not the cores: a connection pool, a lock, another service. One core at [`LIGHT`] makes it 1.7 times (M/M/1).
const QUEUES: f64 = 1.8;
/// A candidate that is expected to do this many times what its workers can on a core each was seen to do so.
const EXCEEDS: f64 = 1.3;
/// How improbable it must be that chance made more requests late than may be, in standard deviations: 0.05 %. Few were answered, and all
/// trials play the same ones.
const DOUBT: f64 = 3.29;

/// Measures the candidate.
pub(super) fn measure(mut script: Script<'_>, suggestion: &Suggestion) -> Result<Measurement, TrialError> {
    let warm = script.warm_up()?;
    if warm.hopeless {
        return script.hopeless(&warm.window);
    }
    let (light, ending) = settling_probe(&mut script, &warm.window, suggestion)?;
    let found = if let Some(ending) = ending {
        Measurement { capacity: 0.0, ending, ..light.found }
    } else {
        let search = search(&mut script, &light, suggestion)?;
        conclude(&mut script, search, light.found)
    };
    Ok(script.finish(found))
}

/// What the light probe showed.
struct Light {
    found: Measurement,
    window: Window,
    /// The highest rate to begin with, requests a second, where a heavier load may have queued.
    first: Option<f64>,
}

impl Light {
    /// Requests a second that the candidate can do at most, by what was seen, where a worker keeps so many cores busy at most.
    fn bound(&self, script: &Script<'_>, cores_a_worker: f64) -> f64 {
        let light = &self.found;
        let beside: f64 = [light.generator_cpu, light.supervisor_cpu, light.beside_cpu].into_iter().flatten().sum();
        // What no answer came for in the window tells nothing of a request.
        let each = |cpu: f64| if light.throughput > 0.0 { cpu / light.throughput } else { 0.0 };
        let (cpu, beside) = (each(light.workers_cpu.unwrap_or(0.0)), each(beside));
        let demand = Demand { cpu, beside, time_in_worker: light.time_in_worker.unwrap_or(0.0), cores_a_worker };
        Bounds::new(script.candidate, script.terms.cpu, demand).tightest()
    }
}

/// The light probe, and how the trial ends if that settles it already. If a disturbance may have done that, it is played once
/// more, and then flagged.
fn settling_probe(
    script: &mut Script<'_>,
    warm: &Window,
    suggestion: &Suggestion,
) -> Result<(Light, Option<Ending>), TrialError> {
    let once = |script: &mut Script<'_>| -> Result<_, TrialError> {
        let light = light_probe(script, warm)?;
        let ending = settled(script, &light, suggestion);
        let doubt = ending.and_then(|ending| excuse(&light.window, &script.terms.slo, ending));
        Ok((light, ending, doubt))
    };
    let (light, ending, doubt) = once(script)?;
    if doubt.is_none() {
        return Ok((light, ending));
    }
    let (light, ending, doubt) = once(script)?;
    script.flag_all(doubt);
    Ok((light, ending))
}

/// The light probe. Where its clients may queue for something that is not the cores, that is no light load: then the few of the warm-up play
/// it. What the many were answered is what can be had there, and at [`LIGHT`] of what the cores can do otherwise: the first rate is no
/// higher than that allows.
fn light_probe(script: &mut Script<'_>, warm: &Window) -> Result<Light, TrialError> {
    (script.watch)(Step::Light);
    let (few, clients) = (script.few_clients(), light_clients(script, warm.workers_cpu / warm.seconds.max(1e-3)));
    let median = |window: &Window| window.latencies.quantile(0.5);
    let queues = |light: &Light| clients > few && median(&light.window) > QUEUES * median(warm);
    let mut light = lightly(script, warm, clients)?;
    if queues(&light) && disturbance(&light.window, &script.terms.slo).is_some() {
        // That may have held it up, or not: asked for what the cores can do, a server that waits for a pool does not recover in time.
        light = lightly(script, warm, clients)?;
    }
    if !queues(&light) {
        return Ok(light);
    }
    let first = Some(light.found.throughput / LIGHT).filter(|rate| *rate > 0.0);
    Ok(Light { first, ..lightly(script, warm, few)? })
}

/// What so many clients show.
fn lightly(script: &mut Script<'_>, warm: &Window, clients: u32) -> Result<Light, TrialError> {
    let timing = script.terms.pace.timing();
    // Until the clients have fallen out of step; and some requests long, as clients that all wait for the same time keep step.
    let settle = (2.0 * warm.latencies.quantile(0.9)).min(timing.light.max(2.0 * script.terms.slo.latency().as_secs_f64()));
    let probe = super::Probe { settle, ..script.closed(clients, timing.light.max(settle)) };
    let window = script.lightly(&probe, &mut |_| Decision::GoOn)?;
    script.note(&window);
    script.read_memory()?;
    let found = script.describe(&window);
    let time_in_worker = mean_latency(&window);
    let light = Some(LightNote { throughput: found.throughput, latencies: PackedLatencies::of(&window.latencies) });
    Ok(Light { found: Measurement { time_in_worker, light, ..found }, window, first: None })
}

/// How long requests took; `None` if there were none.
pub(super) fn mean_latency(window: &Window) -> Option<f64> {
    (window.latencies.count() > 0).then(|| window.latencies.mean())
}

/// As many clients as make the workers [`LIGHT`] busy, by what the few of the warm-up cost: where requests mostly wait, a few
/// clients send too few requests to measure anything by. Never more than there are slots, as a request that queues is no light
/// load.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most MOST_CLIENTS")]
fn light_clients(script: &Script<'_>, cpu: f64) -> u32 {
    let few = script.few_clients();
    if cpu <= 0.0 {
        return few;
    }
    let wanted = LIGHT * script.terms.cpu.min(f64::from(script.candidate.workers.get()));
    let half = script.candidate.slots() as f64 / 2.0;
    ((f64::from(few) * wanted / cpu).min(half).min(MOST_CLIENTS) as u32).max(few)
}

/// Why the light probe already settles the matter, if it does.
fn settled(script: &Script<'_>, light: &Light, suggestion: &Suggestion) -> Option<Ending> {
    let (found, slo) = (&light.found, &script.terms.slo);
    let (answered, errors) = (found.throughput > 0.0, found.errors.unwrap_or(0.0));
    if !answered && errors > 0.0 {
        Some(Ending::OnlyErrors)
    } else if errors > slo.error_share() && found.errors_by_kind.values().sum::<u64>() > 1 {
        Some(Ending::Errors)
    } else if is_too_slow(&light.window.latencies, slo) {
        Some(Ending::TooSlow)
    } else {
        let bound = LIGHT_MARGIN * light.bound(script, script.terms.cores_a_worker);
        suggestion.rival.filter(|rival| bound < *rival).map(|_| Ending::Outclassed(bound))
    }
}

/// Whether more requests were late than may be, and not by chance: the lower end of Wilson's interval (Probable Inference, the Law of
/// Succession, and Statistical Inference, 1927).
pub(super) fn is_too_slow(latencies: &Latencies, slo: &Slo) -> bool {
    let (late, answered) = (latencies.share_above(slo.latency()), latencies.count() as f64);
    let doubt = DOUBT * DOUBT / answered.max(1.0);
    let middle = late + doubt / 2.0;
    let half = (doubt * (late * (1.0 - late) + doubt / 4.0)).sqrt();
    answered == 0.0 || (middle - half) / (1.0 + doubt) > slo.late_share()
}

/// What the probes found.
#[derive(Default)]
struct Found {
    /// The highest rate held, and its probe.
    best: Option<(f64, Judged)>,
    /// The lowest rate that was not, and what makes that doubtful.
    missed: Option<(f64, Vec<Flag>)>,
    /// The generator could not offer more.
    spent: bool,
}

impl Found {
    fn take(&mut self, asked: f64, judged: Judged) {
        if judged.held() {
            self.spent |= judged.spent_the_generator();
            if self.best.as_ref().is_none_or(|(rate, _)| *rate < asked) {
                self.best = Some((asked, judged));
            }
        } else if self.missed.as_ref().is_none_or(|(rate, _)| asked < *rate) {
            self.missed = Some((asked, judged.doubts().collect()));
        }
    }
}

fn search(script: &mut Script<'_>, light: &Light, suggestion: &Suggestion) -> Result<Found, TrialError> {
    let settle = script.settle(light.found.bounded.unwrap_or(0.0));
    let timing = script.terms.pace.timing();
    let (mut search, mut found) = (rates(script, light, suggestion), Found::default());
    while let Some((offered, rate)) = search.offer().and_then(|offered| Some((offered, Rate::new(offered)?))) {
        let judged = script.judged(rate, settle, timing)?;
        search.record(offered, judged.held());
        search.answered(judged.window.throughput());
        if judged.held() && script.describe(&judged.window).has_many_cores_a_worker() {
            search.hurry(light.bound(script, f64::INFINITY));
        }
        let over = judged.ends_the_trial();
        found.take(offered, judged);
        if over || found.spent {
            break;
        }
    }
    if search.missed().is_none() {
        script.flag(Flag::NotBracketed);
    }
    Ok(found)
}

fn conclude(script: &mut Script<'_>, found: Found, light: Measurement) -> Measurement {
    let Found { best, missed, .. } = found;
    script.flag_all(missed.into_iter().flat_map(|(_, flags)| flags));
    // Where nothing was held and something disturbed it, the flag voids the trial: nobody knows what it would have held in peace.
    let Some((_, judged)) = best else {
        return Measurement { capacity: 0.0, ending: Ending::NothingHeld, ..light };
    };
    // It was held in spite of a disturbance, but its latencies and CPU time are of this window: in peace it would be described otherwise.
    script.flag_all(judged.doubts());
    let described = script.describe(&judged.window);
    let capacity = described.throughput;
    Measurement { capacity, ending: Ending::Held, time_in_worker: light.time_in_worker, light: light.light, ..described }
}

fn rates(script: &Script<'_>, light: &Light, suggestion: &Suggestion) -> RateSearch {
    // Above what one core does a program that keeps to one is flooded. One with threads shows in a probe that it does not.
    let one = light.bound(script, 1.0);
    let is_shown = suggestion.expected.is_some_and(|expected| expected > EXCEEDS * one);
    let bound = if is_shown { light.bound(script, script.terms.cores_a_worker) } else { one };
    let bound = if bound.is_finite() { bound } else { light.found.throughput.max(1.0) };
    let search = RateSearch::of_trial(&script.terms.pace.timing(), bound, suggestion.expected);
    light.first.map_or(search, |first| search.from_at_most(first))
}
