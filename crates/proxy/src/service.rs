//! The requests of the protocol: each is decoded, served by its feature, and answered.

use crate::backend::Backend;
use crate::caller::Caller;
use crate::clients::{Clients, Telemetry};
use crate::codes::Refused;
use crate::handle::Receipt;
use crate::receive::Answers;
use crate::renewal::{Due, Held, Renewals};
use crate::settings::ProxySettings;
use crate::time::now_ms;
use crate::v2::messaging_service_server::MessagingService;
use crate::v2::{
    AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse, EndTransactionRequest,
    EndTransactionResponse, ForwardMessageToDeadLetterQueueRequest, ForwardMessageToDeadLetterQueueResponse, GetOffsetRequest,
    GetOffsetResponse, HeartbeatRequest, HeartbeatResponse, NotifyClientTerminationRequest, NotifyClientTerminationResponse,
    PullMessageRequest, PullMessageResponse, QueryAssignmentRequest, QueryAssignmentResponse, QueryOffsetRequest, QueryOffsetResponse,
    QueryRouteRequest, QueryRouteResponse, RecallMessageRequest, RecallMessageResponse, ReceiveMessageRequest, ReceiveMessageResponse,
    SendMessageRequest, SendMessageResponse, SyncLiteSubscriptionRequest, SyncLiteSubscriptionResponse, TelemetryCommand,
    UpdateOffsetRequest, UpdateOffsetResponse,
};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

/// What serving needs.
pub(crate) struct Messaging {
    pub(crate) backend: Backend,
    pub(crate) settings: ProxySettings,
    pub(crate) clients: Arc<Clients>,
    pub(crate) renewals: Renewals,
    stop: watch::Receiver<bool>,
}

impl Messaging {
    pub(crate) fn new(settings: ProxySettings, backend: Backend, clients: Arc<Clients>, stop: watch::Receiver<bool>) -> Self {
        Self {
            clients,
            renewals: Renewals::new(settings.max_renewals),
            backend,
            settings,
            stop,
        }
    }

    /// Returns when the server stops.
    pub(crate) async fn stopping(&self) {
        // An error means that the server is gone.
        let _ = self.stop.clone().wait_for(|is_stopping| *is_stopping).await;
    }

    /// Renews the invisible time of messages that consumers process, until the server stops.
    pub(crate) async fn renew_messages(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.renewals.wait(now_ms) => {}
                () = self.stopping() => return,
            }
            loop {
                let due = self.renewals.take_due(now_ms());
                if due.is_empty() {
                    break;
                }
                let messaging = &*self;
                let renew = |due: Due| async move {
                    let renewed = messaging.renewed(due.client(), &due.held).await;
                    messaging.renewals.settle(&due, renewed);
                };
                self.backend.each(due.into_iter(), renew).await;
                tokio::task::yield_now().await;
            }
        }
    }

    /// The new handle, and when to renew it next. `None` if the message is not renewed any more: its client is gone, or had it for too long.
    async fn renewed(&self, client: &str, held: &Held) -> Option<(Box<str>, i64)> {
        let now_ms = now_ms();
        let max_ms = self.settings.renew_max.as_millis() as i64;
        if !self.clients.contains(client) || now_ms - held.received_ms >= max_ms {
            return None;
        }
        let receipt = Receipt::parse(&held.current, &held.group, &held.topic).ok()?;
        let invisible_ms = self.settings.default_invisible.as_millis() as i64;
        let handle = self.renew(&receipt, &held.group, &held.topic, invisible_ms, false).await.ok()?;
        Some((handle.into(), self.renew_at(now_ms)))
    }
}

/// The requests, for the server.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Messaging>);

type Answer<T> = Result<Response<T>, Status>;

/// A request without a client id is refused with a status of its answer.
macro_rules! serve {
    ($self:ident, $request:ident, $answer:ident, |$caller:ident, $told:ident| $serve:expr) => {{
        let $caller = match Caller::of(&$request) {
            Ok(caller) => caller,
            Err(refused) => {
                #[allow(clippy::needless_update, reason = "some answers are a status only")]
                let answer = $answer {
                    status: Some(refused.into()),
                    ..Default::default()
                };
                return Ok(Response::new(answer));
            }
        };
        let $told = $request.into_inner();
        Ok(Response::new($serve))
    }};
}

