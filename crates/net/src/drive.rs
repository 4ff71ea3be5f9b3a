//! The life of one connection: its task.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use protocol::frame::Frame;

use crate::connection::serving;
use crate::inbound::{Chunk, Inbound};
use crate::quiet::Gate;
use crate::transport::ReadSide;
use crate::{Connection, Limits, Service, spare};

/// First byte of a TLS record of type handshake. A frame cannot begin with it: that would be a length of over 369 million.
const TLS_HANDSHAKE: u8 = 0x16;

/// How long a peer has to close a connection that we have ended.
const LINGER: Duration = Duration::from_millis(500);

/// Why the task woke.
enum Event {
    Read(Chunk),
    /// The socket takes bytes again.
    Room,
    /// The frames left over can be served now.
    Leftover,
    /// The server stops, and the last answer is written.
    Drained,
    /// The connection ends: by us, by the peer, or by an error that is not worth a word.
    End,
}

/// Serves one connection until its end. Whatever happens, also a panic of the service, ends with `Service::closed`.
pub(crate) async fn drive(conn: Arc<Connection>, side: ReadSide, service: Arc<dyn Service>, limits: Arc<Limits>) {
    let mut task = Task {
        inbound: Inbound::new(side),
        leftover: Vec::new(),
        begun: false,
        registered: false,
        conn,
        service,
        limits,
    };
    task.service.opened(&task.conn);
    task.run().await;
}

struct Task {
    conn: Arc<Connection>,
    inbound: Inbound,
    service: Arc<dyn Service>,
    limits: Arc<Limits>,
    /// Frames the service left because the connection is congested.
    leftover: Vec<Frame>,
    /// The first byte has been looked at.
    begun: bool,
    /// The outbox knows this task's waker.
    registered: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.conn.finish();
        self.service.closed(&self.conn);
    }
}

impl Task {
    async fn run(&mut self) {
        loop {
            let alive = match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Read(chunk) => {
                    let full = chunk.full;
                    let alive = self.digest(chunk);
                    if alive && full {
                        // More is there, but others on this thread come first.
                        tokio::task::yield_now().await;
                    }
                    alive
                }
                Event::Room => self.conn.outbox().resume(),
                Event::Leftover => {
                    let frames = std::mem::take(&mut self.leftover);
                    self.serve(frames)
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

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.registered {
            self.conn.outbox().register(cx.waker());
            self.registered = true;
        }
        if self.conn.is_closed() {
            return Poll::Ready(Event::End);
        }
        if self.conn.outbox().is_blocked() {
            if self.conn.outbox().poll_room(cx).is_ready() {
                return Poll::Ready(Event::Room);
            }
            if self.conn.congested() {
                return Poll::Pending;
            }
        }
        if self.conn.is_draining() {
            return if self.conn.is_drained() {
                Poll::Ready(Event::Drained)
            } else {
                Poll::Pending
            };
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

    /// Ends our direction, and waits a moment for the peer to end its own. Requests that nobody reads would make the kernel reset
    /// the connection instead, and the peer could lose answers that it has not read yet.
    async fn linger(&mut self) {
        self.conn.outbox().end();
        let silence = poll_fn(|cx| self.inbound.poll_discard(cx));
        let _ = tokio::time::timeout(LINGER, silence).await;
    }

    /// Decodes and serves all that a read brought. False ends the connection.
    fn digest(&mut self, mut chunk: Chunk) -> bool {
        self.conn.touch();
        if !self.begun {
            self.begun = true;
            if chunk.bytes().first() == Some(&TLS_HANDSHAKE) {
                warn_tls(&self.conn);
                return false;
            }
        }
        let mut frames = spare::frames();
        let mut sound = true;
        loop {
            match chunk.decode(self.limits.max_frame_bytes) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    warn_frame(&self.conn, &error);
                    sound = false;
                    break;
                }
            }
        }
        self.inbound.keep(chunk);
        if frames.is_empty() {
            spare::give_frames(frames);
            return sound;
        }
        // What came before a broken frame is whole and is served.
        self.serve(frames) && sound
    }

    /// Gives answers to those who wait for them and the rest to the service. False ends the connection.
    fn serve(&mut self, mut frames: Vec<Frame>) -> bool {
        let before = frames.len();
        let alive = serving(&self.conn, || {
            if frames.iter().any(Frame::is_response) {
                for answer in frames.extract_if(.., |frame| frame.is_response()) {
                    self.conn.requests().complete(answer);
                }
            }
            if !frames.is_empty() {
                self.service.serve(&self.conn, &mut frames);
            }
        });
        if frames.is_empty() {
            spare::give_frames(frames);
            return alive;
        }
        let stuck = frames.len() == before && !self.conn.congested();
        if stuck {
            tracing::error!(peer = %self.conn.peer(), frames = before, "the service left requests unserved without cause");
        }
        self.leftover = frames;
        alive && !stuck
    }

    fn report(&self, error: &io::Error) {
        tracing::debug!(peer = %self.conn.peer(), %error, "connection lost");
    }
}

fn warn_tls(conn: &Connection) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(peer = %conn.peer(), others, "closing a connection that begins with a TLS handshake: this port speaks plain text");
    }
}

fn warn_frame(conn: &Connection, error: &protocol::frame::FrameError) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(peer = %conn.peer(), %error, others, "closing a connection that sent a broken frame");
    }
}
