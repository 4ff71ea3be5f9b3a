//! Text forms of values: one shape for each kind of value, which parses, prints and describes the allowed values.
//!
//! Only shapes turn text into typed values. The doc sentence and the shape's kind name the unit, and the
//! Rust type carries it (`Duration`, not a number). Not here: which key has which shape.

mod choice;
mod number;
mod text;
mod time;

pub use choice::{Choice, OneOf, one_of};
pub use number::{Integer, Percent, RoundedUp, Whole, bytes, bytes_in_units_of, percent, whole};
pub use text::{Address, Path, Text, address, host, host_and_port, name, path, text, text_that};
pub use time::{HoursOfDay, HoursText, Span, hours, hours_of_day, milliseconds, seconds};

/// Why a shape refuses a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is not among the allowed values ([`Shape::allowed`]).
    NotAllowed,
    /// It is well formed but not possible, for this reason.
    Because(String),
}

/// Text to value and back.
pub trait Shape<T> {
    /// Name of the type, as the table shows it.
    fn kind(&self) -> String;
    /// The allowed values, as text that completes "allowed is …".
    fn allowed(&self) -> String;
    /// Parses a text without blanks around it.
    ///
    /// # Errors
    /// [`Refused`] if the text is not an allowed value.
    fn parse(&self, text: &str) -> Result<T, Refused>;
    /// The value that a text refused by [`Shape::parse`] counts as, if its meaning is clear: a number beyond a
    /// bound counts as the bound. `None` if there is no sensible meaning; the text is refused then.
    fn fit(&self, text: &str) -> Option<T> {
        let _ = text;
        None
    }
    /// Text that [`Shape::parse`] accepts.
    fn print(&self, value: &T) -> String;
}

/// A boolean.
#[derive(Debug, Clone, Copy)]
pub struct Flag;

/// `true` or `false` in any case, as in Java; nothing else (Java would read a typing error as `false`).
pub fn flag() -> Flag {
    Flag
}

impl Shape<bool> for Flag {
    fn kind(&self) -> String {
        "boolean".to_owned()
    }

    fn allowed(&self) -> String {
        "true, false".to_owned()
    }

    fn parse(&self, text: &str) -> Result<bool, Refused> {
        if text.eq_ignore_ascii_case("true") {
            return Ok(true);
        }
        if text.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err(Refused::NotAllowed)
        }
    }

    fn print(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// A value that may be left out.
#[derive(Debug, Clone, Copy)]
pub struct Optional<S>(S);

/// What `shape` accepts, or the empty text for no value.
pub fn optional<S>(shape: S) -> Optional<S> {
    Optional(shape)
}

impl<T, S: Shape<T>> Shape<Option<T>> for Optional<S> {
    fn kind(&self) -> String {
        self.0.kind()
    }

    fn allowed(&self) -> String {
        format!("{}; or empty", self.0.allowed())
    }

    fn parse(&self, text: &str) -> Result<Option<T>, Refused> {
        if text.is_empty() { Ok(None) } else { self.0.parse(text).map(Some) }
    }

    fn fit(&self, text: &str) -> Option<Option<T>> {
        self.0.fit(text).map(Some)
    }

    fn print(&self, value: &Option<T>) -> String {
        value.as_ref().map_or_else(String::new, |value| self.0.print(value))
    }
}

/// Several values in one text.
#[derive(Debug, Clone, Copy)]
pub struct List<S> {
    of: S,
    separator: char,
    at_most: usize,
}

/// Up to `at_most` values separated by `separator`; empty parts do not count.
pub fn list<S>(of: S, separator: char, at_most: usize) -> List<S> {
    List { of, separator, at_most }
}

impl<T, S: Shape<T>> Shape<Vec<T>> for List<S> {
    fn kind(&self) -> String {
        format!("list of {}", self.of.kind())
    }

    fn allowed(&self) -> String {
        format!(
            "up to {} separated by '{}', each {}",
            self.at_most,
            self.separator,
            self.of.allowed()
        )
    }

    fn parse(&self, text: &str) -> Result<Vec<T>, Refused> {
        let parts = text.split(self.separator).map(str::trim).filter(|part| !part.is_empty());
        let values = parts.map(|part| self.of.parse(part)).collect::<Result<Vec<_>, _>>()?;
        if values.len() <= self.at_most {
            Ok(values)
        } else {
            Err(Refused::NotAllowed)
        }
    }

    fn print(&self, values: &Vec<T>) -> String {
        let parts: Vec<_> = values.iter().map(|value| self.of.print(value)).collect();
        parts.join(&self.separator.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_not_false() {
        assert_eq!(flag().parse("TRUE"), Ok(true));
        assert_eq!(flag().parse("False"), Ok(false));
        assert_eq!(flag().parse("ture"), Err(Refused::NotAllowed));
        assert_eq!(flag().parse("yes"), Err(Refused::NotAllowed));
    }

    #[test]
    fn lists_and_optional_values_take_the_empty_text() {
        let servers = list(host_and_port(), ';', 2);
        assert_eq!(servers.parse("a:1; b.c:2;").unwrap(), ["a:1", "b.c:2"]);
        assert_eq!(servers.parse(""), Ok(Vec::new()));
        assert_eq!(servers.parse("a:1;b:2;c:3"), Err(Refused::NotAllowed));
        assert_eq!(servers.parse("a"), Err(Refused::NotAllowed));
        assert_eq!(optional(host()).parse(""), Ok(None));
        assert_eq!(optional(host()).parse("::1"), Ok(Some("::1".to_owned())));
    }
}
