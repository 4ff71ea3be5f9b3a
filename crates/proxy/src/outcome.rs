//! How a request waits for the broker, whose verbs hand their outcome to a closure or a sink, on a thread of the broker.

use crate::caller::Caller;
use crate::codes::Refused;
use crate::service::Messaging;
use crate::v2::Code;
use broker::asker::{Asker, Sink};
use broker::errors::Refusal;
use std::net::SocketAddr;
use tokio::sync::oneshot;

/// Waits for the outcome that a closure sends.
///
/// # Errors
/// `InternalServerError` if the broker is stopped and dropped the closure.
pub(crate) async fn outcome<T>(wait: oneshot::Receiver<T>) -> Result<T, Refused> {
    wait.await
        .map_err(|_| Refused::new(Code::InternalServerError, "the broker is shutting down"))
}

/// No message has arrived in time.
pub(crate) fn no_message() -> Refused {
    Refused::new(Code::MessageNotFound, "no new message")
}

/// Where the result of a pull or pop goes.
struct ReadSink<R, F> {
    client: u64,
    peer: SocketAddr,
    done: Option<oneshot::Sender<Result<R, Refusal>>>,
    /// For a result whose client is gone.
    unclaimed: F,
}

impl<R: Send, F: Fn(R) + Send> Sink<R> for ReadSink<R, F> {
    fn client(&self) -> u64 {
        self.client
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn is_disconnected(&self) -> bool {
        self.done.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn answer(mut self: Box<Self>, result: R) {
        let Some(done) = self.done.take() else { return };
        if let Err(Ok(result)) = done.send(Ok(result)) {
            (self.unclaimed)(result);
        }
    }

    fn refuse(mut self: Box<Self>, refusal: Refusal) {
        if let Some(done) = self.done.take() {
            let _ = done.send(Err(refusal));
        }
    }
}

impl Messaging {
    /// The number by which the broker knows a client.
    pub(crate) fn number_of(&self, caller: &Caller) -> u64 {
        self.clients
            .find(&caller.client_id)
            .map_or(caller.connection.id, |client| client.id)
    }

    /// Waits for a pull or pop, which `ask` hands to the broker, until it is answered or the server stops. `unclaimed` is called with a
    /// result whose client is gone.
    ///
    /// # Errors
    /// What the broker refuses. `TooManyRequests` if no thread of the broker takes it.
    pub(crate) async fn wait_for_read<R: Send + 'static>(
        &self,
        caller: &Caller,
        ask: impl FnOnce(Asker<R>),
        unclaimed: impl Fn(R) + Send + 'static,
    ) -> Result<R, Refused> {
        let (done, answered) = oneshot::channel();
        let sink = ReadSink {
            client: self.number_of(caller),
            peer: caller.peer(),
            done: Some(done),
            unclaimed,
        };
        ask(Asker::Protocol(Box::new(sink)));
        let answered = tokio::select! {
            answered = answered => answered,
            () = self.stopping() => return Err(no_message()),
        };
        let busy = |_| Refused::new(Code::TooManyRequests, "too many reads wait for a thread of the broker; try again");
        Ok(answered.map_err(busy)??)
    }
}
