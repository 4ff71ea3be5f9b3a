//! Pulls: a consumer says which offset of a queue it reads.

use crate::backend::broker_of;
use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::message::{Shown, of_record};
use crate::receive::{Answers, kept_bytes, no_message};
use crate::route::{check_group, check_topic, name_of};
use crate::service::Messaging;
use crate::telemetry::expression;
use crate::time::duration_ms;
use crate::v2::pull_message_response::Content;
use crate::v2::{Code, PullMessageRequest, PullMessageResponse};
use ::message::record::Record;
use broker::pull::Pulled;
use protocol::codes::ResponseCode;
use protocol::heartbeat::SQL92;
use protocol::pull::{PullHeader, sys_flag};

fn answer(content: Content) -> PullMessageResponse {
    PullMessageResponse { content: Some(content) }
}

impl Messaging {
    pub(crate) async fn pull(&self, caller: &Caller, request: PullMessageRequest) -> Answers<PullMessageResponse> {
        match self.pulled(caller, &request).await {
            Ok(answers) => answers,
            Err(refused) => Answers::new(vec![(answer(Content::Status(refused.into())), 0)], None),
        }
    }

    async fn pulled(&self, caller: &Caller, request: &PullMessageRequest) -> Result<Answers<PullMessageResponse>, Refused> {
        self.check_lag(caller)?;
        let queue = request.message_queue.as_ref();
        let (group, topic) = (
            name_of(request.group.as_ref()),
            name_of(queue.and_then(|queue| queue.topic.as_ref())),
        );
        check_topic(topic)?;
        check_group(group)?;
        if request.offset < 0 {
            let text = format!("the offset is {}; it must not be below 0", request.offset);
            return Err(Refused::new(Code::IllegalOffset, text));
        }
        let poll_ms = match request.long_polling_timeout.as_ref().map(duration_ms) {
            Some(0) => 0,
            told => self.poll_ms(caller, told)?,
        };
        let (kind, text) = expression(request.filter_expression.as_ref());
        let header = PullHeader {
            consumer_group: group,
            topic,
            queue_id: queue.map_or(-1, |queue| queue.id),
            queue_offset: request.offset,
            max_msg_nums: request.batch_size.max(1),
            sys_flag: sys_flag::SUBSCRIPTION | if poll_ms > 0 { sys_flag::SUSPEND } else { 0 },
            commit_offset: 0,
            suspend_timeout_ms: poll_ms,
            subscription: Some(text),
            sub_version: 0,
            expression_type: (kind == SQL92).then_some(kind),
            max_msg_bytes: None,
            request_source: None,
            proxy_forward_client_id: None,
            is_logical: None,
        };
        let pulled = self.backend.pull(self.number_of(caller), caller, &header, broker_of(queue));
        let pulled = self.until_stopped(pulled).await?;
        Ok(shown(caller, topic, &pulled))
    }
}

fn shown(caller: &Caller, topic: &str, pulled: &Pulled) -> Answers<PullMessageResponse> {
    let status = match pulled.code {
        ResponseCode::Success => codes::ok(),
        ResponseCode::PullOffsetMoved => {
            let text = format!(
                "the queue has offsets {} to {}; pull from {}",
                pulled.min.0, pulled.max.0, pulled.next.0
            );
            Refused::new(Code::IllegalOffset, text).into()
        }
        _ => no_message().into(),
    };
    let mut items = vec![(answer(Content::Status(status)), 0)];
    let mut bytes = 0;
    for record in &pulled.records {
        let Ok(record) = Record::parse(record) else { continue };
        let message = of_record(
            &record,
            Shown {
                topic: topic.to_owned(),
                ..Shown::default()
            },
        );
        let size = kept_bytes(&message);
        bytes += size;
        items.push((answer(Content::Message(message)), size));
    }
    items.push((answer(Content::NextOffset(pulled.next.0)), 0));
    Answers::new(items, Some(caller.connection.owe(bytes)))
}
