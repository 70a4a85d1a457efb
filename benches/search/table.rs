//! The table: a row a strategy.

use std::collections::BTreeMap;

/// One search.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Regret of what would be recommended after each trial, from the first that could be started on.
    pub(crate) regrets: Vec<f64>,
    /// All trials, challenges and failures included.
    pub(crate) trials: usize,
    /// What the trials cost.
    pub(crate) seconds: f64,
    /// Regret of what is recommended after the duel with the baseline, if there is one.
    pub(crate) verdict: Option<f64>,
    /// Whether the certificate, if one was given, is wrong.
    pub(crate) certified: Option<bool>,
    /// Whether the interval of the duel's ratio contains the true one.
    pub(crate) covered: Option<bool>,
}

/// Runs by strategy, in the order in which strategies came.
#[derive(Debug, Default)]
pub(crate) struct Table {
    order: Vec<String>,
    runs: BTreeMap<String, Vec<Run>>,
}

const AFTER: [usize; 6] = [1, 2, 3, 5, 10, 20];

impl Table {
    pub(crate) fn add(&mut self, name: &str, run: &Run) {
        if !self.order.iter().any(|known| known == name) {
            self.order.push(name.to_owned());
        }
        self.runs.entry(name.to_owned()).or_default().push(run.clone());
    }

    #[expect(clippy::print_stdout, reason = "the table goes to standard output")]
    pub(crate) fn print(&self) {
        let after = AFTER.map(|trials| format!("{trials:>6}")).concat();
        println!(
            "mean regret, %, after … trials; at the stop: mean, 90th percentile, trials (p90), minutes; after the duel; certificates"
        );
        println!("{:24}{after} |  stop   p90 trials       min |  duel |  given  wrong | ratio covered", "");
        for name in &self.order {
            let runs = &self.runs[name];
            let percent = |values: Vec<f64>| 100.0 * mean(&values);
            let at = |trials: usize| {
                percent(runs.iter().filter_map(|run| run.regrets.get(trials - 1).or(run.regrets.last()).copied()).collect())
            };
            let after = AFTER.map(|trials| format!("{:6.1}", at(trials))).concat();
            let stops: Vec<f64> = runs.iter().filter_map(|run| run.regrets.last().copied()).collect();
            let trials: Vec<f64> = runs.iter().map(|run| run.trials as f64).collect();
            let minutes: Vec<f64> = runs.iter().map(|run| run.seconds / 60.0).collect();
            let duels: Vec<f64> = runs.iter().filter_map(|run| run.verdict).collect();
            let certified: Vec<bool> = runs.iter().filter_map(|run| run.certified).collect();
            let covered: Vec<bool> = runs.iter().filter_map(|run| run.covered).collect();
            println!(
                "{name:24}{after} | {:5.2} {:5.1} {:6.1} ({:2.0}) {:6.1} | {:5.2} | {:4.0} % {:4.1} % | {:3.0} % of {}",
                percent(stops.clone()),
                100.0 * quantile(&stops, 0.9),
                mean(&trials),
                quantile(&trials, 0.9),
                mean(&minutes),
                percent(duels),
                100.0 * certified.len() as f64 / runs.len() as f64,
                100.0 * share(&certified),
                100.0 * share(&covered),
                covered.len(),
            );
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn share(values: &[bool]) -> f64 {
    values.iter().filter(|value| **value).count() as f64 / values.len() as f64
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let place = (share * (sorted.len() - 1) as f64).round() as usize;
    sorted[place]
}
