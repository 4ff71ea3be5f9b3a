//! Every request code, and where it is served or why it is not.

use crate::admin::consumer::Directly;
use crate::assignment::{self, Modes};
use crate::clients::handler::Clients;
use crate::clients::{Consumers, Notices, Producers};
use crate::clock::now_ms;
use crate::delay::DelayOffsets;
use crate::errors::{Refusal, is_or_are};
use crate::forget::Known;
use crate::group::Groups;
use crate::lock::OrderLocks;
use crate::log_writer::LogWriter;
use crate::offset::Offsets;
use crate::offset::handler::Progress;
use crate::offset::reset::Reset;
use crate::pull::Puller;
use crate::readers::Threads;
use crate::registration::Standings;
use crate::reply::{Outcome, Reply};
use crate::retry::handler::{GivingBack, give_back};
use crate::send::{Sender, remoting};
use crate::settings::BrokerSettings;
use crate::signal::Signal;
use crate::stats::BrokerStats;
use crate::topic::Topics;
use crate::{admin, clients, delay, group, lock, offset, pull, query, request_reply, stats, topic};
use net::Connection;
use protocol::codes::{RequestCode, ResponseCode};
use protocol::frame::Frame;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use store::Store;
use store::disk::Disk;

mod answering;

use answering::{Expected, Handled, owed_answer, without_body};

/// A connection, as the tables of clients know it.
pub type Channel = Arc<Connection>;

/// What requests are served with.
pub struct Routes {
    pub(crate) settings: Arc<config::Live<BrokerSettings>>,
    pub(crate) store: Arc<Store>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) offsets: Arc<Offsets>,
    pub(crate) modes: Arc<Modes>,
    pub(crate) consumers: Arc<Consumers<Channel>>,
    /// Who is told when consumers come and go.
    pub(crate) notices: Arc<Notices<Channel>>,
    pub(crate) producers: Arc<Producers<Channel>>,
    pub(crate) locks: Arc<OrderLocks>,
    pub(crate) stats: Arc<BrokerStats>,
    pub(crate) threads: Threads,
    /// How far delayed messages have been delivered.
    pub(crate) delays: Arc<DelayOffsets>,
    /// Raised by topics and groups.
    pub(crate) changed: Arc<Signal>,
    pub(crate) log: LogWriter,
    pub(crate) sender: Sender,
    pub(crate) puller: Arc<Puller>,
    /// Address written into records, when it does not follow the connection.
    pub(crate) fixed_ip: Option<IpAddr>,
    pub(crate) port: u16,
    /// Asked how full it is.
    pub(crate) disk: Arc<dyn Disk>,
    /// When this broker started, epoch milliseconds.
    pub(crate) started_ms: i64,
    /// How this broker stands with its name servers.
    pub(crate) standings: Standings,
}

impl Routes {
    /// Serves what one read of a connection brought.
    pub fn serve(self: &Arc<Self>, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        let now = now_ms();
        let mut done = 0;
        while let Some(first) = frames.get(done) {
            // Sends that stand together are stored together; anything else keeps its place between them.
            let is_send = |frame: &&Frame| remoting::is_send(frame.code) && authorise(conn, frame).is_ok();
            let sends = frames[done..].iter().take_while(is_send).count();
            if let Err(refusal) = authorise(conn, first) {
                Reply::to(conn, first).send(Err(refusal));
            } else if sends > 0 {
                remoting::serve(&self.sender, conn, &frames[done..done + sends], self.store_host(conn), now);
            } else {
                self.serve_one(conn, first, now);
            }
            done += sends.max(1);
            if done < frames.len() && conn.must_yield() {
                // The rest is offered again when the client has read what it was sent, and others had their turn.
                break;
            }
        }
        frames.drain(..done);
    }

    /// A connection was accepted.
    pub fn opened(&self) {
        self.stats.channel("CONNECT");
    }

    /// A connection is gone.
    pub fn closed(&self, conn: &Arc<Connection>) {
        self.stats.channel("CLOSE");
        self.threads.forget(conn);
        self.puller.forget(conn);
        let notify = self.settings.current().notify_consumer_ids_changed_enable;
        self.notices.closed(conn.id(), &self.producers, notify);
    }
}

impl Routes {
    /// The address that records and message ids name: the configured one, or the one the client came through.
    fn store_host(&self, conn: &Connection) -> SocketAddr {
        SocketAddr::new(self.fixed_ip.unwrap_or_else(|| conn.local().ip()), self.port)
    }

