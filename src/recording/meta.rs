//! What a recording says about itself on its first line.

use serde::{Deserialize, Serialize};

use super::scrub::{BodyPolicy, Scrub};

/// Where the requests come from, and how far to trust which part of them. Everything is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The kind of input it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What `t` marks: "arrival", "end" or "logged" (somewhere between the two).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts_meaning: Option<String>,
    /// The step of the original clock, nanoseconds. Below it the times are made up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts_resolution_ns: Option<u64>,
    /// How personal data was replaced; absent: not at all, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub: Option<String>,
    /// Which parts are real.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<Fidelity>,
    /// What else to know before trusting the times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Meta {
    /// What holds for all of several inputs or recordings; `None` if there are none. What they differ in is "mixed"; times are as coarse
    /// as the coarsest; what is not said of one is not said of all where it would promise something: scrubbing, the clock's step,
    /// fidelity.
    pub fn join(metas: impl IntoIterator<Item = Self>) -> Option<Self> {
        metas.into_iter().reduce(|one, other| {
            let scrub = one.scrub.is_some() && other.scrub.is_some();
            let new: Vec<_> = other.notes.into_iter().filter(|note| !one.notes.contains(note)).collect();
            Self {
                source: either(one.source, other.source.as_ref()),
                ts_meaning: either(one.ts_meaning, other.ts_meaning.as_ref()),
                ts_resolution_ns: one.ts_resolution_ns.zip(other.ts_resolution_ns).map(|(one, other)| one.max(other)),
                scrub: either(one.scrub, other.scrub.as_ref()).filter(|_| scrub),
                fidelity: one.fidelity.zip(other.fidelity).map(|(one, other)| one.join(&other)),
                notes: one.notes.into_iter().chain(new).collect(),
            }
        })
    }

    /// Every text in it: what strangers may have written.
    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let Self { source, ts_meaning, ts_resolution_ns: _, scrub, fidelity, notes } = self;
        let parts = fidelity
            .iter_mut()
            .flat_map(|Fidelity { headers, bodies, connections, responses }| [headers, bodies, connections, responses]);
        [source, ts_meaning, scrub].into_iter().chain(parts).flatten().chain(notes)
    }

    /// What holds once every request is scrubbed, and `bodies` has become of their bodies.
    #[must_use]
    pub fn scrubbed(self, bodies: BodyPolicy) -> Self {
        let before = self.fidelity.unwrap_or_default();
        let kept = match bodies {
            BodyPolicy::Scrubbed if before.bodies.as_deref() != Some("none") => "scrubbed",
            BodyPolicy::Scrubbed | BodyPolicy::Dropped => "none",
        };
        let fidelity = Fidelity { bodies: Some(kept.to_owned()), ..before };
        Self { scrub: Some(Scrub::NAME.to_owned()), fidelity: Some(fidelity), ..self }
    }
}

/// How much of each part the source knew, in words: "all", "none", or what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fidelity {
    /// Request headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<String>,
    /// Request bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bodies: Option<String>,
    /// What `c` identifies: "connection" or "client".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<String>,
    /// What is known of the responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responses: Option<String>,
}

impl Fidelity {
    fn join(self, other: &Self) -> Self {
        Self {
            headers: either(self.headers, other.headers.as_ref()),
            bodies: either(self.bodies, other.bodies.as_ref()),
            connections: either(self.connections, other.connections.as_ref()),
            responses: either(self.responses, other.responses.as_ref()),
        }
    }
}

fn either(one: Option<String>, other: Option<&String>) -> Option<String> {
    if one.as_ref() == other { one } else { Some("mixed".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_keeps_no_bodies_that_were_not_there() {
        let meta = |bodies: Option<&str>| Meta {
            fidelity: bodies.map(|bodies| Fidelity { bodies: Some(bodies.into()), ..Fidelity::default() }),
            ..Meta::default()
        };
        for (before, kept) in [(None, "scrubbed"), (Some("all"), "scrubbed"), (Some("mixed"), "scrubbed"), (Some("none"), "none")]
        {
            for (policy, expected) in [(BodyPolicy::Scrubbed, kept), (BodyPolicy::Dropped, "none")] {
                let after = meta(before).scrubbed(policy);
                assert_eq!((after.scrub.as_deref(), after.fidelity), (Some(Scrub::NAME), meta(Some(expected)).fidelity));
            }
        }
    }
}
