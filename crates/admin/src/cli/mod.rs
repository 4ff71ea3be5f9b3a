//! The command line: mqadmin's verbs with mqadmin's flags. A verb is one struct of flags in its feature's file and one line in [`verbs`].
//!
//! Beyond mqadmin: `--output json` writes one document per line; `--timeout`; a failure ends with code 1 and advice, a wrong flag
//! with code 2. Verbs and single-dash long flags (`-topic`) are accepted in every spelling of mqadmin, see [`normalized`].

mod broker;
mod controller;
mod flags;
mod group;
mod lite;
mod manual;
mod message;
mod nameserver;
mod offset;
mod out;
mod send;
mod static_topic;
mod tls;
mod topic;

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use client::Options;

pub use self::tls::TlsFlags;
pub use manual::markdown;

use crate::{Cluster, Error};
use out::Out;

/// The arguments of `apogeemq admin`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = COMMON)]
struct Common {
    /// Name servers, HOST:PORT separated by ';'
    #[arg(
        short = 'n',
        long = "namesrvAddr",
        value_name = "HOST:PORT",
        env = "NAMESRV_ADDR",
        default_value = "127.0.0.1:9876",
        global = true,
        hide_env_values = true
    )]
    name_servers: String,
    /// Format of results: json writes one document per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table, global = true)]
    output: Format,
    /// Time-out of an answer, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    timeout: u64,
    #[command(flatten)]
    tls: TlsFlags,
}

/// Heading of the flags of [`Common`] in the help.
const COMMON: &str = "Common options";

