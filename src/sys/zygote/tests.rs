use std::process::Command;

use rustix::process::{PidfdFlags, pidfd_open};

use super::*;

#[test]
fn the_end_of_a_silent_zygote_is_awaited_for_a_moment_and_not_in_a_call() {
    let mut command = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = Pid::from_child(&command);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (channel, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let mut zygote = Zygote {
        channel,
        process: Process { pid, pidfd: pidfd_open(pid, PidfdFlags::empty()).unwrap() },
        stage: Stage::Importing,
        has_imported: false,
        stays: false,
        queued: VecDeque::new(),
        asked: Vec::new(),
        news: VecDeque::new(),
        has_gunicorn_settings: false,
        notice: Notice::None,
    };
    // It has closed its descriptors, and lives.
    drop(theirs);
    assert!(zygote.hear().is_none() && zygote.stage() == Stage::Dead);
    let start = Moment::from_nanos(0);
    let almost = EXIT.mul_f64(0.99);
    assert_eq!(
        [start, start.after(almost), start.after(EXIT)].map(|now| zygote.fate(now)),
        [Fate::Open, Fate::Open, Fate::Unknown]
    );
    assert_eq!(zygote.fate_until(), Some(start.after(EXIT)));
    command.kill().unwrap();
    assert!(zygote.ends_within(Duration::from_mins(1)));
    assert_eq!(zygote.fate(start), Fate::Ended(Exit::Signal(9)));
    command.wait().unwrap();
    assert_eq!(zygote.fate(start), Fate::Unknown, "reaped by somebody else");
}
