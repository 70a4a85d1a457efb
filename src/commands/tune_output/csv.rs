//! The trials as comma-separated values (RFC 4180), a row a trial: seconds, shares of 1, bytes, bytes a second (`memory_growth`);
//! empty where nothing was measured.

use crate::study::{Label, Measurement, Report, Trial};

const HEADER: &str = "trial,why,purpose,workers,connections,capacity,rate,holds,valid,label,ending,throughput,p50,p90,p99,max,errors,\
                      utilisation,least_busy_core,workers_cpu,generator_cpu,cpu_seconds_per_request,time_in_worker,worker_busy,slots_busy,\
                      memory_bytes,memory_growth,lateness_p99,supervisor_cpu,other_cpu,effective_cores,throttled,\
                      distinct_requests,seconds,flags,error,cpu_affinity,beside_cpu,bounded";

/// A number of a measurement.
type Field = fn(&Measurement) -> Option<f64>;

const NUMBERS: [Field; 22] = [
    |found| Some(found.throughput),
    |found| found.p50,
    |found| found.p90,
    |found| found.p99,
    |found| found.max,
    |found| found.errors,
    Measurement::cpu_mean,
    Measurement::cpu_lowest,
    |found| found.workers_cpu,
    |found| found.generator_cpu,
    |found| found.cpu_seconds_per_request,
    |found| found.time_in_worker,
    |found| found.worker_busy,
    |found| found.slots_busy,
    |found| found.memory_bytes.map(|bytes| bytes as f64),
    |found| found.memory_growth,
    |found| found.lateness_p99,
    |found| found.supervisor_cpu,
    |found| found.other_cpu,
    |found| found.effective_cores,
    |found| found.throttled,
    |found| found.distinct_requests.map(|count| count as f64),
];

/// All trials in order.
#[must_use]
pub fn csv(report: &Report) -> String {
    let rows = report.trials.iter().zip(1..).map(|(trial, number)| row(trial, number));
    [HEADER.to_owned()].into_iter().chain(rows).map(|row| row + "\r\n").collect()
}

fn row(trial: &Trial, number: usize) -> String {
    let found = trial.measurement();
    let (task, candidate) = (trial.suggestion.task, trial.suggestion.candidate);
    let mut cells = vec![
        number.to_string(),
        text(trial.suggestion.purpose.word()),
        task.word().to_owned(),
        candidate.workers.to_string(),
        candidate.connections.to_string(),
        number_or_none(found.map(|found| found.capacity)),
        number_or_none(task.rate()),
        trial.challenged().map_or_else(String::new, |challenged| challenged.holds.to_string()),
        trial.is_valid().to_string(),
        found.filter(|found| found.capacity > 0.0).map_or_else(String::new, |found| key(found.label())),
        found.map_or_else(String::new, |found| text(&found.ending.words())),
    ];
    cells.extend(NUMBERS.iter().map(|field| number_or_none(found.and_then(field))));
    cells.push(number_or_none(Some(trial.seconds())));
    cells.push(text(&flags(trial)));
    cells.push(text(trial.failure().unwrap_or_default()));
    cells.push(candidate.affinity.map_or_else(String::new, |affinity| affinity.name().to_owned()));
    cells.push(number_or_none(found.and_then(|found| found.beside_cpu)));
    cells.push(number_or_none(found.and_then(|found| found.bounded)));
    cells.join(",")
}

/// What should make a reader doubt it, in words.
pub(super) fn flags(trial: &Trial) -> String {
    trial.flags().iter().map(|flag| flag.words()).collect::<Vec<_>>().join("; ")
}

/// As the journal and JSON write it.
fn key(label: Label) -> String {
    serde_json::to_value(label).ok().and_then(|key| Some(key.as_str()?.to_owned())).unwrap_or_default()
}

fn number_or_none(number: Option<f64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

/// Quoted where it must be. A program that calculates would take a cell that begins like a formula for one.
fn text(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::study::{Candidate, Outcome, Purpose, Suggestion, Task};
    use crate::units::{Connections, Workers};

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        let cells = ["plain", "a, b", "say \"no\"", "=1+2", "@x,y", ""].map(text);
        assert_eq!(cells, ["plain", "\"a, b\"", "\"say \"\"no\"\"\"", "'=1+2", "\"'@x,y\"", ""]);
    }

    /// Who reads columns by their places relies on them: a new one goes last, here and on the page.
    #[test]
    fn columns_have_the_places_that_are_told() {
        let page = include_str!("../../../docs/tune-json.md");
        let told = page.split_once("```csv\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
        assert_eq!(HEADER, told.replace('\n', ""));
    }

    #[test]
    fn every_cell_is_below_its_name() {
        // A number of its own in every field.
        let mut named = serde_json::to_value(Measurement::of_capacity(1.0)).unwrap();
        let fields = named.as_object_mut().unwrap().values_mut().filter(|field| field.is_null() || field.is_number());
        (101..).zip(fields).for_each(|(number, field): (u32, &mut Value)| *field = number.into());
        let found: Measurement = serde_json::from_value(named.clone()).unwrap();
        let candidate = Candidate::new(Workers::new(2).unwrap(), Connections::new(10).unwrap());
        let suggestion = Suggestion { candidate, purpose: Purpose::Jump, task: Task::Measure, expected: None, rival: None };
        let row = row(&Trial { suggestion, outcome: Outcome::Measured(Box::new(found)) }, 1);
        assert_eq!(HEADER.split(',').count(), row.split(',').count(), "{row}");
        let numbers = HEADER.split(',').zip(row.split(',')).filter(|(name, _)| named[name].is_number());
        let mut seen = 0;
        for (name, cell) in numbers {
            assert_eq!(cell.parse().ok(), named[name].as_f64(), "{name}");
            seen += 1;
        }
        assert!(seen > NUMBERS.len(), "{seen}");
    }
}
