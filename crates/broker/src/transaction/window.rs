//! Which half messages are open. Pure state: half messages are known by their offset in the queue of half messages.
//!
//! An open half message is written again when its producer is asked for it: the copy is the current half message of the transaction from
//! then on, the one before is done. Producers may still name the first; [`Window::claim`] finds the current one.
//!
//! Memory: a bit for each half message from the oldest open one on, and about 20 bytes for each transaction that is open and was written
//! again.

use rustc_hash::FxHashMap;
use std::collections::VecDeque;

const BITS: i64 = 64;
/// Removal marks that are accounted for together.
const MARKS_TOGETHER: u32 = 256;

/// Why a half message cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotOpen {
    /// Its transaction has ended.
    Ended,
    /// It is being ended or written again right now.
    Busy,
}

/// Removal marks that stand together in their queue.
#[derive(Debug)]
struct Marks {
    /// The offset after the last.
    end: i64,
    /// The highest half message that they name.
    highest: i64,
    count: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Every half message below is done.
    base: i64,
    /// Done ones, from the word that `base` is in; bits below `base` are set.
    done: VecDeque<u64>,
    /// Those being ended or written again, with an offset that their removal mark will not be below.
    claimed: FxHashMap<i64, i64>,
    /// By the first half message of a transaction that was written again and is open: its current one.
    current: FxHashMap<i64, i64>,
    /// How many are open.
    open: usize,
    /// Found by a start: a later half message took their place, and no removal mark names them.
    unmarked: Vec<i64>,
    marks: VecDeque<Marks>,
    /// Every removal mark below names half messages below `base` only.
    mark_base: i64,
}

impl Window {
    /// Nothing is open below `base`; removal marks below `mark_base` are of no use any more.
    pub(super) fn new(base: i64, mark_base: i64) -> Self {
        let mut window = Self {
            base,
            mark_base,
            ..Self::default()
        };
        window.done.push_back((1 << (base % BITS)) - 1);
        window
    }

    /// Everything below is done.
    pub(super) fn base(&self) -> i64 {
        self.base
    }

    /// Removal marks below are of no use any more.
    pub(super) fn mark_base(&self) -> i64 {
        self.mark_base
    }

    /// How many half messages are open.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// A half message was stored.
    pub(super) fn opened(&mut self) {
        self.open += 1;
    }

    /// A start has read half messages: so many of them are open.
    pub(super) fn found_open(&mut self, count: usize) {
        self.open += count;
    }

    fn position(&self, half: i64) -> (usize, u64) {
        ((half / BITS - self.base / BITS) as usize, 1 << (half % BITS))
    }

