//! The task of one connection: reads, serves, and waits until it may read again.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use protocol::frame::Frame;

use crate::clock::{millis, uptime};
use crate::gate::Gate;
use crate::inbound::{Chunk, Inbound};
use crate::outbox::Next;
use crate::worker::Worker;
use crate::{Connection, Limits, Service, spare, turn};

/// Time for a peer to close a connection whose direction from us has ended.
const LINGER: Duration = Duration::from_millis(500);

/// Why the task woke.
enum Event {
    Read(Chunk),
    /// The socket is writable again.
    Writable,
    /// Frames that the service left can be served now.
    Leftover,
    /// The server drains, and the last response is written.
    Drained,
    /// The connection has ended: closed by us or by the peer, or failed.
    End,
}

/// Serves one connection until its end. `first` was read before the connection was created. Whatever happens, also a panic of the
/// service, ends with `Service::closed`.
pub(crate) async fn drive(conn: Arc<Connection>, inbound: Inbound, first: Option<Chunk>, service: Arc<dyn Service>, limits: Arc<Limits>) {
    let mut task = Task {
        inbound,
        leftover: Vec::new(),
        waits_for_turn: false,
        registered: false,
        conn,
        service,
        limits,
    };
    task.service.opened(&task.conn);
    task.run(first).await;
}

struct Task {
    conn: Arc<Connection>,
    inbound: Inbound,
    service: Arc<dyn Service>,
    limits: Arc<Limits>,
    /// Frames that the service left because the connection was congested or its turn was over.
    leftover: Vec<Frame>,
    /// The worker counts this connection among those with frames left.
    waits_for_turn: bool,
    /// The outbox knows this task's waker.
    registered: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.wait_for_turn(false);
        self.conn.finish();
        self.service.closed(&self.conn);
    }
}

impl Task {
    async fn run(&mut self, first: Option<Chunk>) {
        let mut first = first.map(Event::Read);
        loop {
            let event = match first.take() {
                Some(event) => event,
                None => poll_fn(|cx| self.poll_event(cx)).await,
            };
            let alive = match event {
                Event::Read(chunk) => {
                    let full = chunk.full;
                    let alive = self.process(chunk);
                    self.let_others_go_first(alive && full).await;
                    alive
                }
                Event::Writable => self.conn.outbox().resume(),
                Event::Leftover => {
                    let frames = std::mem::take(&mut self.leftover);
                    let alive = self.serve(frames, uptime());
                    self.let_others_go_first(false).await;
                    alive
                }
                Event::Drained => {
                    self.linger().await;
                    false
                }
                Event::End => false,
            };
            if !alive {
                return;
            }
        }
    }

    /// Lets other connections of this thread run before frames that are left are served, and before the next read if there is `more` to read.
    async fn let_others_go_first(&mut self, more: bool) {
        let left = !self.leftover.is_empty();
        self.wait_for_turn(left);
        if left || more {
            tokio::task::yield_now().await;
        }
    }

    fn wait_for_turn(&mut self, waits: bool) {
        if self.waits_for_turn != waits {
            self.waits_for_turn = waits;
            if let Some(worker) = self.conn.worker() {
                worker.wait_for_turn(waits);
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.registered {
            self.conn.outbox().register(cx.waker());
            self.registered = true;
        }
        if self.conn.is_closed() {
            return Poll::Ready(Event::End);
        }
        if self.conn.outbox().is_blocked() && self.conn.outbox().poll_writable(cx).is_ready() {
            return Poll::Ready(Event::Writable);
        }
        match self.conn.outbox().next() {
            Next::Go => {}
            Next::Wait => {
                self.inbound.pause();
                return Poll::Pending;
            }
            Next::Drained => return Poll::Ready(Event::Drained),
        }
        if !self.leftover.is_empty() {
            return Poll::Ready(Event::Leftover);
        }
        Poll::Ready(match ready!(self.inbound.poll_read(cx)) {
            Ok(Some(chunk)) => Event::Read(chunk),
            Ok(None) => Event::End,
            Err(error) => {
                self.report(&error);
                Event::End
            }
        })
    }

    /// Ends our direction, and waits a moment for the peer to end its own. With unread requests the kernel would reset the connection, and
    /// the peer could lose responses that it has not read yet.
    async fn linger(&mut self) {
        self.conn.outbox().end();
        let silence = poll_fn(|cx| self.inbound.poll_discard(cx));
        let _ = tokio::time::timeout(LINGER, silence).await;
    }

    /// Decodes and serves all frames of a read. Returns false to end the connection.
    fn process(&mut self, mut chunk: Chunk) -> bool {
        let now = self.conn.touch();
        let mut frames = spare::frames();
        let mut is_valid = true;
        loop {
            match chunk.decode(self.limits.max_frame_bytes) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    warn_frame(&self.conn, &error);
                    is_valid = false;
                    break;
                }
            }
        }
        self.inbound.keep(chunk, !frames.is_empty(), millis(now));
        if frames.is_empty() {
            spare::give_frames(frames);
            return is_valid;
        }
        // Frames before an invalid one are served.
        self.serve(frames, now) && is_valid
    }

    /// Passes responses to their callbacks and requests to the service. Returns false to end the connection. `now` is in `uptime`.
    fn serve(&mut self, mut frames: Vec<Frame>, now: Duration) -> bool {
        let before = frames.len();
        let mut stuck = false;
        // A single request is not interrupted, so its turn needs no end.
        let end = (before > 1).then(|| now + turn::length(self.conn.worker().map_or(0, Worker::waiting_for_turn)));
        let alive = turn::serving(&self.conn, end, || {
            if frames.iter().any(Frame::is_response) {
                for response in frames.extract_if(.., |frame| frame.is_response()) {
                    self.conn.requests().complete(response);
                }
            }
            if !frames.is_empty() {
                self.service.serve(&self.conn, &mut frames);
                stuck = frames.len() == before && !self.conn.must_yield();
            }
        });
        if frames.is_empty() {
            spare::give_frames(frames);
            return alive;
        }
        if stuck {
            tracing::error!(peer = %self.conn.peer(), frames = before, "closing a connection: the service served none of its requests although it had no reason to yield; this is a bug");
        }
        self.leftover = frames;
        alive && !stuck
    }

    fn report(&self, error: &io::Error) {
        tracing::debug!(peer = %self.conn.peer(), %error, "connection lost");
    }
}

fn warn_frame(conn: &Connection, error: &protocol::frame::FrameError) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(peer = %conn.peer(), %error, others, "closing a connection that sent an invalid frame");
    }
}
