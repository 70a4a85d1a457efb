//! What a process was started with: by a variable in it is seen whose it is.

use std::fs::File;
use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;

use super::clock;

/// The most that an environment can be, bytes: "Limits on size of arguments and environment" in `execve(2)`.
const MAX_SIZE: u64 = 6 << 20;
/// A process that is just being started has no environment yet: `execve(2)` gives it late, after a parent that waited in `vfork(2)` runs
/// again. It is waited for no longer than this.
const PATIENCE: Duration = Duration::from_millis(20);

/// The value of the variable that `mark`, a name and its `=`, begins; none if the process has none such.
///
/// # Errors
///
/// Of the kernel: the process is not there, or may not be looked into.
pub(super) fn variable(pid: Pid, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let environment = settled(|| {
        let mut bytes = Vec::new();
        File::open(format!("/proc/{}/environ", pid.as_raw_nonzero()))?.take(MAX_SIZE).read_to_end(&mut bytes)?;
        Ok(bytes)
    })?;
    Ok(environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(mark)).map(<[u8]>::to_vec))
}

/// What `read` tells once it tells anything; empty where it never does.
fn settled(mut read: impl FnMut() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let end = clock::now().after(PATIENCE);
    loop {
        let bytes = read()?;
        if !bytes.is_empty() || clock::now() >= end {
            return Ok(bytes);
        }
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let mut child = Command::new("sleep").arg("600").env_clear().env("NOT_MARK", "1").env("MARK", "7").spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert_eq!(
            ["MARK=", "NOT_MARK=", "ARK="].map(|mark| variable(pid, mark.as_bytes()).unwrap()),
            [Some(b"7".to_vec()), Some(b"1".to_vec()), None]
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_just_being_started_is_looked_at_again() {
        let mut looks = [&b""[..], b"", b"MARK=7"].into_iter();
        assert_eq!(settled(|| Ok(looks.next().unwrap().to_vec())).unwrap(), b"MARK=7");
        assert_eq!(settled(|| Ok(Vec::new())).unwrap(), b"", "one that has none");
        assert!(settled(|| Err(io::ErrorKind::NotFound.into())).is_err());
    }
}
