//! The keys of one shard of a topic: pure state over keys, places and a time that never steps back.
//!
//! Entries are in the order in which their keys were claimed, so that the oldest leave at the front. An index finds them by key: open
//! addressing over sequence numbers, at most three quarters full. An entry that leaves at the front leaves its slot behind, which is
//! somewhere in memory: a sweep through the slots, some for each new key, takes those out in the order in which they stand.
//!
//! | Part | Bytes a key |
//! |---|---|
//! | [`Entry`] | 40 |
//! | index | 8, in 1.33 to 3.1 slots |
//!
//! Both grow by doubling, so a shard takes at most about 105 bytes a key. It is fitted to what is left by [`Window::tidy`].
//!
//! Two keys are taken for one only if all their 128 bits are equal.

use std::collections::VecDeque;

/// A key: 128 bits of a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) [u64; 2]);

/// Where the first message with a key was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) log_offset: i64,
    pub(super) queue_offset: i64,
    /// Queue it was sent to.
    pub(super) queue_id: u16,
    /// Number of the broker's address in its message id.
    pub(super) host: u16,
}

/// A key that was claimed, or whose message was stored.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    log_offset: i64,
    queue_offset: i64,
    /// When it was claimed, in milliseconds on a clock that never steps back, modulo 2^32. A window is shorter than half of that, and what
    /// is older leaves soon.
    since: u32,
    queue_id: u16,
    host: u16,
}

impl Entry {
    fn claimed(key: Key, now_ms: i64) -> Self {
        Self {
            key,
            log_offset: CLAIMED,
            queue_offset: 0,
            since: now_ms as u32,
            queue_id: 0,
            host: 0,
        }
    }

    fn place(&self) -> Place {
        Place {
            log_offset: self.log_offset,
            queue_offset: self.queue_offset,
            queue_id: self.queue_id,
            host: self.host,
        }
    }

    /// Below 0 if it was claimed by a thread that had looked at the clock later.
    fn age_ms(&self, now_ms: i64) -> i64 {
        i64::from((now_ms as u32).wrapping_sub(self.since) as i32)
    }
}

/// Log offset of an entry whose message is not appended yet.
const CLAIMED: i64 = -1;
/// Log offset of an entry that is no longer valid and not at the front yet.
const GONE: i64 = -2;
/// Most entries that a claim drops from the front: more than one, so that a shard shrinks while it is used.
const DROPPED_BY_CLAIM: usize = 4;
/// Slots that are swept for each new key: one line of a processor's cache. At most an eighth of the slots are left behind then.
const SWEPT: usize = 8;

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// It is new, with this sequence number: the caller stores its message, then calls [`Window::place`] or [`Window::release`].
    New(u32),
    /// Its message is stored there.
    Repeat(Place),
    /// Another send has claimed it and not appended yet.
    Busy,
}

/// The keys of a shard.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry.
    base: u32,
    index: Index,
}

impl Window {
    /// Entries, among them those that are no longer valid and not at the front yet.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Reads what [`Self::claim`] of these keys will look at, so that it waits for memory once and not for each key.
    pub(super) fn fetch(&self, keys: impl Iterator<Item = Key>) {
        keys.for_each(|key| self.index.fetch(key));
    }

    /// Claims a key for a message that is about to be stored.
    pub(super) fn claim(&mut self, key: Key, now_ms: i64, window_ms: i64) -> Claimed {
        self.expire(now_ms, window_ms, DROPPED_BY_CLAIM);
        if let Some(at) = self.find(key) {
            let entry = self.entries[at];
            if entry.log_offset == CLAIMED {
                return Claimed::Busy;
            }
            if entry.age_ms(now_ms) < window_ms {
                return Claimed::Repeat(entry.place());
            }
            self.drop_at(at);
        }
        Claimed::New(self.push(Entry::claimed(key, now_ms)))
    }

