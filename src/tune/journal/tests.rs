use super::*;
use crate::study::simulation::{APPS, Host, run};
use crate::study::{Objective, Outcome, Stop, Study, Suggestion};
use crate::tune::progress::Silent;
use crate::tune::{Step, Testbed, TrialError, run_study};

fn header() -> Header {
    Header {
        tuningfork_journal: Header::VERSION,
        slo: "p90<700ms,errors<0.1%".parse().unwrap(),
        space: APPS[1].space(),
        objective: Objective::Capacity,
        pace: Pace::Quick,
        budget: Pace::Quick.budget(&"p90<700ms".parse().unwrap()),
        traffic: "f00d".to_owned(),
        application: "cafe".to_owned(),
        about: About { started: "2026-03-01T12:00:00Z".to_owned(), ..About::default() },
    }
}

/// Takes it up, also if a program that another test starts holds its lock: until it becomes that program, it has all our files.
fn resume(path: &Path, header: &Header) -> Result<Resumed, JournalError> {
    let tries = std::iter::repeat_with(|| {
        std::thread::yield_now();
        Journal::resume(path, header)
    });
    tries.take(1_000_000).find(|resumed| !matches!(resumed, Err(JournalError::InUse(_)))).unwrap()
}

fn finished() -> Study {
    let mut study = APPS[1].study(Pace::Quick);
    let mut host = APPS[1].host(Pace::Quick, 1);
    run(&mut study, |suggestion| host.run(suggestion));
    study
}

fn written(path: &Path) -> Study {
    let study = finished();
    let mut journal = Journal::create(path, &header()).unwrap();
    study.trials().iter().for_each(|trial| journal.append(trial).unwrap());
    study
}

#[test]
fn why_a_study_ended_is_its_own_word_and_holds_until_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let ended = || Journal::read(&path).unwrap().ended;
    assert_eq!(ended(), None, "killed before it was written");
    assert!(!Journal::read(&path).unwrap().report().is_partial(), "by its trials");
    // What this program's search would not say of these trials.
    for stop in [Stop::Trials, Stop::Trials, Stop::Certified] {
        resume(&path, &header()).unwrap().journal.end(stop).unwrap();
        assert_eq!((ended(), Journal::read(&path).unwrap().report().stop), (Some(stop), stop));
    }
    let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
    assert_eq!(lines(), 1 + study.trials().len() + 2, "what is said already is not written");
    resume(&path, &Header { budget: Budget { seconds: 9.0, ..header().budget }, ..header() }).unwrap();
    assert_eq!(ended(), None, "it goes on with another budget");
    let mut journal = resume(&path, &Header { budget: Budget { seconds: 9.0, ..header().budget }, ..header() }).unwrap().journal;
    journal.end(Stop::Budget).unwrap();
    journal.append(&study.trials()[0]).unwrap();
    assert_eq!((ended(), lines()), (None, 1 + study.trials().len() + 2 + 3));
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let later = Header { about: About { started: "later".to_owned(), ..About::default() }, ..header() };
    let resumed = resume(&path, &later).unwrap();
    assert_eq!((resumed.trials.as_slice(), resumed.torn, resumed.other_host), (study.trials(), false, None));
    let elsewhere = Header { about: About { host: "64 cores".to_owned(), ..About::default() }, ..header() };
    drop(resumed.journal);
    assert_eq!(resume(&path, &elsewhere).unwrap().other_host, Some(String::new()), "the journal's host");
}

#[test]
fn a_journal_cut_anywhere_goes_on_from_its_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let bytes = std::fs::read(&path).unwrap();
    // Every byte of the header and of two trials, and many a byte of the rest.
    let start: usize = bytes.split_inclusive(|byte| *byte == b'\n').take(3).map(<[u8]>::len).sum();
    for cut in (0..=start).chain((start..=bytes.len()).step_by(97)).chain([bytes.len() - 1, bytes.len()]) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let whole = memchr::memchr_iter(b'\n', &bytes[..cut]).count();
        let mut resumed = resume(&path, &header()).unwrap();
        let trials = whole.saturating_sub(1);
        assert_eq!(resumed.trials, study.trials()[..trials], "cut at {cut}");
        assert_eq!(resumed.torn, whole == 0 || bytes[cut - 1] != b'\n', "cut at {cut}");
        if let Some(next) = study.trials().get(trials) {
            resumed.journal.append(next).unwrap();
            assert_eq!(Journal::read(&path).unwrap().trials, study.trials()[..=trials]);
        }
    }
}

