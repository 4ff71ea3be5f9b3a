//! Threads beside those that serve connections, so that no sender waits for what a reader asked for.
//!
//! There are two kinds. `catch-up` copies what the page cache has and memory has not any more; it never waits for the disk, so
//! there are only as many as may have a processor each. `reader` does whatever may wait for the disk: cold pulls and look-ups.
//!
//! They start with the first job and end after a minute without one. The line before them is bounded; a job too many is
//! refused as busy.

use crate::errors::Refusal;
use parking_lot::{Condvar, Mutex};
use protocol::codes::ResponseCode;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long a reader waits for a job before it ends.
const IDLE: Duration = Duration::from_secs(60);

type Job = Box<dyn FnOnce() + Send>;

/// A few threads and a line of jobs.
pub struct Readers {
    name: &'static str,
    max_threads: usize,
    max_jobs: usize,
    line: Mutex<Line>,
    job_came: Condvar,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Readers {
    /// Up to `max_threads` threads called `name`, up to `max_jobs` jobs in line.
    #[must_use]
    pub fn new(name: &'static str, max_threads: usize, max_jobs: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            max_threads,
            max_jobs,
            line: Mutex::default(),
            job_came: Condvar::new(),
        })
    }

    /// Has a job done.
    ///
    /// # Errors
    /// The line is full, or no thread can be had: busy.
    pub fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
        let mut line = self.line.lock();
        if line.jobs.len() >= self.max_jobs {
            return Err(Refusal::new(
                ResponseCode::SystemBusy,
                format!("{} reads wait for a {} thread already", line.jobs.len(), self.name),
            ));
        }
        if line.idle <= line.jobs.len() && line.threads < self.max_threads {
            let readers = self.clone();
            match std::thread::Builder::new().name(self.name.to_owned()).spawn(move || readers.work()) {
                Ok(_) => line.threads += 1,
                Err(error) if line.threads == 0 => {
                    return Err(Refusal::new(ResponseCode::SystemBusy, format!("no thread to read with: {error}")));
                }
                Err(_) => {}
            }
        }
        line.jobs.push_back(Box::new(job));
        self.job_came.notify_one();
        Ok(())
    }

    fn work(&self) {
        let mut line = self.line.lock();
        loop {
            if let Some(job) = line.jobs.pop_front() {
                drop(line);
                job();
                line = self.line.lock();
                continue;
            }
            line.idle += 1;
            let timed_out = self.job_came.wait_for(&mut line, IDLE).timed_out();
            line.idle -= 1;
            if timed_out && line.jobs.is_empty() {
                line.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_are_done_and_one_too_many_is_refused() {
        let readers = Readers::new("reader", 1, 2);
        let (hold, held) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let (started, running) = mpsc::channel();
        readers
            .run(move || {
                started.send(()).unwrap();
                held.recv().unwrap();
            })
            .unwrap();
        running.recv().unwrap();
        for n in 0..2 {
            let done = done.clone();
            readers.run(move || done.send(n).unwrap()).unwrap();
        }
        assert_eq!(readers.run(|| ()).unwrap_err().code, ResponseCode::SystemBusy);
        hold.send(()).unwrap();
        assert_eq!(finished.iter().take(2).collect::<Vec<_>>(), [0, 1]);
    }
}
