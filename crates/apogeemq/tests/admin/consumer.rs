//! Connected clients: a producer, and a consumer that answers requests of brokers.

use std::sync::Arc;

use client::{Client, Options};
use net::{Connection, Service};
use protocol::diagnose::{ConsumeDirectlyReply, ConsumeResult, ProcessQueue, RunningInfo};
use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, MessageModel, ProducerData, Subscription};
use protocol::{Frame, MessageQueue, RequestCode, json};

use crate::common::DEADLINE;

/// A consumer that answers requests for its state and for consuming a message.
struct Consumer;

impl Service for Consumer {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            let body = match RequestCode::try_from(frame.code) {
                Ok(RequestCode::GetConsumerRunningInfo) => json::write(&running_info()),
                Ok(RequestCode::ConsumeMessageDirectly) => json::write(&ConsumeDirectlyReply {
                    consume_result: Some(ConsumeResult::Success),
                    ..ConsumeDirectlyReply::default()
                }),
                _ => continue,
            };
            let mut answer = Frame::request(0).with_body(body);
            (answer.opaque, answer.flag) = (frame.opaque, 1);
            conn.send_frame(&answer);
        }
    }
}

fn running_info() -> RunningInfo {
    RunningInfo {
        properties: [("PROP_CONSUME_TYPE".to_owned(), "CONSUME_PASSIVELY".into())].into(),
        subscription_set: vec![subscription()],
        mq_table: [(MessageQueue::new("orders", "somewhere", 0), ProcessQueue::default())].into(),
        ..RunningInfo::default()
    }
}

fn subscription() -> Subscription {
    Subscription {
        topic: "orders".to_owned(),
        sub_string: "*".to_owned(),
        ..Subscription::default()
    }
}

/// Keeps a consumer and a producer connected while `during` runs.
pub(crate) fn connected<T>(broker: &str, during: impl FnOnce() -> T) -> T {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut options = Options::with_broker(broker);
    options.service = Some(Arc::new(Consumer));
    let broker = broker.to_owned();
    let clients = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::new(options);
            client.heartbeat(&broker, &heartbeat()).await.unwrap();
            ready.send(()).unwrap();
            let _ = stopped.await;
        });
    });
    is_ready.recv_timeout(DEADLINE).unwrap();
    let done = during();
    drop(stop);
    clients.join().unwrap();
    done
}

fn heartbeat() -> HeartbeatData {
    HeartbeatData {
        client_id: "127.0.0.1@test".to_owned(),
        consumers: vec![ConsumerData {
            consume_from_where: ConsumeFromWhere::LastOffset,
            consume_type: ConsumeType::Passively,
            group_name: "readers".to_owned(),
            message_model: MessageModel::Clustering,
            subscriptions: vec![subscription()],
            unit_mode: false,
        }],
        producers: vec![ProducerData {
            group_name: "writers".to_owned(),
        }],
        ..HeartbeatData::default()
    }
}
