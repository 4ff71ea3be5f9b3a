//! Totals and rates of the broker, and the runtime information that 28 (GET_BROKER_RUNTIME_INFO) returns.
//!
//! Tools read this table by key, and some of them fail on a missing key (`mqadmin clusterList` reads the `timer*` numbers). So the
//! response has every key of Apache's, with a neutral value for features that do not exist yet.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Longest span of a rate, in seconds.
const MAX_SECONDS: usize = 600;
/// Upper bounds of the latency classes in ms, and their names; the last class is open.
const CLASSES: [(i64, &str); 13] = [
    (0, "[<=0ms]"),
    (10, "[0~10ms]"),
    (50, "[10~50ms]"),
    (100, "[50~100ms]"),
    (200, "[100~200ms]"),
    (500, "[200~500ms]"),
    (1_000, "[500ms~1s]"),
    (2_000, "[1~2s]"),
    (3_000, "[2~3s]"),
    (4_000, "[3~4s]"),
    (5_000, "[4~5s]"),
    (10_000, "[5~10s]"),
    (i64::MAX, "[10s~]"),
];
/// Number of latency classes for percentiles, by powers of two of microseconds.
const POWERS: usize = 32;

/// Totals since the start. Counting is a few relaxed atomics.
#[derive(Debug, Default)]
pub struct Totals {
    puts: AtomicI64,
    put_bytes: AtomicI64,
    put_failed: AtomicI64,
    put_slowest_ms: AtomicI64,
    put_classes: [AtomicI64; CLASSES.len()],
    put_powers: [AtomicI64; POWERS],
    gets_found: AtomicI64,
    gets_missed: AtomicI64,
    transferred: AtomicI64,
    get_slowest_ms: AtomicI64,
    seconds: Mutex<VecDeque<Second>>,
    days: Mutex<Days>,
}

/// The totals at one second.
#[derive(Clone, Copy, Debug)]
struct Second {
    at_ms: i64,
    counts: [i64; 4],
}

/// Totals at the last two midnights.
#[derive(Clone, Copy, Debug, Default)]
struct Days {
    put: [i64; 2],
    get: [i64; 2],
    day: Option<i64>,
}

