//! A hash of 128 bits with a secret of its own, so that no client can foresee which texts have the same.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

/// The secret, a new one for each value.
#[derive(Debug)]
pub(crate) struct KeyedHash([RandomState; 2]);

impl KeyedHash {
    pub(crate) fn new() -> Self {
        Self([RandomState::new(), RandomState::new()])
    }

    /// The hash of what `feed` writes; it is called twice.
    pub(crate) fn of(&self, feed: impl Fn(&mut DefaultHasher)) -> [u64; 2] {
        self.0.each_ref().map(|secret| {
            let mut hasher = secret.build_hasher();
            feed(&mut hasher);
            hasher.finish()
        })
    }
}
