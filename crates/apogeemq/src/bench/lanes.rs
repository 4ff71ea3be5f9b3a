//! The threads of a run: started, watched for failures, joined.

use std::thread::{Builder, JoinHandle};

use crate::failure::Failure;

/// Enough for what a lane does, and a thousand of them are no burden.
const STACK_BYTES: usize = 256 << 10;

/// Threads that end by themselves.
#[derive(Default)]
pub(super) struct Lanes {
    running: Vec<JoinHandle<Result<(), Failure>>>,
    failure: Option<Failure>,
}

impl Lanes {
    pub(super) fn spawn(&mut self, name: &str, lane: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Result<(), Failure> {
        let thread = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(lane);
        self.running
            .push(thread.map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?);
        Ok(())
    }

    /// Looks which have ended. True: there is nothing more to wait for, because all have or one has failed.
    pub(super) fn are_over(&mut self) -> bool {
        let (ended, running) = std::mem::take(&mut self.running)
            .into_iter()
            .partition::<Vec<_>, _>(JoinHandle::is_finished);
        self.running = running;
        self.collect(ended);
        self.failure.is_some() || self.running.is_empty()
    }

    /// The first failure there was, without waiting.
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
                .unwrap_or_else(|_| Err(Failure::new("a thread of the load broke down")));
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
        let mut lanes = Lanes::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        lanes
            .spawn("waits", move || {
                // Ends when the other side is dropped.
                let _ = held.recv();
                Ok(())
            })
            .unwrap();
        assert!(!lanes.are_over());
        lanes.spawn("fails", || Err(Failure::new("no"))).unwrap();
        while !lanes.are_over() {
            std::thread::yield_now();
        }
        drop(release);
        assert_eq!(lanes.join().unwrap_err().to_string(), "no");
    }
}
