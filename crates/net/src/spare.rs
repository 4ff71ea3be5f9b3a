//! Buffers of a thread, lent to a connection for one read or one write. So thousands of idle connections hold no buffers, and a busy thread
//! uses the same cached memory again.
//!
//! If a lent value is not returned, the next one is allocated. Values of this module are not held across an await.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::BytesMut;
use protocol::frame::Frame;

use crate::batch::Part;

/// Size of a thread's read buffer, the maximum size of one read.
pub(crate) const READ_BYTES: usize = 128 << 10;
/// The thread allocates a new buffer if less than this is free, and frames still use the rest.
const READ_MIN_SPARE: usize = 32 << 10;
/// Initial size of an output buffer.
const OUT_BYTES: usize = 16 << 10;
/// An output buffer that grew beyond this is not kept.
const OUT_KEEP_BYTES: usize = 256 << 10;
/// Maximum number of buffers of one kind that a thread keeps.
const KEPT: usize = 4;
/// Maximum capacity of a list that is kept.
const KEEP_ENTRIES: usize = 4_096;

#[derive(Default)]
struct Spare {
    read: BytesMut,
    out: Vec<BytesMut>,
    parts: Vec<VecDeque<Part>>,
    frames: Vec<Vec<Frame>>,
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// The thread's read buffer, empty, with space for [`READ_MIN_SPARE`] to [`READ_BYTES`] bytes.
pub(crate) fn read_buffer() -> BytesMut {
    let mut buffer = SPARE.with_borrow_mut(|spare| std::mem::take(&mut spare.read));
    buffer.clear();
    if !buffer.try_reclaim(READ_BYTES) && buffer.capacity() < READ_MIN_SPARE {
        buffer = BytesMut::with_capacity(READ_BYTES);
    }
    buffer
}

pub(crate) fn give_read_buffer(buffer: BytesMut) {
    SPARE.with_borrow_mut(|spare| spare.read = buffer);
}

/// An empty output buffer.
pub(crate) fn out_buffer() -> BytesMut {
    let mut buffer = SPARE.with_borrow_mut(|spare| spare.out.pop()).unwrap_or_default();
    if !buffer.try_reclaim(OUT_BYTES) {
        buffer = BytesMut::with_capacity(OUT_BYTES);
    }
    buffer
}

pub(crate) fn give_out_buffer(mut buffer: BytesMut) {
    if buffer.capacity() == 0 || buffer.capacity() > OUT_KEEP_BYTES {
        return;
    }
    buffer.clear();
    SPARE.with_borrow_mut(|spare| keep(&mut spare.out, buffer));
}

pub(crate) fn parts() -> VecDeque<Part> {
    SPARE.with_borrow_mut(|spare| spare.parts.pop()).unwrap_or_default()
}

pub(crate) fn give_parts(mut parts: VecDeque<Part>) {
    if parts.capacity() == 0 || parts.capacity() > KEEP_ENTRIES {
        return;
    }
    parts.clear();
    SPARE.with_borrow_mut(|spare| keep(&mut spare.parts, parts));
}

pub(crate) fn frames() -> Vec<Frame> {
    SPARE.with_borrow_mut(|spare| spare.frames.pop()).unwrap_or_default()
}

pub(crate) fn give_frames(mut frames: Vec<Frame>) {
    if frames.capacity() > KEEP_ENTRIES {
        return;
    }
    frames.clear();
    SPARE.with_borrow_mut(|spare| keep(&mut spare.frames, frames));
}

fn keep<T>(kept: &mut Vec<T>, one: T) {
    if kept.len() < KEPT {
        kept.push(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_buffer_is_reused_when_its_bytes_are_dropped() {
        let mut buffer = read_buffer();
        buffer.extend_from_slice(&[7; 1_000]);
        let first = buffer.as_ptr();
        drop(buffer.split_to(1_000).freeze());
        give_read_buffer(buffer);
        let again = read_buffer();
        assert_eq!(again.capacity(), READ_BYTES);
        assert_eq!(again.as_ptr(), first);
    }

    #[test]
    fn kept_bytes_survive_the_reuse_of_the_read_buffer() {
        let mut kept = Vec::new();
        for round in 0..100_u8 {
            let mut buffer = read_buffer();
            assert!(buffer.capacity() >= READ_MIN_SPARE);
            buffer.extend_from_slice(&[round; 9_000]);
            kept.push(buffer.split_to(9_000).freeze());
            give_read_buffer(buffer);
        }
        for (round, bytes) in (0..100_u8).zip(&kept) {
            assert!(bytes.iter().all(|byte| *byte == round));
        }
    }
}
