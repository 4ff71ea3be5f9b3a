//! Where each request code is served, or why it is refused.

use crate::acting::Acting;
use crate::admin::consumer::DirectConsumption;
use crate::assignment::{self, Modes, TopicQueues};
use crate::clients::heartbeat::{Clients, Heartbeat};
use crate::clients::{ClientChannel, Online, proxied};
use crate::clock::now_ms;
use crate::core::Core;
use crate::dedup::Dedup;
use crate::delay::DelayOffsets;
use crate::errors::{Refusal, is_or_are};
use crate::feature::Feature;
use crate::lite::Lites;
use crate::lock::OrderLocks;
use crate::logical_queue::Mapping;
use crate::offset::handler::Progress;
use crate::offset::reset::Reset;
use crate::pop::Pops;
use crate::pull::Puller;
use crate::registration::Standings;
use crate::replication::Replication;
use crate::reply::{Outcome, Reply};
use crate::send::{Sender, remoting};
use crate::settings::BrokerSettings;
use crate::static_topic;
use crate::static_topic::forward::Forwarder;
use crate::timer::Timers;
use crate::transaction::Transactions;
use crate::{
    acting, admin, clients, delay, group, lite, lock, offset, pop, pull, query, request_reply, retry, stats, timer, topic, transaction,
};
use net::Connection;
use protocol::assignment::{GroupRequestMode, RequestMode};
use protocol::codes::{RequestCode, ResponseCode};
use protocol::frame::Frame;
use protocol::heartbeat::{HeartbeatData, PROXIED};
use protocol::replication::WAIT_FOR_TABLES;
use std::sync::Arc;

mod answering;
mod slave;
mod to_master;

use answering::{Expected, Handled, owed_answer, without_body};
pub(crate) use to_master::ToMaster;

/// Serves the requests of the remoting protocol.
pub struct Routes {
    pub(crate) core: Core,
    /// All features, in the order in which they are notified.
    pub(crate) features: Vec<Arc<dyn Feature>>,
    pub(crate) sender: Arc<Sender>,
    pub(crate) puller: Arc<Puller>,
    /// Asks other brokers for older messages of logical queues.
    pub(crate) forwarder: Arc<Forwarder>,
    /// On a slave under a controller: asks its master.
    pub(crate) to_master: ToMaster,
    pub(crate) pops: Arc<Pops>,
    pub(crate) lites: Arc<Lites>,
    pub(crate) online: Arc<Online>,
    pub(crate) locks: Arc<OrderLocks>,
    pub(crate) modes: Arc<Modes>,
    pub(crate) topic_queues: TopicQueues,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) timers: Arc<Timers>,
    /// Keys by which repeated sends are recognised.
    pub(crate) dedup: Arc<Dedup>,
    /// Delivery offsets of the delay levels.
    pub(crate) delays: Arc<DelayOffsets>,
    /// Slaves of this broker, or its master.
    pub(crate) replication: Arc<Replication>,
    /// State of the registration at each name server.
    pub(crate) standings: Standings,
    /// Whether this slave acts for its master.
    pub(crate) acting: Arc<Acting>,
}

impl Routes {
    /// Serves the requests of one read from a connection.
    pub fn serve(self: &Arc<Self>, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        let now = now_ms();
        let mut done = 0;
        while let Some(first) = frames.get(done) {
            // Consecutive sends are stored together. The order of requests is kept.
            let is_master = !self.core.role.is_slave() && !self.core.role.gave_up();
            let is_send = |frame: &&Frame| is_master && remoting::is_send(frame.code) && authorise(conn, frame).is_ok();
            let sends = frames[done..].iter().take_while(is_send).count();
            if let Err(refusal) = authorise(conn, first) {
                Reply::to(conn, first).send(Err(refusal));
            } else if sends > 0 {
                remoting::serve(
                    &self.sender,
                    conn,
                    &frames[done..done + sends],
                    self.core.store_host(conn.local()),
                    now,
                );
            } else {
                self.serve_one(conn, first, now);
            }
            done += sends.max(1);
            if done < frames.len() && conn.must_yield() {
                // The rest is offered again when the client has read its answers and other connections had their turn.
                break;
            }
        }
        frames.drain(..done);
    }

    /// A connection was accepted.
    pub fn opened(&self) {
        self.core.stats.channel("CONNECT");
    }

