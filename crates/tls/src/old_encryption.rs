//! Decrypts private keys that old versions of OpenSSL encrypted (`-v1 PBE-SHA1-3DES`, `PBE-SHA1-RC4-128`), which Apache's guide to TLS
//! recommended. Their keys are derived as RFC 7292, appendix B.2 says.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use pkcs8::der::asn1::{ObjectIdentifier, OctetStringRef};
use pkcs8::der::{self, Decode, Reader, SliceReader};
use rc4::{KeyInit, StreamCipher};
use sha1::{Digest, Sha1};

const SHA1_RC4_128: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.1");
const SHA1_3DES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
/// Purposes of derived bytes.
const KEY: u8 = 1;
const IV: u8 = 2;
/// Block size of SHA-1.
const BLOCK: usize = 64;

/// An encrypted private key of PKCS#8.
struct Encrypted<'a> {
    scheme: ObjectIdentifier,
    salt: &'a [u8],
    iterations: u32,
    data: &'a [u8],
}

impl<'a> Encrypted<'a> {
    fn parse(der: &'a [u8]) -> der::Result<Self> {
        SliceReader::new(der)?.sequence(|whole| {
            let (scheme, salt, iterations) = whole.sequence(|algorithm: &mut SliceReader<'a>| {
                let scheme = ObjectIdentifier::decode(algorithm)?;
                algorithm.sequence(|parameters: &mut SliceReader<'a>| {
                    let salt = <&OctetStringRef>::decode(parameters)?;
                    Ok::<_, der::Error>((scheme, salt.as_bytes(), u32::decode(parameters)?))
                })
            })?;
            let data = <&OctetStringRef>::decode(whole)?.as_bytes();
            Ok(Self {
                scheme,
                salt,
                iterations,
                data,
            })
        })
    }
}

/// The private key as PKCS#8; `None` if it is encrypted by something else, or with another password.
pub(crate) fn decrypt(der: &[u8], password: &str) -> Option<Vec<u8>> {
    let encrypted = Encrypted::parse(der).ok()?;
    let derived = |purpose, bytes| derive(purpose, password, encrypted.salt, encrypted.iterations, bytes);
    match encrypted.scheme {
        SHA1_RC4_128 => {
            let mut data = encrypted.data.to_vec();
            rc4::Rc4::new_from_slice(&derived(KEY, 16)).ok()?.apply_keystream(&mut data);
            Some(data)
        }
        SHA1_3DES => {
            let (key, iv) = (derived(KEY, 24), derived(IV, 8));
            let cipher = cbc::Decryptor::<des::TdesEde3>::new_from_slices(&key, &iv).ok()?;
            cipher.decrypt_padded_vec::<Pkcs7>(encrypted.data).ok()
        }
        _ => None,
    }
}

fn derive(purpose: u8, password: &str, salt: &[u8], iterations: u32, bytes: usize) -> Vec<u8> {
    let password: Vec<u8> = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let whole = |text: &[u8]| -> Vec<u8> {
        let len = text.len().div_ceil(BLOCK) * BLOCK;
        text.iter().copied().cycle().take(len).collect()
    };
    let mut input = [whole(salt), whole(&password)].concat();
    let mut derived = Vec::with_capacity(bytes + 20);
    while derived.len() < bytes {
        let mut hash = Sha1::new().chain_update([purpose; BLOCK]).chain_update(&input).finalize();
        for _ in 1..iterations {
            hash = Sha1::digest(hash);
        }
        derived.extend_from_slice(&hash);
        let added: Vec<u8> = hash.iter().copied().cycle().take(BLOCK).collect();
        for block in input.chunks_mut(BLOCK) {
            add(block, &added);
        }
    }
    derived.truncate(bytes);
    derived
}

/// `block + added + 1`, as big-endian numbers of the same length.
fn add(block: &mut [u8], added: &[u8]) {
    let mut carry = 1_u16;
    for (byte, other) in block.iter_mut().zip(added).rev() {
        let sum = u16::from(*byte) + u16::from(*other) + carry;
        *byte = sum.to_be_bytes()[1];
        carry = sum >> 8;
    }
}
