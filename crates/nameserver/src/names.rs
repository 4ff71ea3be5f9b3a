//! Names in requests: of topics, brokers, clusters, addresses, zones, namespaces and keys. They are kept, logged and told to others,
//! so they are bounded and hold no control characters. Apache's name server takes anything; what its brokers send passes here.

use crate::problem::Problem;

/// Longest name, in bytes: as long as Apache's longest topics.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Whether a name can be kept.
pub(crate) fn is_sound(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

/// The name, if it is sound; `what` it names is told to the client.
///
/// # Errors
/// [`Problem::Name`].
pub(crate) fn checked<'a>(what: &'static str, name: &'a str) -> Result<&'a str, Problem> {
    if is_sound(name) { Ok(name) } else { Err(Problem::Name(what)) }
}

/// What of a text of others is repeated in an answer.
pub(crate) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_printable() {
        for sound in ["a", "%RETRY%group+topic", "broker one", "größe", "10.0.0.1:10911", "[::1]:1"] {
            assert!(is_sound(sound), "{sound}");
        }
        for unsound in ["", "a\nb", "\u{1b}[31m", "\u{85}", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(!is_sound(unsound), "{unsound:?}");
        }
        assert_eq!(shortened("kurz"), "kurz");
        assert_eq!(shortened(&"ö".repeat(200)).len(), 254);
    }
}