    /// Whether a key is claimed and its message not appended yet.
    pub(super) fn is_claimed(&self, key: Key) -> bool {
        self.find(key).is_some_and(|at| self.entries[at].log_offset == CLAIMED)
    }

    /// The message of a claimed key was appended there.
    pub(super) fn place(&mut self, seq: u32, place: Place) {
        assert!(place.log_offset >= 0, "a message has a place in the log");
        let at = self.claimed_at(seq);
        let entry = &mut self.entries[at];
        (entry.log_offset, entry.queue_offset) = (place.log_offset, place.queue_offset);
        (entry.queue_id, entry.host) = (place.queue_id, place.host);
    }

    /// The message of a claimed key was not stored.
    pub(super) fn release(&mut self, seq: u32) {
        let at = self.claimed_at(seq);
        self.drop_at(at);
    }

    fn claimed_at(&self, seq: u32) -> usize {
        let at = self.at(seq);
        let is_claimed = self.entries.get(at).is_some_and(|entry| entry.log_offset == CLAIMED);
        assert!(is_claimed, "an entry stays while it is claimed");
        at
    }

    /// Forgets the message of a key if it has this queue offset and is stored at this log offset or before.
    pub(super) fn forget(&mut self, key: Key, queue_offset: i64, until: i64) {
        if let Some(at) = self.find(key)
            && self.entries[at].queue_offset == queue_offset
            && (0..=until).contains(&self.entries[at].log_offset)
        {
            self.drop_at(at);
        }
    }

    /// Adds a message that was found in the log. Call it in the order in which they were stored.
    pub(super) fn restore(&mut self, key: Key, place: Place, since_ms: i64, window_ms: i64) {
        if let Claimed::New(seq) = self.claim(key, since_ms, window_ms) {
            self.place(seq, place);
        }
    }

    /// Drops up to `most` entries at the front that are older than the window.
    pub(super) fn expire(&mut self, now_ms: i64, window_ms: i64, most: usize) {
        for _ in 0..most {
            match self.entries.front() {
                Some(entry) if entry.log_offset == GONE => {}
                Some(entry) if entry.log_offset != CLAIMED && entry.age_ms(now_ms) >= window_ms => {}
                _ => return,
            }
            self.pop();
        }
    }

    /// Drops up to `most` of the oldest entries before their time. Returns how many were valid, and the age of the youngest of them.
    pub(super) fn evict(&mut self, most: usize, now_ms: i64) -> (usize, Option<i64>) {
        let (mut evicted, mut age) = (0, None);
        for _ in 0..most {
            match self.entries.front() {
                None => break,
                Some(entry) if entry.log_offset == CLAIMED => break,
                Some(entry) if entry.log_offset == GONE => {}
                Some(entry) => {
                    evicted += 1;
                    age = Some(entry.age_ms(now_ms));
                }
            }
            self.pop();
        }
        (evicted, age)
    }

    /// Returns memory of entries that have left.
    pub(super) fn tidy(&mut self) {
        const FEW: usize = 64;
        let len = self.entries.len();
        if self.entries.capacity() > FEW && self.entries.capacity() / 4 > len {
            self.entries.shrink_to(2 * len);
            self.rebuild_index();
        }
    }

    fn find(&self, key: Key) -> Option<usize> {
        let seq = self
            .index
            .find(key, |seq| self.entries.get(self.at(seq)).is_some_and(|entry| entry.key == key))?;
        Some(self.at(seq))
    }

    /// Place among the entries; behind all of them for one that has left at the front.
    fn at(&self, seq: u32) -> usize {
        index_of(seq, self.base)
    }

    fn push(&mut self, entry: Entry) -> u32 {
        let seq = self.base.wrapping_add(self.entries.len() as u32) & SEQ;
        self.entries.push_back(entry);
        let (base, len) = (self.base, self.entries.len());
        self.index.sweep(SWEPT, |seq| index_of(seq, base) >= len);
        if self.index.needs_room() {
            self.rebuild_index();
        } else {
            self.index.insert(entry.key, seq);
        }
        seq
    }

