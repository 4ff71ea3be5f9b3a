//! Who is told of messages that readers can now see: each feature that waits for messages adds a listener.

use store::{Arrival, Arrivals};

/// Told of each message, on the thread that confirmed it: must not block, and costs every message what it costs.
pub trait ArrivalListener: Send + Sync {
    /// A message has arrived.
    fn arrived(&self, message: &Arrival<'_>);
}

/// All of them.
pub(crate) struct Listeners(pub(crate) Vec<Box<dyn ArrivalListener>>);

impl Arrivals for Listeners {
    fn arrived(&self, messages: &mut dyn Iterator<Item = Arrival<'_>>) {
        for message in messages {
            self.0.iter().for_each(|listener| listener.arrived(&message));
        }
    }
}
