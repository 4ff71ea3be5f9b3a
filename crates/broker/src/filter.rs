//! Which messages a subscription takes: tags, compared by their hash in the consume queue.
//!
//! The consumer compares the tags' text again, since two tags may share a hash.

use message::hash::java_string_hash;

/// What a consumer wants of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFilter {
    /// All messages.
    All,
    /// Messages whose tag has one of these hashes; sorted.
    Codes(Box<[i32]>),
}

/// Most tags of one expression.
pub const MAX_TAGS: usize = 1_024;

impl TagFilter {
    /// Reads `tagA || tagB`; nothing, blanks and `*` mean all.
    ///
    /// # Errors
    /// Too many tags, or separators only: what Apache calls a subscription that cannot be parsed.
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

    /// A filter by hashes that were computed before.
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

    /// The hashes of the tags that are wanted, sorted; `None` for all messages.
    #[must_use]
    pub fn codes(&self) -> Option<&[i32]> {
        match self {
            Self::All => None,
            Self::Codes(codes) => Some(codes),
        }
    }

    /// Whether a message with this hash of its tag is wanted. One whose hash is not known is: clients compare the tag again.
    #[must_use]
    pub fn takes(&self, tags_code: i64) -> bool {
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
    fn a_message_whose_hash_is_not_known_is_taken() {
        let filter = TagFilter::parse("a || b").unwrap();
        assert!(filter.takes(tags_code("a")) && !filter.takes(tags_code("c")));
        assert!(filter.takes(i64::MIN + 40) && filter.takes(i64::from(i32::MIN) - 1));
        assert!(!filter.takes(i64::from(i32::MIN)));
    }

    #[test]
    fn an_expression_takes_its_tags_and_no_others() {
        let filter = TagFilter::parse(" TagA || TagB||TagA ").unwrap();
        assert!(filter.takes(tags_code("TagA")) && filter.takes(tags_code("TagB")));
        assert!(!filter.takes(tags_code("TagC")) && !filter.takes(0));
    }

    #[test]
    fn nothing_and_star_take_all() {
        for text in ["", " ", "*"] {
            assert_eq!(TagFilter::parse(text), Ok(TagFilter::All));
        }
        assert!(TagFilter::parse("||").is_err());
        assert!(TagFilter::parse(&"a||".repeat(2000)).is_err());
    }
}