/// Format of results. Its values have no help text, so that the help stays short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// The one list of verbs: `"mqadmin's name" Variant(flags)`.
macro_rules! verbs {
    ($($name:literal $variant:ident($flags:path),)*) => {
        #[derive(Debug, Subcommand)]
        #[allow(clippy::large_enum_variant)]
        enum Verb {
            $(#[command(name = $name)] $variant($flags),)*
            /// Print docs/admin.md
            #[command(name = "markdown", hide = true)]
            Markdown,
        }

        impl Verb {
            async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
                match self {
                    $(Self::$variant(flags) => flags.run(cluster, out).await,)*
                    Self::Markdown => out.text(&markdown()),
                }
            }
        }
    };
}
verbs! {
    "updateTopic" UpdateTopic(topic::UpdateTopic),
    "updateTopicList" UpdateTopicList(topic::UpdateTopicList),
    "deleteTopic" DeleteTopic(topic::DeleteTopic),
    "updateTopicPerm" UpdateTopicPerm(topic::UpdateTopicPerm),
    "updateOrderConf" UpdateOrderConf(topic::UpdateOrderConf),
    "updateStaticTopic" UpdateStaticTopic(static_topic::UpdateStaticTopic),
    "remappingStaticTopic" RemappingStaticTopic(static_topic::RemappingStaticTopic),
    "topicList" TopicList(topic::TopicList),
    "topicRoute" TopicRoute(topic::TopicRoute),
    "topicStatus" TopicStatus(topic::TopicStatus),
    "topicClusterList" TopicClusterList(topic::TopicClusterList),
    "allocateMQ" AllocateMq(topic::AllocateMq),
    "statsAll" StatsAll(topic::StatsAll),
    "updateSubGroup" UpdateSubGroup(group::UpdateSubGroup),
    "updateSubGroupList" UpdateSubGroupList(group::UpdateSubGroupList),
    "deleteSubGroup" DeleteSubGroup(group::DeleteSubGroup),
    "getConsumerConfig" GetConsumerConfig(group::GetConsumerConfig),
    "setConsumeMode" SetConsumeMode(group::SetConsumeMode),
    "consumerConnection" ConsumerConnection(group::ConsumerConnection),
    "consumerStatus" ConsumerStatus(group::ConsumerStatus),
    "producerConnection" ProducerConnection(group::ProducerConnection),
    "producer" Producer(group::Producer),
    "consumerProgress" ConsumerProgress(offset::ConsumerProgress),
    "brokerConsumeStats" BrokerConsumeStats(offset::BrokerConsumeStats),
    "resetOffsetByTime" ResetOffsetByTime(offset::ResetOffsetByTime),
    "skipAccumulatedMessage" SkipAccumulatedMessage(offset::SkipAccumulatedMessage),
    "cloneGroupOffset" CloneGroupOffset(offset::CloneGroupOffset),
    "startMonitoring" StartMonitoring(offset::StartMonitoring),
    "queryMsgById" QueryMsgById(message::QueryMsgById),
    "queryMsgByKey" QueryMsgByKey(message::QueryMsgByKey),
    "queryMsgByUniqueKey" QueryMsgByUniqueKey(message::QueryMsgByUniqueKey),
    "queryMsgByOffset" QueryMsgByOffset(message::QueryMsgByOffset),
    "queryMsgTraceById" QueryMsgTraceById(message::QueryMsgTraceById),
    "resumeCheckHalfMessage" ResumeCheckHalfMessage(message::ResumeCheckHalfMessage),
    "queryCq" QueryCq(message::QueryCq),
    "printMsg" PrintMsg(message::PrintMsg),
    "printMsgByQueue" PrintMsgByQueue(message::PrintMsgByQueue),
    "consumeMessage" ConsumeMessage(message::ConsumeMessage),
    "sendMessage" SendMessage(send::SendMessage),
    "checkMsgSendRT" CheckMsgSendRt(send::CheckMsgSendRt),
    "sendMsgStatus" SendMsgStatus(send::SendMsgStatus),
    "clusterRT" ClusterRt(send::ClusterRt),
    "clusterList" ClusterList(broker::ClusterList),
    "brokerStatus" BrokerStatus(broker::BrokerStatus),
    "getBrokerConfig" GetBrokerConfig(broker::GetBrokerConfig),
    "updateBrokerConfig" UpdateBrokerConfig(broker::UpdateBrokerConfig),
    "cleanExpiredCQ" CleanExpiredCq(broker::CleanExpiredCq),
    "cleanUnusedTopic" CleanUnusedTopic(broker::CleanUnusedTopic),
    "deleteExpiredCommitLog" DeleteExpiredCommitLog(broker::DeleteExpiredCommitLog),
    "haStatus" HaStatus(broker::HaStatus),
    "resetMasterFlushOffset" ResetMasterFlushOffset(broker::ResetMasterFlushOffset),
    "exportConfigs" ExportConfigs(broker::ExportConfigs),
    "exportMetadata" ExportMetadata(broker::ExportMetadata),
    "exportMetrics" ExportMetrics(broker::ExportMetrics),
    "getBrokerLiteInfo" GetBrokerLiteInfo(lite::GetBrokerLiteInfo),
    "getParentTopicInfo" GetParentTopicInfo(lite::GetParentTopicInfo),
    "getLiteTopicInfo" GetLiteTopicInfo(lite::GetLiteTopicInfo),
    "getLiteClientInfo" GetLiteClientInfo(lite::GetLiteClientInfo),
    "getLiteGroupInfo" GetLiteGroupInfo(lite::GetLiteGroupInfo),
    "triggerLiteDispatch" TriggerLiteDispatch(lite::TriggerLiteDispatch),
    "getControllerMetaData" GetControllerMetaData(controller::GetControllerMetaData),
    "getControllerConfig" GetControllerConfig(controller::GetControllerConfig),
    "updateControllerConfig" UpdateControllerConfig(controller::UpdateControllerConfig),
    "getSyncStateSet" GetSyncStateSet(controller::GetSyncStateSet),
    "getBrokerEpoch" GetBrokerEpoch(controller::GetBrokerEpoch),
    "electMaster" ElectMaster(controller::ElectMaster),
    "cleanBrokerMetadata" CleanBrokerMetadata(controller::CleanBrokerMetadata),
    "wipeWritePerm" WipeWritePerm(nameserver::WipeWritePerm),
    "addWritePerm" AddWritePerm(nameserver::AddWritePerm),
    "updateKvConfig" UpdateKvConfig(nameserver::UpdateKvConfig),
    "deleteKvConfig" DeleteKvConfig(nameserver::DeleteKvConfig),
    "getNamesrvConfig" GetNamesrvConfig(nameserver::GetNamesrvConfig),
    "updateNamesrvConfig" UpdateNamesrvConfig(nameserver::UpdateNamesrvConfig),
}

