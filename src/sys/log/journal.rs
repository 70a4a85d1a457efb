//! A stream to journald of our own, for when the one that standard error was is gone (systemd-journald.service(8), "Stream logging").

use std::env;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::fstat;
use rustix::stdio::stderr;

/// Where journald listens for streams.
pub(super) const SOCKET: &str = "/run/systemd/journal/stdout";
/// How long journald may take for the greeting.
const PATIENCE: Duration = Duration::from_millis(500);
/// Level of lines that do not say theirs: info.
const USUAL_LEVEL: u8 = 6;

/// Whether standard error is a stream to journald: JOURNAL_STREAM names its device and inode (systemd.exec(5)).
pub(super) fn is_stderr() -> bool {
    let named = env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(stderr()).is_ok_and(|about| named == format!("{}:{}", about.st_dev, about.st_ino))
}

/// Opens another stream. Lines may begin with their level, as `<3>`.
pub(super) fn connect(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Name, unit (journald looks it up), level, whether lines say their level, and to whom else it goes: nobody.
    stream.write_all(format!("tuningfork\n\n{USUAL_LEVEL}\n1\n0\n0\n0\n").as_bytes())?;
    stream.set_write_timeout(None)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn f40_a_stream_begins_as_journald_wants_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let journald = UnixListener::bind(&path).unwrap();
        let mut stream = connect(&path).unwrap();
        stream.write_all(b"<3>broken\n").unwrap();
        drop(stream);
        let mut said = String::new();
        journald.accept().unwrap().0.read_to_string(&mut said).unwrap();
        assert_eq!(said, "tuningfork\n\n6\n1\n0\n0\n0\n<3>broken\n");
    }
}
