//! Recordings: what `tuningfork tune` refuses to play, and what `tuningfork record import` makes of an access log.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::shop;

/// Nothing of it is started here.
const CONFIG: &str = "[app]\nkind = \"command\"\ncommand = [\"true\"]\n[listen]\naddress = \"127.0.0.1:0\"\n";
const LINE: &str = r#"203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /?token=s3cret&page=2 HTTP/1.1" 200 5 "-" "agent"
"#;

#[test]
fn a_recording_that_cannot_be_played_ends_with_66_and_says_why() {
    let folder = Folder::new()
        .file("tuningfork.toml", CONFIG)
        .file("empty", "")
        .file("garbage", "{\n{}\n{\"t\":1}\n")
        .file("access.log", LINE)
        .file("posts", "{\"t\":1,\"m\":\"POST\",\"u\":\"/\"}\n");
    let refusals = [
        ("missing", "missing: No such file or directory"),
        ("empty", "empty: the file is empty"),
        ("garbage", "garbage: no usable request in 3 lines"),
        ("access.log", "`tuningfork record import` makes one from an access log"),
        ("posts", "nothing to replay in 1 recorded requests"),
        (".", "is a directory"),
    ];
    for (name, message) in refusals {
        let said = folder.run(&format!("tune --traffic {name}"));
        said.assert_code(66);
        said.assert_err(&[message]);
    }
}

fn requests(recording: &str) -> usize {
    let lines: Vec<Value> = recording.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect();
    lines.iter().filter(|line| line.get("m").is_some()).count()
}

#[test]
fn an_access_log_becomes_a_private_recording() {
    let folder = Folder::new().file("more.log", &format!("{LINE}garbage\n"));
    let log = shop::project().join("access.log");
    let said = folder.run(&format!("record import {} more.log -o traffic.jsonl", log.display()));
    said.assert_code(0);
    assert_eq!(said.out, "");
    said.assert_err(&["3001 requests recorded", "access.log: 3000 requests", "1 broken line passed over (line 2)"]);
    let recording = folder.text("traffic.jsonl");
    assert_eq!(requests(&recording), 3001);
    for secret in ["203.0.113.7", "s3cret"] {
        assert!(!recording.contains(secret), "{secret} is in the recording");
    }
    let mode = fs::metadata(folder.path("traffic.jsonl")).expect("the recording").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names = fs::read_dir(folder.directory()).expect("list the folder").flatten().map(|entry| entry.file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains(".part")), "a draft is left");
}

#[test]
fn a_log_is_imported_from_standard_input_to_standard_output() {
    let log = File::open(shop::project().join("access.log")).expect("open the log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    let output = command.args(["record", "import", "-"]).stdin(Stdio::from(log)).output().expect("run tuningfork");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(requests(&String::from_utf8(output.stdout).expect("text")), 3000);
    assert!(String::from_utf8_lossy(&output.stderr).contains("3000 requests recorded"));
}

#[test]
fn what_cannot_be_imported_leaves_no_recording() {
    let folder = Folder::new().file("empty", "").file("garbage", "a\nb\n");
    for (log, message) in
        [("missing", "No such file"), ("empty", "empty: the file is empty"), ("garbage", "garbage: no usable request in 2 lines")]
    {
        let said = folder.run(&format!("record import {log} --output traffic.jsonl"));
        said.assert_code(66);
        said.assert_err(&[message]);
        assert!(!folder.path("traffic.jsonl").exists());
    }
}
