//! The table of all keys: as plain text for a terminal, as Markdown for the manual.

use std::fmt::Write as _;

use crate::key::{Change, Declared, Key};

/// Width in columns to which lines are folded.
const WIDTH: usize = 100;

/// All keys as plain text: one block per key, under the heading of its section.
pub fn plain<S: Declared>(title: &str) -> String {
    let defaults = S::default();
    let mut out = format!("{title}\n");
    let mut section = "";
    for key in S::keys() {
        if key.section != section {
            section = key.section;
            let _ = write!(out, "\n  {section}\n");
        }
        let _ = write!(out, "\n    {} = {}\n", key.name, shown(&(key.print)(&defaults)));
        let _ = writeln!(out, "        {}: {}; {}", (key.kind)(), (key.allowed)(), change(key.change));
        for line in folded(&key.meaning(), WIDTH - 8) {
            let _ = writeln!(out, "        {line}");
        }
    }
    out
}

/// All keys as Markdown: one table per section, under headings of the third level.
pub fn markdown<S: Declared>(title: &str) -> String {
    let defaults = S::default();
    let mut out = format!("## {title}\n");
    let mut section = "";
    for key in S::keys() {
        if key.section != section {
            section = key.section;
            let _ = write!(
                out,
                "\n### {section}\n\n| Key | Type | Default | Allowed | Live | Meaning |\n|---|---|---|---|---|---|\n"
            );
        }
        markdown_row(&mut out, key, &(key.print)(&defaults));
    }
    out
}

fn markdown_row<S>(out: &mut String, key: &Key<S>, default: &str) {
    let live = if key.change == Change::Live { "yes" } else { "no" };
    let default = if default.is_empty() {
        String::new()
    } else {
        format!("`{default}`")
    };
    let cells = [
        format!("`{}`", key.name),
        (key.kind)(),
        default,
        (key.allowed)(),
        live.to_owned(),
        key.meaning(),
    ];
    let _ = writeln!(out, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "(empty)" } else { value }
}

fn change(change: Change) -> &'static str {
    match change {
        Change::AtStart => "read at the start",
        Change::Live => "may change while running",
    }
}

/// Text folded at blanks into lines of at most `width` bytes; a longer word gets its own line.
pub fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{optional, text_that, whole};

    crate::declare! {
        /// Example.
        struct Example;
        section "First" {
            /// Port that clients
            /// connect to.
            port: u16 { name: "listenPort", default: 9876, allowed: whole(1..=65_535).strict(), change: AtStart }
        }
        section "Second" {
            /// A bar.
            bar: Option<String> { name: "bar", default: None, allowed: optional(text_that("a | b", |_| true)), change: Live }
        }
    }

    #[test]
    fn the_plain_table_says_all_of_a_key() {
        let expected = "Example\n\n  First\n\n    listenPort = 9876\n        integer: 1 to 65535; read at the start\n        Port that clients connect to.\n\n  Second\n\n    bar = (empty)\n        text: a | b; or empty; may change while running\n        A bar.\n";
        assert_eq!(plain::<Example>("Example"), expected);
    }

    #[test]
    fn the_markdown_table_escapes_bars() {
        let text = markdown::<Example>("Example");
        assert!(
            text.contains("| `listenPort` | integer | `9876` | 1 to 65535 | no | Port that clients connect to. |"),
            "{text}"
        );
        assert!(text.contains("| `bar` | text |  | a \\| b; or empty | yes | A bar. |"), "{text}");
    }

    #[test]
    fn lines_are_folded_at_words() {
        assert_eq!(folded("aa bb cc", 5), ["aa bb", "cc"]);
    }
}
