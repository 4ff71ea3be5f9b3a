//! Thread pools besides the connection threads, so that no send waits for the slow request of another client.
//!
//! | thread | work | threads |
//! |---|---|---|
//! | `catch-up` | reads records from the page cache that are no longer in the tail; no disk I/O | one per processor |
//! | `reader` | anything with disk I/O: cold pulls, queries, send-backs | a few more |
//! | `admin` | scans of tables and requests with large bodies: slow, but no disk I/O | one per processor |
//!
//! Each is a [`Pool`]: bounded and fair between connections; waiting jobs of a closed connection are dropped. Jobs of one
//! connection may run concurrently, except in `admin`, which runs them in order.

use crate::feature::Feature;
use crate::reply::Reply;
use crate::settings::BrokerSettings;
use net::Connection;
use net::jobs::{Bound, Bounds, Options, Pool};
use std::io;
use std::sync::Arc;
use store::ReadSource;

/// The thread pools of a broker.
#[derive(Clone)]
pub struct Threads {
    /// For reads from the page cache.
    pub catch_up: Arc<Pool>,
    /// For disk I/O.
    pub reader: Arc<Pool>,
    /// For slow work without I/O.
    pub admin: Arc<Pool>,
}

impl Threads {
    /// Creates the pools with the sizes and limits of the settings.
    ///
    /// # Errors
    /// `io::Error` if the number of processors cannot be determined.
    pub fn new(settings: &BrokerSettings) -> io::Result<Self> {
        let bounds = bounds(settings);
        let pool = |name, threads, threads_of_one| {
            Arc::new(Pool::new(Options {
                name,
                threads,
                threads_of_one,
                // A pull whose client does not read its socket is answered without a read (`Puller::read_within`).
                holds_back: false,
                bounds,
            }))
        };
        let catch_up = net::worker_threads(settings.catch_up_threads)?;
        let readers = settings.reader_threads;
        Ok(Self {
            catch_up: pool("catch-up", catch_up, catch_up),
            // Disk reads may be slow: one thread is reserved for other connections.
            reader: pool("reader", readers, readers.saturating_sub(1).max(1)),
            admin: pool("admin", net::worker_threads(settings.admin_threads)?, 1),
        })
    }
}

/// A read that continues on a thread that may use slower storage.
pub(crate) struct Continued {
    pub(crate) source: ReadSource,
    /// Where its answer goes, for a remoting client.
    pub(crate) reply: Option<Reply>,
    /// Memory that it takes while it waits for a thread, in bytes.
    pub(crate) waiting_bytes: usize,
    /// What it may read, which is owed to the client's connection until it has ended.
    pub(crate) read_bytes: usize,
}

impl Threads {
    /// Runs the rest of a read. A remoting client is answered if no thread takes it; another one sees that its [`Sink`](crate::asker::Sink)
    /// is dropped.
    pub(crate) fn continue_read(&self, read: Continued, job: impl FnOnce() + Send + 'static) {
        let pool = if read.source == ReadSource::Disk {
            &self.reader
        } else {
            &self.catch_up
        };
        let owed = read.reply.as_ref().map(|reply| reply.connection().owe(read.read_bytes));
        let job = move || {
            job();
            drop(owed);
        };
        let queued = match &read.reply {
            Some(reply) => pool.run(reply.connection(), read.waiting_bytes, job),
            None => pool.run_own(job),
        };
        if let (Err(busy), Some(reply)) = (queued, read.reply) {
            reply.send(Err(busy.into()));
        }
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
    fn every_limit_names_an_existing_key() {
        let bounds = bounds(&BrokerSettings::default());
        for bound in [bounds.jobs, bounds.jobs_of_one, bounds.bytes, bounds.bytes_of_one] {
            let key = BrokerSettings::key(bound.set_by).unwrap();
            assert_eq!((key.print)(&BrokerSettings::default()), bound.most.to_string());
        }
    }
}
