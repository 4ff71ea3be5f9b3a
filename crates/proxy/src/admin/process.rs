//! The process itself: level of its log, and figures of what it does.

use super::Work;
use crate::codes::{self, Refused};
use crate::v2::change_log_level_request::Level as Asked;
use crate::v2::settings::PubSub;
use crate::v2::{ChangeLogLevelRequest, ChangeLogLevelResponse, Code, GetProxyRuntimeStatsResponse};
use ::admin::broker;
use tracing::Level;

impl Work {
    pub(super) fn change_log_level(&self, told: ChangeLogLevelRequest) -> Result<ChangeLogLevelResponse, Refused> {
        let Ok(asked) = Asked::try_from(told.level) else {
            return Err(Refused::new(
                Code::BadRequest,
                format!("{} is not a level; they are 0 (TRACE) to 4 (ERROR)", told.level),
            ));
        };
        let Some(change) = self.administration.change_log_level else {
            let text = "the level of this server's log cannot be changed while it runs; start it with --log LEVEL";
            return Err(Refused::new(Code::NotImplemented, text));
        };
        let level = match asked {
            Asked::Trace => Level::TRACE,
            Asked::Debug => Level::DEBUG,
            Asked::Info => Level::INFO,
            Asked::Warn => Level::WARN,
            Asked::Error => Level::ERROR,
        };
        change(level).map_err(|text| Refused::new(Code::InternalServerError, text))?;
        tracing::warn!(peer = %self.from.peer, %level, "the level of the log was changed");
        Ok(ChangeLogLevelResponse {
            remark: format!("the log has level {level} until it is changed again or the server restarts"),
        })
    }

    /// Throughput is what the brokers count, of all protocols; sends and receives of this protocol are not counted apart.
    pub(super) async fn stats(&self) -> Result<GetProxyRuntimeStatsResponse, Refused> {
        let brokers = broker::clusters(self.cluster(), None).await?.brokers;
        let sum = |of: fn(&broker::BrokerSummary) -> Option<f64>| brokers.iter().filter_map(of).sum();
        let (mut producers, mut consumers) = (0, 0);
        for client in self.messaging.clients.all() {
            match client.settings().and_then(|told| told.settings.pub_sub.as_ref().map(is_producer)) {
                Some(true) => producers += 1,
                Some(false) => consumers += 1,
                None => {}
            }
        }
        let open = self
            .messaging
            .settings
            .max_connections
            .saturating_sub(self.connections.available_permits());
        Ok(GetProxyRuntimeStatsResponse {
            status: Some(codes::ok()),
            proxy_name: self.cluster().only_broker().map_or_else(String::new, |broker| broker.name.clone()),
            version: format!("ApogeeMQ {}", env!("CARGO_PKG_VERSION")),
            in_tps: sum(|broker| broker.in_tps),
            out_tps: sum(|broker| broker.out_tps),
            connections: i64::try_from(open).unwrap_or(i64::MAX),
            producers,
            consumers,
        })
    }
}

fn is_producer(pub_sub: &PubSub) -> bool {
    matches!(pub_sub, PubSub::Publishing(_))
}