    /// Whether a half message is done.
    pub(super) fn is_done(&self, half: i64) -> bool {
        if half < self.base {
            return true;
        }
        let (word, bit) = self.position(half);
        self.done.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// A half message is done, in whatever way; nothing else of it is changed.
    pub(super) fn set_done(&mut self, half: i64) {
        if half < self.base {
            return;
        }
        let (word, bit) = self.position(half);
        if word >= self.done.len() {
            self.done.resize(word + 1, 0);
        }
        self.done[word] |= bit;
    }

    /// The first half message from `from` on and before `end` that is open and not claimed.
    pub(super) fn next_open(&self, from: i64, end: i64) -> Option<i64> {
        let mut at = from.max(self.base);
        while at < end {
            let (word, bit) = self.position(at);
            let bits = self.done.get(word).copied().unwrap_or(0);
            let open = !bits & !(bit - 1);
            if open == 0 {
                at = (at / BITS + 1) * BITS;
                continue;
            }
            at = at / BITS * BITS + i64::from(open.trailing_zeros());
            if at < end && !self.claimed.contains_key(&at) {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// Takes the current half message of a transaction, so that it ends once: by [`Self::finish`], [`Self::moved`] or [`Self::release`].
    /// `first` is the first half message of the transaction that `half` is of; no removal mark that is written from now on stands below
    /// `mark_at_least`.
    pub(super) fn claim(&mut self, half: i64, first: i64, mark_at_least: i64) -> Result<i64, NotOpen> {
        let current = match self.is_done(half) {
            false => half,
            true => *self.current.get(&first).ok_or(NotOpen::Ended)?,
        };
        if self.claimed.contains_key(&current) {
            return Err(NotOpen::Busy);
        }
        if self.is_done(current) {
            return Err(NotOpen::Ended);
        }
        self.claimed.insert(current, mark_at_least);
        Ok(current)
    }

    /// A claimed half message stays open.
    pub(super) fn release(&mut self, half: i64) {
        self.claimed.remove(&half);
    }

    /// The transaction of a claimed half message has ended.
    pub(super) fn finish(&mut self, half: i64, first: i64) {
        self.claimed.remove(&half);
        self.set_done(half);
        self.current.remove(&first);
        self.open = self.open.saturating_sub(1);
    }

    /// A claimed half message was written again as `copy`.
    pub(super) fn moved(&mut self, half: i64, first: i64, copy: i64) {
        self.claimed.remove(&half);
        self.set_done(half);
        self.current.insert(first, copy);
    }

    /// While a start reads: `copy` is a later half message of the transaction that began with `first`.
    pub(super) fn found_copy(&mut self, first: i64, copy: i64) {
        let before = self.current.insert(first, copy).unwrap_or(first);
        if before != copy && !self.is_done(before) {
            self.set_done(before);
            self.unmarked.push(before);
        }
    }

    /// Half messages that a start found to be replaced by later ones, without a removal mark.
    pub(super) fn unmarked(&self) -> &[i64] {
        &self.unmarked
    }

    /// They have their removal marks now.
    pub(super) fn clear_unmarked(&mut self) {
        self.unmarked = Vec::new();
    }

    /// While a start reads: the transaction that began with `first` has ended.
    pub(super) fn found_ended(&mut self, first: i64) {
        let current = self.current.remove(&first).unwrap_or(first);
        self.set_done(current);
    }

    /// A removal mark stands at `at` in its queue, and names half messages up to `highest`.
    pub(super) fn marked(&mut self, at: i64, highest: i64) {
        match self.marks.back_mut().filter(|marks| marks.count < MARKS_TOGETHER) {
            Some(marks) => {
                marks.end = marks.end.max(at + 1);
                marks.highest = marks.highest.max(highest);
                marks.count += 1;
            }
            None => self.marks.push_back(Marks {
                end: at + 1,
                highest,
                count: 1,
            }),
        }
    }

    /// Moves both bases as far as they go.
    pub(super) fn advance(&mut self) {
        loop {
            let word = self.done.front().copied().unwrap_or(0);
            let offset = i64::from(word.trailing_ones());
            let start = self.base / BITS * BITS;
            self.base = start + offset;
            if offset < BITS {
                break;
            }
            self.done.pop_front();
            if self.done.is_empty() {
                self.done.push_back(0);
            }
        }
        // Of those that are being written some may be accounted for with later ones.
        let being_written = self.claimed.values().copied().min().unwrap_or(i64::MAX);
        while let Some(marks) = self.marks.front()
            && marks.highest < self.base
            && marks.end <= being_written
        {
            self.mark_base = self.mark_base.max(marks.end);
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_transaction_ends_once_whichever_of_its_half_messages_is_named() {
        let mut window = Window::new(0, 0);
        window.opened();
        assert_eq!(window.claim(0, 0, 0), Ok(0));
        assert_eq!(window.claim(0, 0, 0), Err(NotOpen::Busy));
        window.moved(0, 0, 1);
        assert_eq!(window.claim(0, 0, 0), Ok(1), "the copy ends for the first");
        window.finish(1, 0);
        assert_eq!(window.claim(0, 0, 0), Err(NotOpen::Ended));
        assert_eq!(window.claim(1, 0, 0), Err(NotOpen::Ended));
        window.advance();
        assert_eq!((window.base(), window.open()), (2, 0));
    }

    #[test]
    fn removal_marks_are_kept_until_nothing_that_they_name_is_read_again() {
        let mut window = Window::new(0, 0);
        (0..3).for_each(|_| window.opened());
        assert_eq!(window.claim(1, 1, 0), Ok(1));
        window.marked(0, 1);
        window.finish(1, 1);
        window.advance();
        assert_eq!((window.base(), window.mark_base()), (0, 0), "the first is open");
        assert_eq!(window.claim(0, 0, 1), Ok(0));
        assert_eq!(window.claim(2, 2, 1), Ok(2));
        window.marked(1, 0);
        window.finish(0, 0);
        window.advance();
        assert_eq!(
            (window.base(), window.mark_base()),
            (2, 0),
            "a mark may be written behind the first"
        );
        window.release(2);
        window.advance();
        assert_eq!(window.mark_base(), 2);
    }

    proptest! {
        /// Against sets that say the same without thinking.
        #[test]
        fn it_agrees_with_a_plain_model(base in 0..200_i64, steps in prop::collection::vec((0..4_u8, 0..40_usize), 1..300)) {
            let mut window = Window::new(base, 0);
            let mut end = base;
            // By its first half message: the current one of each that is open.
            let mut open: BTreeMap<i64, i64> = BTreeMap::new();
            let mut done = BTreeSet::new();
            for (what, which) in steps {
                let nth = open.iter().nth(which % open.len().max(1)).map(|(first, current)| (*first, *current));
                match (what, nth) {
                    (0, _) | (_, None) => {
                        open.insert(end, end);
                        window.opened();
                        end += 1;
                    }
                    (1, Some((first, current))) => {
                        prop_assert_eq!(window.claim(first, first, 0), Ok(current));
                        window.finish(current, first);
                        open.remove(&first);
                        done.insert(current);
                    }
                    (2, Some((first, current))) => {
                        prop_assert_eq!(window.claim(current, first, 0), Ok(current));
                        window.moved(current, first, end);
                        open.insert(first, end);
                        done.insert(current);
                        end += 1;
                    }
                    _ => window.advance(),
                }
                let currents: BTreeSet<i64> = open.values().copied().collect();
                prop_assert_eq!(window.open(), open.len());
                prop_assert!((base..end).all(|half| window.is_done(half) != currents.contains(&half)));
                let mut seen = BTreeSet::new();
                let mut at = base;
                while let Some(half) = window.next_open(at, end) {
                    seen.insert(half);
                    at = half + 1;
                }
                prop_assert_eq!(&seen, &currents);
                prop_assert!(window.base() <= currents.first().copied().unwrap_or(end));
            }
            window.advance();
            prop_assert_eq!(window.base(), open.values().copied().min().unwrap_or(end));
        }
    }
}
