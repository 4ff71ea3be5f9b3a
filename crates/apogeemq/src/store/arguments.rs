//! The command line of `apogeemq store`.

use std::path::PathBuf;

use clap::{Args, Subcommand, value_parser};

/// Arguments of `apogeemq store`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Check a data directory, ours or Apache's, for damage; changes nothing
    ///
    /// Exit code: 0 no damage, 1 damage, 2 the directory cannot be checked. What a crash leaves and the next start
    /// repairs is reported and is not damage.
    Check(CheckArguments),
    /// Print the content of a data directory, ours or Apache's; changes nothing
    Dump(DumpArguments),
    /// Write light queues (%LMQ%…) as consume queues of their own, so that a Java broker finds them
    ///
    /// For a directory that goes to a Java broker. The broker must be stopped. The next start of ApogeeMQ takes the queues back by reading
    /// the commit log once. Each queue takes a directory and a file.
    ExportLight(ExportLightArguments),
}

#[derive(Debug, Args)]
pub(super) struct ExportLightArguments {
    /// The data directory (storePathRootDir)
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Properties file of the broker
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// The directory, and the sizes of its files.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(super) struct Place {
    /// The data directory (storePathRootDir)
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Properties file of the broker, for sizes other than Apache's defaults (mappedFileSizeConsumeQueue, maxHashSlotNum, maxIndexNum)
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The commit log's directory, if it is not DIR/commitlog (storePathCommitLog)
    #[arg(long, value_name = "DIR")]
    pub(super) commitlog: Option<PathBuf>,
    /// Output format
    #[arg(long, short = 'o', value_name = "FORM", default_value = "text", value_enum)]
    pub(super) output: Output,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Text
    Text,
    /// JSON: one object for a check, one object per line for a dump
    Json,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// Do not compare bodies with their CRC: faster, but misses damaged bodies
    #[arg(long)]
    pub(super) no_crc: bool,
    /// Do not print progress on stderr
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct DumpArguments {
    #[command(subcommand)]
    pub(super) what: What,
}

#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Records of the commit log
    Log(LogArguments),
    /// Entries of one consume queue
    Queue(QueueArguments),
    /// Messages of one queue of a compacted topic
    Compaction(CompactionArguments),
    /// Items of the key index, of one file, or the records under a key
    Index(IndexArguments),
    /// What waits for a time, the next first; then what is not in the timer files yet
    Timers(TimerArguments),
    /// Entries of the configuration files
    Config(ConfigArguments),
    /// The checkpoint
    Checkpoint {
        #[command(flatten)]
        place: Place,
    },
}

/// Limit of the output.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(super) struct Bound {
    /// Maximum number of lines
    #[arg(long, short = 'l', value_name = "N", default_value_t = 100, value_parser = value_parser!(u64).range(1..))]
    pub(super) limit: u64,
}

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// Log offset to start at; the first record at or after it is the first one printed
    #[arg(long, value_name = "OFFSET", default_value_t = 0, value_parser = value_parser!(i64).range(0..))]
    pub(super) from: i64,
    /// Maximum number of bytes of each body to print, as text or in hexadecimal
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(super) body: usize,
    #[command(flatten)]
    pub(super) bound: Bound,
}

#[derive(Debug, Args)]
pub(super) struct CompactionArguments {
    #[command(flatten)]
    pub(super) of: QueueArguments,
    /// Maximum number of bytes of each body to print, as text or in hexadecimal
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(super) body: usize,
}

#[derive(Debug, Args)]
pub(super) struct QueueArguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub(super) topic: String,
    /// Queue id
    #[arg(value_name = "QUEUE", value_parser = value_parser!(i32).range(0..))]
    pub(super) queue: i32,
    /// Queue offset to start at
    #[arg(long, value_name = "OFFSET", default_value_t = 0, value_parser = value_parser!(i64).range(0..))]
    pub(super) from: i64,
    #[command(flatten)]
    pub(super) bound: Bound,
}

#[derive(Debug, Args)]
pub(super) struct IndexArguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// Only this file of the index
    #[arg(long, value_name = "NAME")]
    pub(super) file: Option<String>,
    /// Item of a file to start at
    #[arg(long, value_name = "ITEM", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub(super) from: u32,
    /// Print the records with this key or unique key instead, newest first
    #[arg(long, value_name = "KEY", requires = "topic", conflicts_with_all = ["file", "from"])]
    pub(super) key: Option<String>,
    /// Topic of the key
    #[arg(long, short = 't', value_name = "NAME", requires = "key")]
    pub(super) topic: Option<String>,
    #[command(flatten)]
    pub(super) bound: Bound,
}

#[derive(Debug, Args)]
pub(super) struct TimerArguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// Only what is due at or after this time, epoch ms
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(super) from: i64,
    #[command(flatten)]
    pub(super) bound: Bound,
}

#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// Only this file, such as topics.json
    #[arg(long, value_name = "NAME")]
    pub(super) file: Option<String>,
    #[command(flatten)]
    pub(super) bound: Bound,
}
