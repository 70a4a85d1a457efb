//! h2load's timing script: milliseconds after the first request, a tab, a URI. Everything but GET is left out, since h2load would
//! send it as something else.

use std::io::{self, Write};

use super::{Base, url};
use crate::recording::request::{Request, UnixNanos};

const MICRO: u64 = 1_000;

/// A timing script that is being written.
#[derive(Debug)]
pub(super) struct Script<W> {
    output: W,
    first: Option<UnixNanos>,
    /// Where the script has come to: a request out of order is sent with the one before it.
    micros: u64,
}

impl<W: Write> Script<W> {
    pub(super) const fn new(output: W) -> Self {
        Self { output, first: None, micros: 0 }
    }

    /// Whether it was written.
    pub(super) fn write(&mut self, request: &Request, base: Option<&Base>) -> io::Result<bool> {
        let place = url(request, base).filter(|_| request.method.as_str() == "GET");
        let Some((server, path)) = place else {
            return Ok(false);
        };
        let first = *self.first.get_or_insert(request.at);
        if request.at > first {
            self.micros = self.micros.max(request.at.0.abs_diff(first.0) / MICRO);
        }
        write!(self.output, "{}.{:03}\t", self.micros / 1_000, self.micros % 1_000)?;
        if let Some((scheme, authority)) = server {
            write!(self.output, "{scheme}://{authority}")?;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        writeln!(self.output, "{slash}{path}")?;
        Ok(true)
    }

    pub(super) fn into_output(self) -> W {
        self.output
    }
}

#[cfg(test)]
mod tests {
    use crate::recording::export::Format;
    use crate::recording::export::tests::export;

    #[test]
    fn a_script_tells_milliseconds_after_the_first() {
        let lines = [
            r#"{"t":9,"m":"POST","u":"/left/out"}"#,
            r#"{"t":10.0000005,"m":"GET","u":"/a"}"#,
            r#"{"t":11.5,"m":"GET","u":"/b?c","h":[["Host","h"]]}"#,
            r#"{"t":11.25,"m":"GET","u":"/late"}"#,
            r#"{"t":9,"m":"GET","u":"/later"}"#,
        ];
        let (text, exported) = export(&lines, Format::H2load, None).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "0.000\t/a\n1499.999\thttp://h/b?c\n1499.999\t/late\n1499.999\t/later\n");
        assert_eq!((exported.written, exported.left_out), (4, 1));
        let (text, _) = export(&lines[1..2], Format::H2load, Some("http://app:80")).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "0.000\thttp://app:80/a\n");
    }
}
