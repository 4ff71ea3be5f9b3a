//! Timers by the remoting protocol: requests 60, 61, 370 and 5001.

use super::{Recall, Timers};
use crate::clock::now_ms;
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome, Reply};
use net::Connection;
use protocol::codes::ResponseCode;
use protocol::frame::Frame;
use protocol::timer::{ENGINE_FILES, ENGINE_ROCKSDB, RecallMessageHeader, SwitchTimerEngineHeader};
use std::sync::Arc;

/// More changes than a master makes before it is gone and its slave hears of them.
const CHANGES_OF_ACTING: i64 = 1 << 20;
/// About how large an answer is.
const ANSWER_BYTES: usize = 512;

/// Serves request 370.
pub(crate) fn recall(timers: &Timers, connection: &Arc<Connection>, frame: &Frame) {
    let reply = Reply::to(connection, frame);
    let header = match RecallMessageHeader::decode(&frame.ext) {
        Ok(header) => header,
        Err(error) => return reply.send(Err(error.into())),
    };
    let region = timers.core.settings.current().region_id.clone();
    let request = Recall {
        topic: header.topic,
        handle: header.recall_handle.unwrap_or_default(),
        producer_group: header.producer_group.unwrap_or_default(),
        client: connection.peer(),
        store_host: timers.core.store_host(connection.local()),
        now_ms: now_ms(),
    };
    let owed = connection.owe(ANSWER_BYTES);
    timers.recall(request, move |outcome| {
        let answer = outcome.map(|uniq_key| Answer::ok().with("msgId", &*uniq_key).with("MSG_REGION", &*region));
        reply.send(answer.map_err(|refusal| refusal.with("MSG_REGION", &region)));
        drop(owed);
    });
}

/// Serves request 60: the content of `config/timercheck`. Never fails.
pub(crate) fn check_point(timers: &Timers) -> Outcome {
    let mut check = timers.check(now_ms());
    if timers.core.role.is_slave() && check.changes > 0 {
        // Compat: a master of Apache takes over what a slave delivered for it if the slave's has not fewer changes than its own, of which the
        // slave may not have heard.
        check.changes += CHANGES_OF_ACTING;
    }
    Ok(Answer::body(check.apaches_part().to_vec()))
}

/// Serves request 61: how many messages of each topic wait. Never fails.
pub(crate) fn counts(timers: &Timers) -> Outcome {
    Ok(Answer::body(timers.shared.counts.json()))
}

/// Serves request 5001.
///
/// # Errors
/// There is only the engine of files here.
pub(crate) fn switch_engine(timers: &Timers, frame: &Frame) -> Outcome {
    let header = SwitchTimerEngineHeader::decode(&frame.ext)?;
    if !timers.core.settings.current().timer_wheel_enable {
        return Err(invalid("timers are switched off: timerWheelEnable is false".to_owned()));
    }
    match header.engine {
        Some(ENGINE_FILES) => Ok(Answer::ok().remark("timers use files; nothing was changed")),
        Some(ENGINE_ROCKSDB) => Err(invalid(
            "timers in RocksDB are not supported by ApogeeMQ; they use files".to_owned(),
        )),
        _ => Err(invalid(format!("E_T must be {ENGINE_FILES} (files) or {ENGINE_ROCKSDB} (RocksDB)"))),
    }
}

fn invalid(why: String) -> Refusal {
    Refusal::new(ResponseCode::InvalidParameter, why)
}
