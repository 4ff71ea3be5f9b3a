//! Threads beside those that serve connections, so that no sender waits for what somebody else asked for.
//!
//! | thread | what | how many |
//! |---|---|---|
//! | `catch-up` | copies what the page cache has and memory has not any more; never waits for the disk | as many as may have a processor each |
//! | `reader` | whatever may wait for the disk: cold pulls, look-ups, messages that are sent back | a few more |
//! | `admin` | walks over tables, and requests whose bodies are large: never waits for the disk, but takes long | as many as may have a processor each |
//!
//! Each is a [`Pool`]: bounded, connections take turns, jobs of a connection that closes are dropped before they begin. Jobs of one
//! connection may be done at the same time, but for those of `admin`, which are done in the order in which they came.

use crate::feature::Feature;
use crate::settings::BrokerSettings;
use net::Connection;
use net::jobs::{Bound, Bounds, Options, Pool};
use std::io;
use std::sync::Arc;

/// The threads of a broker.
#[derive(Clone)]
pub struct Threads {
    /// For what the page cache has.
    pub catch_up: Arc<Pool>,
    /// For what may wait for the disk.
    pub reader: Arc<Pool>,
    /// For what takes long without waiting.
    pub admin: Arc<Pool>,
}

impl Threads {
    /// As many of each kind, with bounds, as the settings say.
    ///
    /// # Errors
    /// The machine cannot tell how many processors there are.
    pub fn new(settings: &BrokerSettings) -> io::Result<Self> {
        let bounds = bounds(settings);
        let pool = |name, threads, threads_of_one| {
            Arc::new(Pool::new(Options {
                name,
                threads,
                threads_of_one,
                // A pull whose client does not read when it begins is answered without a read (`Puller::read_within`).
                holds_back: false,
                bounds,
            }))
        };
        let catch_up = net::worker_threads(settings.catch_up_threads)?;
        let readers = settings.reader_threads;
        Ok(Self {
            catch_up: pool("catch-up", catch_up, catch_up),
            // A read of the disk may take long: one thread is left to the others.
            reader: pool("reader", readers, readers.saturating_sub(1).max(1)),
            admin: pool("admin", net::worker_threads(settings.admin_threads)?, 1),
        })
    }
}

fn bounds(settings: &BrokerSettings) -> Bounds {
    Bounds {
        jobs: Bound::new(settings.max_waiting_reads, "apogeeMaxWaitingReads"),
        jobs_of_one: Bound::new(settings.max_waiting_reads_per_connection, "apogeeMaxWaitingReadsPerConnection"),
        bytes: Bound::new(settings.max_waiting_read_bytes, "apogeeMaxWaitingReadBytes"),
        bytes_of_one: Bound::new(
            settings.max_waiting_read_bytes_per_connection,
            "apogeeMaxWaitingReadBytesPerConnection",
        ),
    }
}

impl Feature for Threads {
    fn closed(&self, connection: &Connection) {
        for pool in [&self.catch_up, &self.reader, &self.admin] {
            pool.forget(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Refusal;
    use config::Declared;
    use protocol::codes::ResponseCode;
    use std::sync::mpsc;

    #[test]
    fn one_job_too_many_is_refused_as_busy_with_the_key() {
        let settings = BrokerSettings {
            reader_threads: 1,
            max_waiting_reads: 2,
            ..BrokerSettings::default()
        };
        let threads = Threads::new(&settings).unwrap();
        let (hold, held) = mpsc::channel::<()>();
        let (started, running) = mpsc::channel();
        let wait = move || {
            started.send(()).unwrap();
            let _ = held.recv();
        };
        threads.reader.run_own(wait).unwrap();
        running.recv().unwrap();
        for _ in 0..2 {
            threads.reader.run_own(|| ()).unwrap();
        }
        let refusal = Refusal::from(threads.reader.run_own(|| ()).unwrap_err());
        assert_eq!(refusal.code, ResponseCode::SystemBusy);
        assert!(refusal.text.contains("apogeeMaxWaitingReads"), "{}", refusal.text);
        drop(hold);
    }

    #[test]
    fn every_bound_names_a_key_that_exists() {
        let bounds = bounds(&BrokerSettings::default());
        for bound in [bounds.jobs, bounds.jobs_of_one, bounds.bytes, bounds.bytes_of_one] {
            let key = BrokerSettings::key(bound.set_by).unwrap();
            assert_eq!((key.print)(&BrokerSettings::default()), bound.most.to_string());
        }
    }
}