    #[allow(clippy::too_many_lines)]
    fn route(self: &Arc<Self>, conn: &Arc<Connection>, frame: &Frame, reply: &Reply, now: i64) -> Handled {
        use RequestCode as Code;
        let Ok(code) = RequestCode::try_from(frame.code) else {
            return Handled::Now(Err(unknown(frame.code)));
        };
        let settings = self.settings.current();
        Handled::Now(match code {
            Code::SendMessage | Code::SendMessageV2 | Code::SendBatchMessage => {
                remoting::serve(&self.sender, conn, std::slice::from_ref(frame), self.store_host(conn), now);
                return Handled::Later;
            }
            Code::SendReplyMessage | Code::SendReplyMessageV2 => return self.reply_message(conn, frame, reply, now),
            Code::PullMessage | Code::LitePullMessage => {
                pull::remoting::serve(&self.puller, conn, frame, now);
                return Handled::Later;
            }

            Code::ConsumerSendMsgBack => return self.give_back(conn, frame, reply),
            Code::GetAllDelayOffset => delay::handler::all(&self.delays),

            Code::HeartBeat => return self.heartbeat(frame, conn, reply, now),
            Code::UnregisterClient => clients::handler::unregister(frame, conn, &self.clients(&settings)),
            Code::GetConsumerListByGroup => clients::handler::members(frame, &self.consumers),
            Code::CheckClientConfig => clients::handler::check(frame),
            Code::GetConsumerConnectionList => {
                return self.by_admin(frame, reply, |r, f| clients::handler::consumer_connections(f, &r.consumers));
            }
            Code::GetProducerConnectionList => {
                return self.by_admin(frame, reply, |r, f| clients::handler::producer_connections(f, &r.producers));
            }
            Code::GetAllProducerInfo => return self.by_admin(frame, reply, |r, _| clients::handler::all_producers(&r.producers)),

            Code::LockBatchMq => lock::handler::lock(frame, &self.locks, now),
            Code::UnlockBatchMq => lock::handler::unlock(frame, &self.locks),

            Code::QueryConsumerOffset => offset::handler::query(frame, &self.offsets, &self.topics, &*self.store),
            Code::UpdateConsumerOffset => {
                offset::handler::update(frame, conn.id(), &self.offsets, &self.groups, &self.topics, &*self.store)
            }
            Code::GetMaxOffset => offset::handler::max(frame, &*self.store),
            Code::GetMinOffset => offset::handler::min(frame, &*self.store),
            Code::SearchOffsetByTimestamp => return self.by_reader(frame, reply, |r, f| offset::handler::search(f, &*r.store)),
            Code::GetEarliestMsgStoretime => return self.by_reader(frame, reply, |r, f| offset::handler::earliest(f, &*r.store)),

            Code::GetAllConsumerOffset => return self.by_admin(frame, reply, |r, _| offset::handler::all(&r.offsets, now_ms())),
            Code::CloneGroupOffset => {
                return self.by_until_saved(&self.threads.admin, frame, reply, |r, f| {
                    let auto_create = r.settings.current().auto_create_subscription_group;
                    let make_group = |group: &str| r.groups.find_or_create(group, auto_create, now_ms()).map(drop);
                    offset::handler::clone_group(f, &r.offsets, &r.topics, &r.consumers, make_group)
                });
            }
            Code::QueryCorrectionOffset => {
                return self.by_admin(frame, reply, |r, f| offset::handler::correction(f, &r.offsets, &*r.store));
            }
            Code::InvokeBrokerToResetOffset => return self.by_until_saved(&self.threads.reader, frame, reply, Self::reset_offset),
            Code::GetConsumeStats => {
                return self.by_reader(frame, reply, |r, f| {
                    offset::handler::progress(f, &r.progress(&r.settings.current().broker_name))
                });
            }
            Code::GetBrokerConsumeStats => {
                let address = self.store_host(conn).to_string();
                return self.by_admin(frame, reply, move |r, f| {
                    offset::handler::progress_of_all(f, &r.groups, &address, &r.progress(&r.settings.current().broker_name))
                });
            }

            Code::GetTopicStatsInfo => {
                return self.by_reader(frame, reply, |r, f| {
                    topic::handler::stats(f, &r.topics, &*r.store, &r.settings.current().broker_name)
                });
            }
            Code::DeleteTopicInBroker => {
                return self.by_until_saved(&self.threads.reader, frame, reply, |r, f| {
                    let beside = topic::handler::Beside {
                        groups: &|topic| r.offsets.groups_of(topic),
                        forget: &|topic| {
                            r.known().forget_topic(topic);
                            r.puller.topic_deleted(topic);
                        },
                    };
                    topic::handler::delete(f, &r.topics, beside, &*r.store, &r.settings.current(), now_ms())
                });
            }
            Code::UpdateAndCreateTopic => return self.when_settled(topic::handler::create(frame, &self.topics, &settings, now), reply),
            Code::UpdateAndCreateTopicList => {
                return self.when_settled(topic::handler::create_list(frame, &self.topics, &settings, now), reply);
            }
            Code::GetAllTopicConfig => return self.by_admin(frame, reply, |r, f| topic::handler::all(f, &r.topics)),
            Code::GetTopicConfig => topic::handler::get(frame, &self.topics),
            Code::GetSystemTopicListFromBroker => topic::handler::system(&self.topics),

            Code::UpdateAndCreateSubscriptiongroup => return self.when_settled(group::handler::create(frame, &self.groups, now), reply),
            Code::UpdateAndCreateSubscriptiongroupList => {
                return self.when_settled(group::handler::create_list(frame, &self.groups, now), reply);
            }
            Code::GetAllSubscriptiongroupConfig => return self.by_admin(frame, reply, |r, f| group::handler::all(f, &r.groups)),
            Code::GetSubscriptiongroupConfig => {
                let outcome = group::handler::get(frame, &self.groups, settings.auto_create_subscription_group, now);
                return self.when_settled(outcome, reply);
            }
            Code::DeleteSubscriptiongroup => {
                return self.by_until_saved(&self.threads.admin, frame, reply, |r, f| {
                    let forget = |group: &str, with_offsets| r.known().forget_group(group, with_offsets);
                    group::handler::delete(f, &r.groups, forget, now_ms())
                });
            }
            Code::UpdateAndGetGroupForbidden => {
                return self.by_until_saved(&self.threads.admin, frame, reply, |r, f| {
                    group::handler::forbid(f, &r.groups, now_ms())
                });
            }

            Code::SetMessageRequestMode => {
                let outcome = assignment::handler::set(
                    frame,
                    &self.modes,
                    &self.topics,
                    (&self.groups, settings.auto_create_subscription_group),
                    now,
                );
                return self.when_settled(outcome, reply);
            }
            Code::GetAllMessageRequestMode => return self.by_admin(frame, reply, |r, _| assignment::handler::all(&r.modes)),

            Code::QueryMessage => {
                return self.by(&self.threads.reader, Expected::Records, (frame, reply), |r, f| {
                    let settings = r.settings.current();
                    let most = query::handler::Most {
                        records: settings.max_msgs_num_batch,
                        by_unique_key: settings.default_query_max_num,
                    };
                    query::handler::by_key(f, &*r.store, most)
                });
            }
            Code::ViewMessageById => {
                return self.by(&self.threads.reader, Expected::Records, (frame, reply), |r, f| {
                    query::handler::by_id(f, &*r.store)
                });
            }

            Code::ViewBrokerStatsData => stats::handler::counter(frame, &self.stats),
            Code::QueryTopicConsumeByWho => {
                return self.by_admin(frame, reply, |r, f| {
                    admin::consumption::groups_of_topic(f, &r.consumers, &r.offsets)
                });
            }
            Code::QueryTopicsByConsumer => {
                let address = self.store_host(conn).to_string();
                return self.by_admin(frame, reply, move |r, f| {
                    admin::consumption::topics_of_group(f, &r.offsets, &address)
                });
            }
            Code::QuerySubscriptionByConsumer => {
                return self.by_admin(frame, reply, |r, f| admin::consumption::subscription(f, &r.consumers));
            }
            Code::QueryConsumeTimeSpan => {
                return self.by_reader(frame, reply, |r, f| {
                    admin::consumption::time_spans(f, &r.progress(&r.settings.current().broker_name), now_ms())
                });
            }

            Code::GetBrokerRuntimeInfo => {
                return self.by_reader(frame, reply, |r, _| {
                    admin::state::state(
                        &r.store,
                        &*r.disk,
                        &r.settings.current(),
                        (&r.stats, &r.delays),
                        (r.started_ms, now_ms()),
                        &r.standings,
                        (r.consumers.hazards(), r.producers.hazards()),
                    )
                });
            }
            Code::GetBrokerHaStatus => admin::state::replication(&self.store),
            Code::GetBrokerConfig => return self.by_admin(frame, reply, |r, _| admin::config::all(&r.settings)),
            Code::UpdateBrokerConfig => {
                // The body is what is to be changed; the change is synced to a file.
                return self.later(&self.threads.admin, Expected::Fields, frame.clone(), reply, |r, f, answer| {
                    let apply = |settings: &BrokerSettings, _: &[_]| r.store.set_retention(crate::store_options::retention(settings));
                    let outcome = admin::config::update(f, &r.settings, &r.topics, now_ms(), apply);
                    // A permission is told to the name servers.
                    r.when_settled(outcome, &answer).send(&answer);
                });
            }
            Code::CleanExpiredConsumequeue => return self.by_reader(frame, reply, |r, _| admin::clean::queues(&*r.store)),
            Code::DeleteExpiredCommitlog => admin::clean::expired(&*self.store),
            Code::CleanUnusedTopic => return self.by_reader(frame, reply, |r, _| admin::clean::unused_topics(&*r.store, &r.topics)),
            Code::QueryConsumeQueue => return self.by_reader(frame, reply, |r, f| admin::entries::entries(f, &r.store, &r.consumers)),
            Code::GetConsumerRunningInfo => {
                admin::consumer::running_info(frame, &self.consumers, owed_answer(reply));
                return Handled::Later;
            }
            Code::InvokeBrokerToGetConsumerStatus => {
                admin::consumer::status(frame, &self.consumers, owed_answer(reply));
                return Handled::Later;
            }
            Code::ConsumeMessageDirectly => return self.consume_directly(frame, reply),

            // Listed, so that a new code does not compile before it is served or refused here.
            other @ (Code::QueryBrokerOffset
            | Code::GetTopicConfigList
            | Code::GetTopicNameList
            | Code::TriggerDeleteFiles
            | Code::EndTransaction
            | Code::CheckTransactionState
            | Code::NotifyConsumerIdsChanged
            | Code::GetClientConfig
            | Code::UpdateAndCreateAclConfig
            | Code::DeleteAclConfig
            | Code::GetBrokerClusterAclInfo
            | Code::UpdateGlobalWhiteAddrsConfig
            | Code::GetBrokerClusterAclConfig
            | Code::GetTimerCheckPoint
            | Code::GetTimerMetrics
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
            | Code::ResumeCheckHalfMessage
            | Code::PushReplyMessageToClient
            | Code::AddWritePermOfBroker
            | Code::CheckRocksdbCqWriteProgress
            | Code::ExportRocksdbConfigToJson
            | Code::RecallMessage
            | Code::QueryAssignment
            | Code::UpdateAndCreateStaticTopic
            | Code::GetBrokerMemberGroup
            | Code::AddBroker
            | Code::RemoveBroker
            | Code::BrokerHeartbeat
            | Code::NotifyMinBrokerIdChange
            | Code::ExchangeBrokerHaInfo
            | Code::ResetMasterFlushOffset
            | Code::ControllerAlterSyncStateSet
            | Code::ControllerElectMaster
            | Code::ControllerRegisterBroker
            | Code::ControllerGetReplicaInfo
            | Code::ControllerGetMetadataInfo
            | Code::ControllerGetSyncStateData
            | Code::GetBrokerEpochCache
            | Code::NotifyBrokerRoleChanged
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
            | Code::SwitchTimerEngine
            | Code::DeleteTopicInBrokerList
            | Code::DeleteSubscriptionGroupList
            | Code::PopMessage
            | Code::AckMessage
            | Code::PeekMessage
            | Code::ChangeMessageInvisibletime
            | Code::Notification
            | Code::PollingInfo
            | Code::PopRollback
            | Code::PopLiteMessage
            | Code::LiteSubscriptionCtl
            | Code::AckLiteMessage
            | Code::NotifyUnsubscribeLite
            | Code::GetBrokerLiteInfo
            | Code::GetParentTopicInfo
            | Code::GetLiteTopicInfo
            | Code::GetLiteClientInfo
            | Code::GetLiteGroupInfo
            | Code::TriggerLiteDispatch
            | Code::BatchAckMessage) => Err(not_here(other)),
        })
    }

