//! What the demo prints: lines that stay, and a block of lines below them that is drawn again and again.
//!
//! Plain output has no colours and does not move the cursor; of the block it prints a line a second.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::recording::Recording;
use crate::failure::Failure;

/// Time between two drawings of the block.
pub(super) const FRAME: Duration = Duration::from_millis(100);
/// Time between two lines of the block in plain output.
const PLAIN_FRAME: Duration = Duration::from_secs(1);

/// Colours and weights.
#[derive(Debug, Clone, Copy)]
pub(super) enum Colour {
    /// Bold.
    Bold,
    /// Success.
    Green,
    /// Failure.
    Red,
    /// A bar that grows.
    Yellow,
    /// Numbers of less interest.
    Grey,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Green => "32",
            Self::Red => "31",
            Self::Yellow => "33",
            Self::Grey => "90",
        }
    }
}

/// Text in a colour.
pub(super) fn paint(colour: Colour, text: &str) -> String {
    format!("\x1b[{}m{text}\x1b[0m", colour.code())
}

/// Cells of a bar; plain output has the ASCII characters.
const FULL: (&str, &str) = ("█", "#");
const EMPTY: (&str, &str) = ("░", ".");

/// `text` without colours, in ASCII.
fn stripped(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    out.replace(FULL.0, FULL.1).replace(EMPTY.0, EMPTY.1)
}

/// A bar of `width` cells that is full at `most`.
pub(super) fn bar(colour: Colour, value: u64, most: u64, width: usize) -> String {
    let cells = (value.min(most) as usize * width).div_ceil(most.max(1) as usize);
    paint(colour, &FULL.0.repeat(cells)) + &paint(Colour::Grey, &EMPTY.0.repeat(width - cells))
}

/// Stdout, and the recording if there is one.
pub(super) struct Terminal {
    plain: bool,
    block: Vec<String>,
    /// When the block was last printed in plain output.
    printed: Option<Instant>,
    recording: Option<Recording>,
}

impl Terminal {
    /// A terminal without output yet.
    pub(super) fn new(plain: bool, recorded: bool) -> Self {
        Self {
            plain,
            block: Vec::new(),
            printed: None,
            recording: recorded.then(Recording::start),
        }
    }

    /// Prints a line.
    pub(super) fn say(&mut self, line: &str) {
        self.settle();
        self.print(&format!("{line}\n"));
        if let Some(recording) = &mut self.recording {
            recording.line(line);
        }
    }

    /// Prints an empty line.
    pub(super) fn blank(&mut self) {
        self.say("");
    }

    /// Draws the block over the last one.
    pub(super) fn draw(&mut self, block: Vec<String>) {
        if let Some(recording) = &mut self.recording {
            recording.block(&block);
        }
        if self.plain {
            let due = self.printed.is_none_or(|printed| printed.elapsed() >= PLAIN_FRAME);
            self.block = block;
            if due {
                self.print_block();
            }
            return;
        }
        let mut text = match self.block.len() {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        for line in &block {
            text += &format!("\x1b[2K{line}\n");
        }
        self.print(&text);
        self.block = block;
    }

    /// The block stays as it is; the next one is drawn below it.
    pub(super) fn settle(&mut self) {
        if self.plain && !self.block.is_empty() {
            self.print_block();
        }
        self.block.clear();
        self.printed = None;
        if let Some(recording) = &mut self.recording {
            recording.settle();
        }
    }

    fn print_block(&mut self) {
        let text: String = std::mem::take(&mut self.block).iter().map(|line| format!("{line}\n")).collect();
        self.print(&text);
        self.printed = Some(Instant::now());
    }

    /// Errors are ignored: nobody watches.
    fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let text = if self.plain { stripped(text) } else { text.to_owned() };
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Writes the recording, if there is one.
    pub(super) fn write_recording(self, path: &Path) -> Result<(), Failure> {
        let Some(recording) = self.recording else { return Ok(()) };
        std::fs::write(path, recording.svg()).map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_colours() {
        assert_eq!(stripped(&format!("a {} b", paint(Colour::Green, "ok"))), "a ok b");
        assert_eq!(stripped("none"), "none");
    }

    #[test]
    fn a_bar_shows_something_as_soon_as_there_is_something() {
        let cells = |value| stripped(&bar(Colour::Green, value, 100, 10));
        assert_eq!(
            [cells(0), cells(1), cells(50), cells(100), cells(200)],
            ["..........", "#.........", "#####.....", "##########", "##########"]
        );
    }
}
