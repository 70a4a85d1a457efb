//! `tuningfork replay` against real servers: what it sends, what it tells, and how it ends.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use tuningfork::load::LATENESS;

use crate::support::folder::{Folder, Said};
use crate::support::http::Address;
use crate::support::nginx::{Nginx, PROBE};
use crate::support::parts;
use crate::support::process::End;
use crate::support::service::{Service, free_port};
use crate::support::shop;

const NGINX: &str = "\
    log_format plan '$connection $connection_requests $request_method $request_uri $http_host $http_x_mark';
    access_log @DIR@/access.log plan;
    server {
        listen 127.0.0.1:@PORT@;
        listen unix:@DIR@/web.sock;
        location / { return 200 'same'; }
        location /random { return 200 $request_id; }
        location /broken { return 503; }
    }
";

/// nginx beside a recording.
struct Site {
    nginx: Nginx,
    folder: Folder,
    port: u16,
}

impl Site {
    fn new(traffic: &str) -> Self {
        Self::with(Folder::new().file("traffic.jsonl", traffic), "")
    }

    /// With more servers in its configuration.
    fn with(folder: Folder, more: &str) -> Self {
        let nginx = Nginx::start(folder.directory(), &format!("{NGINX}{more}"));
        Self { port: nginx.port, nginx, folder }
    }

    /// The command line up to its options.
    fn arguments(&self, options: &str) -> String {
        format!("replay traffic.jsonl --target http://127.0.0.1:{} {options}", self.port).trim_end().to_owned()
    }

    fn replay(&self, options: &str) -> Said {
        self.folder.run(&self.arguments(options))
    }

    fn json(&self, name: &str) -> Value {
        json(&self.folder, name)
    }

    /// Ends nginx, and tells what it was asked: connection, place on it, method, target, host and mark of each request.
    fn asked(mut self) -> Vec<Vec<String>> {
        self.nginx.end();
        let log = self.folder.text("access.log");
        let lines = log.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|words| words[3] != PROBE).collect()
    }
}

fn json(folder: &Folder, name: &str) -> Value {
    serde_json::from_str(&folder.text(name)).unwrap_or_else(|error| panic!("{name}: {error}\n{}", folder.text(name)))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number: {value}"))
}

/// `count` requests of `clients` connections, `rate` a second.
fn sessions(count: usize, clients: usize, rate: f64) -> String {
    let line = |index: usize| {
        let time = 1_700_000_000.0 + index as f64 / rate;
        let (client, place) = (index % clients, index / clients + 1);
        format!("{{\"t\":{time:.4},\"c\":\"c{client}\",\"n\":{place},\"m\":\"GET\",\"u\":\"/{client}/{place}\",\"s\":200}}\n")
    };
    "{\"meta\":{\"scrub\":\"default\"}}\n".to_owned() + &(0..count).map(line).collect::<String>()
}

/// `targets` without connections, 100 a second.
fn requests<'a>(targets: impl IntoIterator<Item = &'a str>) -> String {
    let line = |(index, target): (u32, &str)| {
        let time = 1_700_000_000.0 + f64::from(index) / 100.0;
        format!("{{\"t\":{time:.2},\"m\":\"GET\",\"u\":\"{target}\",\"s\":200}}\n")
    };
    (0..).zip(targets).map(line).collect()
}

