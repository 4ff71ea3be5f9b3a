//! What the proxy keeps of topics, groups and brokers for a while. Of several requests for one name, one asks.
//!
//! A value that cannot be looked up again stays for now; a name that does not exist is not kept. One that is found to be stale (its broker is gone)
//! is looked up again at once, and, as long as it stays so, after half the time that it has been so: a new master is found soon, and a name server is
//! not asked for each request when there is none.

use crate::codes::Refused;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failed look-up the old value is used for so long.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A stale value is used for at least so long before it is looked up again.
const STALE: Duration = Duration::from_millis(100);
/// A value that may be stale is looked up again if it is older.
const RECENT: Duration = Duration::from_secs(1);

struct Kept<T> {
    value: Arc<T>,
    looked_up: Instant,
    until: Instant,
    /// Since when it is known to be stale.
    stale_since: Option<Instant>,
}

struct Slot<T> {
    kept: Mutex<Option<Kept<T>>>,
    /// Held while it is looked up.
    turn: tokio::sync::Mutex<()>,
}

impl<T> Slot<T> {
    fn value(&self, now: Instant, is_stale: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let kept = self.kept.lock();
        let kept = kept.as_ref().filter(|kept| now < kept.until)?;
        let is_news = kept.stale_since.is_none() && is_stale(&kept.value);
        (!is_news).then(|| Arc::clone(&kept.value))
    }

    /// Keeps a value for `age`, or for less if it is stale.
    fn keep(&self, value: &Arc<T>, age: Duration, is_stale: bool) {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        let stale_since = is_stale.then(|| kept.as_ref().and_then(|kept| kept.stale_since).unwrap_or(now));
        let age = match stale_since {
            Some(since) => age.min(STALE.max((now - since) / 2)),
            None => age,
        };
        *kept = Some(Kept {
            value: Arc::clone(value),
            looked_up: now,
            until: now + age,
            stale_since,
        });
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
        self.get_current(name, |_| false, look_up).await
    }

    /// The same, of values that may be stale before their time.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn get_current(
        &self,
        name: &str,
        is_stale: impl Fn(&T) -> bool,
        look_up: impl Future<Output = Result<Option<T>, Refused>>,
    ) -> Result<Option<Arc<T>>, Refused> {
        let slot = self.slot(name);
        if let Some(value) = slot.value(Instant::now(), &is_stale) {
            return Ok(Some(value));
        }
        let _turn = slot.turn.lock().await;
        if let Some(value) = slot.value(Instant::now(), &is_stale) {
            return Ok(Some(value));
        }
        match look_up.await {
            Ok(Some(value)) => {
                let value = Arc::new(value);
                slot.keep(&value, self.age, is_stale(&value));
                Ok(Some(value))
            }
            Ok(None) => {
                self.forget(name);
                Ok(None)
            }
            Err(refused) => {
                let before = slot.kept.lock().as_ref().map(|kept| Arc::clone(&kept.value));
                let Some(before) = before else {
                    self.forget(name);
                    return Err(refused);
                };
                tracing::warn!(
                    name,
                    reason = refused.text,
                    "what is known is used further: it cannot be looked up again"
                );
                slot.keep(&before, AFTER_FAILURE, is_stale(&before));
                Ok(Some(before))
            }
        }
    }

    /// The value of a name, if it may be used without a look-up.
    pub(crate) fn fresh(&self, name: &str) -> Option<Arc<T>> {
        let slot = self.slots.lock().get(name).map(Arc::clone)?;
        slot.value(Instant::now(), |_| false)
    }

    /// The next request for it looks a value up again. Until that succeeds, it is used further.
    pub(crate) fn expire(&self, name: &str) {
        self.expire_older_than(name, Duration::ZERO);
    }

    /// The same of a value that may be stale, unless it was looked up in the last second.
    pub(crate) fn expire_unless_recent(&self, name: &str) {
        self.expire_older_than(name, RECENT);
    }

    fn expire_older_than(&self, name: &str, age: Duration) {
        let slot = self.slots.lock().get(name).map(Arc::clone);
        let now = Instant::now();
        if let Some(slot) = slot
            && let Some(kept) = &mut *slot.kept.lock()
            && now.duration_since(kept.looked_up) >= age
        {
            kept.until = now;
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
            kept: Mutex::new(None),
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

    #[test]
    fn a_stale_value_is_looked_up_again_soon_and_less_often_the_longer_it_is_stale() {
        run(async {
            let cache = Cache::new(10, Duration::from_secs(3_600));
            let (asked, gone) = (Cell::new(0), Cell::new(0));
            let get = || {
                cache.get_current("a", |value| *value <= gone.get(), async {
                    asked.set(asked.get() + 1);
                    Ok(Some(asked.get()))
                })
            };
            assert_eq!(get().await, Ok(Some(Arc::new(1))));
            assert_eq!(get().await, Ok(Some(Arc::new(1))));
            gone.set(2);
            assert_eq!(get().await, Ok(Some(Arc::new(2))), "at once");
            assert_eq!(get().await, Ok(Some(Arc::new(2))), "and not for each request");
            let until = |cache: &Cache<i32>| {
                let slot = cache.slot("a");
                let kept = slot.kept.lock();
                kept.as_ref().map(|kept| kept.until - kept.looked_up)
            };
            assert_eq!(until(&cache), Some(STALE));
            let since = Instant::now() - Duration::from_secs(20);
            cache.slot("a").kept.lock().as_mut().unwrap().stale_since = Some(since);
            gone.set(3);
            cache.expire("a");
            assert_eq!(get().await, Ok(Some(Arc::new(3))));
            assert!(until(&cache) >= Some(Duration::from_secs(10)));
            cache.expire("a");
            assert_eq!(get().await, Ok(Some(Arc::new(4))));
            assert_eq!(until(&cache), Some(Duration::from_secs(3_600)), "it is current again");
        });
    }

    #[test]
    fn a_value_that_may_be_stale_is_looked_up_again_unless_it_is_recent() {
        run(async {
            let cache = Cache::new(10, Duration::from_secs(3_600));
            assert_eq!(cache.get("a", async { Ok(Some(1)) }).await, Ok(Some(Arc::new(1))));
            cache.expire_unless_recent("a");
            assert_eq!(cache.fresh("a"), Some(Arc::new(1)));
            cache.slot("a").kept.lock().as_mut().unwrap().looked_up -= RECENT;
            cache.expire_unless_recent("a");
            assert_eq!(cache.fresh("a"), None);
            assert_eq!(cache.get("a", async { Ok(Some(2)) }).await, Ok(Some(Arc::new(2))));
        });
    }
}
