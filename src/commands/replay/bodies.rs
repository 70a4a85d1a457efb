//! Files of content hashes: what earlier runs of the same plan were answered with.

use std::fs::File;
use std::hash::Hasher;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;

use super::ReplayError;
use crate::commands::replay_output::Bodies;
use crate::replay::Plan;

/// The hashes of earlier runs; all must be of `plan`.
pub(super) fn read(files: &[PathBuf], plan: &Plan) -> Result<Vec<Bodies>, ReplayError> {
    let name = name(plan);
    files.iter().map(|path| one(path, &name)).collect()
}

fn one(path: &Path, plan: &str) -> Result<Bodies, ReplayError> {
    let refuse = |reason: String| ReplayError::Baseline { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let bodies: Bodies = serde_json::from_reader(BufReader::new(file))
        .map_err(|error| refuse(format!("not a file that --save-bodies wrote: {error}")))?;
    if bodies.tuningfork_bodies != Bodies::VERSION {
        return Err(refuse(format!("its format {} is unknown here", bodies.tuningfork_bodies)));
    }
    if bodies.plan == plan {
        Ok(bodies)
    } else {
        Err(refuse("made with another recording, other filters or other headers: nothing can be compared".to_owned()))
    }
}

/// What this run leaves for later ones.
pub(super) fn of(hashes: &[u64], plan: &Plan) -> Bodies {
    Bodies { tuningfork_bodies: Bodies::VERSION, plan: name(plan), hashes: hashes.to_vec() }
}

/// Changes when any request does.
fn name(plan: &Plan) -> String {
    let mut hasher = SipHasher13::new();
    for request in plan.requests() {
        hasher.write(plan.bytes(request));
    }
    format!("{:016x}", hasher.finish())
}