    /// Takes a client into its groups, at once unless a retry topic is made for it: that is on the disk and known to the name
    /// servers first. Compat: as with Apache, whose clients ask for it right after the answer and once in 30 s from then on.
    fn heartbeat(self: &Arc<Self>, frame: &Frame, conn: &Arc<Connection>, reply: &Reply, now: i64) -> Handled {
        let heartbeat = match clients::handler::heartbeat(frame, conn, &self.clients(&self.settings.current()), now) {
            Ok(heartbeat) => heartbeat,
            Err(refusal) => return Handled::Now(Err(refusal)),
        };
        if !heartbeat.makes_group {
            return Handled::Now(heartbeat.join(&self.notices, &self.producers, &self.stats));
        }
        let (routes, reply, owed) = (self.clone(), reply.clone(), conn.owe(Expected::Fields as usize));
        self.changed.when_settled(move |saved| {
            if let Err(reason) = saved {
                // Consuming does not depend on it.
                tracing::error!(%reason, "a consumer joins although its retry topic is not saved");
            }
            reply.send(heartbeat.join(&routes.notices, &routes.producers, &routes.stats));
            drop(owed);
        });
        Handled::Later
    }

    /// Hands a reply to who asked; what stores it, if it is to be stored, also answers.
    fn reply_message(self: &Arc<Self>, conn: &Arc<Connection>, frame: &Frame, reply: &Reply, now_ms: i64) -> Handled {
        let (at, settings) = (self.store_host(conn), self.settings.current());
        if let Err(refusal) = crate::send::check::time(&settings, now_ms) {
            return Handled::Now(Err(refusal));
        }
        let came = request_reply::handler::Came {
            from: conn.peer(),
            at,
            now_ms,
            region: settings.region_id.clone(),
            trace_on: settings.trace_on,
        };
        let (routes, conn, answer, owed) = (self.clone(), conn.clone(), reply.clone(), conn.owe(Expected::Fields as usize));
        let send = request_reply::handler::as_send(frame);
        request_reply::handler::push(frame, came, &self.producers, move |outcome| {
            if outcome.is_ok() && routes.settings.current().store_reply_message_enable {
                remoting::serve(&routes.sender, &conn, std::slice::from_ref(&send), at, now_ms);
            } else {
                answer.send(outcome);
            }
            drop(owed);
        });
        Handled::Later
    }