impl Totals {
    /// Counts stored messages and their bytes.
    pub(super) fn stored(&self, messages: i64, bytes: i64) {
        self.puts.fetch_add(messages, Relaxed);
        self.put_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts the latency of stored messages from request to response, in microseconds.
    pub fn put_took(&self, messages: i64, took_us: i64) {
        let took_ms = took_us / 1000;
        let class = CLASSES.iter().position(|(end, _)| took_ms <= *end).unwrap_or(CLASSES.len() - 1);
        self.put_classes[class].fetch_add(messages, Relaxed);
        let power = (64 - took_us.max(0).leading_zeros() as usize).min(POWERS - 1);
        self.put_powers[power].fetch_add(messages, Relaxed);
        if took_ms > self.put_slowest_ms.load(Relaxed) {
            self.put_slowest_ms.fetch_max(took_ms, Relaxed);
        }
    }

    /// Counts messages that could not be stored.
    pub fn put_failed(&self, messages: i64) {
        self.put_failed.fetch_add(messages, Relaxed);
    }

    /// Counts the messages of a read.
    pub(super) fn pulled(&self, messages: i64) {
        self.gets_found.fetch_add(1, Relaxed);
        self.transferred.fetch_add(messages, Relaxed);
    }

    /// Counts a read that found no message.
    pub(super) fn missed(&self) {
        self.gets_missed.fetch_add(1, Relaxed);
    }

    /// Counts the duration of a read, in ms.
    pub(super) fn get_took(&self, took_ms: i64) {
        if took_ms > self.get_slowest_ms.load(Relaxed) {
            self.get_slowest_ms.fetch_max(took_ms, Relaxed);
        }
    }

    /// Takes a sample for the rates. Call it once a second.
    pub fn sample(&self, now_ms: i64) {
        let mut seconds = self.seconds.lock();
        seconds.push_back(Second {
            at_ms: now_ms,
            counts: self.counts(),
        });
        while seconds.len() > MAX_SECONDS + 1 {
            seconds.pop_front();
        }
    }

    /// Stores the totals at the start of a new day; `today` is a number that differs from day to day.
    pub fn day(&self, today: i64, put_total: i64, get_total: i64) {
        let mut days = self.days.lock();
        if days.day.is_some_and(|day| day != today) {
            days.put = [days.put[1], put_total];
            days.get = [days.get[1], get_total];
        }
        days.day = Some(today);
    }

    fn counts(&self) -> [i64; 4] {
        [&self.puts, &self.gets_found, &self.gets_missed, &self.transferred].map(|count| count.load(Relaxed))
    }

    /// Rates over the last 10, 60 and 600 s in Apache's format; empty for a span longer than the uptime.
    fn tps(&self, of: impl Fn(&Second) -> i64) -> String {
        let seconds = self.seconds.lock();
        let rate = |span: usize| {
            let (first, last) = (seconds.len().checked_sub(span + 1).and_then(|at| seconds.get(at))?, seconds.back()?);
            let elapsed_ms = (last.at_ms - first.at_ms).max(1);
            Some(((of(last) - of(first)) as f64 * 1000.0 / elapsed_ms as f64).to_string())
        };
        [10, 60, MAX_SECONDS].map(|span| rate(span).unwrap_or_default()).join(" ")
    }

    fn distribution(&self) -> String {
        let mut text = String::new();
        for ((_, name), count) in CLASSES.iter().zip(&self.put_classes) {
            let _ = write!(text, "{name}:{} ", count.load(Relaxed));
        }
        text
    }

    /// The latency that this fraction of all sends did not exceed, in ms (upper bound of its power of two).
    fn put_percentile_ms(&self, part: f64) -> f64 {
        let counts: Vec<i64> = self.put_powers.iter().map(|count| count.load(Relaxed)).collect();
        let wanted = (counts.iter().sum::<i64>() as f64 * part).ceil() as i64;
        let mut seen = 0;
        for (power, count) in counts.iter().enumerate() {
            seen += count;
            if wanted > 0 && seen >= wanted {
                return (1_u64 << power) as f64 / 1000.0;
            }
        }
        0.0
    }
}

/// State for the runtime information besides the totals; the caller reads it from the store and the system.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    /// Name of the protocol version.
    pub version: String,
    /// When the broker started, in ms since 1970.
    pub boot_ms: i64,
    /// Current time, in ms since 1970.
    pub now_ms: i64,
    /// Directory of the commit log, and the used fraction of its file system (0 to 1; -1 if unknown).
    pub commit_log: (String, f64),
    /// Used fraction of the consume queues' file system.
    pub consume_queue_ratio: f64,
    /// Total and free bytes of the store's file system.
    pub space: (u64, u64),
    /// Offset of the first byte of the commit log, and one after the last.
    pub log_offsets: (i64, i64),
    /// Bytes of the commit log that are not dispatched to the queues yet.
    pub dispatch_behind_bytes: i64,
    /// Bytes of the commit log that are not flushed yet.
    pub unflushed_bytes: i64,
    /// Store timestamp of the oldest message in ms since 1970; -1 if there is none.
    pub earliest_ms: i64,
    /// Messages stored and pulled since the start, without system topics.
    pub today: (i64, i64),
    /// Sends are accepted from this time on, in ms since 1970 (`startAcceptSendRequestTimeStamp`).
    pub start_accept_ms: i64,
    /// Delay levels in use: level, delivered offset, max offset of its queue.
    pub delays: Vec<(i32, i64, i64)>,
    /// Name servers, with the state of the registration.
    pub registrations: Vec<(String, String)>,
    /// How timers are, by key.
    pub timers: Vec<(&'static str, String)>,
    /// Whether it delivers, and acts for a master, by key.
    pub acting: Vec<(&'static str, String)>,
    /// Counters that Apache's broker does not have, by key: of misconfigured groups, and of repeated sends.
    pub counters: Vec<(&'static str, u64)>,
}

/// The runtime information.
#[must_use]
pub fn table(totals: &Totals, runtime: &Runtime) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        table.insert(key.to_owned(), value);
    };
    puts(totals, &mut put);
    reads(totals, &mut put);
    store(runtime, &mut put);
    days(totals, runtime, &mut put);
    for (level, offset, end) in &runtime.delays {
        put(&format!("scheduleMessageOffset_{level}"), format!("{offset},{end}"));
    }
    for (name_server, standing) in &runtime.registrations {
        put(&format!("apogeeNameServer_{name_server}"), standing.clone());
    }
    for (key, count) in &runtime.counters {
        put(key, count.to_string());
    }
    neutral(&mut put);
    for (key, value) in runtime.timers.iter().chain(&runtime.acting) {
        put(key, value.clone());
    }
    put("brokerVersionDesc", runtime.version.clone());
    put("bootTimestamp", runtime.boot_ms.to_string());
    put("runtime", uptime(runtime.now_ms - runtime.boot_ms));
    put("startAcceptSendRequestTimeStamp", runtime.start_accept_ms.to_string());
    table
}

fn puts(totals: &Totals, put: &mut impl FnMut(&str, String)) {
    let times = totals.puts.load(Relaxed).max(1);
    let bytes = totals.put_bytes.load(Relaxed);
    put("putMessageEntireTimeMax", totals.put_slowest_ms.load(Relaxed).to_string());
    put("putMessageTimesTotal", times.to_string());
    put("putMessageFailedTimes", totals.put_failed.load(Relaxed).to_string());
    put("putMessageSizeTotal", bytes.to_string());
    put("putMessageDistributeTime", totals.distribution());
    put("putMessageAverageSize", format!("{:?}", bytes as f64 / times as f64));
    put("putTps", totals.tps(|second| second.counts[0]));
    put("putLatency99", format!("{:.2}", totals.put_percentile_ms(0.99)));
    put("putLatency999", format!("{:.2}", totals.put_percentile_ms(0.999)));
}

fn reads(totals: &Totals, put: &mut impl FnMut(&str, String)) {
    put("getMessageEntireTimeMax", totals.get_slowest_ms.load(Relaxed).to_string());
    put("getFoundTps", totals.tps(|second| second.counts[1]));
    put("getMissTps", totals.tps(|second| second.counts[2]));
    put("getTotalTps", totals.tps(|second| second.counts[1] + second.counts[2]));
    let transferred = totals.tps(|second| second.counts[3]);
    // Compat: rocketmq-exporter reads the key as RocketMQ 4 misspelt it.
    put("getTransferedTps", transferred.clone());
    put("getTransferredTps", transferred);
}

fn store(runtime: &Runtime, put: &mut impl FnMut(&str, String)) {
    let (path, ratio) = &runtime.commit_log;
    put(&format!("commitLogDiskRatio_{path}"), ratio.to_string());
    put("commitLogDiskRatio", ratio.to_string());
    put("consumeQueueDiskRatio", runtime.consume_queue_ratio.to_string());
    put("commitLogMinOffset", runtime.log_offsets.0.to_string());
    put("commitLogMaxOffset", runtime.log_offsets.1.to_string());
    put("dispatchBehindBytes", runtime.dispatch_behind_bytes.to_string());
    put("earliestMessageTimeStamp", runtime.earliest_ms.to_string());
    put("remainHowManyDataToFlush", human_bytes(runtime.unflushed_bytes));
    let (total, free) = runtime.space;
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let capacity = format!("Total : {}, Free : {}.", human_bytes(signed(total)), human_bytes(signed(free)));
    put("commitLogDirCapacity", capacity);
}

fn days(totals: &Totals, runtime: &Runtime, put: &mut impl FnMut(&str, String)) {
    let days = *totals.days.lock();
    put("msgPutTotalYesterdayMorning", days.put[0].to_string());
    put("msgPutTotalTodayMorning", days.put[1].to_string());
    put("msgPutTotalTodayNow", runtime.today.0.to_string());
    put("msgGetTotalYesterdayMorning", days.get[0].to_string());
    put("msgGetTotalTodayMorning", days.get[1].to_string());
    put("msgGetTotalTodayNow", runtime.today.1.to_string());
}

/// Keys of features that this broker does not have: thread pools, page cache lock, transient pool.
fn neutral(put: &mut impl FnMut(&str, String)) {
    for key in ["dispatchMaxBuffer", "pageCacheLockTimeMills", "EndTransactionQueueSize"] {
        put(key, "0".to_owned());
    }
    for (pool, capacity) in [
        ("send", 10_000),
        ("pull", 100_000),
        ("litePull", 100_000),
        ("query", 20_000),
        ("ack", 100_000),
    ] {
        put(&format!("{pool}ThreadPoolQueueSize"), "0".to_owned());
        put(&format!("{pool}ThreadPoolQueueCapacity"), capacity.to_string());
        put(&format!("{pool}ThreadPoolQueueHeadWaitTimeMills"), "0".to_owned());
    }
    put("EndTransactionThreadPoolQueueCapacity", "100000".to_owned());
    put("remainTransientStoreBufferNumbs", i32::MAX.to_string());
}

fn uptime(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    format!(
        "[ {} days, {} hours, {} minutes, {} seconds ]",
        seconds / 86_400,
        seconds % 86_400 / 3_600,
        seconds % 3_600 / 60,
        seconds % 60
    )
}

fn human_bytes(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_need_an_uptime_of_their_span() {
        let totals = Totals::default();
        for second in 0..=60 {
            totals.sample(second * 1000);
            totals.stored(5, 500);
        }
        assert_eq!(table(&totals, &Runtime::default())["putTps"], "5 5 ");
    }

    #[test]
    fn every_key_that_tools_require_exists() {
        let table = table(&Totals::default(), &Runtime::default());
        for key in [
            "putTps",
            "getTotalTps",
            "sendThreadPoolQueueSize",
            "pullThreadPoolQueueHeadWaitTimeMills",
            "earliestMessageTimeStamp",
            "msgGetTotalTodayNow",
            "commitLogDiskRatio",
            "brokerVersionDesc",
            "bootTimestamp",
        ] {
            assert!(table.contains_key(key), "{key}");
        }
    }

    #[test]
    fn latencies_fall_into_apaches_classes() {
        let totals = Totals::default();
        totals.put_took(98, 200);
        totals.put_took(1, 7_000);
        totals.put_took(1, 15_000_000);
        let table = table(&totals, &Runtime::default());
        assert!(table["putMessageDistributeTime"].starts_with("[<=0ms]:98 [0~10ms]:1 [10~50ms]:0"));
        assert!(table["putMessageDistributeTime"].ends_with("[10s~]:1 "));
        assert_eq!(table["putMessageEntireTimeMax"], "15000");
        assert_eq!(table["putLatency99"], "8.19");
    }

    #[test]
    fn a_new_day_keeps_the_totals_of_the_last_two_days() {
        let totals = Totals::default();
        totals.day(1, 10, 1);
        totals.day(2, 30, 2);
        totals.day(2, 35, 3);
        totals.day(3, 60, 4);
        let table = table(&totals, &Runtime::default());
        assert_eq!(table["msgPutTotalYesterdayMorning"], "30");
        assert_eq!(table["msgPutTotalTodayMorning"], "60");
    }

    #[test]
    fn sizes_and_durations_are_human_readable() {
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(3 << 30), "3.0 GiB");
        assert_eq!(uptime(90_061_000), "[ 1 days, 1 hours, 1 minutes, 1 seconds ]");
    }
}