#[test]
fn replay_as_recorded_keeps_connections_and_order_and_reports_in_every_form() {
    let site = Site::new(&sessions(400, 20, 200.0));
    let said = site.replay("--json a.json --html a.html --hdr a.hlog --slo p90<5s,errors<1%");
    let report = site.json("a.json");
    // A host that disturbs every second leaves nothing to judge.
    let (code, verdict) = if report["slo"]["met"].is_null() { (99, ": NOT JUDGED") } else { (0, ": met (") };
    said.assert_code(code);
    said.assert_out(&[
        "As recorded: connections open when they did",
        "400 requests in 2.0 s",
        "400 answered, errors 0%",
        verdict,
    ]);
    assert_report(&report);
    let page = site.folder.text("a.html");
    assert!(page.contains("<svg") && !page.contains("<script") && !page.contains("src=") && !page.contains("href="), "{page}");
    let log = site.folder.text("a.hlog");
    assert!(log.contains("#[Histogram log format version 1.3]") && log.contains("Tag=latency,"), "{log}");
    let mut connections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for words in site.asked() {
        connections.entry(words[0].clone()).or_default().push(words[3].clone());
    }
    assert_eq!(connections.len(), 20);
    for targets in connections.values() {
        let client = targets[0].split('/').nth(1).expect("a client");
        let expected: Vec<String> = (1..=20).map(|place| format!("/{client}/{place}")).collect();
        assert_eq!(*targets, expected);
    }
}

fn assert_report(report: &Value) {
    let keys =
        "throughput offered errors cpu_seconds latency lateness steal invalid_seconds series interrupted slo retried connections";
    for key in keys.split(' ') {
        assert!(report.get(key).is_some_and(|value| !value.is_null()), "{key}: {report}");
    }
    for key in ["p50", "p90", "p99", "max"] {
        let (latency, lateness) = (number(&report["latency"][key]), number(&report["lateness"][key]));
        assert!(latency > 0.0 && lateness > 0.0 && number(&report["lateness"]["scheduler"][key]) <= lateness * 1.01, "{report}");
    }
    assert_eq!((&report["requests"], &report["completed"], &report["connections"]), (&400.into(), &400.into(), &20.into()));
    assert!((180.0..220.0).contains(&number(&report["offered"])), "{report}");
    assert!(number(&report["cpu_seconds"]) > 0.0);
    assert_eq!(report["interrupted"], false);
    assert_ne!(report["slo"]["met"], false);
    assert_eq!(report["statuses"]["2xx"], 400);
    let series = report["series"].as_array().expect("a list").iter();
    assert!((399..=400).contains(&series.map(|second| second["completed"].as_u64().expect("a count")).sum::<u64>()), "{report}");
}

#[test]
fn replay_plays_every_load_model_to_tcp_and_unix_targets() {
    let site = Site::new(&sessions(200, 10, 400.0));
    let loads = [
        ("--rate 200", 200, "Open: 200 requests a second at even gaps"),
        ("--poisson 400", 200, "Open: 400 requests a second at random (Poisson, seed 1)"),
        ("--profile 0:100,1s:300", 200, "by the profile 0s:100,1s:300"),
        ("--speed 2 --sessions pooled", 200, "at their recorded times, on any connection, 2 times as fast"),
        ("--copies 2", 400, "2 times the traffic"),
        ("--clients 4", 200, "Closed loop: coordinated omission does not apply"),
    ];
    for (options, count, words) in loads {
        let said = site.folder.run(&format!("replay traffic.jsonl --target unix:web.sock --json a.json {options}"));
        said.assert_code(0);
        said.assert_out(&[words]);
        let report = site.json("a.json");
        assert_eq!((&report["completed"], number(&report["errors"])), (&count.into(), 0.0), "{options}: {said}");
        assert_eq!(report["lateness"].is_null(), options.starts_with("--clients"), "{options}");
    }
    let over = site.replay("--clients 4 --warm-up 10m");
    over.assert_code(0);
    over.assert_out(&["WARM-UP ONLY: "]);
    let said = site.replay("--clients 3 --duration 1s --warm-up 200ms --json a.json");
    said.assert_out(&["the recording is repeated"]);
    assert!((0.9..1.1).contains(&number(&site.json("a.json")["seconds"])), "{said}");
}

