//! The body of a request: limited in time, and in the memory that all requests share.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// Memory for requests, of all connections.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    most: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most,
        }
    }
}

/// The body of a request.
pub(crate) struct Inbound {
    body: Incoming,
    budget: Arc<Budget>,
    held: usize,
    /// In which it has to arrive; none for a stream.
    time: Option<Duration>,
    /// Made when the body is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Inbound {
    pub(crate) fn new(body: Incoming, budget: Arc<Budget>, time: Option<Duration>) -> Self {
        Self {
            body,
            budget,
            held: 0,
            time,
            deadline: None,
        }
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let Some(time) = self.time else { return false };
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(time)));
        deadline.as_mut().poll(context).is_ready()
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() && self.is_late(context) {
            let text = "the request did not arrive completely in time (apogeeGrpcRequestTimeoutMillis)";
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text))));
        }
        let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        // A stream is read message by message: nothing of it stays.
        let bytes = frame.data_ref().filter(|_| self.time.is_some()).map_or(0, Bytes::len);
        self.held += bytes;
        let before = self.budget.used.fetch_add(bytes, Relaxed);
        // Alone, a request has room.
        if before + bytes > self.budget.most && before + bytes > self.held {
            let text = format!(
                "the requests of all clients have {} bytes already (apogeeGrpcInboundTotalBytes); try again",
                self.budget.most
            );
            return Poll::Ready(Some(Err(Status::resource_exhausted(text))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Relaxed);
    }
}
