//! The simulated applications for optimisers in other languages: a JSON object a line in, one out.
//!
//! `{"seed":7}` starts an application and answers with its space; `{"workers":5,"connections":10}` runs a trial of it.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};
use tuningfork::study::{Candidate, Outcome, Pace, Purpose, Suggestion, Task};
use tuningfork::units::{Connections, Workers};

use crate::regret;
use crate::simulation::archetypes::of_seed;
use crate::simulation::{App, Host};

pub(crate) fn serve() -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let mut next = lines.next().transpose()?;
    while let Some(line) = next.take() {
        let asked: Value = serde_json::from_str(&line)?;
        let seed = asked["seed"].as_u64().ok_or_else(|| io::Error::other("the first line names a seed"))?;
        let app = of_seed(seed);
        let (space, best) = (app.space(), app.best());
        let hello = json!({
            "max_workers": space.max_workers.get(), "max_connections": space.max_connections.get(), "max_slots": space.max_slots,
            "workers": space.baseline().workers.get(), "connections": space.baseline().connections.get(),
        });
        answer(&hello)?;
        let mut host = app.host(Pace::Normal, seed);
        for line in lines.by_ref() {
            let line = line?;
            let asked: Value = serde_json::from_str(&line)?;
            if asked["seed"].is_u64() {
                next = Some(line);
                break;
            }
            let number = |name: &str| asked[name].as_u64().and_then(|number| u32::try_from(number).ok());
            let workers = number("workers").and_then(Workers::new);
            let candidate = workers.zip(number("connections").and_then(Connections::new));
            let Some((workers, connections)) = candidate else { return Err(io::Error::other(format!("no candidate: {line}"))) };
            answer(&trial(&app, &mut host, Candidate::new(workers, connections), best))?;
        }
    }
    Ok(())
}

fn trial(app: &App, host: &mut Host<'_>, candidate: Candidate, best: f64) -> Value {
    let (purpose, task) = (Purpose::Neighbour, Task::Measure);
    let (capacity, seconds) = match host.run(&Suggestion { candidate, purpose, task, expected: None, rival: None }) {
        Outcome::Measured(found) => (found.capacity, found.seconds),
        Outcome::Challenged(found) => (0.0, found.seconds),
        Outcome::Failed { seconds, .. } => (0.0, seconds),
    };
    json!({"capacity": capacity, "seconds": seconds, "regret": regret(app, Some(candidate), best)})
}

fn answer(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}
