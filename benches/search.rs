//! Strategies of the search side by side on simulated applications: `cargo bench --bench search -- --seeds 500`.
//!
//! Regret is how far the true capacity of what would be recommended lies below the best of the space. Nothing here measures time:
//! seconds are simulated.

#![expect(clippy::print_stdout, reason = "the table goes to standard output")]

#[path = "search/peers.rs"]
mod peers;
#[path = "search/serve.rs"]
mod serve;
#[expect(dead_code, reason = "the tests of the search use the rest")]
#[path = "../src/study/simulation.rs"]
mod simulation;
#[path = "search/table.rs"]
mod table;

use clap::{Parser, ValueEnum};
use peers::{coordinate_descent, random};
use simulation::App;
use simulation::archetypes::{KINDS, of_seed};
use table::{Run, Table};
use tuningfork::study::standing::Standing;
use tuningfork::study::{Candidate, Next, Pace, Purpose, Report, Study, Trial, suggest};
// The simulator is a part of the library's tests and names these as such.
use tuningfork::{study, tune, units};

/// Compares strategies on simulated applications: regret by trials, at the stop, minutes, certificates
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench search --")]
struct Options {
    /// How many applications, each drawn by a seed
    #[arg(long, value_name = "N", default_value = "500")]
    seeds: u64,
    /// The first of them; those from 100000 on were never looked at while the search was adjusted
    #[arg(long, value_name = "SEED", default_value = "0")]
    first_seed: u64,
    /// How much boots of one configuration differ: standard deviation of the logarithm of its capacity, for our own search
    #[arg(long, value_name = "SD", default_value_t = simulation::BOOT_NOISE)]
    boot_noise: f64,
    /// How much CPU a request differs between trials, for our own search [default: what certificates believe, 0.02, and 0.04 with --quick]
    #[arg(long, value_name = "SD")]
    demand_noise: Option<f64>,
    /// How much the host's speed differs between trials, which CPU a request and capacities share, for our own search
    #[arg(long, value_name = "SD", default_value = "0")]
    speed_noise: f64,
    /// Our own search at the pace of `tune --quick`
    #[arg(long)]
    quick: bool,
    /// What to do
    #[arg(value_enum, default_value = "strategies")]
    what: What,
    /// Cargo's own
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn seeds(&self) -> std::ops::Range<u64> {
        self.first_seed..self.first_seed.saturating_add(self.seeds)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// A row a strategy
    Strategies,
    /// A row a kind of application, of our own search
    Kinds,
    /// List the applications
    List,
    /// Run trials that standard input asks for, a JSON object a line, for optimisers in other languages
    Serve,
}

/// Trials of the peers that have no stopping rule.
const TRIALS: usize = 30;

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    match options.what {
        What::Serve => return serve::serve(),
        What::List => {
            options.seeds().for_each(list);
            return Ok(());
        }
        What::Strategies | What::Kinds => {}
    }
    let mut table = Table::default();
    for seed in options.seeds() {
        let app = of_seed(seed);
        let best = app.best();
        let pace = if options.quick { Pace::Quick } else { Pace::Normal };
        let run = race(&app, pace, seed, best, &options);
        if options.what == What::Kinds {
            table.add(KINDS[usize::try_from(seed % 10).unwrap_or(0)], &run);
            table.add("all", &run);
            continue;
        }
        table.add("challenge race", &run);
        table.add("coordinate descent", &coordinate_descent(&app, seed, best, TRIALS));
        table.add("random", &random(&app, seed, best, TRIALS));
    }
    table.print();
    Ok(())
}

/// Our own search, then its duel and its certificate.
fn race(app: &App, pace: Pace, seed: u64, best: f64, options: &Options) -> Run {
    let mut study = app.study(pace);
    let mut host = app.host(pace, seed).with_boot_noise(options.boot_noise).with_speed_noise(options.speed_noise);
    host = options.demand_noise.map_or(host.clone(), |noise| host.with_demand_noise(noise));
    let mut run = Run::default();
    let stop = loop {
        let suggestion = match suggest(&study) {
            Next::Try(suggestion) => suggestion,
            Next::Stop(stop) => break stop,
        };
        if suggestion.purpose == Purpose::Confirm && study.count(Purpose::Confirm) == 0 {
            run.seconds = study.seconds();
        }
        study.record(Trial { outcome: host.run(&suggestion), suggestion });
        if study.count(Purpose::Confirm) == 0 {
            run.trials += 1;
        }
        // What cannot be started costs a trial, but nobody would recommend it.
        if study.count(Purpose::Confirm) == 0 && finalist(&study).is_some() {
            run.regrets.push(regret(app, finalist(&study), best));
        }
    };
    if study.count(Purpose::Confirm) == 0 {
        run.seconds = study.seconds();
    }
    let report = Report::new(&study, stop);
    run.seconds_with_duel = Some(study.seconds());
    run.verdict = Some(regret(app, report.recommended, best));
    run.margin = report.certificate.margin.filter(|_| report.certificate.given);
    let (true_best, folk) = (report.best.map_or(0.0, |side| app.capacity(side.candidate)), app.capacity(study.space.baseline()));
    run.covered = report.ratio.filter(|_| report.confirmed && folk > 0.0).map(|ratio| ratio.contains(true_best / folk));
    run
}

fn finalist(study: &Study) -> Option<Candidate> {
    Standing::of(study).finalist().map(|place| place.candidate)
}

fn regret(app: &App, candidate: Option<Candidate>, best: f64) -> f64 {
    candidate.map_or(1.0, |candidate| 1.0 - app.capacity(candidate) / best)
}

/// What an application wants, and what the rule of thumb gives it.
fn list(seed: u64) {
    let app = of_seed(seed);
    let space = app.space();
    let all = space.candidates();
    let best = all.iter().copied().max_by(|one, other| app.capacity(*one).total_cmp(&app.capacity(*other)));
    let Some(best) = best else { return };
    let (capacity, top) = (app.capacity(best), app.best());
    let point = app.surface.under(best.workers.get().into(), best.connections.get().into(), 0.999 * capacity);
    let near = all.iter().filter(|candidate| app.capacity(**candidate) > 0.97 * top).count();
    println!(
        "{seed:4} {:24} {:3} cores  best {:3} x {:4} {capacity:8.1}/s ({:.3} of the finest grid's)  cores {:.2} slots {:.2} p90 {:.3} s  folk {:.3}  within 3 %: {:.2}",
        app.name,
        app.cores,
        best.workers,
        best.connections,
        capacity / top,
        point.map_or(f64::NAN, |point| point.busy / f64::from(app.cores)),
        point.map_or(f64::NAN, |point| point.inside / best.slots() as f64),
        point.map_or(f64::NAN, |point| point.p90),
        regret(&app, Some(space.baseline()), top),
        near as f64 / all.len() as f64,
    );
}
