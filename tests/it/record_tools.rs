//! What `tuningfork record` does with recordings: info, cut, filter, merge, export, compressed or not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::shop;

/// Two connections, a request each second.
const TEN: &str = r#"{"meta":{"source":"test","ts_meaning":"arrival","scrub":"default"}}
{"t":1700000000,"c":"a","n":1,"m":"GET","u":"/p/1","h":[["Host","one.example"]],"s":200,"d":0.25,"rb":10}
{"t":1700000001,"c":"b","n":1,"m":"GET","u":"/p/2","h":[["Host","two.example"]],"s":404,"d":0.25,"rb":10}
{"t":1700000002,"c":"a","n":2,"m":"POST","u":"/p","h":[["Host","one.example"]],"b":"eHl6","s":503,"d":0.25,"rb":10}
{"t":1700000003,"c":"b","n":2,"m":"GET","u":"/q?x","h":[["Host","two.example"]],"s":200,"d":0.25,"rb":10}
"#;
const LOG: &str = "::1 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"agent\"\n";
const NO_HOST: &str = "{\"t\":1,\"m\":\"GET\",\"u\":\"/a\"}\n";

fn folder() -> Folder {
    Folder::new().file("in.jsonl", TEN).file("bare.jsonl", NO_HOST)
}

/// The `key` of each request in a recording.
fn values(recording: &str, key: &str) -> Vec<String> {
    let lines = recording.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    lines.filter(|line| line.get("m").is_some()).map(|line| line[key].to_string().replace('"', "")).collect()
}

/// What `arguments` write to `out.jsonl`.
fn targets(folder: &Folder, arguments: &str) -> Vec<String> {
    let said = folder.run(&format!("record {arguments} -o out.jsonl"));
    said.assert_code(0);
    values(&folder.text("out.jsonl"), "u")
}