#[test]
fn never_overwrites_and_never_mixes_studies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    written(&path);
    assert!(matches!(Journal::create(&path, &header()), Err(JournalError::Exists(_))));
    let other = Header { slo: "p99<1s".parse().unwrap(), traffic: "beef".to_owned(), ..header() };
    let refusal = resume(&path, &other).unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "");
    assert_eq!(
        refusal,
        "/study.jsonl belongs to another study: different bounds (--slo), traffic (the recording, --host or --header). Give it \
         the same arguments as then, or begin another"
    );
    let missing = resume(&folder.path().join("none"), &header()).unwrap_err();
    assert!(matches!(missing, JournalError::Io { .. }));
    for refusal in [resume(folder.path(), &header()).unwrap_err(), Journal::create(folder.path(), &header()).unwrap_err()] {
        assert!(refusal.to_string().contains(": not a regular file"), "{refusal}");
    }
}

#[test]
fn a_journal_is_read_while_it_is_written_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let journal = resume(&path, &header()).unwrap().journal;
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let recorded = Journal::read(&path).unwrap();
    assert_eq!((&recorded.header, recorded.torn), (&header(), true));
    assert_eq!(recorded.study().trials(), &study.trials()[..study.trials().len() - 1]);
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() - 1);
    drop(journal);
    std::fs::write(&path, "").unwrap();
    assert!(matches!(Journal::read(&path), Err(JournalError::Damaged { line: 1, .. })));
}

#[test]
fn a_study_that_goes_on_with_another_budget_is_judged_by_that() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let with = |seconds| Header { budget: Budget { seconds, ..header().budget }, ..header() };
    for seconds in [40.0, 30.0, 30.0, header().budget.seconds] {
        assert_eq!(resume(&path, &with(seconds)).unwrap().trials, study.trials());
        let recorded = Journal::read(&path).unwrap();
        assert_eq!((recorded.header.budget, recorded.study().budget), (with(seconds).budget, with(seconds).budget));
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(memchr::memchr_iter(b'\n', &bytes).count(), 1 + study.trials().len() + 3, "what changes nothing is not written");
    // Torn in its last amendment, the one before holds.
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let recorded = Journal::read(&path).unwrap();
    assert_eq!((recorded.header.budget, recorded.torn), (with(30.0).budget, true));
    resume(&path, &with(50.0)).unwrap();
    assert_eq!(Journal::read(&path).unwrap().header.budget, with(50.0).budget);
}

#[test]
fn two_studies_do_not_write_to_one_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let first = Journal::create(&path, &header()).unwrap();
    assert!(matches!(Journal::resume(&path, &header()), Err(JournalError::InUse(_))));
    drop(first);
    resume(&path, &header()).unwrap();
}

#[test]
fn other_versions_are_told_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    std::fs::write(&path, "{\"tuningfork_journal\":1,\"slo\":\"p90<1s\"}\n").unwrap();
    for refused in [Journal::read(&path).map(drop), resume(&path, &header()).map(drop)] {
        assert!(matches!(refused, Err(JournalError::OtherVersion { version: 1, .. })));
    }
}

#[test]
fn refuses_a_file_that_is_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    for (bytes, line) in [(b"hello\nworld\n".as_slice(), 1), (b"\xff\xfe\n", 1)] {
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(resume(&path, &header()), Err(JournalError::Damaged { line: at, .. }) if at == line));
    }
}