/// Runs a verb and prints its result; without one, the list of verbs.
///
/// # Errors
/// [`Error`] if the operation or printing fails; part of the result may have been printed.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let common = &arguments.common;
    let addresses = common
        .name_servers
        .split([';', ','])
        .map(str::trim)
        .filter(|address| !address.is_empty());
    let mut options = Options::with_name_servers(addresses);
    options.request_timeout = Duration::from_secs(common.timeout);
    options.connector = common.tls.connector().map_err(Error::Invalid)?;
    let cluster = Cluster::over(options);
    if cluster.name_servers().is_empty() {
        return Err(Error::Invalid("-n has no name server; expected: HOST:PORT[;HOST:PORT]".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Output)?;
    let mut out = Out::new(common.output == Format::Json);
    let outcome = match &arguments.verb {
        Some(verb) => runtime.block_on(verb.run(&cluster, &mut out)),
        None => out.text(&AdminCommand::command().render_help().to_string()),
    };
    match outcome {
        // The reader of the pipe has ended, such as `| head`.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The command without the program around it, for parsing and for the manual.
#[derive(Debug, Parser)]
#[command(name = "apogeemq admin", about = "Administer a cluster: mqadmin's verbs and flags")]
struct AdminCommand {
    #[command(flatten)]
    arguments: Arguments,
}

/// A command line of the whole program with what follows its first word `admin` in clap's spelling: verbs in their own case, long flags
/// with two dashes. `mqadmin` accepts `updatetopic -topic t`, too.
#[must_use]
pub fn normalized(words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_none_or(|word| word != "admin") {
        return words;
    }
    let command = AdminCommand::command();
    let spelled = |word: &str| {
        command
            .get_subcommands()
            .map(clap::Command::get_name)
            .find(|name| name.eq_ignore_ascii_case(word))
    };
    let at = words.iter().skip(2).position(|word| word.to_str().and_then(spelled).is_some());
    let verb = at.and_then(|at| words.get(at + 2)).and_then(|word| word.to_str()).and_then(spelled);
    let Some((at, verb)) = at.map(|at| at + 2).zip(verb.and_then(|name| command.find_subcommand(name))) else {
        return words;
    };
    let mut done: Vec<OsString> = words[..at].to_vec();
    done.push(verb.get_name().into());
    done.extend(words[at + 1..].iter().map(|word| two_dashes(verb, word)));
    done
}

fn two_dashes(verb: &clap::Command, word: &OsString) -> OsString {
    let single = word
        .to_str()
        .and_then(|text| text.strip_prefix('-'))
        .filter(|text| !text.starts_with('-'));
    let name = single.map(|text| text.split('=').next().unwrap_or(text));
    let is_long = |name: &str| {
        let flags = verb.get_arguments().filter_map(clap::Arg::get_long);
        let aliases = verb.get_arguments().filter_map(clap::Arg::get_all_aliases).flatten();
        name.chars().count() > 1 && flags.chain(aliases).chain(["namesrvAddr"]).any(|long| long == name)
    };
    match (single, name) {
        (Some(text), Some(name)) if is_long(name) => format!("--{text}").into(),
        _ => word.clone(),
    }
}

#[cfg(test)]
mod tests;
