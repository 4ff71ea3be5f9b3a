//! The threads of the proxy: a runtime each, and connections in turn.
//!
//! A thread's runtime runs what is ready in the order in which it became ready. The requests of one read are served one after the other, and
//! their connection writes all their answers at once; a runtime of several threads would write after each.

use std::io;
use std::thread::JoinHandle;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Running threads. What they run ends when this is dropped.
pub(crate) struct Workers(Vec<Worker>);

struct Worker {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts so many threads, at least one.
    ///
    /// # Errors
    /// A runtime or a thread cannot be started.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let start = |_| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let (end, is_over) = oneshot::channel::<()>();
            let run = move || drop(runtime.block_on(is_over));
            let thread = std::thread::Builder::new().name("grpc".to_owned()).spawn(run)?;
            Ok(Worker {
                handle,
                end: Some(end),
                thread: Some(thread),
            })
        };
        (0..threads.max(1)).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// The thread for what there is once.
    pub(crate) fn first(&self) -> &Handle {
        &self.0[0].handle
    }

    /// The threads for connections, each in turn without an end.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = Handle> + use<> {
        let handles: Vec<Handle> = self.0.iter().map(|worker| worker.handle.clone()).collect();
        handles.into_iter().cycle()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            drop(worker.end.take());
        }
        for thread in self.0.iter_mut().filter_map(|worker| worker.thread.take()) {
            // A task that panics does not end its thread.
            let _ = thread.join();
        }
    }
}
