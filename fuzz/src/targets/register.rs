//! A broker's registration, which has a binary form of its own that may be deflated.

use super::recorded;
use crate::Target;
use protocol::register::RegisterBrokerBody;

/// See the module.
pub const TARGET: Target = Target {
    name: "register",
    run,
    seeds,
};

/// Most bytes that a body may inflate to here.
const INFLATED: u64 = 1 << 20;
/// Versions with and without the part on queue mappings.
const VERSIONS: [i32; 3] = [0, 400, 500];

/// The recorded ones plain, and the same deflated.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = recorded("protocol/tests/golden", ".deflated");
    for plain in recorded("protocol/tests/golden", ".json") {
        if let Ok(body) = RegisterBrokerBody::decode(&plain, false, 0) {
            seeds.push(body.encode(true));
        }
        seeds.push(plain);
    }
    seeds
}

fn run(data: &[u8]) {
    for version in VERSIONS {
        for compressed in [false, true] {
            if let Ok(body) = RegisterBrokerBody::decode_within(data, compressed, version, INFLATED) {
                let _ = body.encode(compressed);
            }
        }
    }
}
