//! Cuts what a process writes into lines. A line that is too long is cut, with a mark; its rest is dropped.

/// The longest line that is kept, bytes.
pub(super) const MAX_LINE: usize = 16 << 10;

/// Whether a line is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Cut,
}

/// What came of a line so far.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    held: Vec<u8>,
    /// The rest of a line that was cut is passed over.
    skips: bool,
}

impl Splitter {
    /// Takes more bytes and gives every line that ends in them, without its end.
    pub(super) fn feed(&mut self, bytes: &[u8], mut give: impl FnMut(&[u8], Extent)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if !self.skips {
                let room = MAX_LINE - self.held.len();
                self.held.extend_from_slice(text.get(..room).unwrap_or(text));
                if text.len() > room {
                    give(&self.held, Extent::Cut);
                } else if ends {
                    give(&self.held, Extent::Whole);
                }
                if text.len() > room || ends {
                    self.held.clear();
                }
                self.skips = text.len() > room;
            }
            self.skips &= !ends;
        }
    }

    /// Gives what is left at the end.
    pub(super) fn finish(&mut self, mut give: impl FnMut(&[u8], Extent)) {
        if !self.held.is_empty() {
            give(&self.held, Extent::Whole);
            self.held = Vec::new();
        }
    }
}

/// At most the last `most` bytes of a text. What is cut begins with a whole line, or where that is too long with a whole word, behind "…".
pub(super) fn ending(text: &[u8], most: usize) -> String {
    let Some(cut) = text.len().checked_sub(most).filter(|cut| *cut > 0) else {
        return String::from_utf8_lossy(text).into_owned();
    };
    let (before, rest) = text.split_at(cut);
    let begins = |is_between: fn(&u8) -> bool| {
        if before.last().is_some_and(is_between) { Some(0) } else { rest.iter().position(is_between).map(|at| at + 1) }
    };
    let is_said = |start: &usize| rest.get(*start..).is_some_and(|said| !said.trim_ascii().is_empty());
    let line = begins(|byte| *byte == b'\n').filter(is_said);
    let start = line.or_else(|| begins(u8::is_ascii_whitespace).filter(is_said)).unwrap_or(0);
    let mark = if line.is_some() { "…\n" } else { "… " };
    [mark, &String::from_utf8_lossy(rest.get(start..).unwrap_or(rest))].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<(Vec<u8>, Extent)> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for piece in pieces {
            splitter.feed(piece, |line, extent| found.push((line.to_vec(), extent)));
        }
        splitter.finish(|line, extent| found.push((line.to_vec(), extent)));
        found
    }

    #[test]
    fn lines_are_put_together_and_the_last_needs_no_end() {
        let found = lines(&[b"one\ntw", b"o\n\nthr", b"ee"]);
        let texts: Vec<_> = found.iter().map(|(line, _)| String::from_utf8_lossy(line).into_owned()).collect();
        assert_eq!(texts, ["one", "two", "", "three"]);
    }

    #[test]
    fn the_end_of_a_text_begins_with_a_whole_line_or_word() {
        let told = |text: &str, most| ending(text.as_bytes(), most);
        let text = "first line\nsecond line\nlast";
        assert_eq!(told(text, text.len()), text);
        assert_eq!(told(text, text.len() - 1), "…\nsecond line\nlast");
        assert_eq!(told(text, 16), "…\nsecond line\nlast", "the cut is between two lines");
        assert_eq!(told(text, 15), "…\nlast");
        assert_eq!(told(text, 3), "… ast", "there is no better place");
        assert_eq!(told("one long line of words\n", 8), "… words\n");
        assert_eq!(told("one long line of words\n", 6), "… words\n", "the cut is between two words");
    }

    #[test]
    fn f41_a_line_of_a_mebibyte_is_cut_once_and_the_next_is_whole() {
        let long = vec![b'x'; 1 << 20];
        let found = lines(&[b"a\n", &long[..1 << 19], &long[1 << 19..], b"\nb\n"]);
        let lengths: Vec<_> = found.iter().map(|(line, extent)| (line.len(), *extent)).collect();
        assert_eq!(lengths, [(1, Extent::Whole), (MAX_LINE, Extent::Cut), (1, Extent::Whole)]);
        let exact = [&long[..MAX_LINE], b"\n"].concat();
        assert_eq!(lines(&[&exact])[0].1, Extent::Whole);
    }

    proptest! {
        #[test]
        fn however_it_comes_the_lines_are_the_same(text in "[a\n]{0,200}", cuts in prop::collection::vec(0_usize..200, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(lines(&pieces), lines(&[text.as_bytes()]));
        }
    }
}
