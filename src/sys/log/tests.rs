use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::*;

const WORKER: Speaker = Speaker::Worker { slot: Slot(0), worker: WorkerId(1) };
const PATIENCE: Duration = Duration::from_secs(20);

fn log_to(path: &Path) -> Log {
    Log::start(&Settings { format: LogFormat::Plain, file: Some(path.to_owned()) }).unwrap()
}

#[test]
fn what_a_process_writes_is_in_the_file_with_its_name_and_its_last_words_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let log = log_to(&path);
    let Mouth { out, err } = log.mouth(WORKER).unwrap();
    File::from(out).write_all(b"one\ntwo\n").unwrap();
    let mut err = File::from(err);
    err.write_all(&[&[b'x'; 5000][..], b"\nlast\nword"].concat()).unwrap();
    let words = log.last_words(WORKER);
    assert_eq!(words, "…\nlast\nword");
    drop(err);
    log.say(Level::Warning, b"WARN something\n");
    log.finish(PATIENCE);
    let text = fs::read_to_string(&path).unwrap();
    let tagged = |what: &str| text.lines().any(|line| line.ends_with(&format!(" worker=0 id=1 {what}")));
    assert!(tagged("stdout: one") && tagged("stdout: two") && tagged("stderr: last") && tagged("stderr: word"), "{text}");
    assert!(text.lines().any(|line| line == "WARN something"), "{text}");
    assert_eq!(log.excerpt(0, Some(Slot(0))).lines.len(), 5);
    assert_eq!(log.health().dropped, DroppedLines::default());
}

#[test]
fn all_that_a_full_pipe_holds_is_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_to(&folder.path().join("a.log"));
    let full = |word: &[u8]| [&b"x\n".repeat(100 << 10)[..], word].concat();
    let Mouth { out, err } = log.mouth(WORKER).unwrap();
    // The reader's thread waits meanwhile.
    let mut pipes = log.0.pipes();
    let [mut out, mut err] = [out, err].map(File::from);
    err.write_all(&full(b"last\n")).unwrap();
    assert!(pipes.last_words(WORKER, &log.0).ends_with("x\nlast\n"));
    out.write_all(&full(b"end\n")).unwrap();
    pipes.drain_all(&log.0);
    let newest = log.excerpt(*log.newest().borrow() - 1, None).lines;
    assert!(newest[0].ends_with(" stdout: end"), "{newest:?}");
    drop(pipes);
    log.finish(PATIENCE);
}

#[test]
fn f39_nobody_waits_for_a_log_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let opened = || File::options().read(true).write(true).open(&path).unwrap();
    let reader = opened();
    let log = log_to(&path);
    let Mouth { out, err: _err } = log.mouth(WORKER).unwrap();
    let mut out = File::from(out);
    for _ in 0..1000 {
        out.write_all(&[&[b'y'; 4095][..], b"\n"].concat()).unwrap();
        log.say(Level::Info, b"hello\n");
    }
    drop(out);
    log.finish(Duration::from_millis(50));
    let dropped = log.health().dropped;
    assert!(dropped.worker > 500 && dropped.supervisor == 0, "{dropped:?}");
    drop(reader);
}

#[test]
fn f37_lines_that_a_full_disk_does_not_take_are_counted() {
    let log = log_to(Path::new("/dev/full"));
    log.say(Level::Info, b"one\n");
    log.say(Level::Info, b"two\n");
    log.finish(PATIENCE);
    let health = log.health();
    assert_eq!(health.dropped.supervisor, 2);
    assert!(health.write_failure.unwrap().contains("No space left"));
}

#[test]
fn f38_a_file_that_was_moved_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let log = log_to(&path);
    let mut newest = log.newest();
    log.say(Level::Info, b"before\n");
    assert!(newest.has_changed().unwrap() && *newest.borrow_and_update() == 1);
    // It is written once it is there; the thread is not waited for in another way.
    while fs::read_to_string(&path).unwrap().is_empty() {
        std::thread::yield_now();
    }
    fs::rename(&path, folder.path().join("a.log.1")).unwrap();
    log.reopen();
    while log.reopened() == 0 {
        std::thread::yield_now();
    }
    log.say(Level::Info, b"after\n");
    log.finish(PATIENCE);
    assert_eq!(fs::read_to_string(folder.path().join("a.log.1")).unwrap(), "before\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
}

#[test]
fn thousands_of_processes_leave_no_descriptor_behind() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_to(&folder.path().join("a.log"));
    for worker in 0..2000 {
        let speaker = Speaker::Worker { slot: Slot(0), worker: WorkerId(worker) };
        let mouth = log.mouth(speaker).unwrap();
        File::from(mouth.out).write_all(b"hello\n").unwrap();
        drop(mouth.err);
        assert_eq!(log.last_words(speaker), "");
    }
    // Another test's process may have been forked meanwhile, and holds a pipe until its exec.
    while !log.0.pipes().is_empty() {
        std::thread::yield_now();
    }
    log.finish(PATIENCE);
    assert_eq!(fs::read_to_string(folder.path().join("a.log")).unwrap().lines().count(), 2000);
}

/// As the pipe of a worker that was asked for its last words while a process forked meanwhile still held it: nobody asks again.
#[test]
fn whoever_was_asked_for_its_last_words_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_to(&folder.path().join("a.log"));
    let mouth = log.mouth(WORKER).unwrap();
    let held = mouth.err.try_clone().unwrap();
    drop((mouth.out, mouth.err));
    assert_eq!(log.last_words(WORKER), "");
    drop(held);
    log.finish(PATIENCE);
    assert!(log.0.pipes().is_empty());
}

#[test]
fn f21_who_writes_when_nobody_reads_any_more_is_not_harmed() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_to(&folder.path().join("a.log"));
    let mouth = log.mouth(WORKER).unwrap();
    // As when the supervisor is killed.
    log.0.pipes().close_all();
    File::from(mouth.out).write_all(&vec![b'x'; 60 << 10]).unwrap();
}