#[test]
fn replay_changes_requests_as_told_and_sends_only_what_is_allowed() {
    let mut traffic = requests(["/a", "/b", "/c"]);
    traffic += "{\"t\":1700000000.5,\"m\":\"POST\",\"u\":\"/a\",\"s\":200}\n";
    let site = Site::new(&traffic);
    let said = site.replay("--host shop.test --header X-Mark:7 --not-target /c");
    said.assert_code(0);
    said.assert_out(&["Not replayed: 1 with a method that --allow does not name, 1 that the filters leave out."]);
    let said = site.replay("--allow POST --only-target /a");
    said.assert_code(0);
    said.assert_err(&[
        "Warning: Bodies in the recording: unknown. Requests whose body was not recorded are sent with an empty one",
    ]);
    said.assert_out(&["Bodies in the recording: unknown."]);
    let port = site.port;
    let mut asked: Vec<String> = site.asked().iter().map(|words| words[2..].join(" ")).collect();
    asked.sort();
    let own = format!("127.0.0.1:{port} -");
    assert_eq!(
        asked,
        [format!("GET /a {own}"), "GET /a shop.test 7".into(), "GET /b shop.test 7".into(), format!("POST /a {own}")]
    );
}

#[test]
fn replay_misses_an_objective_with_99_and_counts_errors_by_kind() {
    let site = Site::new(&requests(["/", "/broken", "/", "/"]));
    let said = site.replay("--slo p90<5s,errors<1% --json a.json");
    said.assert_code(99);
    said.assert_out(&["p90<5s,errors<1%: ", "1 got a status of 500 or above"]);
    let report = site.json("a.json");
    assert_eq!((&report["errors_by_kind"]["5xx"], number(&report["errors"])), (&1.into(), 0.25));
    assert_ne!(report["slo"]["met"], true);
}

#[test]
fn replay_interrupted_leaves_a_partial_report() {
    let site = Site::new(&requests(["/"; 100]));
    let mut replay = site.folder.start(&site.arguments("--loop --json a.json"));
    let log = site.folder.path("access.log");
    replay.wait("requests to arrive", |_| std::fs::read_to_string(&log).is_ok_and(|log| log.lines().count() > 20).then_some(()));
    replay.signal(Signal::INT);
    let said = replay.finish();
    said.assert_code(130);
    assert!(said.out.trim_start().starts_with("PARTIAL"), "{said}");
    let report = site.json("a.json");
    assert_eq!(report["interrupted"], true);
    assert!(number(&report["completed"]) > 10.0, "{report}");
}

#[test]
fn replay_compares_content_with_earlier_runs_and_learns_what_is_noise() {
    let site = Site::new(&requests(["/", "/random", "/a", "/b"]));
    site.replay("--save-bodies one").assert_code(0);
    site.replay("--save-bodies two").assert_code(0);
    let said = site.replay("--baseline one two --json a.json");
    said.assert_code(0);
    said.assert_out(&["Content, against 2 earlier runs: 3 the same, 0 different, 1 not compared"]);
    assert_eq!(site.json("a.json")["content"]["noise"], 1);
    let differs = site.replay("--baseline one --check length --json a.json");
    differs.assert_code(1);
    differs.assert_out(&["3 the same, 1 different", "CONTENT DIFFERS", "length is not compared with the recorded one"]);
    let other = site.replay("--baseline one --header X-Mark:1");
    other.assert_code(66);
    other.assert_err(&["one: made with another recording, other filters or other headers"]);
}

#[test]
fn replay_says_beforehand_that_a_recording_is_too_long() {
    let day_apart = "{\"t\":1,\"m\":\"GET\",\"u\":\"/\"}\n{\"t\":90001,\"m\":\"GET\",\"u\":\"/\"}\n";
    let site = Site::new(day_apart);
    let mut replay = site.folder.start(&site.arguments(""));
    let log = site.folder.path("access.log");
    replay.wait("the first request", |_| std::fs::read_to_string(&log).is_ok_and(|log| log.contains("GET / ")).then_some(()));
    replay.signal(Signal::INT);
    replay.finish().assert_err(&["this would take longer than 1day"]);
}

