//! nginx below a directory, on a free port, until it is ended or dropped.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::http::{self, Address};
use super::journal::Journal;
use super::parts;
use super::process::{End, Watched};
use super::service::free_port;

/// What it is asked for until it answers.
pub(crate) const PROBE: &str = "/probe";

const MAIN: &str = "\
daemon off;
user root;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log;
events {}
http {
    client_body_temp_path @DIR@/body;
    proxy_temp_path @DIR@/proxy;
    fastcgi_temp_path @DIR@/fastcgi;
    uwsgi_temp_path @DIR@/uwsgi;
    scgi_temp_path @DIR@/scgi;
    @HTTP@
}
";

/// One at work.
pub(crate) struct Nginx {
    watched: Watched,
    ended: bool,
    /// Where it listens on 127.0.0.1, if `@PORT@` is in its configuration.
    pub(crate) port: u16,
}

impl Nginx {
    /// Starts one whose `http` block holds this, and waits until it answers. `@DIR@` is the directory, `@PORT@` the port.
    pub(crate) fn start(directory: &Path, http: &str) -> Self {
        let (place, port) = (directory.display().to_string(), free_port());
        let config = MAIN.replace("@HTTP@", http).replace("@DIR@", &place).replace("@PORT@", &port.to_string());
        std::fs::write(directory.join("nginx.conf"), config).expect("write nginx's configuration");
        let mut command = Command::new(parts::nginx());
        command.args(["-p", &place, "-c", "nginx.conf"]).stdout(Stdio::null());
        let mut watched = Watched::start(command, Journal::default());
        let address = Address::Tcp(format!("127.0.0.1:{port}"));
        watched.wait("nginx to answer", |_| http::get(&address, PROBE).is_ok().then_some(()));
        Self { watched, ended: false, port }
    }

    /// Ends it. nginx overwrites its environment, by which processes left behind would be found.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.watched.signal(Signal::QUIT);
            assert_eq!(self.watched.await_end(), End::Code(0));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // While a test fails already, a second failure would hide the first.
        if std::thread::panicking() {
            self.watched.signal(Signal::TERM);
        } else {
            self.end();
        }
    }
}
