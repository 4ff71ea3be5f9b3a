//! Tables with columns as wide as their widest cell, two blanks apart.

use std::fmt;

use message::text;

/// A table under construction.
#[derive(Debug, Clone, Default)]
pub struct Table {
    head: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Table {
    /// A table with these columns. Columns whose name begins with `>` are right-aligned, for numbers.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        let column = |name: &str| match name.strip_prefix('>') {
            Some(name) => (name.to_owned(), Side::Right),
            None => (name.to_owned(), Side::Left),
        };
        Self {
            head: head.into_iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Cells are escaped; line ends and tabs become blanks.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.head.len(), "a row has one cell per column");
        let plain = |cell: String| text::line(&cell.replace(['\n', '\r', '\t'], " ")).into_owned();
        self.rows.push(cells.map(plain).into());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(self.head.get(column).map_or(0, |(name, _)| name.chars().count()))
        };
        (0..self.head.len()).map(width).collect()
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, (_, side)), width) in cells.zip(&self.head).zip(widths) {
            match side {
                Side::Left => line.push_str(&format!("{cell:<width$}  ")),
                Side::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        line.trim_end().to_owned()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        writeln!(out, "{}", self.line(self.head.iter().map(|(name, _)| name.as_str()), &widths))?;
        for row in &self.rows {
            writeln!(out, "{}", self.line(row.iter().map(String::as_str), &widths))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["TOPIC", ">MAX", "NOTE"]);
        table.row(["orders".into(), "7".into(), "one\nline".into()]);
        table.row(["t".into(), "1000".into(), String::new()]);
        assert_eq!(table.to_string(), "TOPIC    MAX  NOTE\norders     7  one line\nt       1000\n");
        table.row(["\u{1b}[2J".into(), "1".into(), "\u{202e}".into()]);
        assert!(table.to_string().ends_with("\\u{1b}[2J     1  \\u{202e}\n"));
    }
}