#[test]
fn a_bad_line_in_the_middle_is_named_costs_no_trial_and_is_read_up_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let good = std::fs::read_to_string(&path).unwrap();
    let all = study.trials().len();
    assert!(all > 3);
    for (bad, reason) in [
        ("{\"trial\":1}", "missing field `suggestion` (column 11)"),
        ("\u{1b}[2J", "expected value (column 1)"),
        ("", "an empty line, which this program does not write: take it out"),
    ] {
        // Before the fourth line, and so after two trials.
        let broken: Vec<&str> = good.lines().take(3).chain([bad]).chain(good.lines().skip(3)).collect();
        std::fs::write(&path, broken.join("\n") + "\n").unwrap();
        let refusal = resume(&path, &header()).unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "");
        assert_eq!(
            refusal,
            format!(
                "/study.jsonl:4: {reason}. The file is left as it is. To go on from the trials before that line: `head -n 3 /study.jsonl > \
                 COPY`, and --journal COPY --resume; to read those: `tuningfork report /study.jsonl`"
            )
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), broken.join("\n") + "\n");
        let recorded = Journal::read(&path).unwrap();
        assert_eq!(recorded.trials, study.trials()[..2]);
        assert_eq!(recorded.gap, Some(Gap { line: 4, reason: reason.to_owned(), after: all - 2 }));
        // As told.
        let copy = folder.path().join("COPY");
        std::fs::write(&copy, broken[..3].join("\n") + "\n").unwrap();
        assert_eq!(resume(&copy, &header()).unwrap().trials, study.trials()[..2]);
    }
}

#[test]
fn a_full_disk_is_told_with_what_to_do_and_costs_no_trial_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let full = File::options().append(true).open("/dev/full").unwrap();
    let mut journal = Journal { path: path.clone(), file: full, length: 0, ended: None };
    let told = journal.append(&study.trials()[0]).unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "");
    assert_eq!(
        told,
        "journal /study.jsonl: No space left on device (os error 28); what was written before is whole: make room, and go on \
         with --journal /study.jsonl --resume"
    );
    assert_eq!(resume(&path, &header()).unwrap().trials, study.trials());
}

/// A study that is killed while it writes: at a random byte, many times over. What was finished is kept, and what is written then follows it.
#[test]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a file's length")]
fn a_journal_killed_at_random_bytes_is_whole_again_two_hundred_times_of_two_hundred() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let whole = written(&path);
    let bytes = std::fs::read(&path).unwrap();
    let mut chance = crate::study::simulation::Chance::new(7);
    let same = (0..200).filter(|_| {
        let mut left = 0;
        // Killed three times, each time further on.
        for kill in 1..=3_u32 {
            let span = bytes.len() - left;
            left += (chance.even() * span as f64 / f64::from(4 - kill)) as usize;
            std::fs::write(&path, &bytes[..left]).unwrap();
            let resumed = resume(&path, &header()).unwrap();
            assert_eq!(resumed.trials, whole.trials()[..resumed.trials.len()]);
        }
        let mut resumed = resume(&path, &header()).unwrap();
        for trial in &whole.trials()[resumed.trials.len()..] {
            resumed.journal.append(trial).unwrap();
        }
        drop(resumed);
        resume(&path, &header()).unwrap().trials == whole.trials()
    });
    assert_eq!(same.count(), 200);
}

/// Answers from a simulated application, and is interrupted in trial `until`.
struct Simulated<'a> {
    host: Host<'a>,
    until: usize,
}

impl Testbed for Simulated<'_> {
    fn run(&mut self, suggestion: &Suggestion, watch: &mut (dyn FnMut(Step) + Send)) -> Result<Outcome, TrialError> {
        self.until = self.until.checked_sub(1).ok_or(TrialError::Interrupted)?;
        Testbed::run(&mut self.host, suggestion, watch)
    }
}

