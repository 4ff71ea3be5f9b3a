//! Results for people: tables and lists, as wide as what is in them. JSON needs nothing of this: results are serde's.
//!
//! A file for each feature, as the operations have. Numbers stand to the right; times are local; what is not known is `-`. What
//! others wrote is escaped by [`Page`] and [`Table`].

mod broker;
mod clients;
mod message;
mod offset;
mod page;
mod table;
mod topic;

use std::fmt::Display;

pub use broker::Totals;
pub use message::Line;
pub use page::Page;
pub use table::Table;

/// A result as text.
pub trait Show {
    /// Writes it.
    fn show(&self, out: &mut Page);

    /// The text.
    fn shown(&self) -> String {
        let mut page = Page::default();
        self.show(&mut page);
        page.into_text()
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
