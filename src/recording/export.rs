//! A recording in the formats of other load generators, so that they can be compared on the same traffic. Each format loses
//! something: [`Format::limits`] says what. What a format cannot tell at all is left out and counted.

mod gor;
mod h2load;
mod vegeta;

use std::io::{self, Write};
use std::str::FromStr;

use super::Meta;
use super::jsonl::Writer;
use super::request::{Header, Request};

/// A format that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A file of GoReplay.
    Gor,
    /// Targets of vegeta in JSON.
    Vegeta,
    /// A timing script of h2load.
    H2load,
    /// Our own.
    JsonLines,
}

impl Format {
    /// What the other program makes of it that the recording does not say.
    #[must_use]
    pub const fn limits(self) -> &'static [&'static str] {
        match self {
            Self::Gor => &[
                "GoReplay reads about 1000 requests a second from a file unless --input-file-read-depth is raised",
                "it may open other connections than those recorded",
            ],
            Self::Vegeta => &[
                "vegeta targets have no times: the same mix is sent, at a constant rate",
                "the order of headers and the connections are lost",
            ],
            Self::H2load => &[
                "h2load sends every line with one method, one set of headers and no body",
                "it sends all to the host of the first line, or of -B",
                "each of its clients plays the whole file: use --timing-script-file with -c 1",
                "its timers are relative and drift",
            ],
            Self::JsonLines => &[],
        }
    }
}

/// Scheme and authority of the URLs to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    scheme: &'static str,
    authority: Box<str>,
}

/// Why a text is no [`Base`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a URL like http://127.0.0.1:8000, without a path")]
pub struct BaseError;

impl FromStr for Base {
    type Err = BaseError;

    /// `http://127.0.0.1:8000`.
    fn from_str(text: &str) -> Result<Self, BaseError> {
        let (scheme, authority) = match text.split_once("://") {
            Some(("http", rest)) => ("http", rest),
            Some(("https", rest)) => ("https", rest),
            Some(_) | None => return Err(BaseError),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
        if authority.is_empty() || !authority.bytes().all(fits) {
            return Err(BaseError);
        }
        Ok(Self { scheme, authority: authority.into() })
    }
}

/// Why a recording cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A URL has no host.
    #[error("{target} was recorded without a Host: say where requests go, as in --target http://127.0.0.1:8000")]
    NoHost {
        /// Whose URL.
        target: String,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// What an export holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Requests in it.
    pub written: u64,
    /// Requests that the format cannot tell.
    pub left_out: u64,
}

/// Writes requests, which come in order of time.
#[derive(Debug)]
pub struct Exporter<W: Write> {
    script: Script<W>,
    base: Option<Base>,
    exported: Exported,
}

#[derive(Debug)]
enum Script<W: Write> {
    Gor(gor::Script<W>),
    Vegeta(W),
    H2load(h2load::Script<W>),
    JsonLines(Writer<W>),
}

impl<W: Write> Exporter<W> {
    /// An export without requests. `base` replaces the hosts of URLs, and stands in for a Host that was not recorded.
    pub fn new(output: W, format: Format, base: Option<Base>, meta: &Meta) -> io::Result<Self> {
        let script = match format {
            Format::Gor => Script::Gor(gor::Script::new(output)),
            Format::Vegeta => Script::Vegeta(output),
            Format::H2load => Script::H2load(h2load::Script::new(output)),
            Format::JsonLines => Script::JsonLines(Writer::new(output, meta)?),
        };
        Ok(Self { script, base, exported: Exported::default() })
    }

    /// Writes one request, or leaves it out.
    pub fn write(&mut self, request: &Request) -> Result<(), ExportError> {
        let base = self.base.as_ref();
        let is_written = match &mut self.script {
            Script::Gor(script) => script.write(request, base)?,
            Script::Vegeta(output) => vegeta::write(output, request, base)?,
            Script::H2load(script) => script.write(request, base)?,
            Script::JsonLines(writer) => {
                writer.write(&with_host(request, base))?;
                true
            }
        };
        self.exported.written += u64::from(is_written);
        self.exported.left_out += u64::from(!is_written);
        Ok(())
    }

    /// Flushes, and gives the output back.
    pub fn finish(self) -> io::Result<(W, Exported)> {
        let mut output = match self.script {
            Script::Gor(script) => script.into_output(),
            Script::Vegeta(output) => output,
            Script::H2load(script) => script.into_output(),
            Script::JsonLines(writer) => writer.finish()?,
        };
        output.flush()?;
        Ok((output, self.exported))
    }
}

fn with_host(request: &Request, base: Option<&Base>) -> Request {
    let mut request = request.clone();
    if let (Some(base), None) = (base, request.host()) {
        request.headers.splice(0..0, Header::new("Host", &base.authority));
    }
    request
}

/// Scheme and authority of a request's URL, and its path with the query. `None` for what has no path: CONNECT, and OPTIONS of the
/// whole server.
fn url<'a>(request: &'a Request, base: Option<&'a Base>) -> Option<(Option<(&'a str, &'a str)>, &'a str)> {
    let target = request.target.as_str();
    let (scheme, path) = match request.target.absolute() {
        Some((_, rest)) => (if target[..5].eq_ignore_ascii_case("https") { "https" } else { "http" }, rest),
        None => ("http", target),
    };
    let is_path = request.target.absolute().is_some() || target.starts_with('/');
    if !is_path || request.method.as_str() == "CONNECT" {
        return None;
    }
    let server = base.map(|base| (base.scheme, &*base.authority));
    Some((server.or_else(|| request.host().map(|host| (scheme, host))), path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;

    /// The export of these lines of a recording, and what it holds.
    pub(super) fn export(lines: &[&str], format: Format, base: Option<&str>) -> Result<(Vec<u8>, Exported), ExportError> {
        let recording = read(lines.join("\n").as_bytes()).unwrap();
        let base = base.map(|base| base.parse().unwrap());
        let mut exporter = Exporter::new(Vec::new(), format, base, &recording.meta)?;
        for request in &recording.requests {
            exporter.write(request)?;
        }
        Ok(exporter.finish()?)
    }

    #[test]
    fn a_base_is_scheme_and_authority() {
        for (text, scheme, authority) in [
            ("http://127.0.0.1:8000", "http", "127.0.0.1:8000"),
            ("https://shop.example/", "https", "shop.example"),
            ("http://[::1]:80", "http", "[::1]:80"),
        ] {
            assert_eq!(text.parse(), Ok(Base { scheme, authority: authority.into() }));
        }
        for wrong in ["", "a", "ftp://a", "http://", "http://a/b", "http://a b", "http://a\r\nX: y", "http://a?b", "http://u@a"] {
            assert_eq!(wrong.parse::<Base>(), Err(BaseError), "{wrong}");
        }
    }

    #[test]
    fn json_lines_stay_what_they_are_and_get_a_host() {
        let lines = [r#"{"t":1.000000000,"m":"GET","u":"/"}"#, r#"{"t":1.000000000,"m":"GET","u":"/b","h":[["host","b"]]}"#];
        let (text, exported) = export(&lines, Format::JsonLines, None).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), format!("{{\"meta\":{{}}}}\n{}\n{}\n", lines[0], lines[1]));
        assert_eq!(exported, Exported { written: 2, left_out: 0 });
        let (text, _) = export(&lines, Format::JsonLines, Some("http://a")).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#""u":"/","h":[["Host","a"]]}"#) && text.contains(r#""h":[["host","b"]]}"#), "{text}");
    }
}
