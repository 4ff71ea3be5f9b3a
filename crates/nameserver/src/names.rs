//! Names in requests: of topics, brokers, clusters, addresses, zones, namespaces and keys. They are stored, logged and sent to others, so
//! their length is limited and they have no control characters. Apache's name server accepts anything; all that its brokers send is valid here.

use crate::error::RequestError;

/// Maximum length in bytes: that of Apache's topics.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Whether a name can be stored.
pub(crate) fn is_valid(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

/// Returns the name if it is valid. `what` is the field's name, for the error.
///
/// # Errors
/// [`RequestError::Name`] if it is empty, too long, or has control characters.
pub(crate) fn checked<'a>(what: &'static str, name: &'a str) -> Result<&'a str, RequestError> {
    if is_valid(name) { Ok(name) } else { Err(RequestError::Name(what)) }
}

/// Cuts a client's text to the length of a name, for answers and logs.
pub(crate) fn truncated(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_printable() {
        for valid in ["a", "%RETRY%group+topic", "broker one", "größe", "10.0.0.1:10911", "[::1]:1"] {
            assert!(is_valid(valid), "{valid}");
        }
        for invalid in ["", "a\nb", "\u{1b}[31m", "\u{85}", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(!is_valid(invalid), "{invalid:?}");
        }
        assert_eq!(truncated("short"), "short");
        assert_eq!(truncated(&"ö".repeat(200)).len(), 254);
    }
}
