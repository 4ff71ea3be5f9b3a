//! Buffers for values with escapes: nearly every send has one, for its properties, until its frame is dropped. A thread uses those of
//! earlier frames again.

use std::cell::RefCell;
use std::ops::Deref;

/// Buffers that a thread keeps: those of the sends of a few reads.
const MAX_KEPT: usize = 256;
/// Larger buffers, in bytes, are not kept.
const MAX_KEPT_BYTES: usize = 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of bytes that goes back to the thread that drops it.
#[derive(Clone, Default)]
pub(crate) struct Reused(Vec<u8>);

impl Reused {
    /// The buffer, to be written to: a kept one if this one has never been written to.
    pub(crate) fn writable(&mut self) -> &mut Vec<u8> {
        if self.0.capacity() == 0
            && let Ok(Some(kept)) = KEPT.try_with(|kept| kept.borrow_mut().pop())
        {
            self.0 = kept;
        }
        &mut self.0
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        if !(1..=MAX_KEPT_BYTES).contains(&self.0.capacity()) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        // A thread that ends keeps none.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < MAX_KEPT {
                kept.push(buffer);
            }
        });
    }
}

impl Deref for Reused {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_empty_unless_it_is_large() {
        let of = |bytes: &[u8]| {
            let mut buffer = Reused::default();
            assert!(buffer.writable().is_empty());
            buffer.writable().extend_from_slice(bytes);
            buffer
        };
        let first = of(&[1; 300]);
        let place = first.as_ptr();
        let second = of(b"2");
        assert_ne!(second.as_ptr(), place);
        drop(first);
        assert_eq!(of(b"3").as_ptr(), place);
        let large = of(&[4; MAX_KEPT_BYTES + 1]);
        drop((large, second));
        assert!(of(b"5").capacity() <= MAX_KEPT_BYTES);
        KEPT.with(|kept| assert!(kept.borrow().iter().all(Vec::is_empty)));
    }

    #[test]
    fn a_thread_keeps_so_many_and_no_more() {
        let many: Vec<Reused> = (0..MAX_KEPT + 9)
            .map(|_| {
                let mut buffer = Reused::default();
                buffer.writable().push(1);
                buffer
            })
            .collect();
        drop(many);
        KEPT.with(|kept| assert_eq!(kept.borrow().len(), MAX_KEPT));
    }
}
