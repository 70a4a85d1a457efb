//! `tuningfork record scrub` and `record audit`: what a recording must not hold is found, replaced, and no longer found.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::folder::Folder;

const RAW: &str = r#"{"meta":{"source":"test","ts_meaning":"arrival"}}
{"t":1,"m":"GET","u":"/articles/1","c":"203.0.113.7"}
{"t":2,"m":"GET","u":"/u/ann@example.org/orders?page=2","h":[["Host","shop.example"],["Cookie","sid=s3cretSession9"],["X-Custom","hidden-value-1"]]}
{"t":3,"m":"POST","u":"/login?next=%2Fx","h":[["Content-Type","application/json"],["Authorization","Bearer Zx81QqLmPo77"]],"b":"eyJwYXNzd29yZCI6ICJodW50ZXIyMiIsICJuIjogMX0="}
{"t":4,"m":"GET","u":"/pay/4111111111111111","h":[["Cookie","sid=s3cretSession9"]]}
"#;
const SECRETS: [&str; 7] =
    ["203.0.113.7", "ann@example.org", "s3cretSession9", "hidden-value-1", "Zx81QqLmPo77", "hunter22", "4111111111111111"];

fn lines(recording: &str) -> Vec<Value> {
    recording.lines().skip(1).map(|line| serde_json::from_str(line).expect("a whole line")).collect()
}

fn cookie(line: &Value) -> String {
    let headers = line["h"].as_array().expect("headers").iter();
    headers.filter(|header| header[0] == "Cookie").map(|header| header[1].as_str().expect("text").to_owned()).collect()
}

/// Of everything that is replaced but clients.
fn lengths(lines: &[Value]) -> Vec<[usize; 3]> {
    lines.iter().map(|line| ["u", "h", "b"].map(|key| line[key].to_string().len())).collect()
}

#[test]
fn scrub_leaves_nothing_for_an_audit_to_find() {
    let folder = Folder::new().file("raw.jsonl", RAW);
    let dirty = folder.run("record audit raw.jsonl");
    dirty.assert_code(1);
    dirty.assert_out(&["4 requests", "does not say that it was scrubbed", "ip 1 line 2", "email 1 line 3", "cookie 2 line 3, 5"]);
    dirty.assert_out(&["card 1 line 5", "credentials 1 line 4", "field 1 line 4", "header 1 line 3", "not clean"]);

    let said = folder.run("record scrub raw.jsonl -o clean.jsonl --bodies");
    said.assert_code(0);
    said.assert_err(&["4 requests scrubbed"]);
    let clean = folder.text("clean.jsonl");
    for secret in SECRETS {
        assert!(![&dirty.out, &dirty.err, &said.out, &said.err, &clean].iter().any(|text| text.contains(secret)), "{secret}");
    }
    assert!(!clean.contains("odW50ZXIyMi"), "the body is as it was");
    let lines = lines(&clean);
    assert_eq!(lengths(&lines), lengths(&self::lines(RAW)));
    assert_eq!(lines[0]["u"], "/articles/1");
    assert_eq!(cookie(&lines[1]), cookie(&lines[3]), "equal stays equal");
    let mode = fs::metadata(folder.path("clean.jsonl")).expect("the recording").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let audit = folder.run("record audit clean.jsonl");
    audit.assert_code(0);
    audit.assert_out(&["4 requests, scrubbed by policy \"default\"", "clean: no secrets found among what can be told"]);
}

#[test]
fn scrub_and_audit_look_at_what_a_recording_says_of_itself() {
    let meta = r#"{"meta":{"source":"export for ann@example.org","notes":["secret=hunter2hunter2"]}}"#;
    let folder =
        Folder::new().file("raw.jsonl", &format!("{meta}\n{{\"t\":1,\"m\":\"GET\",\"u\":\"/\",\"c\":\"4915112345678\"}}\n"));
    let dirty = folder.run("record audit raw.jsonl");
    dirty.assert_code(1);
    dirty.assert_out(&["email 1 line 1", "field 1 line 1"]);
    for command in ["scrub", "import"] {
        let said = folder.run(&format!("record {command} raw.jsonl -o clean.jsonl"));
        said.assert_code(0);
        let texts = [&said.err, &folder.text("clean.jsonl")];
        let secrets = ["ann@example.org", "hunter2", "4915112345678"];
        assert!(!secrets.iter().any(|secret| texts.iter().any(|text| text.contains(secret))), "{command}: {texts:?}");
        folder.run("record audit clean.jsonl").assert_code(0);
    }
}

