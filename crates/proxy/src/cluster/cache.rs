//! What the proxy keeps of topics, groups and brokers for a while. Of several requests for one name, one asks.
//!
//! A value that cannot be looked up again stays for now; a name that does not exist is not kept.

use crate::codes::Refused;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failed look-up the old value is used for so long.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

struct Slot<T> {
    value: Mutex<Option<(Arc<T>, Instant)>>,
    /// Held while it is looked up.
    turn: tokio::sync::Mutex<()>,
}

impl<T> Slot<T> {
    fn value(&self, now: Instant) -> Option<Arc<T>> {
        let value = self.value.lock();
        let (value, _) = value.as_ref().filter(|(_, until)| now < *until)?;
        Some(Arc::clone(value))
    }

    fn keep(&self, value: &Arc<T>, until: Instant) {
        *self.value.lock() = Some((Arc::clone(value), until));
    }
}

/// Values by name.
pub(crate) struct Cache<T> {
    slots: Mutex<FxHashMap<Box<str>, Arc<Slot<T>>>>,
    most: usize,
    age: Duration,
}

impl<T> Cache<T> {
    /// For up to `most` values that are used for `age`.
    pub(crate) fn new(most: usize, age: Duration) -> Self {
        Self {
            slots: Mutex::default(),
            most,
            age,
        }
    }

    /// The value of a name, which `look_up` finds if there is none.
    ///
    /// # Errors
    /// That of the look-up, if there is no older value.
    pub(crate) async fn get(
        &self,
        name: &str,
        look_up: impl Future<Output = Result<Option<T>, Refused>>,
    ) -> Result<Option<Arc<T>>, Refused> {
        let slot = self.slot(name);
        if let Some(value) = slot.value(Instant::now()) {
            return Ok(Some(value));
        }
        let _turn = slot.turn.lock().await;
        if let Some(value) = slot.value(Instant::now()) {
            return Ok(Some(value));
        }
        match look_up.await {
            Ok(Some(value)) => {
                let value = Arc::new(value);
                slot.keep(&value, Instant::now() + self.age);
                Ok(Some(value))
            }
            Ok(None) => {
                self.forget(name);
                Ok(None)
            }
            Err(refused) => {
                let before = slot.value.lock().as_ref().map(|(value, _)| Arc::clone(value));
                let Some(before) = before else {
                    self.forget(name);
                    return Err(refused);
                };
                tracing::warn!(
                    name,
                    reason = refused.text,
                    "what is known is used further: it cannot be looked up again"
                );
                slot.keep(&before, Instant::now() + AFTER_FAILURE);
                Ok(Some(before))
            }
        }
    }

    /// The value of a name, if it may be used without a look-up.
    pub(crate) fn fresh(&self, name: &str) -> Option<Arc<T>> {
        let slot = self.slots.lock().get(name).map(Arc::clone)?;
        slot.value(Instant::now())
    }

    /// The next request for it looks a value up again. Until that succeeds, it is used further.
    pub(crate) fn expire(&self, name: &str) {
        let slot = self.slots.lock().get(name).map(Arc::clone);
        if let Some(slot) = slot
            && let Some((_, until)) = &mut *slot.value.lock()
        {
            *until = Instant::now();
        }
    }

    /// Removes a value: the next request for it looks it up.
    pub(crate) fn forget(&self, name: &str) {
        self.slots.lock().remove(name);
    }

    fn slot(&self, name: &str) -> Arc<Slot<T>> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        if slots.len() >= self.most
            && let Some(other) = slots.keys().next().cloned()
        {
            slots.remove(&other);
        }
        let slot = Arc::new(Slot {
            value: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
        });
        slots.insert(name.into(), Arc::clone(&slot));
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::Code;
    use std::cell::Cell;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
    }

    fn failure() -> Refused {
        Refused::new(Code::InternalServerError, "no broker")
    }

    #[test]
    fn a_value_is_looked_up_once_while_it_is_fresh() {
        run(async {
            let cache = Cache::new(10, Duration::from_secs(3_600));
            let asked = Cell::new(0);
            let look_up = || async {
                tokio::task::yield_now().await;
                asked.set(asked.get() + 1);
                Ok(Some(asked.get()))
            };
            let (one, other) = tokio::join!(cache.get("a", look_up()), cache.get("a", look_up()));
            assert_eq!((one, other), (Ok(Some(Arc::new(1))), Ok(Some(Arc::new(1)))));
            cache.forget("a");
            assert_eq!(cache.get("a", look_up()).await, Ok(Some(Arc::new(2))));
        });
    }

    #[test]
    fn a_value_outlives_failures_and_a_name_that_does_not_exist_is_not_kept() {
        run(async {
            let cache = Cache::new(10, Duration::ZERO);
            assert_eq!(cache.get("a", async { Err::<Option<i32>, _>(failure()) }).await, Err(failure()));
            assert_eq!(cache.get("a", async { Ok(Some(1)) }).await, Ok(Some(Arc::new(1))));
            assert_eq!(cache.get("a", async { Err(failure()) }).await, Ok(Some(Arc::new(1))), "the old one");
            assert_eq!(cache.get("b", async { Ok(None) }).await, Ok(None));
            assert_eq!(cache.slots.lock().len(), 1);
        });
    }

    #[test]
    fn no_more_than_the_most_are_kept() {
        run(async {
            let cache = Cache::new(2, Duration::from_secs(3_600));
            for name in ["a", "b", "c", "d"] {
                cache.get(name, async { Ok(Some(0)) }).await.unwrap();
            }
            assert_eq!(cache.slots.lock().len(), 2);
        });
    }

    #[test]
    fn an_expired_value_is_looked_up_again_and_kept_if_that_fails() {
        run(async {
            let cache = Cache::new(10, Duration::from_secs(3_600));
            assert_eq!(cache.get("a", async { Ok(Some(1)) }).await, Ok(Some(Arc::new(1))));
            assert_eq!(cache.fresh("a"), Some(Arc::new(1)));
            cache.expire("a");
            assert_eq!(cache.fresh("a"), None);
            assert_eq!(cache.get("a", async { Err(failure()) }).await, Ok(Some(Arc::new(1))));
            cache.expire("a");
            assert_eq!(cache.get("a", async { Ok(Some(2)) }).await, Ok(Some(Arc::new(2))));
            cache.expire("b");
        });
    }
}
