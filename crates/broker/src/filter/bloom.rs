//! The bits of a group in Apache's bit maps of filtered messages (`enableCalcFilterBitMap`).
//!
//! There are no such bit maps here: a filter is evaluated when it is asked for. But Apache's broker reads `consumerFilter.json` only if each
//! expression in it has its bits.

use serde::{Deserialize, Serialize};

/// A filter that says "perhaps" or "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bloom {
    /// Hash functions of a text.
    hashes: u32,
    /// Bits of a map; a multiple of 8.
    bits: i32,
}

/// `bloomFilterData` of an expression.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Bits {
    bit_num: i32,
    bit_pos: Vec<i32>,
}

impl Bloom {
    /// For so many texts in a map, of which so many per cent of the others may seem to be there.
    #[must_use]
    pub fn new(error_percent: u32, texts: u32) -> Self {
        let rate = f64::from(error_percent.clamp(1, 99)) / 100.0;
        let hashes = (rate.ln() / 0.5f64.ln()).ceil();
        let bits = (f64::from(texts.max(1)) * (1.0 / rate).log2() * std::f64::consts::LOG2_E).ceil();
        Self {
            hashes: hashes as u32,
            bits: (bits / 8.0).ceil() as i32 * 8,
        }
    }

    /// The bits of a group in a topic.
    pub(super) fn of(self, group: &str, topic: &str) -> Bits {
        let hash = murmur3(format!("{group}#{topic}").as_bytes());
        let (first, step) = (hash as i32, (hash >> 32) as i32);
        let bit = |n: u32| {
            let mixed = first.wrapping_add(step.wrapping_mul(n as i32));
            (if mixed < 0 { !mixed } else { mixed }) % self.bits
        };
        Bits {
            bit_num: self.bits,
            bit_pos: (1..=self.hashes).map(bit).collect(),
        }
    }
}

/// The lower half of MurmurHash3 for x64 with 128 bits and seed 0.
fn murmur3(text: &[u8]) -> u64 {
    const FACTORS: [u64; 2] = [0x87c3_7b91_1142_53d5, 0x4cf5_ad43_2745_937f];
    let scatter = |lane: usize, word: u64| {
        let turns = [31, 33][lane];
        word.wrapping_mul(FACTORS[lane]).rotate_left(turns).wrapping_mul(FACTORS[1 - lane])
    };
    let finish = |mut half: u64| {
        half = (half ^ (half >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        half = (half ^ (half >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        half ^ (half >> 33)
    };
    let (mut low, mut high) = (0u64, 0u64);
    let (blocks, rest) = text.as_chunks::<16>();
    for block in blocks {
        let whole = u128::from_le_bytes(*block);
        low = (low ^ scatter(0, whole as u64)).rotate_left(27).wrapping_add(high);
        low = low.wrapping_mul(5).wrapping_add(0x52dc_e729);
        high = (high ^ scatter(1, (whole >> 64) as u64)).rotate_left(31).wrapping_add(low);
        high = high.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let last = u128::from_le_bytes(last);
    low ^= scatter(0, last as u64) ^ text.len() as u64;
    high ^= scatter(1, (last >> 64) as u64) ^ text.len() as u64;
    low = low.wrapping_add(high);
    high = high.wrapping_add(low);
    finish(low).wrapping_add(finish(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `BloomFilter` in `rocketmq-filter` 5.5.0.
    #[test]
    fn bits_are_those_of_the_java_broker() {
        let expected: [(u32, u32, i32, [&[i32]; 3]); 5] = [
            (20, 32, 112, [&[22, 87, 58], &[108, 105, 48], &[82, 27, 25]]),
            (10, 128, 616, [&[582, 255, 450, 540], &[52, 161, 552, 277], &[474, 307, 473, 288]]),
            (
                1,
                1,
                16,
                [&[6, 7, 10, 12, 1, 15, 2], &[12, 9, 0, 5, 4, 1, 8], &[2, 11, 9, 8, 10, 12, 1]],
            ),
            (99, 7, 8, [&[6], &[4], &[2]]),
            (50, 100, 152, [&[102], &[132], &[98]]),
        ];
        let places = [
            ("g", "t"),
            ("a_group_of_some_length", "a_topic_of_some_length-0123"),
            ("sixteen_bytes", "16"),
        ];
        for (error_percent, texts, bit_num, bits) in expected {
            let bloom = Bloom::new(error_percent, texts);
            for ((group, topic), bits) in places.iter().zip(bits) {
                let bit_pos = bits.to_vec();
                assert_eq!(bloom.of(group, topic), Bits { bit_num, bit_pos }, "{error_percent} {texts} {group}");
            }
        }
    }
}