#[test]
fn record_tools_cut_a_piece_by_time() {
    let folder = folder();
    assert_eq!(targets(&folder, "cut in.jsonl --from +1s --to +3s"), ["/p/2", "/p"]);
    assert_eq!(targets(&folder, "cut in.jsonl --from 2023-11-14T22:13:22Z"), ["/p", "/q?x"]);
    assert_eq!(targets(&folder, "cut in.jsonl --to 1700000001.5 --first 1"), ["/p/1"]);
    assert!(folder.text("out.jsonl").starts_with(r#"{"meta":{"source":"test""#), "what it says of itself is kept");

    let said = folder.run("record cut in.jsonl --first 3");
    assert_eq!(values(&said.out, "u").len(), 3);
    said.assert_err(&["kept 3 of 3 requests"]);
    folder.run("record cut in.jsonl").assert_code(2);
    let said = folder.run("record cut in.jsonl --from yesterday");
    said.assert_code(2);
    said.assert_err(&["a time like 2026-11-22T10:00:00Z"]);
}

#[test]
fn record_tools_end_quietly_when_nobody_reads_on() {
    let folder = folder();
    for arguments in ["cut in.jsonl --first 3", "scrub in.jsonl", "export in.jsonl --to jsonl", "cut in.jsonl --first 3 --zstd"] {
        let (reader, writer) = std::io::pipe().expect("make a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
        command.arg("record").args(arguments.split(' ')).current_dir(folder.path(".")).stdout(writer);
        let output = command.stderr(Stdio::piped()).output().expect("run it");
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments}");
    }
}

#[test]
fn record_tools_filter_by_what_requests_are() {
    let folder = folder();
    for (options, expected) in [
        ("--method POST", vec!["/p"]),
        ("--target ^/p/", vec!["/p/1", "/p/2"]),
        ("--not-target ^/p", vec!["/q?x"]),
        ("--status 404,5xx", vec!["/p/2", "/p"]),
        ("--host ^two --method GET,HEAD", vec!["/p/2", "/q?x"]),
        ("--client a", vec!["/p/1", "/p"]),
        ("--sample 100%", vec!["/p/1", "/p/2", "/p", "/q?x"]),
    ] {
        assert_eq!(targets(&folder, &format!("filter in.jsonl {options}")), expected, "{options}");
    }
    let said = folder.run("record filter in.jsonl --status 302 -o none.jsonl");
    said.assert_code(66);
    said.assert_err(&["none of its 4 requests is meant"]);
    assert!(!folder.path("none.jsonl").exists());
    let said = folder.run("record filter in.jsonl --status 302");
    said.assert_code(66);
    assert_eq!(said.out, "", "not even what it says of itself");
}

#[test]
fn record_tools_sample_whole_clients() {
    let folder = Folder::new();
    let log = shop::project().join("access.log");
    folder.run(&format!("record import {} -o all.jsonl.zst", log.display())).assert_code(0);
    let said = folder.run("record filter all.jsonl.zst --sample 20% -o part.jsonl");
    said.assert_code(0);
    folder.run("record filter all.jsonl.zst --sample 100% -o all.jsonl").assert_code(0);
    let (all, part) = (values(&folder.text("all.jsonl"), "c"), values(&folder.text("part.jsonl"), "c"));
    assert!((300..900).contains(&part.len()), "{said}");
    let count = |values: &[String], client: &String| values.iter().filter(|value| *value == client).count();
    assert!(part.iter().all(|client| count(&part, client) == count(&all, client)), "a client is kept whole or not at all");
}

#[test]
fn record_tools_merge_in_order_of_time() {
    let later = TEN.replace("\"t\":17000000", "\"t\":17000099");
    let folder = folder().file("later.jsonl", &later).file("torn.jsonl", &later[..later.len() - 9]);
    let said = folder.run("record merge later.jsonl in.jsonl -o out.jsonl");
    said.assert_code(0);
    said.assert_err(&["8 requests", "1: later.jsonl: 4 requests", "2: in.jsonl: 4 requests"]);
    let text = folder.text("out.jsonl");
    assert_eq!(values(&text, "c"), ["2:a", "2:b", "2:a", "2:b", "1:a", "1:b", "1:a", "1:b"]);
    assert!(values(&text, "t").is_sorted(), "{text}");

    let said = folder.run("record merge in.jsonl torn.jsonl --shift -o out.jsonl");
    said.assert_err(&["2: torn.jsonl: 3 requests, the last line is cut off"]);
    assert_eq!(values(&folder.text("out.jsonl"), "c"), ["1:a", "2:a", "1:b", "2:b", "1:a", "2:a", "1:b"]);
}

#[test]
fn record_tools_export_for_other_programs() {
    let folder = folder();
    let said = folder.run("record export in.jsonl --to gor");
    said.assert_code(0);
    said.assert_err(&["4 requests exported", "about 1000 requests a second"]);
    let records: Vec<&str> = said.out.split("\n🐵🙈🙉\n").collect();
    assert_eq!(records.len(), 5, "{said}");
    assert!(records[0].ends_with(" 1700000000000000000 0\nGET /p/1 HTTP/1.1\r\nHost: one.example\r\n\r\n"), "{said}");
    assert!(records[2].ends_with("\r\nContent-Length: 3\r\n\r\nxyz"), "{said}");
    assert_eq!(records[0][2..18], records[2][2..18], "one connection");
    assert_ne!(records[0][2..18], records[1][2..18]);

    let said = folder.run("record export in.jsonl --to h2load");
    assert!(said.out.starts_with("0.000\thttp://one.example/p/1\n1000.000\thttp://two.example/p/2\n3000.000\t"), "{said}");
    said.assert_err(&["3 requests exported, 1 left out", "-c 1"]);

    folder.run("record export in.jsonl --to vegeta -o targets.json").assert_code(0);
    let text = folder.text("targets.json");
    let targets: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(targets[2]["body"], "eHl6");
    assert_eq!(targets[3]["url"], "http://two.example/q?x");

    let said = folder.run("record export bare.jsonl --to vegeta -o targets.json");
    said.assert_code(66);
    said.assert_err(&["/a was recorded without a Host", "--target http://127.0.0.1:8000"]);
    assert_eq!(folder.text("targets.json"), text, "what was there stays");
    let said = folder.run("record export bare.jsonl --to vegeta --target http://app:80");
    assert!(said.out.contains(r#""url":"http://app:80/a""#), "{said}");
}

#[test]
fn record_tools_tell_what_a_recording_holds() {
    let folder = folder();
    let said = folder.run("record info in.jsonl");
    said.assert_code(0);
    said.assert_out(&[
        "in.jsonl: 4 requests in 3 s, 2023-11-14 22:13:20 to 22:13:23 UTC",
        "1/s on average",
        "connections 2; requests on each: p50 2",
        "GET 75.0%",
        "50.0% 2 GET /p/{n}",
        "0.25 in flight on average",
        "test; scrubbed (default)",
    ]);
    let said = folder.run("record info in.jsonl bare.jsonl --json");
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["requests"], &lines[0]["statuses"]["503"]), (&Value::from(4), &Value::from(1)));
    assert_eq!((&lines[1]["requests"], &lines[1]["seconds"]), (&Value::from(1), &Value::Null));
}

#[test]
fn record_tools_show_nothing_that_a_terminal_obeys() {
    let escape = r"\u001b]0;title\u0007\u009b2J";
    let meta =
        format!(r#"{{"meta":{{"source":"a{escape}","ts_meaning":"b{escape}","scrub":"c{escape}","notes":["d{escape}"]}}}}"#);
    let line = r#"{"t":1,"m":"GET","u":"/a\u009b2J"}"#;
    let folder = Folder::new().file("in.jsonl", &format!("{meta}\n{line}\n"));
    for arguments in ["info in.jsonl", "audit in.jsonl", "import in.jsonl -o out.jsonl", "export in.jsonl --to vegeta"] {
        let said = folder.run(&format!("record {arguments}"));
        let obeyed = |text: &str| text.chars().any(|letter| letter.is_control() && letter != '\n');
        assert!(!obeyed(&said.out) && !obeyed(&said.err), "{arguments}: {said:?}");
    }
}

#[test]
fn record_tools_read_and_write_compressed() {
    let folder = folder().file("tuningfork.toml", "");
    folder.run("record cut in.jsonl --first 9 -o out.jsonl.zst").assert_code(0);
    let packed = fs::read(folder.path("out.jsonl.zst")).expect("the output");
    assert_eq!(packed[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    let mode = fs::metadata(folder.path("out.jsonl.zst")).expect("the output").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    fs::write(folder.path("access.log"), LOG).expect("write a file");
    for arguments in ["import access.log", "scrub in.jsonl"] {
        folder.run(&format!("record {arguments} -o packed --zstd")).assert_code(0);
        assert_eq!(fs::read(folder.path("packed")).expect("the output")[..4], packed[..4], "{arguments}");
    }

    // By its content, not by its name, and from standard input too.
    fs::write(folder.path("plain-name"), &packed).expect("write a file");
    assert_eq!(targets(&folder, "cut plain-name --first 9").len(), 4);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.args(["record", "cut", "-", "--first", "2", "--zstd"]).current_dir(folder.directory());
    let input = fs::File::open(folder.path("plain-name")).expect("open it");
    let output = command.stdin(Stdio::from(input)).output().expect("run tuningfork");
    assert!(output.status.success() && output.stdout.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "{output:?}");
    assert_eq!(output.stderr, b"kept 2 of 2 requests\n", "no bar where there is no terminal");

    fs::write(folder.path("cut.zst"), &packed[..packed.len() - 9]).expect("write a file");
    let said = folder.run("record filter cut.zst -o broken.jsonl");
    said.assert_code(66);
    assert!(!folder.path("broken.jsonl").exists(), "{said}");
    let names = fs::read_dir(folder.directory()).expect("list the folder").flatten().map(|entry| entry.file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().ends_with(".part")), "a draft is left");
}

#[test]
fn record_tools_never_write_over_their_input() {
    let folder = folder();
    for arguments in [
        "cut in.jsonl --first 1",
        "filter in.jsonl",
        "merge bare.jsonl in.jsonl",
        "export in.jsonl --to jsonl",
        "scrub in.jsonl",
        "import bare.jsonl in.jsonl",
    ] {
        let said = folder.run(&format!("record {arguments} -o in.jsonl"));
        said.assert_code(73);
        said.assert_err(&["in.jsonl: it is an input too: name another output"]);
    }
    assert_eq!(folder.text("in.jsonl"), TEN);
}
