//! Tells other programs of the host that work for the application, as a database on the same host does, from strangers. Counts as demand only what
//! grew with the load and stopped with it, by every light load of the trial; what was there without load, or came later, is a stranger's.

use super::gates::OTHERS;
use crate::study::Window;

/// How long the host is looked at without load, seconds. The kernel counts in ticks, usually of 10 ms.
pub(super) const REST: f64 = 1.0;
/// Cores' worth that differ between two looks by the kernel's ticks alone.
const RESOLUTION: f64 = 0.05;
/// Share of what strangers may use from which it is worth knowing for whom others work, once the cores are full.
const MATTERS: f64 = 0.5;
/// How much more CPU a request may need of others than under light load. Saturated, most need less.
const MARGIN: f64 = 1.25;

/// What a trial knows about the programs beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Company {
    /// The most they used while there was no load, cores' worth.
    idle: f64,
    /// Cores' worth they used under each light load, and its requests a second.
    loads: Vec<(f64, f64)>,
}

impl Company {
    /// Takes a window without load.
    pub(super) fn rested(&mut self, window: &Window) {
        self.idle = self.idle.max(window.others());
    }

    /// Whether what others used under this load could be mistaken for a disturbance at full load.
    pub(super) fn matters(&self, window: &Window) -> bool {
        let busy = window.utilisation().map_or(0.0, |busy| busy.min(1.0));
        window.others() - self.idle > MATTERS * OTHERS * window.supply() * busy
    }

    /// Takes a window of light load, after which there was rest.
    pub(super) fn learn(&mut self, window: &Window) {
        let seen = window.others() - self.idle >= RESOLUTION;
        self.loads.push(if seen { (window.others(), window.throughput()) } else { (0.0, 0.0) });
    }

    /// Notes that under a light load others did nothing that matters.
    pub(super) fn forget(&mut self) {
        self.loads.push((0.0, 0.0));
    }

    /// Whether others did something under every light load so far, and so may work for the requests.
    pub(super) fn is_known(&self) -> bool {
        self.demand() > 0.0
    }

    /// Counts what the window's requests needed of others as theirs.
    pub(super) fn account(&self, window: &mut Window) {
        let most = MARGIN * self.demand() * window.throughput();
        window.beside_cpu = (window.others() - self.idle).clamp(0.0, most) * window.seconds;
    }

    /// CPU time that a request needs of others, seconds: the least that any light load saw. A stranger that came or went between two of them is in one
    /// alone, and one that came or went within a load is there for a part of it.
    fn demand(&self) -> f64 {
        let each = |(others, rate): &(f64, f64)| if *rate > 0.0 { (others - self.idle).max(0.0) / rate } else { 0.0 };
        self.loads.iter().map(each).min_by(f64::total_cmp).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::CoreShare;

    /// Ten seconds of two cores that others used `others` of in all, with so many requests a second.
    fn window(others: f64, rate: u64) -> Window {
        let core = |cpu| CoreShare { cpu, user: 0.2 + others / 2.0, ..CoreShare::default() };
        Window { seconds: 10.0, completed: 10 * rate, workers_cpu: 4.0, cores: vec![core(0), core(1)], ..Window::default() }
    }

    /// What of a window in which others used `others` cores is counted for its `rate` requests a second.
    fn counted(company: &Company, others: f64, rate: u64) -> f64 {
        let mut window = window(others, rate);
        company.account(&mut window);
        window.beside()
    }

    fn company(idle: f64, loads: &[(f64, u64)]) -> Company {
        let mut company = Company::default();
        company.rested(&window(idle, 0));
        for (others, rate) in loads {
            company.learn(&window(*others, *rate));
        }
        company
    }

    #[test]
    fn what_grows_with_the_load_is_counted_up_to_the_load() {
        let database = company(0.02, &[(0.12, 20), (0.22, 40)]);
        assert!((counted(&database, 0.52, 100) - 0.5).abs() < 1e-9);
        assert!((counted(&database, 0.42, 100) - 0.4).abs() < 1e-9, "less than expected");
        assert!((counted(&database, 1.2, 100) - 0.625).abs() < 1e-9, "a stranger came with it");
        assert!(counted(&database, 0.01, 100).abs() < 1e-9, "less than without load");
    }

    #[test]
    fn what_one_of_two_loads_saw_is_a_strangers() {
        // It came with the second, or left after the first.
        for loads in [[(0.0, 20), (1.0, 40)], [(1.0, 20), (0.0, 40)]] {
            assert!(counted(&company(0.0, &loads), 1.0, 100).abs() < 1e-9, "{loads:?}");
        }
        let mut company = company(0.0, &[(0.5, 20)]);
        company.forget();
        assert!(counted(&company, 1.0, 100).abs() < 1e-9);
        assert!(counted(&Company::default(), 1.0, 100).abs() < 1e-9);
    }

    #[test]
    fn what_goes_on_without_load_is_a_strangers() {
        let mut company = company(0.0, &[(1.0, 20), (1.0, 20)]);
        company.rested(&window(1.0, 0));
        assert!(counted(&company, 1.0, 100).abs() < 1e-9);
    }

    #[test]
    fn what_could_disturb_full_cores_matters() {
        let company = company(0.1, &[]);
        // A fifth of the cores is busy: 0.2 of two would be 0.04 there, and half of that is worth knowing.
        assert!(company.matters(&window(0.15, 20)) && !company.matters(&window(0.11, 20)));
    }
}
