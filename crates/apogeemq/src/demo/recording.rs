//! A recording of the terminal as an SVG file: every line appears when it was printed, and lines of a block change as they did.
//!
//! A viewer that does not animate shows the last state.

use std::fmt::Write as _;
use std::time::Instant;

/// Pixels of a line and of a character.
const LINE_HEIGHT: usize = 18;
const CHARACTER_WIDTH: usize = 8;
const MARGIN: usize = 14;
/// Time between two recorded states of a line, seconds: the file has to stay small.
const STEP_S: f64 = 0.4;

/// What a line showed, and from when on.
type State = (f64, String);

/// Lines with their states.
pub(super) struct Recording {
    begun: Instant,
    lines: Vec<Vec<State>>,
    /// Where the block begins.
    block: usize,
}

impl Recording {
    /// Starts now.
    pub(super) fn start() -> Self {
        Self {
            begun: Instant::now(),
            lines: Vec::new(),
            block: 0,
        }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, text: &str) {
        let now = self.begun.elapsed().as_secs_f64();
        self.lines.push(vec![(now, text.to_owned())]);
        self.block = self.lines.len();
    }

    /// The block below those lines.
    pub(super) fn block(&mut self, block: &[String]) {
        let now = self.begun.elapsed().as_secs_f64();
        for (at, text) in block.iter().enumerate() {
            if self.lines.len() <= self.block + at {
                self.lines.push(Vec::new());
            }
            let states = &mut self.lines[self.block + at];
            match states.last_mut() {
                Some((_, last)) if last == text => {}
                // The state before this one is what is shown meanwhile.
                Some((shown, last)) if now - *shown < STEP_S => text.clone_into(last),
                _ => states.push((now, text.clone())),
            }
        }
    }

    /// The block stays.
    pub(super) fn settle(&mut self) {
        self.block = self.lines.len();
    }

    /// The file.
    pub(super) fn svg(&self) -> String {
        let columns = self.lines.iter().flatten().map(|(_, text)| cells(text)).max().unwrap_or(0);
        let width = columns * CHARACTER_WIDTH + 2 * MARGIN;
        let height = self.lines.len() * LINE_HEIGHT + 2 * MARGIN;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" xml:space=\"preserve\">\n\
             <style>text{{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#d8dee9}}\
             .c1{{font-weight:bold;fill:#fff}}.c32{{fill:#7ec699}}.c31{{fill:#ff6b6b}}.c33{{fill:#e5c07b}}.c90{{fill:#7a8290}}</style>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#1e222a\"/>\n"
        );
        for (row, states) in self.lines.iter().enumerate() {
            let y = MARGIN + row * LINE_HEIGHT + LINE_HEIGHT * 3 / 4;
            for (at, (from, text)) in states.iter().enumerate() {
                let until = states.get(at + 1).map(|(until, _)| *until);
                state(&mut out, y, text, *from, until);
            }
        }
        out + "</svg>\n"
    }
}

/// One state of a line: shown from `from` on, until the next one.
fn state(out: &mut String, y: usize, text: &str, from: f64, until: Option<f64>) {
    if cells(text) == 0 {
        return;
    }
    let set = match until {
        Some(until) => {
            format!("visibility=\"hidden\"><set attributeName=\"visibility\" to=\"visible\" begin=\"{from:.1}s\" end=\"{until:.1}s\"/>")
        }
        None => format!("><set attributeName=\"visibility\" to=\"hidden\" begin=\"0s\" end=\"{from:.1}s\"/>"),
    };
    let _ = writeln!(out, "<text x=\"{MARGIN}\" y=\"{y}\" {set}{}</text>", spans(text));
}

/// Colours as elements.
fn spans(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('\x1b').enumerate() {
        let (colour, shown) = match part.strip_prefix('[').and_then(|part| part.split_once('m')) {
            Some((colour, shown)) if at > 0 => (colour, shown),
            _ => ("0", part),
        };
        let escaped = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        match (colour, escaped.is_empty()) {
            (_, true) => {}
            ("0", _) => out.push_str(&escaped),
            _ => {
                let _ = write!(out, "<tspan class=\"c{colour}\">{escaped}</tspan>");
            }
        }
    }
    out
}

/// Characters that are shown.
fn cells(text: &str) -> usize {
    text.split('\x1b')
        .enumerate()
        .map(|(at, part)| {
            if at == 0 {
                part
            } else {
                part.split_once('m').map_or("", |(_, rest)| rest)
            }
        })
        .map(|shown| shown.chars().count())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_without_animation_shows_the_last_state() {
        let mut recording = Recording::start();
        recording.line("a < b");
        recording.block(&["\x1b[32m1\x1b[0m of 2".to_owned()]);
        recording.lines[1][0].0 = -1.0;
        recording.block(&["\x1b[32m2\x1b[0m of 2".to_owned()]);
        let svg = recording.svg();
        assert!(svg.contains("a &lt; b"));
        let line = |text: &str| svg.lines().find(|line| line.contains(text)).unwrap().to_owned();
        assert!(line(">1</tspan> of 2").contains("visibility=\"hidden\">"));
        assert!(!line(">2</tspan> of 2").contains("visibility=\"hidden\">"));
    }
}
