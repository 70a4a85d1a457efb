//! vegeta's targets, one JSON object a line. Its schema (lib/target.schema.json) has these four keys and forbids others. Headers that
//! belong to a connection are left to vegeta.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Serialize, Serializer};

use super::{Base, ExportError, url};
use crate::printable::make_printable;
use crate::recording::request::{Header, Request};

#[derive(Serialize)]
struct Target<'a> {
    method: &'a str,
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    body: String,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    header: Vec<(&'a str, Vec<&'a str>)>,
}

/// Whether it was written.
pub(super) fn write(output: &mut impl Write, request: &Request, base: Option<&Base>) -> Result<bool, ExportError> {
    let Some((server, path)) = url(request, base) else {
        return Ok(false);
    };
    let Some((scheme, authority)) = server else {
        let mut target = path.to_owned();
        make_printable(&mut target);
        return Err(ExportError::NoHost { target });
    };
    let mut header: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in request.headers.iter().filter(|header| is_sent(header, base)) {
        match header.iter_mut().find(|(name, _)| one.is(name)) {
            Some((_, values)) => values.push(one.value()),
            None => header.push((one.name(), vec![one.value()])),
        }
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let target = Target {
        method: request.method.as_str(),
        url: format!("{scheme}://{authority}{slash}{path}"),
        body: BASE64.encode(&request.body),
        header,
    };
    serde_json::to_writer(&mut *output, &target).map_err(std::io::Error::from)?;
    output.write_all(b"\n")?;
    Ok(true)
}

/// What belongs to a connection is vegeta's own. The Host is in the URL, unless that names another server.
fn is_sent(header: &Header, base: Option<&Base>) -> bool {
    !header.is_of_connection() && !header.is("upgrade") && (base.is_some() || !header.is("host"))
}

fn as_map<S: Serializer>(header: &[(&str, Vec<&str>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(header.iter().map(|(name, values)| (name, values)))
}

#[cfg(test)]
mod tests {
    use crate::recording::export::tests::export;
    use crate::recording::export::{ExportError, Format};

    const LINES: [&str; 3] = [
        r#"{"t":1,"m":"POST","u":"/a?b","h":[["Host","h:1"],["X","1"],["x","2"],["Content-Length","3"]],"b":"eHl6"}"#,
        r#"{"t":2,"m":"GET","u":"https://p?q"}"#,
        r#"{"t":3,"m":"OPTIONS","u":"*","h":[["Host","h"]]}"#,
    ];

    #[test]
    fn targets_have_urls_and_the_four_keys() {
        let (text, exported) = export(&LINES, Format::Vegeta, None).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"method\":\"POST\",\"url\":\"http://h:1/a?b\",\"body\":\"eHl6\",\"header\":{\"X\":[\"1\",\"2\"]}}\n\
             {\"method\":\"GET\",\"url\":\"https://p/?q\"}\n"
        );
        assert_eq!((exported.written, exported.left_out), (2, 1));
    }

    #[test]
    fn another_server_is_sent_the_recorded_host() {
        let (text, _) = export(&LINES[..1], Format::Vegeta, Some("http://127.0.0.1:8000")).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#""url":"http://127.0.0.1:8000/a?b""#) && text.contains(r#"{"Host":["h:1"],"#), "{text}");
    }

    #[test]
    fn a_url_needs_a_host() {
        let refusal = export(&[r#"{"t":1,"m":"GET","u":"/a"}"#], Format::Vegeta, None).unwrap_err();
        assert!(matches!(refusal, ExportError::NoHost { target } if target == "/a"));
    }
}
