//! The line of a configuration file a format string stands in, and the string without it.

/// The format of nginx's `log_format name escape=json 'one' 'two';`, of its quoted parts alone, or of a bare string; and the escape
/// that is named.
pub(super) fn nginx(text: &str) -> (String, Option<&str>) {
    let (body, mut escape) = match text.strip_prefix("log_format") {
        Some(rest) => (rest.find(['\'', '"']).map_or("", |quote| &rest[quote..]), None),
        None if text.starts_with('\'') => (text, None),
        None => return (text.to_owned(), None),
    };
    if let Some((_, named)) = text[..text.len() - body.len()].split_once("escape=") {
        escape = named.split_whitespace().next();
    }
    let mut joined = String::new();
    let mut rest = body;
    while let Some((part, after)) = quoted(rest) {
        joined.push_str(&part);
        rest = after;
    }
    (joined, escape)
}

/// The format of Apache's `LogFormat "…" nickname`, or a bare string; its backslashes are resolved.
pub(super) fn apache(text: &str) -> String {
    let begins = |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if begins("LogFormat") || begins("CustomLog") {
        let quote = text.find('"').unwrap_or(text.len());
        if let Some((format, _)) = quoted(&text[quote..]) {
            return format;
        }
    }
    text.replace("\\\"", "\"").replace("\\t", "\t").replace("\\\\", "\\")
}

/// The format of Gunicorn's `access_log_format = '…'` or `--access-logformat '…'`, or a bare string.
pub(super) fn gunicorn(text: &str) -> String {
    let named = ["access_log_format", "--access-logformat"].iter().any(|name| text.starts_with(name));
    let quote = text.find(['\'', '"']).filter(|_| named || text.starts_with('\''));
    quote.and_then(|quote| quoted(&text[quote..])).map_or_else(|| text.to_owned(), |(format, _)| format)
}

/// The string at the start of `text`, behind blanks, and what follows it. A backslash keeps a quotation mark from ending it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
    let mut plain = String::new();
    let mut letters = text[1..].char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => match letters.next()?.1 {
                't' => plain.push('\t'),
                'n' => plain.push('\n'),
                escaped @ ('\\' | '\'' | '"') => plain.push(escaped),
                other => plain.extend(['\\', other]),
            },
            _ if letter == quote => return Some((plain, &text[at + 2..])),
            _ => plain.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found_in_directives() {
        let (format, escape) = nginx("log_format main escape=json\n  '{\"a\":\"$a\",'\n  '\"b\":$b}';\n");
        assert_eq!((format.as_str(), escape), (r#"{"a":"$a","b":$b}"#, Some("json")));
        assert_eq!(nginx("'$a' \"\\\"$b\\\"\"").0, "$a\"$b\"");
        assert_eq!(nginx("$a '$b'").0, "$a '$b'");
        assert_eq!(nginx("log_format main").0, "");
        assert_eq!(apache(r#"LogFormat "%h \"%r\"" combined"#), r#"%h "%r""#);
        assert_eq!(apache(r#"%h \"%r\""#), r#"%h "%r""#);
        assert_eq!(gunicorn(r#"access_log_format = '%(h)s "%(r)s"'"#), r#"%(h)s "%(r)s""#);
        assert_eq!(gunicorn(r#"%(h)s "%(r)s""#), r#"%(h)s "%(r)s""#);
    }
}