    /// A connection was closed.
    pub fn closed(&self, conn: &Arc<Connection>) {
        self.core.stats.channel("CLOSE");
        self.features.iter().for_each(|feature| feature.closed(conn));
    }
}

impl Routes {
    /// Whether a slave serves pulls.
    fn may_read(&self, settings: &BrokerSettings) -> bool {
        (settings.slave_read_enable || settings.enable_slave_acting_master) && self.replication.may_be_read()
    }

    #[allow(clippy::too_many_lines)]
    fn route(self: &Arc<Self>, conn: &Arc<Connection>, frame: &Frame, reply: &Reply, now: i64) -> Handled {
        use RequestCode as Code;
        if frame.code == WAIT_FOR_TABLES {
            self.replication.changes().wait(frame, reply);
            return Handled::Later;
        }
        let Ok(code) = RequestCode::try_from(frame.code) else {
            return Handled::Now(Err(unknown(frame.code)));
        };
        let settings = self.core.settings.current();
        if self.core.role.is_slave()
            && let Some(refusal) = slave::refusal(
                code,
                slave::Allowed {
                    reads: self.may_read(&settings),
                    pops: self.core.role.delivers(),
                },
            )
        {
            return self.pass_on(code, frame, reply, refusal);
        }
        if self.core.role.gave_up() && to_master::may_pass_on(code) {
            return self.hold_until_role_changes(frame, reply);
        }
        Handled::Now(match code {
            Code::SendMessage | Code::SendMessageV2 | Code::SendBatchMessage => {
                remoting::serve(
                    &self.sender,
                    conn,
                    std::slice::from_ref(frame),
                    self.core.store_host(conn.local()),
                    now,
                );
                return Handled::Later;
            }
            Code::SendReplyMessage | Code::SendReplyMessageV2 => return self.reply_message(conn, frame, reply, now),
            Code::PullMessage | Code::LitePullMessage => {
                pull::remoting::serve(&self.puller, conn, frame, now);
                return Handled::Later;
            }

            Code::PopMessage => {
                pop::remoting::pop(&self.pops, conn, frame, now);
                return Handled::Later;
            }
            Code::AckMessage if lite::remoting::is_of_lite_topic(frame) => lite::remoting::ack(&self.lites, frame),
            Code::AckMessage => pop::remoting::ack(&self.pops, frame),
            Code::BatchAckMessage => pop::remoting::ack_batch(&self.pops, frame),
            Code::ChangeMessageInvisibletime if lite::remoting::is_of_lite_topic(frame) => {
                lite::remoting::change_invisible(&self.lites, frame)
            }
            Code::ChangeMessageInvisibletime => pop::remoting::change_invisible(&self.pops, frame),
            Code::Notification => {
                pop::remoting::notification(&self.pops, conn, frame, now);
                return Handled::Later;
            }
            Code::PollingInfo => pop::remoting::polling_info(&self.pops, conn, frame, now),
            Code::PeekMessage => {
                let (reader, expected) = (&self.core.threads.reader, Expected::Records);
                return self.later(reader, expected, without_body(frame), reply, |r, f, answer| {
                    pop::remoting::peek(&r.pops, f, &answer, now_ms());
                });
            }

            Code::PopLiteMessage => {
                lite::remoting::pop(&self.lites, conn, frame, now);
                return Handled::Later;
            }
            Code::LiteSubscriptionCtl => {
                let channel = ClientChannel::Remoting(conn.clone());
                let (admin, expected) = (&self.core.threads.admin, Expected::Fields);
                return self.later(admin, expected, frame.clone(), reply, move |r, f, answer| {
                    answer.send(lite::remoting::subscribe(&r.lites, f, &channel));
                });
            }

            Code::GetBrokerLiteInfo => return self.by_admin(frame, reply, |r, _| r.lites.broker_info()),
            Code::GetParentTopicInfo => return self.by_admin(frame, reply, |r, f| r.lites.parent_info(f)),
            Code::GetLiteTopicInfo => return self.by_reader(frame, reply, |r, f| r.lites.topic_info(f)),
            Code::GetLiteClientInfo => return self.by_admin(frame, reply, |r, f| r.lites.client_info(f)),
            Code::GetLiteGroupInfo => return self.by_reader(frame, reply, |r, f| r.lites.group_info(f)),
            Code::TriggerLiteDispatch => return self.by_admin(frame, reply, |r, f| r.lites.dispatch(f)),

            Code::EndTransaction => {
                transaction::remoting::end(&self.transactions, &self.core, conn, frame);
                return Handled::Later;
            }
            Code::ResumeCheckHalfMessage => {
                return self.by_reader(frame, reply, |r, f| transaction::remoting::resume(&r.transactions, f));
            }

            Code::RecallMessage => {
                timer::remoting::recall(&self.timers, conn, frame);
                return Handled::Later;
            }
            Code::GetTimerCheckPoint => timer::remoting::check_point(&self.timers),
            Code::GetTimerMetrics => timer::remoting::counts(&self.timers),
            Code::SwitchTimerEngine => timer::remoting::switch_engine(&self.timers, frame),

            Code::ConsumerSendMsgBack => return self.send_back(conn, frame, reply),
            Code::GetAllDelayOffset => delay::handler::all(&self.delays),

            Code::HeartBeat => return self.heartbeat(frame, conn, reply, now),
            Code::UnregisterClient if proxied::is_of_proxy(frame) => proxied::unregister(frame, conn, &self.online),
            Code::UnregisterClient => clients::handler::unregister(frame, &ClientChannel::Remoting(conn.clone()), &self.clients(&settings)),
            Code::GetConsumerListByGroup => clients::handler::members(frame, &self.online.consumers),
            Code::CheckClientConfig => {
                let limits = self.online.consumers.filters().sql_limits();
                clients::handler::check(frame, settings.enable_property_filter, limits)
            }
            Code::GetConsumerConnectionList => {
                return self.by_admin(frame, reply, |r, f| clients::handler::consumer_connections(f, &r.online.consumers));
            }
            Code::GetProducerConnectionList => {
                return self.by_admin(frame, reply, |r, f| clients::handler::producer_connections(f, &r.online.producers));
            }
            Code::GetAllProducerInfo => return self.by_admin(frame, reply, |r, _| clients::handler::all_producers(&r.online.producers)),

            Code::QueryConsumerOffset
            | Code::UpdateConsumerOffset
            | Code::GetMaxOffset
            | Code::GetMinOffset
            | Code::SearchOffsetByTimestamp
            | Code::GetEarliestMsgStoretime
                if let Some(mapping) = static_topic::mapping_of(frame, &self.core.topics) =>
            {
                return self.logical_offset(code, conn, frame, reply, mapping);
            }

            Code::LockBatchMq => return self.lock(conn, frame, reply, now),
            Code::UnlockBatchMq => self.unlock(frame),

            Code::QueryConsumerOffset => offset::handler::query(frame, &self.core.offsets, &self.core.topics, &*self.core.store),
            Code::UpdateConsumerOffset => offset::handler::update(
                frame,
                conn.id(),
                &self.core.offsets,
                &self.core.groups,
                &self.core.topics,
                &*self.core.store,
            ),
            Code::GetMaxOffset => offset::handler::max(frame, &*self.core.store),
            Code::GetMinOffset => offset::handler::min(frame, &*self.core.store),
            Code::SearchOffsetByTimestamp => return self.by_reader(frame, reply, |r, f| offset::handler::search(f, &*r.core.store)),
            Code::GetEarliestMsgStoretime => return self.by_reader(frame, reply, |r, f| offset::handler::earliest(f, &*r.core.store)),

            Code::GetAllConsumerOffset => return self.by_admin(frame, reply, |r, _| offset::handler::all(&r.core.offsets, now_ms())),
            Code::CloneGroupOffset => {
                return self.by_until_saved(&self.core.threads.admin, frame, reply, |r, f| {
                    let auto_create = r.core.settings.current().auto_create_subscription_group;
                    let make_group = |group: &str| r.core.groups.find_or_create(group, auto_create, now_ms()).map(drop);
                    offset::handler::clone_group(f, &r.core.offsets, &r.core.topics, &r.online.consumers, make_group)
                });
            }
            Code::QueryCorrectionOffset => {
                return self.by_admin(frame, reply, |r, f| offset::handler::correction(f, &r.core.offsets, &*r.core.store));
            }
            Code::InvokeBrokerToResetOffset => return self.by_until_saved(&self.core.threads.reader, frame, reply, Self::reset_offset),
            Code::GetConsumeStats => {
                return self.by_reader(frame, reply, |r, f| {
                    offset::handler::progress(f, &r.progress(&r.core.settings.current().broker_name))
                });
            }
            Code::GetBrokerConsumeStats => {
                let address = self.core.store_host(conn.local()).to_string();
                return self.by_admin(frame, reply, move |r, f| {
                    offset::handler::progress_of_all(f, &r.core.groups, &address, &r.progress(&r.core.settings.current().broker_name))
                });
            }

            Code::GetTopicStatsInfo => {
                return self.by_reader(frame, reply, |r, f| {
                    topic::handler::stats(f, &r.core.topics, &*r.core.store, &r.core.settings.current().broker_name)
                });
            }
            Code::DeleteTopicInBroker => {
                return self.by_until_saved(&self.core.threads.reader, frame, reply, |r, f| {
                    let beside = topic::handler::DeletionHooks {
                        groups: &|topic| r.core.offsets.groups_of(topic),
                        forget: &|topic| {
                            r.features.iter().for_each(|feature| feature.topic_deleted(topic));
                        },
                    };
                    topic::handler::delete(f, &r.core.topics, beside, &*r.core.store, &r.core.settings.current(), now_ms())
                });
            }
            Code::UpdateAndCreateTopic => {
                return self.when_settled(topic::handler::create(frame, &self.core.topics, &settings, now), reply);
            }
            Code::UpdateAndCreateTopicList => {
                return self.when_settled(topic::handler::create_list(frame, &self.core.topics, &settings, now), reply);
            }
            Code::UpdateAndCreateStaticTopic => {
                let (admin, expected) = (&self.core.threads.admin, Expected::Fields);
                return self.later(admin, expected, frame.clone(), reply, |r, f, answer| {
                    let outcome = static_topic::handler::update(f, &r.core.topics, &r.core.settings.current());
                    if let Some(topic) = f.ext.text("topic") {
                        r.puller.mapping_changed(topic);
                    }
                    r.when_settled(outcome, &answer).send(&answer);
                });
            }
            Code::GetAllTopicConfig => return self.by_admin(frame, reply, |r, f| topic::handler::all(f, &r.core.topics)),
            Code::GetTopicConfig => topic::handler::get(frame, &self.core.topics),
            Code::GetSystemTopicListFromBroker => topic::handler::system(&self.core.topics),

            Code::UpdateAndCreateSubscriptiongroup => {
                return self.when_settled(group::handler::create(frame, &self.core.groups, now), reply);
            }
            Code::UpdateAndCreateSubscriptiongroupList => {
                return self.when_settled(group::handler::create_list(frame, &self.core.groups, now), reply);
            }
            Code::GetAllSubscriptiongroupConfig => return self.by_admin(frame, reply, |r, f| group::handler::all(f, &r.core.groups)),
            Code::GetSubscriptiongroupConfig => {
                let outcome = group::handler::get(frame, &self.core.groups, settings.auto_create_subscription_group, now);
                return self.when_settled(outcome, reply);
            }
            Code::DeleteSubscriptiongroup => {
                return self.by_until_saved(&self.core.threads.admin, frame, reply, |r, f| {
                    let forget = |group: &str, with_offsets| {
                        r.features.iter().for_each(|feature| feature.group_deleted(group, with_offsets));
                    };
                    group::handler::delete(f, &r.core.groups, forget, now_ms())
                });
            }
            Code::UpdateAndGetGroupForbidden => {
                return self.by_until_saved(&self.core.threads.admin, frame, reply, |r, f| {
                    group::handler::forbid(f, &r.core.groups, now_ms())
                });
            }

            Code::SetMessageRequestMode => {
                let outcome = assignment::handler::set(frame, &self.modes, &self.core.topics, |group| {
                    self.core.groups.find_or_create(group, settings.auto_create_subscription_group, now)
                });
                if let (Ok(_), Ok(mode)) = (&outcome, protocol::json::read::<GroupRequestMode>(&frame.body))
                    && mode.mode == RequestMode::Pull
                {
                    self.pops.hand_over_to_pulls(&mode.topic, &mode.consumer_group);
                }
                return self.when_settled(outcome, reply);
            }
            Code::QueryAssignment => {
                let (reader, expected) = (&self.core.threads.reader, Expected::Table);
                return self.later(reader, expected, frame.clone(), reply, |r, f, answer| {
                    let with = assignment::handler::Assigner {
                        modes: &r.modes,
                        queues: &r.topic_queues,
                        consumers: &r.online.consumers,
                        settings: &r.core.settings.current(),
                    };
                    answer.send(assignment::handler::assign(f, &with));
                });
            }
            Code::GetAllMessageRequestMode => return self.by_admin(frame, reply, |r, _| assignment::handler::all(&r.modes)),

            Code::QueryMessage => {
                return self.by(&self.core.threads.reader, Expected::Records, frame, reply, |r, f| {
                    let settings = r.core.settings.current();
                    let most = query::handler::QueryLimits {
                        records: settings.max_msgs_num_batch,
                        by_unique_key: settings.default_query_max_num,
                    };
                    query::handler::by_key(f, &*r.core.store, most)
                });
            }
            Code::ViewMessageById => {
                return self.by(&self.core.threads.reader, Expected::Records, frame, reply, |r, f| {
                    query::handler::by_id(f, &*r.core.store)
                });
            }

            Code::ViewBrokerStatsData => stats::handler::counter(frame, &self.core.stats),
            Code::QueryTopicConsumeByWho => {
                return self.by_admin(frame, reply, |r, f| {
                    admin::consumption::groups_of_topic(f, &r.online.consumers, &r.core.offsets)
                });
            }
            Code::QueryTopicsByConsumer => {
                let address = self.core.store_host(conn.local()).to_string();
                return self.by_admin(frame, reply, move |r, f| {
                    admin::consumption::topics_of_group(f, &r.core.offsets, &address)
                });
            }
            Code::QuerySubscriptionByConsumer => {
                return self.by_admin(frame, reply, |r, f| admin::consumption::subscription(f, &r.online.consumers));
            }
            Code::QueryConsumeTimeSpan => {
                return self.by_reader(frame, reply, |r, f| {
                    admin::consumption::time_spans(f, &r.progress(&r.core.settings.current().broker_name), now_ms())
                });
            }

            Code::GetBrokerRuntimeInfo => {
                return self.by_reader(frame, reply, |r, _| {
                    let reporting = admin::state::Reporting {
                        delays: &r.delays,
                        timers: &r.timers,
                        dedup: &r.dedup,
                        acting: &r.acting,
                    };
                    admin::state::state(&r.core, &r.online, reporting, &r.standings, now_ms())
                });
            }
            Code::GetBrokerHaStatus => admin::state::replication(&self.replication, self.acting.master_flushed()),
            Code::NotifyMinBrokerIdChange => acting::remoting::lowest_id_changed(&self.acting, frame),
            Code::ExchangeBrokerHaInfo => {
                let conn = conn.clone();
                return self.by_admin(frame, reply, move |r, f| acting::remoting::exchange(&r.acting, &conn, f));
            }
            Code::GetBrokerEpochCache => admin::state::epochs(&self.core),
            Code::NotifyBrokerRoleChanged => admin::state::role_changed(&self.core),
            Code::ResetMasterFlushOffset => {
                return self.by_admin(frame, reply, |r, f| acting::remoting::reset_master_flush_offset(&r.acting, f));
            }
            Code::GetBrokerConfig => return self.by_admin(frame, reply, |r, _| admin::config::all(&r.core.settings)),
            Code::UpdateBrokerConfig => {
                // The changes are in the body, and are saved to a synced file.
                return self.later(&self.core.threads.admin, Expected::Fields, frame.clone(), reply, |r, f, answer| {
                    let apply = |settings: &BrokerSettings, _: &[_]| r.core.store.set_retention(crate::store_options::retention(settings));
                    let outcome = admin::config::update(f, &r.core.settings, &r.core.topics, now_ms(), apply);
                    // A changed permission is registered with the name servers.
                    r.when_settled(outcome, &answer).send(&answer);
                });
            }
            Code::CleanExpiredConsumequeue => return self.by_reader(frame, reply, |r, _| admin::clean::queues(&*r.core.store)),
            Code::DeleteExpiredCommitlog => admin::clean::expired(&*self.core.store),
            Code::CleanUnusedTopic => {
                return self.by_reader(frame, reply, |r, _| admin::clean::unused_topics(&*r.core.store, &r.core.topics));
            }
            Code::QueryConsumeQueue => {
                return self.by_reader(frame, reply, |r, f| admin::entries::entries(f, &r.core.store, &r.online.consumers));
            }
            Code::GetConsumerRunningInfo => {
                admin::consumer::running_info(frame, &self.online.consumers, owed_answer(reply));
                return Handled::Later;
            }
            Code::InvokeBrokerToGetConsumerStatus => {
                admin::consumer::status(frame, &self.online.consumers, owed_answer(reply));
                return Handled::Later;
            }
            Code::ConsumeMessageDirectly => return self.consume_directly(frame, reply),

            // Listed one by one, so that a new code does not compile until it is served or refused here.
            other @ (Code::QueryBrokerOffset
            | Code::GetTopicConfigList
            | Code::GetTopicNameList
            | Code::TriggerDeleteFiles
            | Code::CheckTransactionState
            | Code::NotifyConsumerIdsChanged
            | Code::GetClientConfig
            | Code::UpdateAndCreateAclConfig
            | Code::DeleteAclConfig
            | Code::GetBrokerClusterAclInfo
            | Code::UpdateGlobalWhiteAddrsConfig
            | Code::GetBrokerClusterAclConfig
            | Code::PutKvConfig
            | Code::GetKvConfig
            | Code::DeleteKvConfig
            | Code::RegisterBroker
            | Code::UnregisterBroker
            | Code::GetRouteinfoByTopic
            | Code::GetBrokerClusterInfo
            | Code::WipeWritePermOfBroker
            | Code::GetAllTopicListFromNameserver
            | Code::SuspendConsumer
            | Code::ResumeConsumer
            | Code::ResetConsumerOffsetInConsumer
            | Code::ResetConsumerOffsetInBroker
            | Code::AdjustConsumerThreadPool
            | Code::WhoConsumeTheMessage
            | Code::DeleteTopicInNamesrv
            | Code::RegisterTopicInNamesrv
            | Code::GetKvlistByNamespace
            | Code::ResetConsumerClientOffset
            | Code::GetConsumerStatusFromClient
            | Code::GetTopicsByCluster
            | Code::RegisterFilterServer
            | Code::RegisterMessageFilterClass
            | Code::GetSystemTopicListFromNs
            | Code::GetUnitTopicList
            | Code::GetHasUnitSubTopicList
            | Code::GetHasUnitSubUnunitTopicList
            | Code::UpdateNamesrvConfig
            | Code::GetNamesrvConfig
            | Code::QueryDataVersion
            | Code::PushReplyMessageToClient
            | Code::AddWritePermOfBroker
            | Code::CheckRocksdbCqWriteProgress
            | Code::ExportRocksdbConfigToJson
            | Code::GetBrokerMemberGroup
            | Code::AddBroker
            | Code::RemoveBroker
            | Code::BrokerHeartbeat
            | Code::ControllerAlterSyncStateSet
            | Code::ControllerElectMaster
            | Code::ControllerRegisterBroker
            | Code::ControllerGetReplicaInfo
            | Code::ControllerGetMetadataInfo
            | Code::ControllerGetSyncStateData
            | Code::UpdateControllerConfig
            | Code::GetControllerConfig
            | Code::CleanBrokerData
            | Code::ControllerGetNextBrokerId
            | Code::ControllerApplyBrokerId
            | Code::BrokerCloseChannelRequest
            | Code::CheckNotActiveBrokerRequest
            | Code::GetBrokerLiveInfoRequest
            | Code::GetSyncStateDataRequest
            | Code::RaftBrokerHeartBeatEventRequest
            | Code::UpdateColdDataFlowCtrConfig
            | Code::RemoveColdDataFlowCtrConfig
            | Code::GetColdDataFlowCtrInfo
            | Code::SetCommitlogReadMode
            | Code::AuthCreateUser
            | Code::AuthUpdateUser
            | Code::AuthDeleteUser
            | Code::AuthGetUser
            | Code::AuthListUser
            | Code::AuthCreateAcl
            | Code::AuthUpdateAcl
            | Code::AuthDeleteAcl
            | Code::AuthGetAcl
            | Code::AuthListAcl
            | Code::DeleteTopicInBrokerList
            | Code::DeleteSubscriptionGroupList
            | Code::PopRollback
            | Code::AckLiteMessage
            | Code::NotifyUnsubscribeLite) => Err(not_here(other)),
        })
    }