#[test]
fn replay_speaks_tls_and_checks_certificates_unless_told_not_to() {
    let folder = Folder::new().file("traffic.jsonl", &requests(["/"; 5]));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]);
    openssl.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    openssl.current_dir(folder.directory()).args(["-keyout", "key.pem", "-out", "cert.pem"]);
    parts::output(&mut openssl).unwrap_or_else(|error| panic!("{error}"));
    let port = free_port();
    let server = format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate @DIR@/cert.pem; ssl_certificate_key @DIR@/key.pem; return 200 'safe'; }}"
    );
    let site = Site::with(folder, &server);
    let replay = |options: &str| site.folder.run(&format!("replay traffic.jsonl --target https://127.0.0.1:{port} {options}"));
    replay("--ca cert.pem").assert_code(0);
    let said = replay("--insecure");
    said.assert_code(0);
    said.assert_out(&["TLS certificates were not checked", "5 answered"]);
    let refused = replay("--json a.json");
    refused.assert_code(1);
    assert_eq!(site.json("a.json")["completed"], 0);
}

#[test]
fn replay_refuses_what_it_cannot_or_may_not_do_before_anything_is_sent() {
    let site = Site::new(&requests(["/"; 5]));
    let folder = &site.folder;
    std::fs::write(folder.path("empty"), "").expect("write a file");
    std::fs::write(folder.path("broken"), "{\n{}\n").expect("write a file");
    let kept = "{\"meta\":{\"scrub\":\"none\"}}\n".to_owned() + &requests(["/"; 5]);
    std::fs::write(folder.path("kept.jsonl"), kept).expect("write a file");
    std::fs::write(folder.path("cut.gz"), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).expect("write a file");
    let target = format!("--target http://127.0.0.1:{}", site.port);
    let refusals = [
        (
            "traffic.jsonl --target http://198.51.100.7:80".to_owned(),
            2,
            "is not an address of this host: if you may load it, add --target-anyway",
        ),
        (
            "kept.jsonl --target http://198.51.100.7:80 --target-anyway".to_owned(),
            1,
            "would go to http://198.51.100.7:80: scrub it first (tuningfork record scrub)",
        ),
        ("traffic.jsonl --target http://no.such.name.invalid:80".to_owned(), 1, "no.such.name.invalid: "),
        ("traffic.jsonl --target 127.0.0.1:80".to_owned(), 2, "is not a target: write http://HOST:PORT"),
        (format!("missing {target}"), 66, "missing: No such file or directory"),
        (format!("empty {target}"), 66, "empty: the file is empty"),
        (format!("broken {target}"), 66, "broken: no usable request in 2 lines"),
        (format!("cut.gz {target}"), 66, "cut.gz: "),
        (format!("traffic.jsonl {target} --only-target nowhere"), 66, "the filters leave out all 5 requests"),
        (format!("traffic.jsonl {target} --sessions kept"), 66, "--sessions kept needs to know"),
        (format!("traffic.jsonl {target} --rate 1 --clients 2"), 2, "cannot be used with"),
        (format!("traffic.jsonl {target} --speed 2 --rate 1"), 2, "cannot be used with"),
        (format!("traffic.jsonl {target} --copies 2 --rate 1"), 2, "cannot be used with"),
        (format!("traffic.jsonl {target} --rate 10000000"), 2, "above 0, at most 1000000"),
        (format!("traffic.jsonl {target} --rate 0"), 2, "above 0, at most 1000000"),
        (format!("traffic.jsonl {target} --think 1s"), 2, "--clients"),
        (format!("traffic.jsonl {target} --clients 1 --think recorded"), 66, "--think recorded needs to know"),
        (format!("traffic.jsonl {target} --slo errors"), 2, "is not a bound"),
        (format!("traffic.jsonl {target} --check body"), 2, "--save-bodies <FILE>"),
        (format!("traffic.jsonl {target} --duration 48h"), 2, "--duration and --warm-up together are at most 1day"),
        (format!("traffic.jsonl {target} --copies 0.0001"), 2, "--copies 0.0001 leaves no request"),
        (format!("traffic.jsonl {target} --warm-up 5s"), 2, "within --warm-up, and nothing would count"),
        (format!("traffic.jsonl {target} --header Content-Length:5"), 2, "is computed for each request"),
        (format!("traffic.jsonl {target} --insecure"), 2, "--insecure is about targets with https://"),
        (format!("traffic.jsonl {target} --ca missing"), 2, "--ca is about targets with https://"),
        (format!("traffic.jsonl {target} --timeout 0s"), 2, "a time above zero"),
        (format!("traffic.jsonl {target} --max-conns 4000000000"), 1, "raise the limit (ulimit -n), or lower --max-conns"),
        (format!("traffic.jsonl {target} --json /nonexistent/x"), 73, "/nonexistent/x"),
        (format!("traffic.jsonl {target} --html ."), 73, "directory"),
        (format!("traffic.jsonl {target} --baseline traffic.jsonl"), 66, "not a file that --save-bodies wrote"),
        ("traffic.jsonl --target https://127.0.0.1:1 --ca traffic.jsonl".to_owned(), 66, "traffic.jsonl: no certificate"),
    ];
    for (arguments, code, message) in refusals {
        let said = folder.run(&format!("replay {arguments}"));
        said.assert_code(code);
        said.assert_err(&[message]);
    }
    assert_eq!(site.asked().len(), 0);
}

