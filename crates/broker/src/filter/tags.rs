//! Filters messages by tag hash, as stored in the consume queue.
//!
//! The consumer compares the tags again, because two tags may have the same hash.

use message::hash::java_string_hash;

/// The tags of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFilter {
    /// All messages.
    All,
    /// Messages whose tag has one of these hashes. Sorted.
    Codes(Box<[i32]>),
}

/// Largest number of tags in an expression.
pub const MAX_TAGS: usize = 1_024;

impl TagFilter {
    /// Parses `tagA || tagB`; an empty expression and `*` mean all messages.
    ///
    /// # Errors
    /// The reason, if there are more than [`MAX_TAGS`] tags, or separators only: Apache's "parse the consumer's subscription
    /// failed".
    pub fn parse(expression: &str) -> Result<Self, &'static str> {
        let expression = expression.trim();
        if expression.is_empty() || expression == "*" {
            return Ok(Self::All);
        }
        let tags = expression.split("||").map(str::trim).filter(|tag| !tag.is_empty());
        let mut codes: Vec<i32> = tags.take(MAX_TAGS + 1).map(java_string_hash).collect();
        if codes.is_empty() {
            return Err("the subscription has separators but no tag");
        }
        if codes.len() > MAX_TAGS {
            return Err("the subscription has too many tags");
        }
        codes.sort_unstable();
        codes.dedup();
        Ok(Self::Codes(codes.into()))
    }

    /// A filter by hashes.
    #[must_use]
    pub fn from_codes(codes: impl IntoIterator<Item = i32>) -> Self {
        let mut codes: Vec<i32> = codes.into_iter().collect();
        if codes.is_empty() {
            return Self::All;
        }
        codes.sort_unstable();
        codes.dedup();
        Self::Codes(codes.into())
    }

    /// The hashes of the tags, sorted; `None` for all messages.
    #[must_use]
    pub fn codes(&self) -> Option<&[i32]> {
        match self {
            Self::All => None,
            Self::Codes(codes) => Some(codes),
        }
    }

    /// Whether a message with this tag hash matches. An unknown hash matches: clients compare the tag again.
    #[must_use]
    pub fn matches(&self, tags_code: i64) -> bool {
        match self {
            Self::All => true,
            Self::Codes(codes) => codes.binary_search(&(tags_code as i32)).is_ok() || store::queue::is_ext_address(tags_code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::hash::tags_code;

    #[test]
    fn a_message_with_an_unknown_hash_matches() {
        let filter = TagFilter::parse("a || b").unwrap();
        assert!(filter.matches(tags_code("a")) && !filter.matches(tags_code("c")));
        assert!(filter.matches(i64::MIN + 40) && filter.matches(i64::from(i32::MIN) - 1));
        assert!(!filter.matches(i64::from(i32::MIN)));
    }

    #[test]
    fn an_expression_matches_its_tags_only() {
        let filter = TagFilter::parse(" TagA || TagB||TagA ").unwrap();
        assert!(filter.matches(tags_code("TagA")) && filter.matches(tags_code("TagB")));
        assert!(!filter.matches(tags_code("TagC")) && !filter.matches(0));
    }

    #[test]
    fn an_empty_expression_and_a_star_match_all() {
        for text in ["", " ", "*"] {
            assert_eq!(TagFilter::parse(text), Ok(TagFilter::All));
        }
        assert!(TagFilter::parse("||").is_err());
        assert!(TagFilter::parse(&"a||".repeat(2000)).is_err());
    }
}