#[test]
fn an_interrupted_study_is_partial_and_ends_the_same_when_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let mut study = APPS[1].study(Pace::Quick);
    let mut journal = Journal::create(&path, &header()).unwrap();
    let mut testbed = Simulated { host: APPS[1].host(Pace::Quick, 1), until: 4 };
    let stop = run_study(&mut study, &mut testbed, &mut journal, &mut Silent).unwrap();
    assert_eq!((stop, study.trials().len()), (Stop::Interrupted, 4));
    let report = crate::study::Report::new(&study, stop);
    assert!(report.is_partial() && report.recommended.is_some());

    drop(journal);
    let mut resumed = resume(&path, &header()).unwrap();
    let mut again = APPS[1].study(Pace::Quick);
    resumed.trials.into_iter().for_each(|trial| again.record(trial));
    testbed.until = usize::MAX;
    let stop = run_study(&mut again, &mut testbed, &mut resumed.journal, &mut Silent).unwrap();
    assert_eq!(again.trials(), finished().trials());
    assert_eq!(Journal::read(&path).unwrap().ended, Some(stop));
    let told = crate::study::Report::new(&again, stop);
    assert!(!told.is_partial() && told.recommended.is_some());
}

/// Answers what no other trial can be compared with: each number can be, and what follows from them cannot.
struct Absurd;

impl Testbed for Absurd {
    fn run(&mut self, _: &Suggestion, _: &mut (dyn FnMut(Step) + Send)) -> Result<Outcome, TrialError> {
        let found = crate::study::Measurement::of_capacity(120_000.0);
        Ok(Outcome::Measured(Box::new(crate::study::Measurement { workers_cpu: Some(1.3e12), ..found })))
    }
}

#[test]
fn whatever_a_testbed_answers_the_journal_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let mut study = APPS[1].study(Pace::Quick);
    let mut journal = Journal::create(&path, &header()).unwrap();
    assert_eq!(run_study(&mut study, &mut Absurd, &mut journal, &mut Silent).unwrap(), Stop::NothingStarts);
    let recorded = Journal::read(&path).unwrap();
    assert_eq!((recorded.gap, recorded.trials.as_slice()), (None, study.trials()));
}

#[test]
fn what_is_no_journal_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    for content in ["important, without a newline", "{\"x\":1", "\u{1b}[2J"] {
        std::fs::write(&path, content).unwrap();
        let refusal = resume(&path, &header()).unwrap_err();
        assert!(matches!(refusal, JournalError::Damaged { line: 1, .. }), "{content}: {refusal}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_command_to_paste_has_names_as_a_shell_reads_them() {
    let gap = Gap { line: 4, reason: "an empty line".to_owned(), after: 1 };
    let told = JournalError::Broken { path: PathBuf::from("a b;c.jsonl"), gap }.to_string();
    assert!(told.contains("head -n 3 'a b;c.jsonl' > COPY") && told.contains("`tuningfork report 'a b;c.jsonl'`"), "{told}");
}

#[test]
fn numbers_that_cannot_be_are_refused_and_no_terminal_obeys_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    written(&path);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("\"throughput\":").unwrap();
    let (_, after) = rest.split_once(',').unwrap();
    for impossible in ["-3", "1e308"] {
        std::fs::write(&path, format!("{before}\"throughput\":{impossible},{after}")).unwrap();
        let gap = Journal::read(&path).unwrap().gap.unwrap();
        assert_eq!((gap.line, gap.reason.as_str()), (2, "a number that no trial can have measured"));
        assert!(matches!(resume(&path, &header()), Err(JournalError::Broken { .. })));
    }
    std::fs::write(&path, text.replacen("\"quick\"", "\"\\u001b[2J\\u0007\"", 1)).unwrap();
    let refusal = Journal::read(&path).unwrap_err().to_string();
    assert!(!refusal.contains(is_harmful) && refusal.contains("[2J"), "{refusal:?}");
    std::fs::write(&path, text.replacen("\"started\":\"", "\"started\":\"\\u001bc\\nRecommended: 99 workers\u{202e}", 1))
        .unwrap();
    let recorded = Journal::read(&path).unwrap();
    assert!(recorded.header.about.started.starts_with("\u{fffd}c\nRecommended: 99 workers\u{fffd}"), "{recorded:?}");
    assert_eq!(recorded.trials.len(), text.lines().count() - 1);
}