    /// Serves a request for a logical queue of a static topic.
    fn logical_offset(
        self: &Arc<Self>,
        code: RequestCode,
        conn: &Arc<Connection>,
        frame: &Frame,
        reply: &Reply,
        mapping: Arc<Mapping>,
    ) -> Handled {
        let begun = match self.forwarder.begin() {
            Ok(begun) => begun,
            Err(refusal) => return Handled::Now(Err(refusal)),
        };
        let (core, forwarder) = (self.core.clone(), self.forwarder.clone());
        let offsets = static_topic::offsets::LogicalOffsets { core, forwarder, mapping };
        let (frame, client, answer) = (without_body(frame), conn.id(), owed_answer(reply));
        let unanswered = reply.clone().unless_answered();
        begun.run(async move {
            answer(offsets.serve(code, &frame, client).await);
            unanswered.was_answered();
        });
        Handled::Later
    }

    /// Adds a client to its groups: at once, or, if a retry topic is created for it, when that is saved and known to the name servers.
    /// Compat: as Apache's broker; its clients ask a name server for the topic right after the answer, and then every 30 s only.
    fn heartbeat(self: &Arc<Self>, frame: &Frame, conn: &Arc<Connection>, reply: &Reply, now: i64) -> Handled {
        let is_of_proxy = proxied::is_of_proxy(frame);
        let channel_of = |data: &HeartbeatData| proxied::channel_of(frame, data, conn, &self.online);
        let heartbeat = match clients::handler::heartbeat(frame, channel_of, &self.clients(&self.core.settings.current()), now) {
            Ok(heartbeat) => heartbeat,
            Err(refusal) => return Handled::Now(Err(refusal)),
        };
        let join = move |routes: &Self, heartbeat: Heartbeat<_>| {
            let online = &routes.online;
            let outcome = clients::handler::joined(proxied::join(heartbeat, online, &routes.core.stats));
            match is_of_proxy {
                true => outcome.map(|answer| answer.with(PROXIED, true)),
                false => outcome,
            }
        };
        if !heartbeat.makes_group {
            return Handled::Now(join(self, heartbeat));
        }
        let (routes, reply, owed) = (self.clone(), reply.clone(), conn.owe(Expected::Fields as usize));
        self.core.changed.when_settled(move |saved| {
            if let Err(reason) = saved {
                // It can consume nevertheless.
                tracing::error!(%reason, "a consumer joins although its retry topic is not saved");
            }
            reply.send(join(&routes, heartbeat));
            drop(owed);
        });
        Handled::Later
    }

