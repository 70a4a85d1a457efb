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
    /// The same with the duel with the baseline, if there is one.
    pub(crate) seconds_with_duel: Option<f64>,
    /// Regret of what is recommended after that.
    pub(crate) verdict: Option<f64>,
    /// By what share another configuration can be better at most, if that was certified.
    pub(crate) margin: Option<f64>,
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
/// What the design study certified: at least 96.5 % of what the cores can do.
const NEAR: f64 = 0.035;

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
            "mean regret, %, after … trials; at the stop: mean, 90th percentile, trials (p90), minutes; after the duel: mean, 90th \
             percentile, minutes;\ncertificates: how many, their mean margin, and of how many what is recommended is within the margin \
             and within {:.1} % of the best",
            100.0 * NEAR
        );
        println!(
            "{:24}{after} |  stop   p90 trials       min |  duel   p90   min |  given margin within  near | ratio covered",
            ""
        );
        for name in &self.order {
            println!("{}", row(name, &self.runs[name]));
        }
    }
}

fn row(name: &str, runs: &[Run]) -> String {
    let at = |trials: usize| {
        let regrets = runs.iter().filter_map(|run| run.regrets.get(trials - 1).or(run.regrets.last()).copied());
        100.0 * mean(&regrets.collect::<Vec<f64>>())
    };
    let after = AFTER.map(|trials| format!("{:6.1}", at(trials))).concat();
    let stops: Vec<f64> = runs.iter().filter_map(|run| run.regrets.last().copied()).collect();
    let trials: Vec<f64> = runs.iter().map(|run| run.trials as f64).collect();
    let minutes: Vec<f64> = runs.iter().map(|run| run.seconds / 60.0).collect();
    format!(
        "{name:24}{after} | {:5.2} {:5.1} {:6.1} ({:2.0}) {:6.1} |{}",
        100.0 * mean(&stops),
        100.0 * quantile(&stops, 0.9),
        mean(&trials),
        quantile(&trials, 0.9),
        mean(&minutes),
        if runs.iter().all(|run| run.verdict.is_some()) { verdicts(runs) } else { String::new() },
    )
}

/// The part of a row that a strategy without a duel has not.
fn verdicts(runs: &[Run]) -> String {
    let duels: Vec<f64> = runs.iter().filter_map(|run| run.verdict).collect();
    let minutes: Vec<f64> = runs.iter().filter_map(|run| run.seconds_with_duel).map(|seconds| seconds / 60.0).collect();
    let given: Vec<(f64, f64)> = runs.iter().filter_map(|run| run.margin.zip(run.verdict)).collect();
    let margins: Vec<f64> = given.iter().map(|(margin, _)| *margin).collect();
    let within: Vec<bool> = given.iter().map(|(margin, regret)| 1.0 / (1.0 - regret) <= 1.0 + margin).collect();
    let near: Vec<bool> = given.iter().map(|(_, regret)| *regret <= NEAR).collect();
    let covered: Vec<bool> = runs.iter().filter_map(|run| run.covered).collect();
    format!(
        " {:5.2} {:5.1} {:5.1} | {:4.0} % {:4.1} % {:4.1} % {:3.0} % | {:4.1} % of {}",
        100.0 * mean(&duels),
        100.0 * quantile(&duels, 0.9),
        mean(&minutes),
        100.0 * given.len() as f64 / runs.len() as f64,
        100.0 * mean(&margins),
        100.0 * share(&within),
        100.0 * share(&near),
        100.0 * share(&covered),
        covered.len(),
    )
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
