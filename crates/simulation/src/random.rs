//! Chance, from a seed.

/// A generator of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1).unsigned_abs()) as i64
    }

    /// True so many times in a thousand.
    pub(crate) fn is(&mut self, per_mille: i64) -> bool {
        self.between(0, 999) < per_mille
    }

    /// A time that is mostly short and sometimes long, up to `long`.
    pub(crate) fn time(&mut self, short: i64, long: i64) -> i64 {
        match self.between(0, 99) {
            0..=1 => self.between(1, long),
            2..=9 => self.between(1, short * 10),
            _ => self.between(1, short),
        }
    }
}
