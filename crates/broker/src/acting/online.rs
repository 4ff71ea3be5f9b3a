//! What a master does before it delivers, registers and opens its ports: it takes over what its slaves did in its absence.
//!
//! Each slave that name servers list is told that the master comes (906), and then asked for committed offsets, progress of delay levels and
//! of timers. Offsets only advance. A slave that does not answer is left out, with a warning: what it did may be done again, nothing is lost.

use super::Acting;
use crate::{delay, offset};
use protocol::replication::ExchangeHaInfoHeader;
use protocol::{Frame, RequestCode, ResponseCode};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use store::timer::TimerCheck;

/// How long a slave may take for one answer. It ends its deliveries before it answers 906.
const TIMEOUT: Duration = Duration::from_secs(12);
/// How long name servers may take altogether.
const NAME_SERVERS: Duration = Duration::from_secs(3);

/// See the module. Blocks.
pub(super) fn take_over(acting: &Arc<Acting>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        take_over_from_all(acting).await;
        acting.peers.close_all();
    });
    Ok(())
}

async fn take_over_from_all(acting: &Arc<Acting>) {
    let asked = tokio::time::timeout(NAME_SERVERS, acting.ask_who_is_there()).await;
    let Ok(Some(group)) = asked else {
        tracing::warn!("no name server says which slaves there are: what one of them did for this master may be done again");
        return;
    };
    for (id, address) in group.others(acting.identity.broker_id) {
        match take_over_from(acting, address).await {
            Ok(offsets) => tracing::info!(id, address, offsets, "took over what a slave did for this master"),
            Err(error) => {
                tracing::warn!(id, address, %error, "a slave does not say what it did for this master: that may be done again");
            }
        }
    }
}

/// Returns how many offsets advanced.
async fn take_over_from(acting: &Arc<Acting>, slave: &str) -> io::Result<usize> {
    tell_that_it_comes(acting, slave).await?;
    let parts = &acting.parts;
    let ask = async |code| acting.peers.ask_for(slave, Frame::request(code), TIMEOUT).await;
    let offsets = ask(RequestCode::GetAllConsumerOffset).await?;
    let advanced = offset::table::advance(&parts.core.offsets, &offsets.body).map_err(io::Error::other)?;
    let delays = ask(RequestCode::GetAllDelayOffset).await?;
    if !delays.body.is_empty() {
        delay::table::advance(&parts.delays, &delays.body).map_err(io::Error::other)?;
    }
    // A slave without timers refuses.
    let timers = Frame::request(RequestCode::GetTimerCheckPoint);
    let timers = acting.peers.ask(slave, timers, TIMEOUT).await?;
    if timers.code == i32::from(ResponseCode::Success)
        && let Some(check) = TimerCheck::of_master(&timers.body)
    {
        parts.timers.take_over(&check);
    }
    Ok(advanced)
}

async fn tell_that_it_comes(acting: &Arc<Acting>, slave: &str) -> io::Result<()> {
    let local = acting.peers.to(slave, TIMEOUT).await?.connection().local();
    let (clients, slaves) = acting.identity.addresses(local);
    let header = ExchangeHaInfoHeader {
        master_ha_address: Some(&slaves),
        master_flush_offset: Some(acting.started_at),
        master_address: Some(&clients),
    };
    let mut frame = Frame::request(RequestCode::ExchangeBrokerHaInfo);
    header.encode(&mut frame.ext);
    acting.peers.ask_for(slave, frame, TIMEOUT).await.map(drop)
}
