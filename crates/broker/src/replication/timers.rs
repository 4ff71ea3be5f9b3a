//! How far the timers of the master are done, kept by a slave: when it becomes a master it does not look through its whole log for what was
//! delivered.
//!
//! The master tells its check point, and then where its log ends. Only when this slave's log has all of that, on the device, the check point is
//! written: what it counts as done is never missing.

use crate::core::Core;
use crate::store_options::timer_options;
use net::client::Peer;
use protocol::replication::ReplicationStatus;
use protocol::{Frame, RequestCode, ResponseCode, json};
use std::io;
use std::time::Duration;
use store::timer::{TimerCheck, take_over};

/// A check point that differs only in the time up to which timers are done is written this often, ms.
const TIME_ONLY_MS: i64 = 60_000;

fn is_newer(check: &TimerCheck, written: &TimerCheck) -> bool {
    (check.queue_offset, check.changes) != (written.queue_offset, written.changes)
        || check.read_time_ms - written.read_time_ms >= TIME_ONLY_MS
}

/// What the master told.
#[derive(Default)]
pub(super) struct MasterTimers {
    /// A check point, and the end of the log that it needs.
    told: Option<(TimerCheck, i64)>,
    /// The last one that was written.
    written: Option<TimerCheck>,
}

impl MasterTimers {
    /// Asks the master, and writes what it told when the log has come so far: now or at a later call.
    pub(super) async fn copy_from(&mut self, core: &Core, master: &Peer, timeout: Duration) -> io::Result<()> {
        if !core.settings.current().timer_wheel_enable {
            return Ok(());
        }
        if self.told.is_none() {
            self.told = self.ask(master, timeout).await?;
        }
        let Some((check, _)) = self.told.filter(|(_, end)| core.store.written().0 >= *end) else {
            return Ok(());
        };
        let core = core.clone();
        let written = tokio::task::spawn_blocking(move || write(&core, check)).await;
        written.map_err(io::Error::other)?.map_err(io::Error::other)?;
        (self.told, self.written) = (None, Some(check));
        Ok(())
    }

    /// The check point if it is a new one, and the end of the master's log after it.
    async fn ask(&self, master: &Peer, timeout: Duration) -> io::Result<Option<(TimerCheck, i64)>> {
        let ask = |code| master.request(Frame::request(code), timeout);
        let answer = ask(RequestCode::GetTimerCheckPoint).await.map_err(io::Error::other)?;
        let is_new = |check: &TimerCheck| check.queue_offset > 0 && self.written.is_none_or(|written| is_newer(check, &written));
        // A master without timers refuses.
        let is_told = answer.code == i32::from(ResponseCode::Success);
        let Some(check) = TimerCheck::of_master(&answer.body).filter(|check| is_told && is_new(check)) else {
            return Ok(None);
        };
        let answer = ask(RequestCode::GetBrokerHaStatus).await.map_err(io::Error::other)?;
        let status: ReplicationStatus = json::read(&answer.body).map_err(io::Error::other)?;
        Ok(status.master.then_some((check, status.master_commit_log_max_offset)))
    }
}

fn write(core: &Core, check: TimerCheck) -> Result<(), store::StoreError> {
    core.store.sync()?;
    take_over(&core.disk, timer_options(&core.settings.current()), check)
}
