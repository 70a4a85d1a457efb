//! The placeholders of a command line: `{fd}`, `{connections}`, `{worker}`, `{workers}`; `{{` and `}}` are braces. Refuses all others.

use crate::units::{Connections, Slot, Workers};

/// What can stand between braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Fd,
    Connections,
    Worker,
    Workers,
}

impl Placeholder {
    const ALL: [Self; 4] = [Self::Fd, Self::Connections, Self::Worker, Self::Workers];

    const fn name(self) -> &'static str {
        match self {
            Self::Fd => "fd",
            Self::Connections => "connections",
            Self::Worker => "worker",
            Self::Workers => "workers",
        }
    }
}

/// A use of braces that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    /// `{name}` with a name nobody knows.
    #[error("unknown placeholder {{{}}}", .0.escape_debug())]
    Unknown(String),
    /// `{` without `}`.
    #[error("{{ without }}")]
    Unclosed,
    /// `}` without `{`.
    #[error("}} without {{")]
    Unopened,
}

enum Piece<'a> {
    Text(&'a str),
    Placeholder(Placeholder),
    Bad(&'a str, TemplateError),
}

/// Every wrong use of braces in one argument of a command.
pub(super) fn errors(argument: &str) -> impl Iterator<Item = TemplateError> {
    pieces(argument).into_iter().filter_map(|piece| match piece {
        Piece::Bad(_, error) => Some(error),
        Piece::Text(_) | Piece::Placeholder(_) => None,
    })
}

/// `{fd}, {connections}, …`: what a message lists.
pub(super) fn known() -> String {
    Placeholder::ALL.map(|known| format!("{{{}}}", known.name())).join(", ")
}

/// `command` with its placeholders replaced: `fd` is the number of the first listening socket in the worker.
/// Braces that mean nothing, which a checked configuration does not contain, stay as they are.
#[must_use]
pub fn expand(command: &[String], fd: i32, connections: Connections, worker: Slot, workers: Workers) -> Vec<String> {
    let value = |placeholder| match placeholder {
        Placeholder::Fd => fd.to_string(),
        Placeholder::Connections => connections.to_string(),
        Placeholder::Worker => worker.to_string(),
        Placeholder::Workers => workers.to_string(),
    };
    let fill = |argument: &String| {
        pieces(argument)
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) | Piece::Bad(text, _) => text.to_owned(),
                Piece::Placeholder(placeholder) => value(placeholder),
            })
            .collect()
    };
    command.iter().map(fill).collect()
}

fn pieces(argument: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = argument;
    while let Some(brace) = rest.find(['{', '}']) {
        let (text, from) = rest.split_at(brace);
        pieces.push(Piece::Text(text));
        let (piece, length) = brace_piece(from);
        pieces.push(piece);
        rest = &from[length..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// The piece at the start of `from`, which begins with a brace, and its length.
fn brace_piece(from: &str) -> (Piece<'_>, usize) {
    if from.starts_with("{{") || from.starts_with("}}") {
        return (Piece::Text(&from[..1]), 2);
    }
    if from.starts_with('}') {
        return (Piece::Bad(&from[..1], TemplateError::Unopened), 1);
    }
    let Some(close) = from.find('}') else {
        return (Piece::Bad(&from[..1], TemplateError::Unclosed), 1);
    };
    let name = &from[1..close];
    let piece = match Placeholder::ALL.into_iter().find(|known| known.name() == name) {
        Some(placeholder) => Piece::Placeholder(placeholder),
        None => Piece::Bad(&from[..=close], TemplateError::Unknown(name.to_owned())),
    };
    (piece, close + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand_one(argument: &str) -> String {
        let (connections, workers) = (Connections::new(50).unwrap(), Workers::new(4).unwrap());
        expand(&[argument.to_owned()], 3, connections, Slot(17), workers).remove(0)
    }

    #[test]
    fn placeholders_are_replaced_and_double_braces_are_braces() {
        let table = [
            ("--fd={fd}", "--fd=3"),
            ("{worker}/{workers}:{connections}", "17/4:50"),
            ("{{fd}}", "{fd}"),
            ("{{{fd}}}", "{3}"),
            ("é{fd}é", "é3é"),
            ("", ""),
        ];
        for (argument, expected) in table {
            assert_eq!(errors(argument).next(), None, "{argument}");
            assert_eq!(expand_one(argument), expected);
        }
    }

    #[test]
    fn braces_that_mean_nothing_are_named() {
        let table = [
            ("{port}", "unknown placeholder {port}"),
            ("{}", "unknown placeholder {}"),
            ("{ fd }", "unknown placeholder { fd }"),
            ("a{fd", "{ without }"),
            ("fd}", "} without {"),
        ];
        for (argument, expected) in table {
            assert_eq!(errors(argument).map(|error| error.to_string()).collect::<Vec<_>>(), [expected]);
            assert_eq!(expand_one(argument), argument);
        }
        assert_eq!(errors("{a} {b} }").count(), 3);
    }

    proptest! {
        #[test]
        fn escaped_text_survives(text in ".*") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(errors(&escaped).next(), None);
            prop_assert_eq!(expand_one(&escaped), text);
        }

        #[test]
        fn any_text_is_expanded(text in ".*") {
            expand_one(&text);
        }
    }
}
