//! Buffers that belong to a thread and are lent to a connection for one read or one write, so that thousands of idle connections hold
//! none and a busy thread keeps using the same warm memory.
//!
//! A lent value that is not given back is simply gone; the next one is allocated. Nothing here is ever held across an await.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::BytesMut;
use protocol::frame::Frame;

use crate::batch::Part;

/// Size of the read buffer of a thread: the most that one read brings.
pub(crate) const READ_BYTES: usize = 128 << 10;
/// With less room than this left, and the rest still in use by frames somebody keeps, the thread takes a new buffer.
const READ_MIN_SPARE: usize = 32 << 10;
/// First size of an output buffer.
const OUT_BYTES: usize = 16 << 10;
/// An output buffer that grew beyond this is not kept.
const OUT_KEEP_BYTES: usize = 256 << 10;
/// Buffers of one kind kept by a thread.
const KEPT: usize = 4;
/// Longest list kept.
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

/// The thread's read buffer, empty, with room for [`READ_MIN_SPARE`] to [`READ_BYTES`] bytes.
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
    fn the_read_buffer_is_reused_when_nobody_keeps_its_bytes() {
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
