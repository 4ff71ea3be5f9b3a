//! The thread that writes the files, so that a slow disk delays no heartbeat between controllers. It writes in the order of the jobs.

use std::io;
use std::thread::JoinHandle;

use openraft::storage::LogFlushed;
use tokio::sync::{mpsc, oneshot};

use super::Types;
use super::file::LogFile;
use super::frame::Item;
use super::snapshot::Kept;

/// Jobs that wait. Who has another one waits.
const MAX_JOBS: usize = 256;

/// Something to write.
pub(super) enum Job {
    /// Entries; openraft is told when they are on the device.
    Append(Item, LogFlushed<Types>),
    /// Another change of the log.
    Log(Item, oneshot::Sender<io::Result<()>>),
    /// A snapshot.
    Snapshot(Box<Kept>, oneshot::Sender<io::Result<()>>),
}

/// Where jobs go.
#[derive(Clone)]
pub(super) struct Jobs(mpsc::Sender<Job>);

fn ended<E>(_: E) -> io::Error {
    io::Error::other("the controller's disk thread has ended")
}

impl Jobs {
    /// Queues a job.
    pub(super) async fn send(&self, job: Job) -> io::Result<()> {
        self.0.send(job).await.map_err(ended)
    }

    /// Queues a job and waits until it is done.
    pub(super) async fn done(&self, job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job) -> io::Result<()> {
        let (report, done) = oneshot::channel();
        self.send(job(report)).await?;
        done.await.map_err(ended).flatten()
    }
}

/// The running thread.
pub(crate) struct DiskThread {
    jobs: Jobs,
    thread: JoinHandle<()>,
}

impl DiskThread {
    pub(super) fn start(log: LogFile) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel(MAX_JOBS);
        let thread = std::thread::Builder::new()
            .name("controller-disk".to_owned())
            .spawn(move || work(log, jobs))?;
        Ok(Self {
            jobs: Jobs(sender),
            thread,
        })
    }

    pub(super) fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }

    /// Waits until the files are closed. Ends when the node has been shut down and dropped.
    pub(crate) fn join(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!("the controller's disk thread has panicked");
        }
    }
}

fn work(mut log: LogFile, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        match job {
            Job::Append(item, flushed) => flushed.log_io_completed(log.write(&item)),
            // Who does not wait any more needs no answer.
            Job::Log(item, report) => drop(report.send(log.write(&item))),
            Job::Snapshot(kept, report) => drop(report.send(log.write_snapshot(&kept))),
        }
    }
}
