//! How long a study takes: every span and every precision of a trial, twice.

use serde::{Deserialize, Serialize};

use crate::stats::Spread;
use crate::study::Slo;

/// How much time a study may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// About a quarter of a minute a trial, three to four minutes in all: for demonstrations.
    Quick,
    /// About half a minute a trial, up to a quarter of an hour in all.
    Normal,
}

/// The numbers of a pace. Spans are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// How often a probe is judged.
    pub batch: f64,
    /// Windows of the warm-up that must agree with each other.
    pub warmup_window: f64,
    /// By what share two windows may differ and still agree.
    pub warmup_tolerance: f64,
    /// The longest warm-up.
    pub warmup_cap: f64,
    /// The light probe, at least.
    pub light: f64,
    /// How long a new rate runs before it is judged.
    pub settle: f64,
    /// The earliest moment a probe can fail.
    pub fail_from: f64,
    /// The earliest moment a probe can pass.
    pub pass_from: f64,
    /// When an undecided probe is decided.
    pub probe: f64,
    /// When it is decided even with few completions.
    pub probe_cap: f64,
    /// How many completions a decision wants where a tenth of them may be late: see [`Self::wanted`].
    pub completions: u64,
    /// The wait for the application to empty itself after a probe; longer where a request may take longer.
    pub drain: f64,
    /// The search ends when the lowest failed rate is below this many times the highest held one.
    pub precision: f64,
    /// The most probes of a trial.
    pub probes: usize,
}

/// The share of late requests that [`Timing::completions`] is for: that of p90.
const TENTH: f64 = 0.1;

impl Timing {
    /// How many completions a decision wants where a share `late` of them may be late: so many that as many late ones are allowed as
    /// at p90 (20 at the normal pace), or chance decides. A rate at which twice as many are late as may be passes in 24 of 100 probes
    /// of 200 completions at p99 (Poisson: two or fewer, of four), and in less than one of 1,000 probes of 2,000. Where none may be
    /// late, no number is enough: then it is the length of a probe that counts.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "late shares are those of a few known quantiles")]
    pub fn wanted(&self, late: f64) -> u64 {
        if late <= 0.0 { self.completions } else { self.completions.max((TENTH * self.completions as f64 / late).round() as u64) }
    }
}

/// How much a study may spend before it must conclude.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Trials, failed ones included.
    pub trials: usize,
    /// Seconds of trials.
    pub seconds: f64,
}

/// How many trials each phase of a search may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Jumps to the predicted best.
    pub jumps: usize,
    /// All trials of the search, challenges included, before best and baseline are compared: but for those of `doubts`.
    pub trials: usize,
    /// Trials beyond those that settle doubts: a third repetition of the best where two disagree, the measurement of what held a challenge
    /// last, and what was given up against a level that the best did not reach again.
    pub doubts: usize,
    /// Leaders that are measured again before one is believed.
    pub repeats: usize,
    /// Pairs of best and baseline, at least.
    pub least_pairs: usize,
    /// Pairs of best and baseline, at most.
    pub most_pairs: usize,
}

impl Effort {
    /// All trials there may be before best and baseline are compared.
    #[must_use]
    pub const fn most_trials(self) -> usize {
        self.trials + self.doubts
    }
}

impl Pace {
    /// The spans of a trial. The normal ones are those of the design study's search to 5 %: 39 s at an error of 4.1 % there, where one to
    /// 3 % took 44 s at 3.9 %.
    #[must_use]
    pub const fn timing(self) -> Timing {
        match self {
            Self::Quick => Timing {
                batch: 0.25,
                warmup_window: 0.75,
                warmup_tolerance: 0.06,
                warmup_cap: 3.75,
                light: 1.25,
                settle: 0.5,
                fail_from: 0.75,
                pass_from: 1.5,
                probe: 2.5,
                probe_cap: 6.0,
                completions: 100,
                drain: 5.0,
                precision: 1.09,
                probes: 5,
            },
            Self::Normal => Timing {
                batch: 0.5,
                warmup_window: 2.0,
                warmup_tolerance: 0.03,
                warmup_cap: 30.0,
                light: 4.0,
                settle: 1.5,
                fail_from: 2.5,
                pass_from: 4.0,
                probe: 8.0,
                probe_cap: 30.0,
                completions: 200,
                drain: 15.0,
                precision: 1.05,
                probes: 9,
            },
        }
    }

    /// The trials of each phase.
    #[must_use]
    pub const fn effort(self) -> Effort {
        match self {
            Self::Quick => Effort { jumps: 2, trials: 10, doubts: 4, repeats: 1, least_pairs: 2, most_pairs: 5 },
            Self::Normal => Effort { jumps: 3, trials: 12, doubts: 4, repeats: 2, least_pairs: 3, most_pairs: 5 },
        }
    }

    /// The budget when nobody sets one.
    #[must_use]
    pub fn budget(self, slo: &Slo) -> Budget {
        let usual = match self {
            Self::Quick => Budget { trials: 30, seconds: 180.0 },
            Self::Normal => Budget { trials: 40, seconds: 900.0 },
        };
        Budget { seconds: usual.seconds * self.stretch(slo), ..usual }
    }

    /// What a trial may take where requests take as long as `slo` allows, seconds: two such prepare each probe, and one is waited for after it.
    #[must_use]
    pub fn slowest_trial(self, slo: &Slo) -> f64 {
        3.0 * slo.latency().as_secs_f64() * self.timing().probes as f64
    }

    /// How many times as long as usual a probe may take to see enough requests that are late for `slo`.
    #[must_use]
    pub fn stretch(self, slo: &Slo) -> f64 {
        let timing = self.timing();
        let longer = timing.wanted(slo.late_share()) as f64 / timing.completions as f64;
        longer.min(timing.probe_cap / timing.probe)
    }

    /// How much the capacity of one candidate scatters between trials, before this study has seen any repetition: about what a trial errs
    /// by in the simulation of the search (2.9 to 3.6 % and, quick, 3.9 to 5.3 %, by what is expected), with probes that err as the real
    /// trial's do on simulated servers (3.3 and 4.5 %) and boots that differ by 1.5 %. In quick studies of real applications on a rented
    /// host it was 5 to 8 %, which repetitions tell. It weighs as much as three of them, so that 95 % intervals cover on hosts whose boots
    /// differ more too: in 96 of 100 studies where these differ by 3 %, in 92 by 6 and by 10 % (`intervals_cover_on_noisy_hosts` with 1,200 seeds).
    #[must_use]
    pub const fn scatter(self) -> Spread {
        match self {
            Self::Quick => Spread { sd: 0.045, weight: 3.0 },
            Self::Normal => Spread { sd: 0.035, weight: 3.0 },
        }
    }

    /// How much the CPU time a request needs scatters between trials of one candidate on a host that stays what it is, before this
    /// study has seen any repetition. Quick: 4.1 % in those of 45 real studies in which no two trials of a configuration lay more than
    /// 15 % apart (66 degrees of freedom; 3.4 to 5.5 % for Django and Wagtail, 0.8 % where requests sleep), on two cores of a rented host;
    /// in all of them, host changes included, 7.2 %. Normal: the boots and the drift of the design study, 1.5 and 1 %; no real study was
    /// measured at that pace.
    #[must_use]
    pub const fn demand(self) -> Spread {
        match self {
            Self::Quick => Spread { sd: 0.04, weight: 4.0 },
            Self::Normal => Spread { sd: 0.02, weight: 4.0 },
        }
    }
}