    /// Locks queues: here, or with the other brokers of the name (`lockInStrictMode`).
    fn lock(self: &Arc<Self>, conn: &Arc<Connection>, frame: &Frame, reply: &Reply, now: i64) -> Handled {
        match self.acting.asks_others(frame) {
            Ok(true) => {}
            Ok(false) => return Handled::Now(lock::handler::lock(frame, &self.locks, now)),
            Err(refusal) => return Handled::Now(Err(refusal)),
        }
        let (answer, owed) = (reply.clone(), conn.owe(Expected::Fields as usize));
        let done = move |outcome| {
            answer.send(outcome);
            drop(owed);
        };
        match self.acting.lock(frame, &self.locks, now, done) {
            Ok(()) => Handled::Later,
            Err(refusal) => Handled::Now(Err(refusal)),
        }
    }

    fn unlock(&self, frame: &Frame) -> Outcome {
        if self.acting.asks_others(frame)? {
            self.acting.unlock(frame)?;
        }
        lock::handler::unlock(frame, &self.locks)
    }

    /// Forwards a reply to the client that sent the request. If the reply is to be stored, the send answers.
    fn reply_message(self: &Arc<Self>, conn: &Arc<Connection>, frame: &Frame, reply: &Reply, now_ms: i64) -> Handled {
        let (at, settings) = (self.core.store_host(conn.local()), self.core.settings.current());
        if let Err(refusal) = crate::send::check::time(&settings, now_ms) {
            return Handled::Now(Err(refusal));
        }
        let came = request_reply::handler::ReplyOrigin {
            from: conn.peer(),
            at,
            now_ms,
            region: settings.region_id.clone(),
            trace_on: settings.trace_on,
        };
        let (routes, conn, answer, owed) = (self.clone(), conn.clone(), reply.clone(), conn.owe(Expected::Fields as usize));
        let send = request_reply::handler::as_send(frame);
        request_reply::handler::push(frame, came, &self.online.producers, move |outcome| {
            if outcome.is_ok() && routes.core.settings.current().store_reply_message_enable {
                remoting::serve(&routes.sender, &conn, std::slice::from_ref(&send), at, now_ms);
            } else {
                answer.send(outcome);
            }
            drop(owed);
        });
        Handled::Later
    }