#[tonic::async_trait]
impl MessagingService for Service {
    type ReceiveMessageStream = Answers<ReceiveMessageResponse>;
    type PullMessageStream = Answers<PullMessageResponse>;
    type TelemetryStream = Telemetry;

    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Answer<QueryRouteResponse> {
        serve!(self, request, QueryRouteResponse, |_caller, told| self.0.route(&told).await)
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        serve!(self, request, HeartbeatResponse, |caller, told| self
            .0
            .heartbeat(&caller, told)
            .await)
    }

    async fn send_message(&self, request: Request<SendMessageRequest>) -> Answer<SendMessageResponse> {
        serve!(self, request, SendMessageResponse, |caller, told| self.0.send(&caller, told).await)
    }

    async fn query_assignment(&self, request: Request<QueryAssignmentRequest>) -> Answer<QueryAssignmentResponse> {
        serve!(self, request, QueryAssignmentResponse, |_caller, told| self
            .0
            .assignment(&told)
            .await)
    }

    async fn receive_message(&self, request: Request<ReceiveMessageRequest>) -> Answer<Self::ReceiveMessageStream> {
        let caller = Caller::of(&request).map_err(as_status)?;
        Ok(Response::new(self.0.receive(&caller, request.into_inner()).await))
    }

    async fn ack_message(&self, request: Request<AckMessageRequest>) -> Answer<AckMessageResponse> {
        serve!(self, request, AckMessageResponse, |caller, told| self.0.ack(&caller, &told).await)
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<ForwardMessageToDeadLetterQueueResponse> {
        serve!(self, request, ForwardMessageToDeadLetterQueueResponse, |caller, told| {
            self.0.forward_to_dead_letters(&caller, told).await
        })
    }

    async fn pull_message(&self, request: Request<PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        let caller = Caller::of(&request).map_err(as_status)?;
        Ok(Response::new(self.0.pull(&caller, request.into_inner()).await))
    }

    async fn update_offset(&self, request: Request<UpdateOffsetRequest>) -> Answer<UpdateOffsetResponse> {
        serve!(self, request, UpdateOffsetResponse, |caller, told| self
            .0
            .update_offset(&caller, &told)
            .await)
    }

    async fn get_offset(&self, request: Request<GetOffsetRequest>) -> Answer<GetOffsetResponse> {
        serve!(self, request, GetOffsetResponse, |_caller, told| self.0.offset(&told).await)
    }

    async fn query_offset(&self, request: Request<QueryOffsetRequest>) -> Answer<QueryOffsetResponse> {
        serve!(self, request, QueryOffsetResponse, |_caller, told| self.0.query_offset(&told).await)
    }

    async fn end_transaction(&self, request: Request<EndTransactionRequest>) -> Answer<EndTransactionResponse> {
        serve!(self, request, EndTransactionResponse, |caller, told| self
            .0
            .end_transaction(&caller, told)
            .await)
    }

    async fn telemetry(&self, request: Request<Streaming<TelemetryCommand>>) -> Answer<Self::TelemetryStream> {
        let caller = Caller::of(&request).map_err(as_status)?;
        Ok(Response::new(self.0.telemetry(&caller, request.into_inner())?))
    }

    async fn notify_client_termination(&self, request: Request<NotifyClientTerminationRequest>) -> Answer<NotifyClientTerminationResponse> {
        serve!(self, request, NotifyClientTerminationResponse, |caller, told| {
            self.0.terminate(&caller, &told).await
        })
    }

    async fn change_invisible_duration(&self, request: Request<ChangeInvisibleDurationRequest>) -> Answer<ChangeInvisibleDurationResponse> {
        serve!(self, request, ChangeInvisibleDurationResponse, |caller, told| {
            self.0.change_invisible(&caller, &told).await
        })
    }

    async fn recall_message(&self, request: Request<RecallMessageRequest>) -> Answer<RecallMessageResponse> {
        serve!(self, request, RecallMessageResponse, |caller, told| self
            .0
            .recall(&caller, told)
            .await)
    }

    async fn sync_lite_subscription(&self, request: Request<SyncLiteSubscriptionRequest>) -> Answer<SyncLiteSubscriptionResponse> {
        serve!(self, request, SyncLiteSubscriptionResponse, |caller, told| self
            .0
            .sync_lite(&caller, told)
            .await)
    }
}

/// For answers that are streams.
fn as_status(refused: Refused) -> Status {
    Status::invalid_argument(format!("{}: {}", refused.code.as_str_name(), refused.text))
}
