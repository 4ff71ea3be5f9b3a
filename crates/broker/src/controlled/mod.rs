//! A broker under a controller (`enableControllerMode`): it is the master or a slave as the controllers say, and changes its role by a start
//! in its process.
//!
//! ```text
//! controllers ──► watch (thread "controlled"): heartbeats, who is the master, the in-sync set ──► Told
//!                      │ confirms the lease of the master                                           │
//!                      ▼                                                                            ▼
//!                 the running broker ◄─────────── starts and stops it ─────────── member (thread "member")
//! ```
//!
//! - A master takes messages while its *lease* lasts: until `controllerHeartBeatTimeoutMills` after the last heartbeat that the leading
//!   controller has answered and after which it has confirmed this master. No controller elects another one before, unless this process is
//!   gone. A process that was stopped for longer finds its lease over before it takes anything.
//! - Before a broker becomes the master it has appended all that it received, and begins its epoch at its log's end. Before it becomes a slave
//!   it stops; the master's epochs say what of its log is cut off then.
//! - A master that starts again while the controllers still take it for the master first leaves its slaves out of the in-sync set, so that
//!   readers see nothing that the set does not have. If it is alone in the set, it makes sure that no change is done any more that its last
//!   process has asked for. One whose machine may have lost what it had acknowledged (a power failure under
//!   ASYNC_FLUSH) stays silent until another replica was elected, or nobody was for a time.
//! - A master that cannot store messages for some seconds has another in-sync replica elected (`hand_over`).
//!
//! What follows from what the controllers say is decided in `decide`, which the simulated cluster runs, too.
//!
//! Not here: how the log is copied (`replication`), who is elected (the controller).

mod controllers;
#[doc(hidden)]
pub mod decide;
mod hand_over;
mod identity;
mod member;
mod watch;

pub use member::ControlledBroker;