    /// Reads the message and forwards it to the consumer, whose answer is returned.
    fn consume_directly(self: &Arc<Self>, frame: &Frame, reply: &Reply) -> Handled {
        let (reader, expected) = (&self.core.threads.reader, Expected::Records);
        self.later(reader, expected, without_body(frame), reply, |routes, frame, answer| {
            let with = DirectConsumption {
                log: &*routes.core.store,
                topics: &routes.core.topics,
                groups: &routes.core.groups,
                broker: &routes.core.settings.current().broker_name,
            };
            admin::consumer::consume_directly(frame, &routes.online.consumers, &with, owed_answer(&answer));
        })
    }

    /// Reads the message and stores it again.
    fn send_back(self: &Arc<Self>, conn: &Connection, frame: &Frame, reply: &Reply) -> Handled {
        let store_host = self.core.store_host(conn.local());
        let (reader, expected) = (&self.core.threads.reader, Expected::Fields);
        self.later(reader, expected, without_body(frame), reply, move |routes, frame, answer| {
            retry::remoting::serve(&routes.core, frame, store_host, &answer);
        })
    }

    /// Resets a group's offsets, and answers parked pulls of its queues.
    fn reset_offset(self: &Arc<Self>, frame: &Frame) -> Outcome {
        let settings = self.core.settings.current();
        let with = Reset {
            offsets: &self.core.offsets,
            topics: &self.core.topics,
            groups: &self.core.groups,
            consumers: &self.online.consumers,
            queues: &*self.core.store,
            broker: &settings.broker_name,
        };
        let outcome = offset::reset::reset(frame, settings.use_server_side_reset_offset, &with);
        if let (Ok(_), Some(topic)) = (&outcome, frame.ext.text("topic").and_then(|name| self.core.topics.find(name))) {
            let group = frame.ext.text("group").unwrap_or_default();
            (0..topic.read_queues).for_each(|queue_id| {
                self.puller.reset(&topic.name, queue_id);
                self.pops.wake_queue(&topic.name, group, queue_id);
            });
        }
        outcome
    }

