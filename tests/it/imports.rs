//! Logs that real servers write in the formats `tuningfork record import` understands, and what it makes of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::http::{Address, Client};
use crate::support::journal::Journal;
use crate::support::parts;
use crate::support::process::{End, Watched};
use crate::support::service::free_port;

const PATIENCE: Duration = Duration::from_secs(20);

const NGINX: &str = "\
daemon off;
user root;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log;
events {}
http {
    @FORMAT@
    access_log @DIR@/combined.log combined;
    access_log @DIR@/json.log tuningfork;
    client_body_temp_path @DIR@/body;
    proxy_temp_path @DIR@/proxy;
    fastcgi_temp_path @DIR@/fastcgi;
    uwsgi_temp_path @DIR@/uwsgi;
    scgi_temp_path @DIR@/scgi;
    server {
        listen 127.0.0.1:@PORT@;
        location / { return 200 'hello'; }
    }
}
";

const GUNICORN: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s"#;
const APP: &str = "\
import time

def app(environ, start_response):
    if environ['PATH_INFO'] == '/slow':
        time.sleep(0.3)
    start_response('200 OK', [('Content-Length', '5')])
    return [b'hello']
";

/// The program's answer on its two outputs.
fn tuningfork(arguments: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tuningfork")).args(arguments).output().expect("run tuningfork");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {err}");
    (out, err)
}

/// The first line of a recording, and its requests.
fn parsed(recording: &str) -> (Value, Vec<Value>) {
    let mut lines = recording.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    (lines.next().expect("a first line")["meta"].take(), lines.collect())
}

fn strings<'a>(requests: &'a [Value], key: &str) -> Vec<&'a str> {
    requests.iter().filter_map(|request| request[key].as_str()).collect()
}

/// Sends requests one after another on one connection. An answer is waited for after each.
fn converse(address: &Address, requests: &[&[u8]]) {
    let mut client = Client::connect(address, PATIENCE).expect("connect");
    for request in requests {
        client.send(request).expect("send");
        client.receive().expect("an answer");
    }
}

fn await_socket(server: &mut Watched, address: &Address) {
    server.wait("the server to listen", |_| Client::connect(address, PATIENCE).is_ok().then_some(()));
}

fn nginx_log(directory: &Path, format: &str) {
    let (place, port) = (directory.display().to_string(), free_port());
    let config = NGINX.replace("@DIR@", &place).replace("@PORT@", &port.to_string()).replace("@FORMAT@", format);
    fs::write(directory.join("nginx.conf"), config).expect("write nginx's configuration");
    let mut command = Command::new(parts::nginx());
    command.args(["-p", &place, "-c", "nginx.conf"]).stdout(Stdio::null());
    let mut nginx = Watched::start(command, Journal::default());
    let address = Address::Tcp(format!("127.0.0.1:{port}"));
    await_socket(&mut nginx, &address);
    let latin: &[u8] = b"GET /caf\xe9?token=s3cret HTTP/1.1\r\nHost: a.example\r\nUser-Agent: a \"quoted\" agent\r\n\r\n";
    let plain: &[u8] = b"GET /plain HTTP/1.1\r\nHost: a.example\r\nCookie: sid=verysecret\r\n\r\n";
    converse(&address, &[plain, latin, plain]);
    converse(&address, &[plain, plain]);
    converse(&address, &[b"no request at all\r\n\r\n"]);
    nginx.signal(Signal::QUIT);
    assert_eq!(nginx.await_end(), End::Code(0));
}

