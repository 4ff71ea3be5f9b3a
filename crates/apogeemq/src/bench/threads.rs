//! The threads of a run: started, watched for failures, joined.

use std::thread::{Builder, JoinHandle};

use crate::failure::Failure;

/// Enough for these threads, and small enough for a thousand of them.
const STACK_BYTES: usize = 256 << 10;

/// Threads that end without being stopped.
#[derive(Default)]
pub(super) struct Threads {
    running: Vec<JoinHandle<Result<(), Failure>>>,
    failure: Option<Failure>,
}

impl Threads {
    pub(super) fn spawn(&mut self, name: &str, connection: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Result<(), Failure> {
        let thread = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(connection);
        self.running
            .push(thread.map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?);
        Ok(())
    }

    /// Collects ended threads. Returns true if there is nothing to wait for: all have ended or one has failed.
    pub(super) fn are_over(&mut self) -> bool {
        let (ended, running) = std::mem::take(&mut self.running)
            .into_iter()
            .partition::<Vec<_>, _>(JoinHandle::is_finished);
        self.running = running;
        self.collect(ended);
        self.failure.is_some() || self.running.is_empty()
    }

    /// The first failure so far, without waiting.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.are_over();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Waits for all.
    pub(super) fn join(mut self) -> Result<(), Failure> {
        let rest = std::mem::take(&mut self.running);
        self.collect(rest);
        self.failure.map_or(Ok(()), Err)
    }

    fn collect(&mut self, ended: Vec<JoinHandle<Result<(), Failure>>>) {
        for thread in ended {
            let result = thread
                .join()
                .unwrap_or_else(|_| Err(Failure::new("a thread of the load generator panicked")));
            if let Err(failure) = result {
                self.failure.get_or_insert(failure);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_ends_the_waiting() {
        let mut threads = Threads::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        threads
            .spawn("waits", move || {
                // Ends when the sender is dropped.
                let _ = held.recv();
                Ok(())
            })
            .unwrap();
        assert!(!threads.are_over());
        threads.spawn("fails", || Err(Failure::new("no"))).unwrap();
        while !threads.are_over() {
            std::thread::yield_now();
        }
        drop(release);
        assert_eq!(threads.join().unwrap_err().to_string(), "no");
    }
}