    /// Reads the message and hands it to the consumer, whose answer is ours.
    fn consume_directly(self: &Arc<Self>, frame: &Frame, reply: &Reply) -> Handled {
        let (reader, expected) = (&self.threads.reader, Expected::Records);
        self.later(reader, expected, without_body(frame), reply, |routes, frame, answer| {
            let with = Directly {
                log: &*routes.store,
                topics: &routes.topics,
                groups: &routes.groups,
                broker: &routes.settings.current().broker_name,
            };
            admin::consumer::consume_directly(frame, &routes.consumers, &with, owed_answer(&answer));
        })
    }

    /// Reads the message and stores it again.
    fn give_back(self: &Arc<Self>, conn: &Connection, frame: &Frame, reply: &Reply) -> Handled {
        let store_host = self.store_host(conn);
        let (reader, expected) = (&self.threads.reader, Expected::Fields);
        self.later(reader, expected, without_body(frame), reply, move |routes, frame, answer| {
            let with = GivingBack {
                store: &routes.store,
                log: &routes.log,
                topics: &routes.topics,
                groups: &routes.groups,
                settings: &routes.settings.current(),
                stats: &routes.stats,
                store_host,
                now_ms: now_ms(),
            };
            give_back(frame, &with, &answer);
        })
    }

    /// Moves a group, and lets parked pulls of the queues know.
    fn reset_offset(self: &Arc<Self>, frame: &Frame) -> Outcome {
        let settings = self.settings.current();
        let with = Reset {
            offsets: &self.offsets,
            topics: &self.topics,
            groups: &self.groups,
            consumers: &self.consumers,
            queues: &*self.store,
            broker: &settings.broker_name,
        };
        let outcome = offset::reset::reset(frame, settings.use_server_side_reset_offset, &with);
        if let (Ok(_), Some(topic)) = (&outcome, frame.ext.text("topic").and_then(|name| self.topics.find(name))) {
            (0..topic.read_queues).for_each(|queue_id| self.puller.reset(&topic.name, queue_id));
        }
        outcome
    }

    fn known(&self) -> Known<'_> {
        Known {
            offsets: &self.offsets,
            locks: &self.locks,
            modes: &self.modes,
            stats: &self.stats,
        }
    }

    fn progress<'a>(&'a self, broker: &'a str) -> Progress<'a, Channel> {
        Progress {
            offsets: &self.offsets,
            topics: &self.topics,
            consumers: &self.consumers,
            stats: &self.stats,
            queues: &*self.store,
            broker,
        }
    }

    fn clients<'a>(&'a self, settings: &'a BrokerSettings) -> Clients<'a, Channel> {
        Clients {
            notices: &self.notices,
            producers: &self.producers,
            groups: &self.groups,
            topics: &self.topics,
            settings,
        }
    }
}

/// The step that every request passes before it is served: who asks is known by the connection, and [`protocol::access`] says what a
/// code does to which resources. Nobody is refused yet, there is no ACL.
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
