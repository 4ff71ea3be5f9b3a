//! Shared by tests of handlers.

use protocol::{Frame, RequestCode};

/// A request with these header fields.
pub(crate) fn frame(code: RequestCode, fields: &[(&str, &str)]) -> Frame {
    let mut frame = Frame::request(code);
    for (name, value) in fields {
        frame.ext.push(name, *value);
    }
    frame
}