    fn rebuild_index(&mut self) {
        let valid = self.entries.iter().filter(|entry| entry.log_offset != GONE).count();
        self.index = Index::for_entries(valid);
        for (entry, n) in self.entries.iter().zip(0..) {
            if entry.log_offset != GONE {
                self.index.insert(entry.key, self.base.wrapping_add(n) & SEQ);
            }
        }
    }

    fn drop_at(&mut self, at: usize) {
        let seq = self.base.wrapping_add(at as u32) & SEQ;
        self.index.remove(self.entries[at].key, seq);
        self.entries[at].log_offset = GONE;
    }

    fn pop(&mut self) {
        if self.entries.pop_front().is_some() {
            self.base = self.base.wrapping_add(1) & SEQ;
        }
    }
}

/// Sequence numbers are modulo this plus one; a shard has far fewer entries, and no slot is left behind for as many keys.
const SEQ: u32 = u32::MAX >> 1;

/// Index of an entry, counted from that with the sequence number `base`.
fn index_of(seq: u32, base: u32) -> usize {
    (seq.wrapping_sub(base) & SEQ) as usize
}

/// Finds sequence numbers by key. A slot has 32 bits of the key, so that an entry is looked at only if it is very probably the one.
#[derive(Debug, Default)]
struct Index {
    /// A power of two, or none.
    slots: Vec<Slot>,
    /// Among them those that are left behind.
    used: usize,
    /// Where the sweep goes on.
    swept: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    tag: u32,
    seq: u32,
}

impl Slot {
    const EMPTY: Self = Self { tag: 0, seq: u32::MAX };

    fn new(key: Key, seq: u32) -> Self {
        Self { tag: tag_of(key), seq }
    }
}

fn tag_of(key: Key) -> u32 {
    key.0[0] as u32
}

impl Index {
    /// For so many entries and a third more.
    fn for_entries(entries: usize) -> Self {
        let slots = (entries * 8 / 3).max(8).next_power_of_two();
        Self {
            slots: vec![Slot::EMPTY; slots],
            used: 0,
            swept: 0,
        }
    }

