//! What makes a probe untrustworthy: what the generator, the hypervisor or other programs did to it. Judges nothing of the application.

use crate::study::{Ending, Flag, Slo, Window};

/// Share of the latency bound by which the generator may be late, and what it may always be (scheduling on a busy host), seconds.
const LATENESS: f64 = 0.05;
const LATENESS_ALWAYS: f64 = 0.005;
/// A quota holds the generator back with the application, for up to one of its usual periods, seconds (sched-bwc: 100 ms): that lateness is the slice's.
const LATENESS_THROTTLED: f64 = 0.1;
/// Share of the window from which a quota counts as having held it back.
const THROTTLED: f64 = 0.01;
/// Share of a core from which the generator's thread has too little time to spare: as in [`crate::load::validity`].
const BUSY: f64 = crate::load::validity::BUSY;
/// Share of a core's time that another guest may take.
const STEAL: f64 = crate::load::validity::STEAL;
/// Share of what can be had that programs may use which neither make the load nor work for it.
pub(super) const OTHERS: f64 = 0.1;
/// Times the latency bound that the median of a light load takes no longer for a neighbour alone: one on every core takes half of it.
const PLAINLY_SLOW: f64 = 10.0;

/// Why a probe's failure may not be the application's, if anything speaks for that. A disturbance can only make a probe fail: a rate that was held in
/// spite of one is held. Its latencies and its CPU time are another matter, and who describes a candidate by them has to say so.
pub(super) fn disturbance(window: &Window, slo: &Slo) -> Option<Flag> {
    let usual = (LATENESS * slo.latency().as_secs_f64()).max(LATENESS_ALWAYS);
    let throttled = window.throttled > THROTTLED * window.seconds;
    let allowed = if throttled { usual.max(LATENESS_THROTTLED) } else { usual };
    if is_generator_spent(window) {
        Some(Flag::GeneratorShort)
    } else if window.lateness_p99 > allowed {
        Some(Flag::GeneratorLate)
    } else if window.cores.iter().any(|core| core.steal > STEAL) {
        Some(Flag::Steal)
    } else {
        (window.others() > OTHERS * window.supply()).then_some(Flag::OtherPrograms)
    }
}

/// What may have made a light load end a trial this way, if anything speaks for that: no neighbour makes an application answer errors, nor a light load
/// take [`PLAINLY_SLOW`] times too long.
pub(super) fn excuse(window: &Window, slo: &Slo, ending: Ending) -> Option<Flag> {
    let plain = match ending {
        Ending::Outclassed(_) => false,
        Ending::TooSlow => window.latencies.quantile(0.5) > PLAINLY_SLOW * slo.latency().as_secs_f64(),
        Ending::Held | Ending::NothingHeld | Ending::Errors | Ending::OnlyErrors => true,
    };
    disturbance(window, slo).filter(|_| !plain)
}

/// Whether the generator could hardly offer more.
pub(super) fn is_generator_spent(window: &Window) -> bool {
    window.generator_short || window.generator_cpu > BUSY * window.seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::CoreShare;

    fn quiet() -> Window {
        let core = |cpu| CoreShare { cpu, user: 0.5, ..CoreShare::default() };
        Window { seconds: 10.0, workers_cpu: 9.0, generator_cpu: 0.5, cores: vec![core(0), core(1)], ..Window::default() }
    }

    fn found(change: impl FnOnce(&mut Window)) -> Option<Flag> {
        let mut window = quiet();
        change(&mut window);
        disturbance(&window, &"p90<700ms".parse().unwrap())
    }

    #[test]
    fn each_gate_has_its_flag() {
        assert_eq!(found(|_| ()), None);
        assert_eq!(found(|window| window.generator_short = true), Some(Flag::GeneratorShort));
        assert_eq!(found(|window| window.generator_cpu = 7.1), Some(Flag::GeneratorShort));
        assert_eq!(found(|window| window.lateness_p99 = 0.036), Some(Flag::GeneratorLate));
        assert_eq!(found(|window| window.cores[1].steal = 0.021), Some(Flag::Steal));
        assert_eq!(found(|window| window.cores[1].user = 0.66), Some(Flag::OtherPrograms));
        assert_eq!(found(|window| window.cores[1].user = 0.64), None);
    }

    #[test]
    fn a_neighbour_excuses_neither_errors_nor_what_is_plainly_slow() {
        let mut window = quiet();
        window.cores[1].user = 1.0;
        let slo = "p90<700ms".parse().unwrap();
        assert_eq!(excuse(&window, &slo, Ending::OnlyErrors), None);
        window.latencies.record(std::time::Duration::from_secs(1));
        assert_eq!(excuse(&window, &slo, Ending::TooSlow), Some(Flag::OtherPrograms));
        window.latencies.record(std::time::Duration::from_secs(8));
        window.latencies.record(std::time::Duration::from_secs(8));
        assert_eq!(excuse(&window, &slo, Ending::TooSlow), None);
    }

    #[test]
    fn a_quota_may_make_the_generator_late_and_leaves_others_their_cores() {
        let slice = |window: &mut Window| {
            (window.quota, window.workers_cpu) = (Some(1.0), 9.5);
            (window.lateness_p99, window.throttled) = (0.09, 2.0);
        };
        assert_eq!(found(slice), None);
        assert_eq!(
            found(|window| {
                slice(window);
                window.throttled = 0.0;
            }),
            Some(Flag::GeneratorLate)
        );
        let crowded = |window: &mut Window| {
            slice(window);
            window.cores.iter_mut().for_each(|core| core.user = 1.0);
            window.workers_cpu = 5.0;
        };
        assert_eq!(found(crowded), Some(Flag::OtherPrograms));
    }
}
