//! Changes of good inputs: few at a time, of the kinds that parsers stumble over.

/// Longest input made.
pub const MAX_LEN: usize = 1 << 16;
/// Most changes of one input.
const CHANGES: usize = 6;
/// Numbers at the edges of what lengths and offsets can be.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];
/// Text that means something to one of the parsers.
const WORDS: [&[u8]; 18] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"\\",
    b"null",
    b"-1",
    b"1e999",
    b"{{",
    b"\x01",
    b"\x02",
    b"\xff\xfe",
    b"\\u0000",
    b"@",
    b"%RETRY%",
];

/// SplitMix64: small, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.number() % bound as u64) as usize }
    }
}

/// An input made of one of the seeds, perhaps with a part of another.
pub fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds.get(random.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..=random.below(CHANGES) {
        change(&mut bytes, seeds, random);
    }
    bytes.truncate(MAX_LEN);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let rest = bytes.len() - at;
    match random.below(9) {
        0 => flip(bytes, at, random),
        1 => overwrite(bytes, at, &[random.number() as u8]),
        2 => edge(bytes, at, random),
        3 => insert(bytes, at, WORDS[random.below(WORDS.len())]),
        4 => overwrite(bytes, at, WORDS[random.below(WORDS.len())]),
        5 => bytes.truncate(at),
        6 => {
            bytes.drain(at..at + random.below(rest.min(64) + 1));
        }
        7 => {
            let part = bytes[at..at + random.below(rest.min(64) + 1)].to_vec();
            let to = random.below(bytes.len() + 1);
            insert(bytes, to, &part);
        }
        _ => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let to = from + random.below((other.len() - from).min(256) + 1);
            insert(bytes, at, &other[from..to]);
        }
    }
}

fn flip(bytes: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

/// A number of 1, 2, 4 or 8 bytes at an edge, or next to what stands there.
fn edge(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = 1 << random.below(4);
    let Some(place) = bytes.get_mut(at..at + width) else { return };
    let now = place.iter().fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
    let number = match random.below(3) {
        0 => EDGES[random.below(EDGES.len())],
        1 => now.wrapping_add(1 + random.below(8) as u64),
        _ => now.wrapping_sub(1 + random.below(8) as u64),
    };
    place.copy_from_slice(&number.to_be_bytes()[8 - width..]);
}

fn insert(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    bytes.splice(at..at, part.iter().copied());
}

fn overwrite(bytes: &mut [u8], at: usize, part: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(part) {
        *place = *byte;
    }
}
