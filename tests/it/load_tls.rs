//! The replay engine against nginx over TLS: whom it trusts, what it counts, and that nothing is lost.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tuningfork::load::{Basis, Check, Cookies, Errors, Onward, Played, Reach, Run, Target, Tls, Trust, play};
use tuningfork::recording;
use tuningfork::replay::{Arrivals, Load, Plan, PlanOptions, Reuse, Turns};
use tuningfork::units::Rate;

use crate::support::http::{self, Address};
use crate::support::journal::Journal;
use crate::support::parts;
use crate::support::process::Watched;
use crate::support::service::free_port;

/// A certificate for app.test, and the authority that signed it.
const CERTIFICATE: &str = include_str!("tls/server.pem");
const KEY: &str = include_str!("tls/server.key");
const AUTHORITY: &str = include_str!("tls/authority.pem");

const NGINX: &str = "\
daemon off;
user root;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log;
events {}
http {
    access_log off;
    keepalive_requests 7;
    client_body_temp_path @DIR@/body;
    proxy_temp_path @DIR@/proxy;
    fastcgi_temp_path @DIR@/fastcgi;
    uwsgi_temp_path @DIR@/uwsgi;
    scgi_temp_path @DIR@/scgi;
    server {
        listen 127.0.0.1:@PLAIN@;
        listen 127.0.0.1:@PORT@ ssl;
        ssl_certificate @DIR@/server.pem;
        ssl_certificate_key @DIR@/server.key;
        root @DIR@;
        location /small { return 200 hello; }
    }
}
";
const LARGE: usize = 700_000;

/// nginx, which ends with the test.
struct Nginx(Watched);

impl Drop for Nginx {
    fn drop(&mut self) {
        self.0.signal(Signal::TERM);
    }
}

/// nginx on two ports: TLS, and plain.
fn nginx(folder: &Path) -> (Nginx, u16, u16) {
    let (place, port, plain) = (folder.display().to_string(), free_port(), free_port());
    let config = NGINX.replace("@DIR@", &place).replace("@PORT@", &port.to_string()).replace("@PLAIN@", &plain.to_string());
    let large = "x".repeat(LARGE);
    for (name, text) in [("nginx.conf", config.as_str()), ("server.pem", CERTIFICATE), ("server.key", KEY), ("large", &large)] {
        std::fs::write(folder.join(name), text).expect("write nginx's files");
    }
    let mut command = Command::new(parts::nginx());
    command.args(["-p", &place, "-c", "nginx.conf"]).stdout(Stdio::null());
    let mut nginx = Watched::start(command, Journal::default());
    let address = Address::Tcp(format!("127.0.0.1:{plain}"));
    nginx.wait("nginx to answer", |_| http::get(&address, "/small").is_ok_and(|reply| reply.status == 200).then_some(()));
    (Nginx(nginx), port, plain)
}

fn plan(reuse: Reuse) -> Plan {
    let lines = [
        r#"{"t":1,"m":"GET","u":"/small","s":200,"rb":5}"#.to_owned(),
        format!(r#"{{"t":2,"m":"GET","u":"/large","s":200,"rb":{LARGE}}}"#),
    ];
    let recording = recording::read(lines.join("\n").as_bytes()).expect("a recording");
    Plan::compile(&recording, &PlanOptions::new("app.test", reuse)).expect("a plan")
}

/// Plays twenty requests over TLS.
fn played(port: u16, reuse: Reuse, name: &str, trust: &Trust) -> Played {
    let plan = plan(reuse);
    let run = Run {
        plan: &plan,
        target: Target::Tcp(([127, 0, 0, 1], port).into()),
        reach: Reach::ThisHost,
        load: Load::Open { rate: Rate::new(100.0).expect("a rate"), arrivals: Arrivals::Even },
        from: 0,
        turns: Turns::Endless,
        settle: Duration::ZERO,
        duration: Duration::from_millis(200),
        drain: Duration::from_mins(1),
        timeout: Duration::from_mins(1),
        max_connections: NonZeroU32::MIN,
        max_body: 1 << 20,
        slow_after: Duration::from_secs(1),
        batch: Duration::from_secs(1),
        cookies: Cookies::Recorded,
        check: Check::Length,
        tls: Some(Tls::new(name, trust).expect("TLS")),
        basis: Basis::EverySecond,
    };
    play(&run, &mut |_| Onward::GoOn).expect("a run")
}

#[test]
fn load_tls_reaches_a_server_it_may_trust_and_no_other() {
    let folder = tempfile::tempdir().expect("make a directory");
    let (_nginx, port, plain) = nginx(folder.path());
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, AUTHORITY).expect("write the authority");
    let trusted = Trust::SystemAnd(authority);

    for (name, trust) in [("app.test", &trusted), ("127.0.0.1", &trusted), ("who.else", &Trust::Anyone)] {
        for reuse in [Reuse::KeepAlive, Reuse::PerRequest] {
            let played = played(port, reuse, name, trust);
            let answered = played.completed + played.unfinished.unsent;
            assert_eq!((answered, played.errors), (20, Errors::default()), "{name} {reuse:?}");
            assert!(played.completed > 0 && played.lateness.connect.count() > 0 && played.bytes > 5);
            match reuse {
                // nginx ends each connection after seven requests.
                Reuse::KeepAlive => assert!((1..=3).contains(&played.connections), "{played:?}"),
                Reuse::PerRequest => assert_eq!(played.connections, played.completed),
            }
        }
    }
    let refused = [("other.test", &trusted, port), ("app.test", &Trust::Anyone, plain)];
    for (name, trust, port) in refused {
        let played = played(port, Reuse::KeepAlive, name, trust);
        assert_eq!((played.completed, played.errors.connect), (0, 20), "{name} on {port}: {:?}", played.errors);
    }
}

#[test]
fn load_tls_says_what_is_wrong_with_names_and_authorities() {
    let folder = tempfile::tempdir().expect("make a directory");
    let file = folder.path().join("authority.pem");
    let refusal = |name: &str, trust: &Trust| Tls::new(name, trust).expect_err("refused").to_string();
    assert_eq!(refusal("not a name", &Trust::Anyone), "not a server name: \"not a name\"");
    let trust = Trust::SystemAnd(file.clone());
    assert!(refusal("app.test", &trust).starts_with(&format!("certificates of {}: ", file.display())));
    for (text, said) in [("", "no certificate in it"), (KEY, "no certificate in it")] {
        std::fs::write(&file, text).expect("write a file");
        assert!(refusal("app.test", &trust).contains(said), "{}", refusal("app.test", &trust));
    }
}
