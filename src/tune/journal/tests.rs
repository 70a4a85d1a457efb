use super::*;
use crate::study::simulation::{APPS, Chance, run};
use crate::study::{GridThenNeighbours, Next, Stop, Strategy, Study, Suggestion};
use crate::tune::progress::Silent;
use crate::tune::{Step, Testbed, TrialError, run_study};

fn header() -> Header {
    Header {
        tuningfork_journal: Header::VERSION,
        slo: "p90<700ms,errors<0.1%".parse().unwrap(),
        space: APPS[1].space(),
        pace: Pace::Quick,
        budget: Pace::Quick.budget(),
        traffic: "f00d".to_owned(),
        application: "cafe".to_owned(),
        about: About { started: "2026-03-01T12:00:00Z".to_owned(), ..About::default() },
    }
}

fn finished() -> Study {
    let mut study = APPS[1].study(Pace::Quick);
    let mut chance = Chance(1);
    run(&GridThenNeighbours, &mut study, |suggestion| APPS[1].measure(Pace::Quick, suggestion, &mut chance));
    study
}

fn written(path: &Path) -> Study {
    let study = finished();
    let mut journal = Journal::create(path, &header()).unwrap();
    study.trials().iter().for_each(|trial| journal.append(trial).unwrap());
    study
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let later = Header { about: About { started: "later".to_owned(), ..About::default() }, ..header() };
    let resumed = Journal::resume(&path, &later).unwrap();
    assert_eq!((resumed.trials.as_slice(), resumed.torn), (study.trials(), false));
}

#[test]
fn a_journal_cut_anywhere_goes_on_from_its_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let bytes = std::fs::read(&path).unwrap();
    for cut in (0..=bytes.len()).step_by(97).chain([bytes.len() - 1, bytes.len()]) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let whole = memchr::memchr_iter(b'\n', &bytes[..cut]).count();
        let mut resumed = Journal::resume(&path, &header()).unwrap();
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
    let refusal = Journal::resume(&path, &other).unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "");
    assert_eq!(refusal, "/study.jsonl belongs to another study: different objective (--slo), traffic");
    let missing = Journal::resume(&folder.path().join("none"), &header()).unwrap_err();
    assert!(matches!(missing, JournalError::Io { .. }));
}

#[test]
fn a_journal_is_read_while_it_is_written_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let study = written(&path);
    let journal = Journal::resume(&path, &header()).unwrap().journal;
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
fn two_studies_do_not_write_to_one_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let first = Journal::create(&path, &header()).unwrap();
    assert!(matches!(Journal::resume(&path, &header()), Err(JournalError::InUse(_))));
    drop(first);
    Journal::resume(&path, &header()).unwrap();
}

#[test]
fn a_full_disk_is_told_with_what_to_do() {
    let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
    let mut journal = Journal { path: "study.jsonl".into(), file, length: 0 };
    let told = journal.append(&finished().trials()[0]).unwrap_err().to_string();
    assert_eq!(
        told,
        "journal study.jsonl: No space left on device (os error 28); all trials but the last are in it: make room, and go on with \
         --journal study.jsonl --resume"
    );
}

#[test]
fn other_versions_are_told_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    std::fs::write(&path, "{\"tuningfork_journal\":1,\"slo\":\"p90<1s\"}\n").unwrap();
    for refused in [Journal::read(&path).map(drop), Journal::resume(&path, &header()).map(drop)] {
        assert!(matches!(refused, Err(JournalError::OtherVersion { version: 1, .. })));
    }
}

#[test]
fn refuses_a_file_that_is_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    for (bytes, line) in [(b"hello\nworld\n".as_slice(), 1), (b"\xff\xfe\n", 1)] {
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Journal::resume(&path, &header()), Err(JournalError::Damaged { line: at, .. }) if at == line));
    }
    let good = serde_json::to_string(&header()).unwrap();
    std::fs::write(&path, format!("{good}\n{{\"trial\":1}}\n")).unwrap();
    assert!(matches!(Journal::resume(&path, &header()), Err(JournalError::Damaged { line: 2, .. })));
}

/// Answers from a simulated application, and is interrupted in trial `until`.
struct Simulated {
    chance: Chance,
    until: usize,
}

impl Testbed for Simulated {
    fn run(
        &mut self,
        suggestion: &Suggestion,
        watch: &mut (dyn FnMut(Step) + Send),
    ) -> Result<crate::study::Measurement, TrialError> {
        watch(Step::Starting);
        self.until = self.until.checked_sub(1).ok_or(TrialError::Interrupted)?;
        match APPS[1].measure(Pace::Quick, suggestion, &mut self.chance) {
            crate::study::Outcome::Measured(measurement) => Ok(*measurement),
            crate::study::Outcome::Failed { reason, seconds } => Err(TrialError::Failed { reason, seconds }),
        }
    }
}

#[test]
fn an_interrupted_study_is_partial_and_ends_the_same_when_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let mut study = APPS[1].study(Pace::Quick);
    let mut journal = Journal::create(&path, &header()).unwrap();
    let mut testbed = Simulated { chance: Chance(1), until: 4 };
    let stop = run_study(&mut study, &GridThenNeighbours, &mut testbed, &mut journal, &mut Silent).unwrap();
    assert_eq!((stop, study.trials().len()), (Stop::Interrupted, 4));
    let report = crate::study::Report::new(&study, stop);
    assert!(report.is_partial() && report.recommended.is_some());

    drop(journal);
    let mut resumed = Journal::resume(&path, &header()).unwrap();
    let mut again = APPS[1].study(Pace::Quick);
    resumed.trials.into_iter().for_each(|trial| again.record(trial));
    testbed.until = usize::MAX;
    let stop = run_study(&mut again, &GridThenNeighbours, &mut testbed, &mut resumed.journal, &mut Silent).unwrap();
    assert_eq!((stop, again.trials()), (Stop::Converged, finished().trials()));
    assert_eq!(GridThenNeighbours.suggest(&again), Next::Stop(stop));
}