#[test]
fn imports_of_what_nginx_writes() {
    let folder = Folder::new();
    let (format, _) = tuningfork(&["record", "import", "--print-nginx-format"]);
    nginx_log(folder.directory(), &format);
    let [json, combined] = ["json.log", "combined.log"].map(|name| folder.path(name).display().to_string());

    let (recording, said) = tuningfork(&["record", "import", &json]);
    assert!(said.contains("5 requests (nginx-json), 1 lines without a request\n"), "{said}");
    assert!(said.contains("times: arrival, to 1 ms"), "{said}");
    let (meta, requests) = parsed(&recording);
    assert_eq!((meta["ts_meaning"].as_str(), meta["scrub"].as_str()), (Some("arrival"), Some("default")));
    let mut targets = strings(&requests, "u");
    let latin = targets.remove(1);
    assert!(latin.starts_with("/caf%E9?token=") && targets == ["/plain"; 4], "{recording}");
    let connections = strings(&requests, "c");
    assert!(connections[0] == connections[2] && connections[0] != connections[3] && connections[3] == connections[4]);
    let ordinals: Vec<_> = requests.iter().filter_map(|request| request["n"].as_u64()).collect();
    assert_eq!(ordinals, [1, 2, 3, 1, 2]);
    assert!(requests.iter().all(|request| request["rb"] == 5 && request["s"] == 200 && request["h"][0][0] == "Host"));
    for secret in ["s3cret", "verysecret", "127.0.0.1"] {
        assert!(!recording.contains(secret), "{secret} is in the recording");
    }

    // The same lines by the format as it stands in the configuration, and what the other log knows of the same requests.
    let (pasted, said) = tuningfork(&["record", "import", "--log-format", &format, &json]);
    assert!(said.contains("5 requests (nginx-log)"), "{said}");
    let (_, pasted) = parsed(&pasted);
    for key in ["t", "c", "n", "m", "s", "d", "rb"] {
        let values = |requests: &[Value]| requests.iter().map(|request| request[key].clone()).collect::<Vec<_>>();
        assert_eq!(values(&pasted), values(&requests), "{key}");
    }
    let (recording, said) = tuningfork(&["record", "import", &combined]);
    assert!(said.contains("5 requests (access-log-combined), 1 broken line passed over (line 6)"), "{said}");
    let (_, logged) = parsed(&recording);
    assert!(strings(&logged, "u")[1].starts_with("/caf%E9?token="));
}

#[test]
fn imports_of_what_gunicorn_writes() {
    let folder = Folder::new().file("app.py", APP);
    let mut command = Command::new(parts::python());
    command.args(["-m", "gunicorn", "--bind", "unix:socket", "--access-logfile", "access.log", "--access-logformat", GUNICORN]);
    command.args(["--no-control-socket", "app:app"]).current_dir(folder.directory()).stdout(Stdio::null());
    let mut gunicorn = Watched::start(command, Journal::default());
    let address = Address::Unix(folder.path("socket"));
    await_socket(&mut gunicorn, &address);
    let slow: &[u8] = b"GET /slow?a=b HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nUser-Agent: a \"quoted\" agent\r\n\r\n";
    let plain: &[u8] = b"GET /plain HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    for request in [slow, plain] {
        converse(&address, &[request]);
    }
    gunicorn.signal(Signal::TERM);
    assert_eq!(gunicorn.await_end(), End::Code(0));

    let log = folder.path("access.log").display().to_string();
    let (recording, said) = tuningfork(&["record", "import", &log]);
    assert!(said.contains("2 requests (access-log-combined)\n"), "{said}");
    assert!(said.contains("times: arrival, in whole seconds, spread within each\nnote: Gunicorn's clock starts when"), "{said}");
    let (_, requests) = parsed(&recording);
    let slow = requests.iter().find(|request| request["u"] == "/slow?a=b").expect("the slow request");
    assert!(slow["d"].as_f64().is_some_and(|took| (0.3..5.0).contains(&took)) && slow["rb"] == 5, "{recording}");
    // With Gunicorn's own format nothing has to be guessed.
    let (recording, said) = tuningfork(&["record", "import", "--log-format", GUNICORN, &log]);
    assert!(said.contains("2 requests (gunicorn-log)\n"), "{said}");
    assert!(!said.contains("is taken for"), "{said}");
    assert_eq!(strings(&parsed(&recording).1, "u").len(), 2);
}

#[test]
fn imports_name_what_a_format_lacks() {
    let folder = Folder::new().file("log", "x\n");
    let said = folder.run("record import --log-format $request log");
    said.assert_code(2);
    said.assert_err(&["the time is not logged: $msec"]);
    folder.run("record import --format nonsense log").assert_code(2);
    let said = folder.run("record import --format alb log");
    said.assert_code(66);
    said.assert_err(&["no usable request in 1 lines", "--log-format"]);
}

#[test]
fn imports_say_what_is_out_of_order() {
    let folder = Folder::new().file("new.log", &line(500)).file("old.log", &[line(3), line(1)].concat());
    let said = folder.run("record import new.log old.log -o out.jsonl");
    said.assert_code(0);
    said.assert_err(&["3 requests recorded, 2 of them out of order", "new.log: 1 requests", "old.log: 2 requests"]);
    folder.run("record import old.log new.log -o out.jsonl").assert_err(&["3 requests recorded\n"]);
    let (_, requests) = parsed(&folder.text("out.jsonl"));
    assert_eq!(strings(&requests, "u"), ["/1", "/3", "/500"]);
}

fn line(seconds: u32) -> String {
    let (minute, second) = (seconds / 60, seconds % 60);
    format!("::1 - - [17/May/2015:10:{minute:02}:{second:02} +0000] \"GET /{seconds} HTTP/1.1\" 200 5 \"-\" \"agent\"\n")
}
