//! The options that select requests of a recording, the same for every command that reads one.

use clap::Args;
use regex::Regex;

use crate::recording::{Method, Sample, Selection, Share, Statuses};

/// Which requests: all of these must hold.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which requests")]
pub struct Which {
    /// Only these methods
    #[arg(long, value_name = "METHOD,…", value_delimiter = ',', value_parser = method)]
    method: Vec<Method>,
    /// Only targets that match this regular expression, as in '^/api/'
    #[arg(long, value_name = "REGEX")]
    target: Option<Regex>,
    /// No targets that match this regular expression
    #[arg(long, value_name = "REGEX")]
    not_target: Option<Regex>,
    /// Only requests that were answered with one of these, as in 200,5xx
    #[arg(long, value_name = "STATUS,…", value_delimiter = ',')]
    status: Vec<Statuses>,
    /// Only hosts that match this regular expression
    #[arg(long, value_name = "REGEX")]
    host: Option<Regex>,
    /// Only these clients or connections, by the names the recording gives them
    #[arg(long, value_name = "ID")]
    client: Vec<String>,
    /// Only this share of the connections, as in 10%; each is kept or dropped whole
    #[arg(long, value_name = "SHARE")]
    sample: Option<Share>,
    /// Another number draws another sample
    #[arg(long, value_name = "N", default_value_t = 1, requires = "sample")]
    sample_seed: u64,
}

impl Which {
    /// What they select.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection {
            methods: self.method.clone(),
            target: self.target.clone(),
            not_target: self.not_target.clone(),
            statuses: self.status.clone(),
            host: self.host.clone(),
            clients: self.client.iter().map(|client| client.as_str().into()).collect(),
            sample: self.sample.map(|share| Sample { share, seed: self.sample_seed }),
        }
    }
}

fn method(text: &str) -> Result<Method, String> {
    Method::new(text).ok_or_else(|| "a method like GET".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        which: Which,
    }

    fn parsed(arguments: &str) -> Result<Selection, String> {
        let line = Line::try_parse_from(["test"].into_iter().chain(arguments.split_whitespace()));
        line.map(|line| line.which.selection()).map_err(|error| error.to_string())
    }

    #[test]
    fn options_become_conditions() {
        assert_eq!(format!("{:?}", parsed("").unwrap()), format!("{:?}", Selection::default()));
        let all =
            parsed("--method GET,POST --target ^/a --not-target x$ --status 200,5xx --host b --client 1 --client 2 --sample 10%");
        let all = all.unwrap();
        assert_eq!(all.methods.len(), 2);
        assert_eq!(all.statuses, [Statuses::One(200), Statuses::Class(5)]);
        assert_eq!(all.clients.len(), 2);
        assert_eq!(all.sample, Some(Sample { share: Share::new(0.1).unwrap(), seed: 1 }));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (wrong, why) in [
            ("--method G/T", "a method like GET"),
            ("--target (", "regex parse error"),
            ("--status 2x", "a status like 200"),
            ("--sample 0", "a share like 0.1 or 10%"),
            ("--sample-seed 2", "--sample"),
        ] {
            let error = parsed(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