    fn needs_room(&self) -> bool {
        (self.used + 1) * 4 > self.slots.len() * 3
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.slots.len() - 1)
    }

    /// Reads the slot at which the search for a key begins.
    fn fetch(&self, key: Key) {
        std::hint::black_box(self.slots.get(tag_of(key) as usize & self.slots.len().wrapping_sub(1)).copied());
    }

    /// The first slot with this tag for which `is_it` says so.
    fn slot_of(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(tag);
        // A quarter of the slots is empty.
        while self.slots[at] != Slot::EMPTY {
            if self.slots[at].tag == tag && is_it(self.slots[at].seq) {
                return Some(at);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    fn find(&self, key: Key, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.slot_of(tag_of(key), is_it).map(|at| self.slots[at].seq)
    }

    fn insert(&mut self, key: Key, seq: u32) {
        let slot = Slot::new(key, seq);
        let mut at = self.home(slot.tag);
        while self.slots[at] != Slot::EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    fn remove(&mut self, key: Key, seq: u32) {
        if let Some(at) = self.slot_of(tag_of(key), |of| of == seq) {
            self.empty(at);
        }
    }

    /// Looks at the next slots, and empties those of entries that have left.
    fn sweep(&mut self, most: usize, has_left: impl Fn(u32) -> bool) {
        for _ in 0..most.min(self.slots.len()) {
            // What moves up into an emptied slot is looked at too.
            while self.slots[self.swept] != Slot::EMPTY && has_left(self.slots[self.swept].seq) {
                self.empty(self.swept);
            }
            self.swept = (self.swept + 1) & (self.slots.len() - 1);
        }
    }

    /// Empties a slot, and moves those behind it up that are not in their own.
    fn empty(&mut self, mut hole: usize) {
        let mask = self.slots.len() - 1;
        let mut at = (hole + 1) & mask;
        while self.slots[at] != Slot::EMPTY {
            let home = self.home(self.slots[at].tag);
            // It may move if the hole is not before its home, counted from there on.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = (at + 1) & mask;
        }
        self.slots[hole] = Slot::EMPTY;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const WINDOW_MS: i64 = 100;

    /// Keys of which many share a slot.
    fn key(n: u64) -> Key {
        Key([n % 5, n])
    }

    fn place(log_offset: i64) -> Place {
        Place {
            log_offset,
            queue_offset: log_offset * 2,
            queue_id: (log_offset % 8) as u16,
            host: 0,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Send a message; it is stored, or refused.
        Send {
            key: u64,
            is_stored: bool,
        },
        /// Send a message, which is not appended yet.
        Begin(u64),
        /// The oldest of those is stored, or refused.
        End {
            is_stored: bool,
        },
        Wait(i64),
        Forget(u64),
        Tidy,
        /// What is not in the log is lost, as what was stored last.
        Crash {
            lost: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            10 => (0..40_u64, prop::bool::weighted(0.9)).prop_map(|(key, is_stored)| Step::Send { key, is_stored }),
            3 => (0..40_u64).prop_map(Step::Begin),
            3 => any::<bool>().prop_map(|is_stored| Step::End { is_stored }),
            4 => (0..60_i64).prop_map(Step::Wait),
            1 => (0..40_u64).prop_map(Step::Forget),
            1 => Just(Step::Tidy),
            1 => (0..3_usize).prop_map(|lost| Step::Crash { lost }),
        ]
    }

    /// The log as it should be: every message that was stored, and since when it counts; `None` for one that was forgotten.
    #[derive(Default)]
    struct Model {
        log: Vec<(u64, Option<i64>)>,
        /// Since when, and its sequence number.
        begun: BTreeMap<u64, (i64, u32)>,
    }

    impl Model {
        fn expected(&self, key: u64, now_ms: i64) -> Claimed {
            if self.begun.contains_key(&key) {
                return Claimed::Busy;
            }
            let last = self.log.iter().rposition(|(of, since)| *of == key && since.is_some());
            match last.and_then(|at| Some((at, self.log[at].1?))) {
                Some((at, since)) if now_ms - since < WINDOW_MS => Claimed::Repeat(place(at as i64)),
                _ => Claimed::New(0),
            }
        }
    }

    /// Each valid entry has one slot, and the used slots are counted.
    fn is_consistent(window: &Window) -> bool {
        let used = window.index.slots.iter().filter(|slot| **slot != Slot::EMPTY);
        let live = used.clone().filter(|slot| window.at(slot.seq) < window.len()).count();
        let valid = window.entries.iter().filter(|entry| entry.log_offset != GONE).count();
        used.count() == window.index.used && live == valid
    }

    fn without_number(claimed: Claimed) -> Claimed {
        match claimed {
            Claimed::New(_) => Claimed::New(0),
            other => other,
        }
    }

    proptest! {
        /// Against a list that is searched from its end.
        #[test]
        fn it_agrees_with_a_plain_model(base in prop_oneof![Just(0), Just(SEQ - 20)], begun in prop_oneof![Just(0), Just(i64::from(u32::MAX) - 300), Just(i64::from(i32::MAX) - 300)], steps in prop::collection::vec(step(), 1..200)) {
            let mut window = Window { base, ..Window::default() };
            let (mut model, mut now) = (Model::default(), begun);
            for step in steps {
                match step {
                    Step::Send { key: n, is_stored } => {
                        let claimed = window.claim(key(n), now, WINDOW_MS);
                        prop_assert_eq!(without_number(claimed), model.expected(n, now));
                        match claimed {
                            Claimed::New(seq) if is_stored => {
                                window.place(seq, place(model.log.len() as i64));
                                model.log.push((n, Some(now)));
                            }
                            Claimed::New(seq) => window.release(seq),
                            Claimed::Repeat(_) | Claimed::Busy => {}
                        }
                    }
                    Step::Begin(n) => {
                        let claimed = window.claim(key(n), now, WINDOW_MS);
                        prop_assert_eq!(without_number(claimed), model.expected(n, now));
                        if let Claimed::New(seq) = claimed {
                            model.begun.insert(n, (now, seq));
                        }
                    }
                    Step::End { is_stored } => {
                        if let Some((n, (since, seq))) = model.begun.pop_first() {
                            if is_stored {
                                window.place(seq, place(model.log.len() as i64));
                                model.log.push((n, Some(since)));
                            } else {
                                window.release(seq);
                            }
                        }
                    }
                    Step::Wait(ms) => now += ms,
                    Step::Forget(n) => {
                        if let Claimed::Repeat(place) = model.expected(n, now) {
                            window.forget(key(n), place.queue_offset, place.log_offset - 1);
                            window.forget(key(n), place.queue_offset + 1, place.log_offset);
                            prop_assert_eq!(window.claim(key(n), now, WINDOW_MS), Claimed::Repeat(place));
                            window.forget(key(n), place.queue_offset, place.log_offset);
                            model.log[place.log_offset as usize].1 = None;
                        }
                    }
                    Step::Tidy => {
                        window.expire(now, WINDOW_MS, usize::MAX);
                        window.tidy();
                    }
                    Step::Crash { lost } => {
                        model.begun.clear();
                        model.log.truncate(model.log.len().saturating_sub(lost));
                        window = Window { base, ..Window::default() };
                        for (n, (of, since)) in model.log.iter().enumerate() {
                            if let Some(since) = since {
                                window.restore(key(*of), place(n as i64), *since, WINDOW_MS);
                            }
                        }
                    }
                }
                prop_assert!(is_consistent(&window));
            }
        }
    }

    #[test]
    fn slots_that_are_left_behind_are_swept() {
        let mut window = Window::default();
        let slots: Vec<usize> = (0..100_000_u64)
            .map(|n| {
                let key = Key([n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32, n]);
                window.restore(key, place(n as i64), n as i64 / 100, WINDOW_MS);
                window.index.slots.len()
            })
            .collect();
        assert!(is_consistent(&window));
        assert_eq!(slots[20_000], slots[99_999], "the index does not grow while as many leave as come");
        assert!(window.index.used <= window.len() + slots[99_999] / 8 + SWEPT);
    }

    #[test]
    fn the_oldest_leave_first_when_there_is_no_room() {
        let mut window = Window::default();
        for n in 0..10 {
            let claimed = window.claim(key(n), n as i64, WINDOW_MS);
            let Claimed::New(seq) = claimed else { panic!("{claimed:?}") };
            if n != 3 {
                window.place(seq, place(n as i64));
            }
        }
        window.forget(key(1), 2, 1);
        assert_eq!(
            window.evict(8, 20),
            (2, Some(18)),
            "what is being stored stays, and those behind it"
        );
        assert!(matches!(window.claim(key(0), 20, WINDOW_MS), Claimed::New(_)));
        assert_eq!(window.claim(key(3), 20, WINDOW_MS), Claimed::Busy);
        assert_eq!(window.claim(key(9), 20, WINDOW_MS), Claimed::Repeat(place(9)));
    }

    #[test]
    fn memory_is_returned_when_keys_have_left() {
        let mut window = Window::default();
        for n in 0..10_000 {
            window.restore(Key([n, n]), place(n as i64), 0, WINDOW_MS);
        }
        window.expire(WINDOW_MS, WINDOW_MS, usize::MAX);
        window.tidy();
        assert_eq!(window.len(), 0);
        assert!(window.entries.capacity() <= 64 && window.index.slots.len() <= 64);
        assert!(size_of::<Entry>() <= 40);
    }
}
