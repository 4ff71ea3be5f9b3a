//! Frames of both header encodings, as they come from a socket.

use super::recorded;
use crate::Target;
use bytes::BytesMut;
use protocol::frame::{self, MAX_FRAME_LEN};

/// See the module.
pub const TARGET: Target = Target {
    name: "frame",
    run,
    seeds: || recorded("protocol/tests/golden", ".frame"),
};

fn run(data: &[u8]) {
    let lacks = frame::missing(data, MAX_FRAME_LEN);
    let mut buf = BytesMut::from(data);
    while let Ok(Some(found)) = frame::decode(&mut buf, MAX_FRAME_LEN) {
        let written = found.to_bytes();
        let mut again = BytesMut::from(&written[..]);
        let read = frame::decode(&mut again, usize::MAX);
        assert!(
            matches!(&read, Ok(Some(same)) if same.body == found.body && same.opaque == found.opaque),
            "{found:?} became {read:?}"
        );
    }
    assert!(lacks.is_err() || buf.len() <= data.len());
}
