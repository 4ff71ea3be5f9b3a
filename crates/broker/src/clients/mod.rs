//! Who is connected: producers and consumers by group, what each consumer group subscribes to.
//!
//! Life of a client: a heartbeat (34) every 30 s tells its groups and subscriptions; it is a member of each of those
//! groups on that connection until it says goodbye (35), its connection closes, or nothing is heard for 120 s (`channelExpiredTimeout`). When
//! members or topics of a group change, the members are told (40) and share the queues out anew.
//!
//! Invariants:
//! - A member is a connection, not a client id: one client id on two connections is two members, as in Apache.
//! - A group's subscriptions are those of the heartbeat that came last; a pull compares its version with ours (24, 25).
//! - Pulls look at an immutable [`GroupView`] that is replaced on change: they never wait for a heartbeat.
//! - Members of groups and subscriptions of a group are bounded ([`ClientLimits`]), subscriptions in bytes too ([`budget`]).
//! - What is indexed twice is removed twice: a client that is gone leaves nothing in any table here.
//!
//! Not here: what a group may do (`group/`), where it is (`offset/`), order locks (`lock/`).

pub mod budget;
mod compensated;
pub mod consumers;
pub mod handler;
pub mod hazards;
pub mod notify;
pub mod producers;
pub mod table;
pub mod view;

pub use budget::BytesLimits;
pub use consumers::{Consumers, Joined};
pub use notify::Notices;
pub use producers::Producers;
pub use table::{Channel, ClientError, ClientLimits, Member};
pub use view::{GroupView, Joining, Subscribed};
