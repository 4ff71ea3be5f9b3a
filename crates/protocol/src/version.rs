//! Client and server versions on the wire: the ordinal of Apache's version enum.
//!
//! The number determines body formats (route JSON keys, the deflated registration body) and graceful shutdown. From 4.0.0 on
//! the enum is regular: a snapshot and a release for each of ten patches of each of ten minors.

/// Ordinal of 4.0.0-SNAPSHOT, the start of the regular part.
const V4_0_0_SNAPSHOT: i32 = 212;
/// Ordinal of all versions newer than the enum.
const HIGHER_VERSION: i32 = 612;

/// The version that ApogeeMQ reports: RocketMQ 5.5.0.
pub const CURRENT: i32 = V5_5_0;
/// 3.4.9: clients send the maximum number of retries from this version on.
pub const V3_4_9: i32 = 121;
/// 4.9.3: the newest version whose ACL signature omits `_UNIQUE_KEY_QUERY`.
pub const V4_9_3: i32 = release(4, 9, 3);
/// 4.9.4: clients read route JSON with quoted keys from this version on.
pub const V4_9_4: i32 = release(4, 9, 4);
/// 5.0.0: the deflated registration body has queue mappings from this version on.
pub const V5_0_0: i32 = release(5, 0, 0);
/// 5.5.0.
pub const V5_5_0: i32 = release(5, 5, 0);

/// The ordinal of a release from 4.0.0 on.
pub const fn release(major: i32, minor: i32, patch: i32) -> i32 {
    V4_0_0_SNAPSHOT + (major - 4) * 200 + minor * 20 + patch * 2 + 1
}

/// The enum constant's name for an ordinal, as operators see it (`V5_5_0`).
///
/// Ordinals before 4.0.0 are irregular and give `V3_X`; those beyond the enum `HIGHER_VERSION`.
pub fn name(ordinal: i32) -> String {
    if ordinal >= HIGHER_VERSION {
        return "HIGHER_VERSION".to_owned();
    }
    let since = ordinal - V4_0_0_SNAPSHOT;
    if since < 0 {
        return "V3_X".to_owned();
    }
    let suffix = if since % 2 == 0 { "_SNAPSHOT" } else { "" };
    format!("V{}_{}_{}{suffix}", 4 + since / 200, since / 20 % 10, since / 2 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_those_of_the_5_5_0_jars() {
        assert_eq!(CURRENT, 513);
        assert_eq!(V4_9_4, 401);
        assert_eq!(V5_0_0, 413);
        assert_eq!(release(5, 3, 1), 475);
        assert_eq!(name(513), "V5_5_0");
        assert_eq!(name(412), "V5_0_0_SNAPSHOT");
        assert_eq!(name(411), "V4_9_9");
        assert_eq!(name(612), "HIGHER_VERSION");
        assert_eq!(name(-1), "V3_X");
    }
}
