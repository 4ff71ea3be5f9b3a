//! Requests 905, 906 and 908.

use super::Acting;
use crate::reply::{Answer, Outcome};
use net::Connection;
use protocol::Frame;
use protocol::register::MinBrokerIdChangeHeader;
use protocol::replication::{ExchangeHaInfoHeader, ResetMasterFlushOffsetHeader};

/// Code 905: a name server has another lowest id for this broker's name. Name servers are asked for themselves: nobody acts because of one
/// request.
///
/// # Errors
/// `SystemError` if the header is malformed.
pub(crate) fn lowest_id_changed(acting: &Acting, frame: &Frame) -> Outcome {
    let header = MinBrokerIdChangeHeader::decode(&frame.ext)?;
    tracing::info!(
        lowest = header.min_broker_id,
        address = header.min_broker_addr,
        gone = header.offline_broker_addr,
        "a name server says that the lowest broker id has changed"
    );
    acting.poke();
    Ok(Answer::ok())
}

/// Code 906: a master that comes online tells its addresses, or a slave asks for them. May block.
///
/// # Errors
/// `SystemError` if the header is malformed.
pub(crate) fn exchange(acting: &Acting, connection: &Connection, frame: &Frame) -> Outcome {
    let header = ExchangeHaInfoHeader::decode(&frame.ext)?;
    let role = &acting.parts.core.role;
    let is_on = acting.parts.core.settings.current().enable_slave_acting_master;
    match header.master_ha_address.filter(|address| !address.is_empty()) {
        Some(address) if role.is_slave() && is_on => {
            acting.master_comes(address, header.master_flush_offset);
            Ok(Answer::ok())
        }
        None if !role.is_slave() => {
            let (clients, slaves) = acting.identity.addresses(connection.local());
            Ok(Answer::ok()
                .with("masterHaAddress", &slaves)
                .with("masterFlushOffset", acting.started_at)
                .with("masterAddress", &clients))
        }
        // Compat: Apache's brokers answer so, too. A slave without the mode hears of its master from name servers only.
        _ => Ok(Answer::ok()),
    }
}

/// Code 908: an operator sets the flushed offset of the master that a slave keeps. Compat: a master answers with success and ignores it.
/// May block.
///
/// # Errors
/// `SystemError` if the header is malformed or the offset cannot be written.
pub(crate) fn reset_master_flush_offset(acting: &Acting, frame: &Frame) -> Outcome {
    let header = ResetMasterFlushOffsetHeader::decode(&frame.ext)?;
    if acting.parts.core.role.is_slave() {
        acting.set_master_flushed(header.master_flush_offset)?;
    }
    Ok(Answer::ok())
}
