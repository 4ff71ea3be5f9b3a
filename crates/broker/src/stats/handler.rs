//! Handlers of statistics: codes 28 and 315.

use super::registry::BrokerStats;
use super::runtime::{self, Runtime};
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome};
use protocol::kv::KvTable;
use protocol::stats::{BrokerStatsData, BrokerStatsHeader, StatsItem};
use protocol::{Frame, json};

/// Code 28: the broker's runtime information. Never fails.
pub fn runtime(stats: &BrokerStats, runtime: &Runtime) -> Outcome {
    let body = KvTable {
        table: runtime::table(stats.totals(), runtime),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 315: one counter over minute, hour and day.
///
/// # Errors
/// `SystemError` if nothing was counted under that name and key.
pub fn counter(request: &Frame, stats: &BrokerStats) -> Outcome {
    let header = BrokerStatsHeader::decode(&request.ext)?;
    let item = stats.find(header.stats_name, header.stats_key).ok_or_else(|| {
        let text = format!("The stats <{}> <{}> not exist", header.stats_name, header.stats_key);
        Refusal::system(text)
    })?;
    let [minute, hour, day] = BrokerStats::spans(&item).map(|span| StatsItem {
        avgpt: span.avgpt,
        sum: span.sum,
        tps: span.tps,
    });
    let body = BrokerStatsData {
        stats_day: day,
        stats_hour: hour,
        stats_minute: minute,
    };
    Ok(Answer::body(json::write(&body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use protocol::RequestCode;

    fn frame(fields: &[(&str, &str)]) -> Frame {
        testing::frame(RequestCode::ViewBrokerStatsData, fields)
    }

    #[test]
    fn a_counter_is_returned_or_does_not_exist() {
        let stats = BrokerStats::new("c", 100);
        stats.topic("t").stored(5, 500, 1);
        stats.sample(1_000_000);
        let answer = counter(&frame(&[("statsName", "TOPIC_PUT_NUMS"), ("statsKey", "t")]), &stats).unwrap();
        let body: BrokerStatsData = json::read(&answer.body).unwrap();
        assert_eq!((body.stats_minute.sum, body.stats_minute.avgpt), (5, 5.0));
        let refusal = counter(&frame(&[("statsName", "TOPIC_PUT_NUMS"), ("statsKey", "x")]), &stats).unwrap_err();
        assert_eq!(refusal.text, "The stats <TOPIC_PUT_NUMS> <x> not exist");
    }
}