    fn progress<'a>(&'a self, broker: &'a str) -> Progress<'a, ClientChannel> {
        Progress {
            offsets: &self.core.offsets,
            topics: &self.core.topics,
            consumers: &self.online.consumers,
            stats: &self.core.stats,
            queues: &*self.core.store,
            broker,
        }
    }

    fn clients<'a>(&'a self, settings: &'a BrokerSettings) -> Clients<'a, ClientChannel> {
        Clients {
            notices: &self.online.notices,
            producers: &self.online.producers,
            groups: &self.core.groups,
            topics: &self.core.topics,
            settings,
        }
    }
}

/// Authorises a request; every request passes here before it is served. The connection identifies the client, and [`protocol::access`]
/// lists the actions and resources of each code. Nothing is refused yet, because there is no ACL.
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "what refuses comes with ACL")]
fn authorise(_from: &Connection, _request: &Frame) -> Result<(), Refusal> {
    Ok(())
}

fn unknown(code: i32) -> Refusal {
    Refusal::new(ResponseCode::RequestCodeNotSupported, format!(" request type {code} not supported"))
}

fn not_here(code: RequestCode) -> Refusal {
    let text = format!(
        " request type {} ({}) not supported: {} {} not in this version of ApogeeMQ",
        i32::from(code),
        code.name(),
        code.feature(),
        is_or_are(code.feature())
    );
    Refusal::new(ResponseCode::RequestCodeNotSupported, text)
}
