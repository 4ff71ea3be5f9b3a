//! Results as text: tables and lists. JSON output does not use this; it is written by serde.
//!
//! One file per feature, as for the operations. Numbers are right-aligned; times are local; unknown values are `-`. Untrusted text
//! is escaped by [`Page`] and [`Table`].

mod broker;
mod clients;
mod controller;
mod lite;
mod message;
mod offset;
mod page;
mod table;
mod topic;

use std::fmt::Display;

pub use broker::Totals;
pub use message::MessageLine;
pub use page::Page;
pub use table::Table;

/// A result as text.
pub trait Show {
    /// Writes the result.
    fn show(&self, out: &mut Page);

    /// The result as text.
    fn shown(&self) -> String {
        let mut page = Page::default();
        self.show(&mut page);
        page.into_text()
    }
}

/// The value, or `-` if it is absent.
pub(crate) fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A number with two decimals, or `-`.
pub(crate) fn decimal(value: Option<f64>) -> String {
    or_dash(value.map(|value| format!("{value:.2}")))
}
