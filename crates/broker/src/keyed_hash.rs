//! A hash of 128 bits with a secret of its own, so that no client can foresee which texts have the same.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasher, Hasher, RandomState};

/// The secret, a new one for each value.
#[derive(Debug)]
pub(crate) struct KeyedHash(SipHasher13);

impl KeyedHash {
    pub(crate) fn new() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self(SipHasher13::new_with_keys(random(), random()))
    }

    /// The hash of what `feed` writes.
    pub(crate) fn of(&self, feed: impl FnOnce(&mut SipHasher13)) -> [u64; 2] {
        let mut hasher = self.0;
        feed(&mut hasher);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
}
