//! Listeners of message arrivals: features that wait for messages register one.

use store::{Arrival, Arrivals};

/// Called for each message that readers can see, on the thread that confirmed it. Must not block and has to be fast.
pub trait ArrivalListener: Send + Sync {
    /// Called when a message has arrived.
    fn arrived(&self, message: &Arrival<'_>);
}

/// All listeners.
pub(crate) struct Listeners(pub(crate) Vec<Box<dyn ArrivalListener>>);

impl Arrivals for Listeners {
    fn arrived(&self, messages: &mut dyn Iterator<Item = Arrival<'_>>) {
        for message in messages {
            self.0.iter().for_each(|listener| listener.arrived(&message));
        }
    }
}
