//! Text output. All untrusted text that reaches a terminal passes here.

use std::fmt::Display;

use message::text;

use super::Table;

/// Lines of text. Names, addresses, bodies and remarks are untrusted, so a line is escaped when it is added
/// ([`text::line`]): nothing in it can end the line or control the terminal.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Adds a line.
    pub fn line(&mut self, line: impl Display) {
        self.0.push_str(&text::line(&line.to_string()));
        self.0.push('\n');
    }

    /// Adds an empty line.
    pub fn blank(&mut self) {
        self.0.push('\n');
    }

    /// Adds several lines, each escaped.
    pub fn lines(&mut self, lines: &str) {
        self.0.push_str(&text::lines(lines));
        self.0.push('\n');
    }

    /// Adds a table. Its cells are escaped already.
    pub fn table(&mut self, table: &Table) {
        self.0.push_str(&table.to_string());
    }

    /// Adds a heading over what follows.
    pub fn heading(&mut self, text: impl Display) {
        if !self.0.is_empty() {
            self.blank();
        }
        self.line(text);
    }

    /// Adds aligned `Name:  value` lines.
    pub fn fields<N: AsRef<str>, V: AsRef<str>>(&mut self, pairs: impl IntoIterator<Item = (N, V)>) {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let widest = pairs.iter().map(|(name, _)| name.as_ref().chars().count()).max().unwrap_or(0);
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            self.line(format!("{name:<widest$}  {value}").trim_end());
        }
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.0
    }
}