#[test]
fn replay_ends_with_69_where_nothing_listens() {
    let folder = Folder::new().file("traffic.jsonl", &requests(["/"; 20])).file("file", "");
    let targets = [
        (format!("http://127.0.0.1:{}", free_port()), "Connection refused"),
        ("unix:nobody.sock".to_owned(), "No such file or directory"),
        ("unix:file".to_owned(), "Connection refused"),
    ];
    for (target, reason) in targets {
        let said = folder.run(&format!("replay traffic.jsonl --target {target} --json a.json"));
        said.assert_code(69);
        said.assert_err(&[target.as_str(), reason, "is the server running"]);
        assert!(!folder.path("a.json").exists() && said.out.is_empty(), "{said}");
    }
}

#[test]
fn replay_does_not_wait_for_a_backlog_that_is_full() {
    let folder = Folder::new().file("traffic.jsonl", &requests(["/"; 2]));
    let path = folder.path("web.sock");
    let listener = UnixListener::bind(&path).expect("listen");
    rustix::net::listen(&listener, 0).expect("shorten the backlog");
    let _waits = UnixStream::connect(&path).expect("the one that fits");
    let said = folder.run("replay traffic.jsonl --target unix:web.sock --timeout 200ms --json a.json");
    said.assert_code(1);
    assert_eq!(json(&folder, "a.json")["completed"], 0, "{said}");
}

#[test]
fn replay_is_ready_when_its_first_request_is_due() {
    let site = Site::new(&requests(["/"; 3]));
    // A new process each time, whose memory is new too. Of several one at least is not disturbed.
    let late = |_| {
        site.replay("--json a.json").assert_code(0);
        number(&site.json("a.json")["lateness"]["scheduler"]["max"])
    };
    let least = (0..8).map(late).fold(f64::MAX, f64::min);
    assert!(least < LATENESS, "{least} s late, and its second is not trusted");
}