#[test]
fn scrub_drops_bodies_unless_asked() {
    let folder = Folder::new().file("raw.jsonl", RAW);
    let said = folder.run("record scrub raw.jsonl");
    said.assert_code(0);
    assert!(lines(&said.out).iter().all(|line| line.get("b").is_none()));
    let meta: Value = serde_json::from_str(said.out.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&meta["meta"]["source"], &meta["meta"]["fidelity"]["bodies"]), (&"test".into(), &"none".into()));
}

#[test]
fn scrub_joins_two_recordings_with_a_kept_key() {
    let folder = Folder::new().file("raw.jsonl", RAW);
    let said = folder.run("record scrub raw.jsonl -o a.jsonl --keep-key key");
    said.assert_code(0);
    let key = folder.text("key");
    assert!(key.trim().len() == 32 && !said.err.contains(key.trim()) && !said.out.contains(key.trim()));
    assert_eq!(fs::metadata(folder.path("key")).expect("the key").permissions().mode() & 0o777, 0o600);
    folder.run("record scrub raw.jsonl -o b.jsonl --key key").assert_code(0);
    assert_eq!(folder.text("a.jsonl"), folder.text("b.jsonl"));
    folder.run("record scrub raw.jsonl -o c.jsonl").assert_code(0);
    assert_ne!(folder.text("a.jsonl"), folder.text("c.jsonl"));

    let again = folder.run("record scrub raw.jsonl -o d.jsonl --keep-key key");
    again.assert_code(73);
    assert_eq!(folder.text("key"), key, "a key is never overwritten");
    fs::set_permissions(folder.path("key"), fs::Permissions::from_mode(0o644)).expect("chmod");
    let open = folder.run("record scrub raw.jsonl -o d.jsonl --key key");
    open.assert_code(66);
    open.assert_err(&["others may read this key"]);
}

#[test]
fn scrub_refuses_what_it_cannot_do() {
    let folder = Folder::new().file("raw.jsonl", RAW).file("empty", "").file("none", "{\"meta\":{}}\n");
    for (arguments, code, message) in [
        ("record scrub raw.jsonl -o raw.jsonl", 73, "name another output"),
        ("record scrub empty -o out --keep-key key", 66, "empty: the file is empty"),
        ("record scrub none -o out --keep-key key", 66, "no usable request in 1 lines"),
        ("record scrub missing -o out", 66, "No such file"),
        ("record scrub raw.jsonl -o none/out --keep-key key", 73, "none/out"),
        ("record scrub raw.jsonl -o out --key raw.jsonl", 66, "raw.jsonl"),
        ("record audit missing", 66, "No such file"),
        ("record audit empty", 66, "the file is empty"),
    ] {
        let said = folder.run(arguments);
        said.assert_code(code);
        said.assert_err(&[message]);
    }
    assert!(!folder.path("out").exists() && !folder.path("key").exists());
}

#[test]
fn scrub_audit_says_what_is_too_short_to_tell() {
    let folder = Folder::new().file("short.jsonl", "{\"t\":1,\"m\":\"GET\",\"u\":\"/?pin=123&token=x\"}\n");
    let said = folder.run("record audit short.jsonl");
    said.assert_code(0);
    said.assert_out(&[
        "2 values where secrets are have fewer than 4 letters and digits",
        "(line 1, …)",
        "among what can be told",
    ]);
    let said = folder.run("record audit short.jsonl --json");
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["too_short_to_tell"], serde_json::json!({ "count": 2, "lines": [1] }));
}

#[test]
fn scrub_audit_reports_as_json_and_does_not_call_clean_what_it_could_not_read() {
    let folder = Folder::new().file("raw.jsonl", &format!("{RAW}garbage\n{{\"t\":5,"));
    let said = folder.run("record audit raw.jsonl --json");
    said.assert_code(1);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["clean"], false);
    assert_eq!(report["policy"], Value::Null);
    assert_eq!(report["secrets"]["cookie"], serde_json::json!({ "count": 2, "lines": [3, 5] }));
    assert_eq!((&report["broken_lines"], &report["torn"]), (&1.into(), &true.into()));

    let said = folder.run("record scrub raw.jsonl -o clean.jsonl");
    said.assert_err(&["1 broken line passed over (line 6), and the last line is cut off and passed over"]);
    let said = folder.run("record audit clean.jsonl --json");
    said.assert_code(0);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((&report["clean"], &report["policy"]), (&true.into(), &"default".into()));
}
