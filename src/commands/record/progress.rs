//! How far the reading of large files has come, as a bar on standard error. There is none for a small file, for a pipe, whose size
//! is not known, and where standard error is no terminal.

use std::io::{self, IsTerminal, Read};
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bytes below which a file is read before a bar could be looked at.
const WORTH_A_BAR: u64 = 8 << 20;

/// The bars of all inputs, one below the other.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    let is_shown = io::stderr().is_terminal();
    MultiProgress::with_draw_target(if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() })
});

/// Shows no bar from now on: what is written now goes to the same terminal.
pub(super) fn hide() {
    BARS.set_draw_target(ProgressDrawTarget::hidden());
}

/// An input whose reading is shown.
#[derive(Debug)]
pub(super) struct Watched<R> {
    input: R,
    bar: ProgressBar,
}

impl<R> Watched<R> {
    /// `input`, which is this long and has this name.
    pub(super) fn new(input: R, length: u64, name: &str) -> Self {
        let bar = ProgressBar::hidden();
        if length >= WORTH_A_BAR {
            let template = "{bar:20} {bytes}/{total_bytes} {bytes_per_sec} {eta:>4} {wide_msg}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_length(length);
            bar.set_style(style.progress_chars("█▌ "));
            bar.set_message(name.to_owned());
            return Self { input, bar: BARS.add(bar) };
        }
        Self { input, bar }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bar.inc(count as u64);
        Ok(count)
    }
}

impl<R> Drop for Watched<R> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
