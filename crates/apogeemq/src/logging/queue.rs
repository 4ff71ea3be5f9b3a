//! The queue of lines for stderr.
//!
//! The reader of a pipe may be slow or gone, and a thread that serves clients must not wait for it. Lines wait in memory, up to
//! [`MAX_WAITING`] bytes, for the one thread that may block. Further lines are dropped and counted, and the count is written when
//! there is space again.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::gate::{Gates, REPORT_INTERVAL};
use super::now;

/// Maximum bytes of queued lines.
const MAX_WAITING: usize = 1 << 20;

/// Queued lines.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Lines were queued, or all were written.
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Complete lines.
    waiting: Vec<u8>,
    /// Lines that were dropped after the queued ones.
    dropped: u64,
    /// Lines were taken and are not written yet.
    is_writing: bool,
    /// The writer has to check for reports.
    woken: bool,
}

impl Queue {
    /// Adds a line. Never waits for the reader of the log.
    pub(super) fn put(&self, line: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > MAX_WAITING {
            state.dropped += 1;
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.changed.notify_all();
        }
    }

    /// Makes the writer check for reports.
    pub(super) fn wake(&self) {
        self.state().woken = true;
        self.changed.notify_all();
    }

    /// Waits until all lines are written, or until the time limit.
    pub(super) fn drain(&self, time_limit: Duration) {
        let until = Instant::now() + time_limit;
        let mut state = self.state();
        while state.is_writing || !state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the queued lines, and the number of lines that were dropped after them.
    pub(super) fn take_now(&self) -> (Vec<u8>, u64) {
        let mut state = self.state();
        state.is_writing = true;
        state.woken = false;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.dropped))
    }

    /// Waits for lines or reports, at most until the time limit.
    fn wait(&self, most: Option<Duration>) {
        let state = self.state();
        let is_idle = |state: &mut QueueState| state.waiting.is_empty() && state.dropped == 0 && !state.woken;
        match most {
            Some(most) => drop(self.changed.wait_timeout_while(state, most, is_idle)),
            None => drop(self.changed.wait_while(state, is_idle)),
        }
    }

    fn wrote(&self) {
        self.state().is_writing = false;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that writes queued lines.
///
/// # Errors
/// `io::Error` if the thread cannot be started.
pub(super) fn write_from(queue: &Arc<Queue>, gates: Arc<Gates>, mut out: impl Write + Send + 'static) -> io::Result<()> {
    let queue = Arc::clone(queue);
    let write = move || {
        let mut told = Instant::now();
        loop {
            queue.wait(gates.is_due().then_some(REPORT_INTERVAL));
            let (mut lines, dropped) = queue.take_now();
            if dropped > 0 {
                let notice = format!(
                    "{} WARN {}: {dropped} lines were dropped: the log is not read fast enough\n",
                    now(),
                    module_path!()
                );
                lines.extend_from_slice(notice.as_bytes());
            }
            if gates.is_due() && told.elapsed() >= REPORT_INTERVAL {
                told = Instant::now();
                for text in gates.reports() {
                    lines.extend_from_slice(format!("{}{text}\n", now()).as_bytes());
                }
            }
            // Without stderr lines are discarded.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            queue.wrote();
        }
    };
    thread::Builder::new().name("log".to_owned()).spawn(write).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A pipe that accepts a write only while it is read.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started() -> (Arc<Queue>, mpsc::Receiver<Vec<u8>>) {
        let (pipe, reader) = mpsc::sync_channel(0);
        let queue = Arc::new(Queue::default());
        let gates = Arc::new(Gates::new(Arc::clone(&queue)));
        write_from(&queue, gates, Pipe(pipe)).unwrap();
        (queue, reader)
    }

    #[test]
    fn lines_are_written_in_order_and_drained_at_the_end() {
        let (queue, reader) = started();
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            while !all.ends_with(b"999\n") {
                all.extend(reader.recv_timeout(DEADLINE).unwrap());
            }
            all
        });
        let lines: Vec<String> = (0..1000).map(|n| format!("{n}\n")).collect();
        lines.iter().for_each(|line| queue.put(line.as_bytes()));
        queue.drain(DEADLINE);
        assert!(queue.take_now().0.is_empty());
        assert_eq!(reading.join().unwrap(), lines.concat().as_bytes());
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_no_caller_and_dropped_lines_are_reported() {
        let (queue, reader) = started();
        let line = vec![b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<u8>>();
        let count = 5 * MAX_WAITING / line.len();
        (0..count).for_each(|_| queue.put(&line));
        queue.drain(Duration::from_millis(1));
        let (mut whole, mut dropped) = (0, 0);
        while whole + dropped < count {
            let text = String::from_utf8(reader.recv_timeout(DEADLINE).unwrap()).unwrap();
            for one in text.lines() {
                match one.split_once(" lines were dropped") {
                    Some((head, _)) => dropped += head.rsplit(' ').next().unwrap().parse::<usize>().unwrap(),
                    None => whole += 1,
                }
            }
        }
        assert!(
            dropped > 0 && whole * line.len() <= 2 * MAX_WAITING,
            "{whole} whole, {dropped} dropped"
        );
    }

    #[test]
    fn a_reader_that_is_gone_is_ignored() {
        let (queue, reader) = started();
        drop(reader);
        for _ in 0..100 {
            queue.put(b"line\n");
            queue.drain(DEADLINE);
        }
        assert!(queue.take_now().0.is_empty());
    }
}
