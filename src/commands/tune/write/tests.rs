use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::study::Pace;
use crate::study::simulation::{APPS, studied};
use crate::units::{Connections, Workers};

const TEXT: &str = "workers = \"auto\" # for now\n\n[app] # ours\nkind = \"command\"\n";
const AFTER: &str = "workers = 3 # for now\nconnections = 50\n\n[app] # ours\nkind = \"command\"\n";

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tuningfork.toml");
    fs::write(&file, TEXT).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    (folder, file)
}

fn found() -> Candidate {
    Candidate::new(Workers::new(3).unwrap(), Connections::new(50).unwrap())
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn writes_after_a_backup_and_keeps_mode_and_comments() {
    let (folder, file) = folder();
    let backup = folder.path().join("tuningfork.toml.bak");
    assert_eq!(Manuscript::open(&file, true, found()).unwrap().write(found()).unwrap(), Written::Changed(backup.clone()));
    assert_eq!((fs::read_to_string(&file).unwrap(), fs::read_to_string(&backup).unwrap()), (AFTER.to_owned(), TEXT.to_owned()));
    assert_eq!([&file, &backup].map(|path| fs::metadata(path).unwrap().mode() & 0o7777), [0o640; 2]);
    assert_eq!(names(&folder), ["tuningfork.toml", "tuningfork.toml.bak"]);
}

#[test]
fn never_overwrites_a_backup_and_makes_none_for_nothing() {
    let (folder, file) = folder();
    fs::write(folder.path().join("tuningfork.toml.bak"), "older").unwrap();
    let written = Manuscript::open(&file, true, found()).unwrap().write(found()).unwrap();
    assert_eq!(written, Written::Changed(folder.path().join("tuningfork.toml.bak.1")));
    assert_eq!(fs::read_to_string(folder.path().join("tuningfork.toml.bak")).unwrap(), "older");
    assert_eq!(Manuscript::open(&file, true, found()).unwrap().write(found()).unwrap(), Written::AsItWas);
    assert_eq!(names(&folder).len(), 3);
}

#[test]
fn follows_symbolic_links_and_leaves_them_links() {
    let (folder, file) = folder();
    let link = folder.path().join("link.toml");
    symlink(&file, &link).unwrap();
    Manuscript::open(&link, true, found()).unwrap().write(found()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap(), AFTER);
}

#[test]
fn a_file_that_was_changed_meanwhile_stays() {
    let (folder, file) = folder();
    let manuscript = Manuscript::open(&file, true, found()).unwrap();
    fs::write(&file, "workers = 7\n").unwrap();
    let error = manuscript.write(found()).unwrap_err();
    assert!(matches!(error, WriteError::Changed(_)), "{error}");
    fs::remove_file(&file).unwrap();
    assert!(manuscript.write(found()).is_err());
    assert_eq!(names(&folder), [""; 0]);
}

#[test]
fn what_stands_against_writing_is_told_before_the_study() {
    let (folder, file) = folder();
    let told = || Manuscript::open(&file, true, found()).unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let read_only = told();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "workers = [1]").unwrap();
    let no_value = told();
    fs::remove_file(&file).unwrap();
    insta::assert_snapshot!([read_only, no_value, told()].join("\n"), @r"
    /tuningfork.toml is read-only (mode 0444): `chmod u+w` it, or leave out --write and paste what is recommended
    /tuningfork.toml: `workers` is neither a number nor a word: change it by hand
    /tuningfork.toml cannot be changed by --write: No such file or directory (os error 2)
    ");
    assert_eq!(names(&folder), [""; 0]);
}

#[test]
fn a_section_that_has_no_place_for_the_word_is_told_before_the_study() {
    let (_folder, file) = folder();
    let bound = Candidate { affinity: Some(Affinity::Pin), ..found() };
    let expected = AFTER.to_owned() + "cpu-affinity = \"pin\"\n";
    Manuscript::open(&file, true, bound).unwrap().write(bound).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    fs::write(&file, "app.kind = \"command\"\n").unwrap();
    for affinity in Affinity::ALL {
        let configured = Candidate { affinity: Some(affinity), ..found() };
        let refused = Manuscript::open(&file, true, configured).unwrap_err();
        assert!(refused.to_string().contains("set cpu-affinity in it by hand"), "{refused}");
    }
}

#[test]
fn only_what_held_the_objective_and_differs_from_the_file_is_worth_writing() {
    let mut report = Report::new(&studied(&APPS[1], Pace::Quick, 2), Stop::Converged);
    let once = Options { write: true, write_partial: false };
    report.recommended = Some(found());
    report.confirmed = true;
    assert_eq!(once.worth_writing(&report), Ok(found()));

    let mut told = Vec::new();
    let stops = [Stop::NothingMeetsSlo, Stop::OnlyErrors, Stop::NeverQuiet, Stop::NothingStarts, Stop::Interrupted];
    for stop in stops {
        report.stop = stop;
        told.push(once.worth_writing(&report).unwrap_err());
    }
    let twice = Options { write: true, write_partial: true };
    assert_eq!(twice.worth_writing(&report), Ok(found()));

    (report.stop, report.confirmed) = (Stop::Converged, false);
    told.push(once.worth_writing(&report).unwrap_err());
    assert_eq!(twice.worth_writing(&report), Ok(found()), "a hint that is asked for");
    report.recommended = Some(report.space.configured());
    told.push(once.worth_writing(&report).unwrap_err());
    report.recommended = None;
    told.push(once.worth_writing(&report).unwrap_err());
    insta::assert_snapshot!(told.join("\n"), @r"
    no configuration meets the objective
    the application answers only errors
    the host was never quiet enough to measure anything
    no configuration could be started
    the study was interrupted; go on with --resume, or write this with --write-partial
    it was not repeated undisturbed; give it more time (--resume with a longer --budget) on a quiet host, or write this with --write-partial
    it comes to these numbers already
    nothing is recommended
    ");
}

#[test]
fn what_the_limits_cut_differs_from_the_file() {
    let mut report = Report::new(&studied(&APPS[1], Pace::Quick, 2), Stop::Converged);
    report.space.workers = Workers::new(12);
    report.space.max_workers = Workers::new(6).unwrap();
    report.recommended = Some(report.space.baseline());
    assert_eq!(Options { write: true, write_partial: false }.worth_writing(&report), Ok(report.space.baseline()));
}