#[test]
fn replay_plays_on_against_a_target_that_goes_away_and_tells() {
    let folder = Folder::new().file("traffic.jsonl", &requests(["/"; 20]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    // The first connection is the one that asks whether anybody is there.
    let server = thread::spawn(move || {
        drop(listener.accept().expect("a connection"));
        drop(listener);
    });
    let said = folder.run(&format!("replay traffic.jsonl --target http://{address} --json a.json"));
    server.join().expect("the server to end");
    said.assert_code(1);
    let report = json(&folder, "a.json");
    assert_eq!((number(&report["errors"]), &report["requests"]), (1.0, &20.into()), "{said}");
    assert!(report["errors_by_kind"]["connect"].as_u64().expect("a count") > 0, "{said}");
    assert_eq!(report["valid"], false);
}

#[test]
fn replay_takes_this_hosts_own_addresses_for_here() {
    // An address of an interface, if there is one beside loopback: what packets to elsewhere would come from.
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    let own =
        socket.connect("198.51.100.7:1").and_then(|()| socket.local_addr()).map_or("0.0.0.0".into(), |own| own.ip().to_string());
    let port = free_port();
    let folder = Folder::new().file("traffic.jsonl", &requests(["/"; 5]));
    let site = Site::with(folder, &format!("server {{ listen {own}:{port}; return 200 'same'; }}"));
    let said = site.folder.run(&format!("replay traffic.jsonl --target http://{own}:{port}"));
    said.assert_code(0);
    assert!(!said.err.contains("Warning"), "nothing leaves this host: {said}");
}

#[test]
fn replay_clients_think_though_no_connections_are_known() {
    let site = Site::new(&requests(["/"; 6]));
    let said = site.replay("--clients 2 --think 50ms --json a.json");
    said.assert_code(0);
    said.assert_out(&["before the next request, pausing 50ms"]);
    let report = site.json("a.json");
    assert_eq!((&report["completed"], &report["connections"]), (&6.into(), &2.into()), "{said}");
    assert!(number(&report["seconds"]) >= 0.1, "each of two clients pauses twice: {said}");
}

#[test]
fn replay_judges_errors_alone_and_without_an_objective_lets_them_be() {
    let site = Site::new(&requests(["/", "/broken", "/", "/"]));
    site.replay("").assert_code(0);
    let said = site.replay("--slo errors<1% --json a.json");
    said.assert_code(99);
    let slo = &site.json("a.json")["slo"];
    assert_eq!(
        (&slo["objective"], slo["measured"].is_null(), number(&slo["errors"])),
        (&"errors<1%".into(), true, 0.25),
        "{said}"
    );
}

#[test]
fn replay_plays_what_is_whole_of_a_hostile_and_truncated_recording() {
    let mut traffic = requests(["/whole"; 3]);
    let (long, deep) = ("x".repeat(2 << 20), "[".repeat(100_000));
    let hostile = [
        long.as_str(),
        r#"{"t":1,"m":"GET","u":"/ HTTP/1.1\r\nX: smuggled\r\n\r\n"}"#,
        r#"{"t":1e999,"m":"GET","u":"/"}"#,
        &deep,
        "\0\0\0",
    ];
    traffic += &hostile.map(|line| format!("{line}\n")).concat();
    traffic += &requests(["/whole"])[..30];
    let site = Site::new(&traffic);
    let said = site.replay("--json a.json");
    said.assert_code(0);
    said.assert_err(&["5 broken lines passed over (line 4, 5, 6, …)", "the last line is cut off and passed over"]);
    assert_eq!(site.json("a.json")["completed"], 3);
    assert!(site.asked().iter().all(|words| words[3] == "/whole"));
}

#[test]
fn replay_writes_json_to_standard_output_alone() {
    let site = Site::new(&requests(["/"; 5]));
    let said = site.replay("--json -");
    said.assert_code(0);
    let report: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(report["completed"], 5);
}

#[test]
fn replay_plays_an_access_log_against_django() {
    let service = Service::with_config(&shop::config("gthread"));
    shop::seed(service.directory());
    let mut running = service.on_tcp().ready();
    let Address::Tcp(address) = running.address().clone() else { panic!("invariant: on TCP") };
    let folder = Folder::new();
    let log = shop::project().join("access.log");
    folder.run(&format!("record import {} -o traffic.jsonl", log.display())).assert_code(0);
    let said = folder
        .run(&format!("replay traffic.jsonl --target http://{address} --rate 40 --duration 3s --cookies jar --json a.json"));
    said.assert_code(0);
    let report = json(&folder, "a.json");
    assert!(number(&report["errors"]) < 0.05 && number(&report["completed"]) > 100.0, "{said}");
    assert!(number(&report["latency"]["p50"]) > 0.000_5, "{said}");
    assert_eq!(running.stop(), End::Code(0));
}
