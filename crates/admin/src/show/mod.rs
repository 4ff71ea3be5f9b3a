//! Results for people: tables and lists, as wide as what is in them. JSON needs nothing of this: results are serde's.
//!
//! A file for each feature, as the operations have. Numbers stand to the right; times are local; what is not known is `-`.

mod broker;
mod clients;
mod message;
mod offset;
mod table;
mod topic;

use std::fmt::Display;

pub use broker::Totals;
pub use message::Line;
pub use table::Table;

/// A result as text.
pub trait Show {
    /// Writes it, with a line end after every line.
    fn show(&self, out: &mut String);

    /// The text.
    fn shown(&self) -> String {
        let mut out = String::new();
        self.show(&mut out);
        out
    }
}

/// `-` for what is absent.
pub(crate) fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A number with two digits behind the point, or `-`.
pub(crate) fn decimal(value: Option<f64>) -> String {
    or_dash(value.map(|value| format!("{value:.2}")))
}

/// A heading over what follows.
pub(crate) fn heading(out: &mut String, text: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(text);
    out.push('\n');
}

/// `Name:  value` lines, values under each other.
pub(crate) fn fields<N: AsRef<str>, V: AsRef<str>>(out: &mut String, pairs: impl IntoIterator<Item = (N, V)>) {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let widest = pairs.iter().map(|(name, _)| name.as_ref().chars().count()).max().unwrap_or(0);
    for (name, value) in pairs {
        let (name, value) = (name.as_ref(), value.as_ref());
        out.push_str(format!("{name:<widest$}  {value}").trim_end());
        out.push('\n');
    }
}
