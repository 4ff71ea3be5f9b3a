//! How a request waits for a pull or pop, which may be parked.

use super::Local;
use crate::backend::Popped;
use crate::caller::Caller;
use crate::codes::Refused;
use crate::v2::Code;
use broker::asker::{Asker, Sink};
use broker::errors::Refusal;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

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

/// Waits for a pull or pop, which `ask` hands to the broker. `unclaimed` is called with a result whose client is gone.
///
/// # Errors
/// What the broker refuses. `TooManyRequests` if no thread of the broker takes it.
pub(super) async fn answer<R: Send + 'static>(
    client: u64,
    caller: &Caller,
    ask: impl FnOnce(Asker<R>),
    unclaimed: impl Fn(R) + Send + 'static,
) -> Result<R, Refused> {
    let (done, answered) = oneshot::channel();
    let sink = ReadSink {
        client,
        peer: caller.peer(),
        done: Some(done),
        unclaimed,
    };
    ask(Asker::Protocol(Box::new(sink)));
    let busy = |_| Refused::new(Code::TooManyRequests, "too many reads wait for a thread of the broker; try again");
    Ok(answered.await.map_err(busy)??)
}

impl Local {
    /// As [`answer`], with the name of the broker for handles.
    pub(super) async fn read_claimed<R: Send + 'static>(
        &self,
        client: u64,
        caller: &Caller,
        ask: impl FnOnce(Asker<R>),
        unclaimed: impl Fn(Popped<R>) + Send + 'static,
    ) -> Result<Popped<R>, Refused> {
        let broker = Arc::clone(&self.name);
        let unclaimed = move |result| {
            unclaimed(Popped {
                result,
                broker: Arc::clone(&broker),
            });
        };
        let result = answer(client, caller, ask, unclaimed).await?;
        Ok(Popped {
            result,
            broker: Arc::clone(&self.name),
        })
    }
}
