//! The requests of Admin: each is served by its feature, and its outcome becomes the status of its answer.

use super::{Admin, Work};
use crate::codes::Refused;
use crate::connection::Connection;
use crate::v2::{
    AdminSendMessageRequest, AdminSendMessageResponse, ChangeLogLevelRequest, ChangeLogLevelResponse, Code, DeleteSubscriptionRequest,
    DeleteSubscriptionResponse, DescribeGroupAccumulationRequest, DescribeGroupAccumulationResponse, DescribeSubscriptionRequest,
    DescribeSubscriptionResponse, DescribeTopicStatusRequest, DescribeTopicStatusResponse, GetConsumerRunningInfoRequest,
    GetConsumerRunningInfoResponse, GetProxyRuntimeStatsRequest, GetProxyRuntimeStatsResponse, GetTopicRouteRequest, GetTopicRouteResponse,
    ListConsumerConnectionRequest, ListConsumerConnectionResponse, ListMessageRequest, ListMessageResponse, ListSubscriptionRequest,
    ListSubscriptionResponse, PrintThreadStackTraceRequest, PrintThreadStackTraceResponse, QueryTimeSpanRequest, QueryTimeSpanResponse,
    ResetGroupOffsetRequest, ResetGroupOffsetResponse, VerifyMessageRequest, VerifyMessageResponse, admin_server,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// The connection of a request.
///
/// # Errors
/// `InternalServerError` if it has none.
fn connection<T>(request: &Request<T>) -> Result<Arc<Connection>, Refused> {
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    connection.ok_or_else(|| Refused::new(Code::InternalServerError, "the request came without a connection"))
}

/// Serves a request by a function of [`Work`]. A `deployment_name` has to name a cluster. A refusal is the status of the answer.
macro_rules! serve {
    ($self:ident, $request:ident, $answer:ident, $verb:ident) => {
        serve!($self, $request, $answer, |work, told| {
            work.check_deployment(told.deployment_name.as_deref()).await?;
            work.$verb(told).await
        })
    };
    ($self:ident, $request:ident, $answer:ident, |$work:ident, $told:ident| $serve:expr) => {{
        let served = async {
            let from = connection(&$request)?;
            let $told = $request.into_inner();
            $self.run(from, |$work: Work| async move { $serve }).await
        };
        #[allow(clippy::needless_update, reason = "some answers are a status only")]
        let answer = served.await.unwrap_or_else(|refused: Refused| $answer {
            status: Some(refused.into()),
            ..Default::default()
        });
        Ok(Response::new(answer))
    }};
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    /// Its answer has no status, so a refusal is one of gRPC.
    async fn change_log_level(&self, request: Request<ChangeLogLevelRequest>) -> Answer<ChangeLogLevelResponse> {
        let from = connection(&request).map_err(as_status)?;
        let told = request.into_inner();
        let served = self.run(from, |work| async move { work.change_log_level(told) }).await;
        served.map(Response::new).map_err(as_status)
    }

    async fn describe_topic_status(&self, request: Request<DescribeTopicStatusRequest>) -> Answer<DescribeTopicStatusResponse> {
        serve!(self, request, DescribeTopicStatusResponse, topic_status)
    }

    async fn list_subscription(&self, request: Request<ListSubscriptionRequest>) -> Answer<ListSubscriptionResponse> {
        serve!(self, request, ListSubscriptionResponse, subscriptions)
    }

    async fn describe_subscription(&self, request: Request<DescribeSubscriptionRequest>) -> Answer<DescribeSubscriptionResponse> {
        serve!(self, request, DescribeSubscriptionResponse, subscriptions_of_clients)
    }

    async fn delete_subscription(&self, request: Request<DeleteSubscriptionRequest>) -> Answer<DeleteSubscriptionResponse> {
        serve!(self, request, DeleteSubscriptionResponse, delete_subscription)
    }

    async fn describe_group_accumulation(
        &self,
        request: Request<DescribeGroupAccumulationRequest>,
    ) -> Answer<DescribeGroupAccumulationResponse> {
        serve!(self, request, DescribeGroupAccumulationResponse, accumulation)
    }

    async fn list_consumer_connection(&self, request: Request<ListConsumerConnectionRequest>) -> Answer<ListConsumerConnectionResponse> {
        serve!(self, request, ListConsumerConnectionResponse, consumers)
    }

    async fn reset_group_offset(&self, request: Request<ResetGroupOffsetRequest>) -> Answer<ResetGroupOffsetResponse> {
        serve!(self, request, ResetGroupOffsetResponse, reset_offset)
    }

    async fn query_message(&self, request: Request<ListMessageRequest>) -> Answer<ListMessageResponse> {
        serve!(self, request, ListMessageResponse, messages)
    }

    async fn print_thread_stack_trace(&self, request: Request<PrintThreadStackTraceRequest>) -> Answer<PrintThreadStackTraceResponse> {
        serve!(self, request, PrintThreadStackTraceResponse, stack_trace)
    }

    async fn verify_message(&self, request: Request<VerifyMessageRequest>) -> Answer<VerifyMessageResponse> {
        serve!(self, request, VerifyMessageResponse, verify)
    }

    async fn admin_send_message(&self, request: Request<AdminSendMessageRequest>) -> Answer<AdminSendMessageResponse> {
        serve!(self, request, AdminSendMessageResponse, send)
    }

    async fn get_consumer_running_info(&self, request: Request<GetConsumerRunningInfoRequest>) -> Answer<GetConsumerRunningInfoResponse> {
        serve!(self, request, GetConsumerRunningInfoResponse, running_info)
    }

    async fn get_topic_route(&self, request: Request<GetTopicRouteRequest>) -> Answer<GetTopicRouteResponse> {
        serve!(self, request, GetTopicRouteResponse, route)
    }

    async fn query_time_span(&self, request: Request<QueryTimeSpanRequest>) -> Answer<QueryTimeSpanResponse> {
        serve!(self, request, QueryTimeSpanResponse, time_spans)
    }

    async fn get_proxy_runtime_stats(&self, request: Request<GetProxyRuntimeStatsRequest>) -> Answer<GetProxyRuntimeStatsResponse> {
        serve!(self, request, GetProxyRuntimeStatsResponse, |work, _told| work.stats().await)
    }
}

fn as_status(refused: Refused) -> Status {
    let code = match refused.code {
        Code::Forbidden => tonic::Code::PermissionDenied,
        Code::NotImplemented => tonic::Code::Unimplemented,
        Code::TooManyRequests => tonic::Code::ResourceExhausted,
        Code::BadRequest => tonic::Code::InvalidArgument,
        _ => tonic::Code::Internal,
    };
    Status::new(code, format!("{}: {}", refused.code.as_str_name(), refused.text))
}
