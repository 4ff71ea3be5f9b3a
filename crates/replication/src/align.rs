//! What a slave does first under a controller: it hears the master's epochs, and cuts its log back to where it is the master's.
//!
//! What is cut off was never acknowledged by all of an in-sync set, or was elected away uncleanly.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use message::LogOffset;
use store::Store;

use crate::epochs::{Epochs, Unaligned};
use crate::link::is_timeout;
use crate::slave::{Ended, Follower};
use crate::wire::{MASTER_HANDSHAKE_LEN, SlaveHandshake, parse_epochs, parse_master_handshake};

/// Returns where the log ends then.
pub(crate) fn align(store: &Store, follower: &Follower, mut stream: &TcpStream, patience: Duration) -> Result<LogOffset, Ended> {
    let hello = SlaveHandshake {
        from_last_file: follower.from_last_file,
        is_learner: follower.is_learner,
        id: follower.member.id,
    };
    stream.write_all(&hello.encode())?;
    let read = |buffer: &mut [u8]| {
        let mut stream = stream;
        stream.read_exact(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Ended::ByPeer,
            _ if is_timeout(&e) => Ended::Silent(patience),
            _ => e.into(),
        })
    };
    let mut beginning = [0; MASTER_HANDSHAKE_LEN];
    read(&mut beginning)?;
    let (size, end) = parse_master_handshake(&beginning).ok_or(Ended::NoHandshake)?;
    let mut epochs = vec![0; size];
    read(&mut epochs)?;
    cut_back(store, follower, &parse_epochs(&epochs).ok_or(Ended::NoHandshake)?, end)
}

fn cut_back(store: &Store, follower: &Follower, master: &Epochs, master_end: i64) -> Result<LogOffset, Ended> {
    let file = &follower.member.epochs;
    let (end, first) = (store.written(), store.log_range().0);
    let common = file.epochs().cut(first.0, end.0, master, master_end).map_err(|why| match why {
        Unaligned::WithoutEpoch => Ended::WithoutEpoch(end.0 - first.0),
        Unaligned::NothingInCommon => Ended::NothingInCommon,
        Unaligned::TooOld(common) => Ended::TooOld { common, first },
    })?;
    if common < end.0 {
        tracing::warn!(
            from = common,
            to = end.0,
            bytes = end.0 - common,
            "cut off the end of this log, which its master does not have: it was not acknowledged by the in-sync set"
        );
        store.truncate(LogOffset(common)).map_err(|why| Ended::NotCut { to: common, why })?;
    }
    file.change(|epochs| epochs.is_cut(first.0, common))?;
    Ok(LogOffset(common))
}
