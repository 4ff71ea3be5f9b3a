//! `bench groups`: groups at a broker with an offset in each queue of one topic, then commits of all groups in turn.

use protocol::group::{GroupConfig, GroupConfigList};
use protocol::offset::UpdateConsumerOffsetHeader;
use protocol::topic::{TopicConfig, TopicConfigList};
use protocol::{Frame, RequestCode, json};

use super::super::open::Schedule;
use super::super::report::plural;
use super::super::totals::Clock;
use super::arguments::GroupsArguments;
use super::asked::{ask_all, ask_in_turn};
use super::connect_all;
use super::figures::Figures;
use super::load::Load;
use super::talk::Talk;
use crate::failure::Failure;

const TOPIC: &str = "BenchOfGroups";
/// Commits in flight on each connection.
const WINDOW: usize = 64;

pub(crate) fn run(arguments: &GroupsArguments) -> Result<Figures, Failure> {
    let queues = i32::from(arguments.queues);
    let offsets = u64::from(arguments.groups) * u64::from(arguments.queues);
    let (groups, rate) = (
        plural(u64::from(arguments.groups), "group"),
        plural(u64::from(arguments.rate), "commit"),
    );
    let load = format!("{groups} with {} in all; {rate} a second", plural(offsets, "offset"));
    let mut figures = Figures::new(load, arguments.output.pid);
    Talk::connect(&arguments.broker)?.ask(&topic(queues))?;
    let before = figures.memory("before");
    let sockets = connect_all(&arguments.broker, arguments.connections)?;
    let created = ask_in_turn(&sockets[0], create(arguments.groups, arguments.batch))?;
    figures.add("created_s", created.seconds);
    figures.answers("create", &created.counters);
    figures.cost("group", before, u64::from(arguments.groups));
    let before = figures.memory("created");

    let committing = sockets.iter().zip(0..).map(|(socket, connection)| {
        let own = (connection..arguments.groups).step_by(arguments.connections as usize);
        (
            socket.clone(),
            own.flat_map(move |group| (0..queues).map(move |queue| commit(group, queue, 1))),
        )
    });
    let committed = ask_all(committing.collect(), WINDOW)?;
    figures.add("committed_s", committed.seconds);
    figures.answers("first_commit", &committed.counters);
    figures.cost("offset", before, offsets);
    figures.memory("committed");

    let (clock, window) = (Clock::start(), arguments.span.window());
    let going_on = sockets.into_iter().zip(0..).map(|(socket, connection)| {
        let mut turn = Turn {
            groups: arguments.groups,
            queues: u64::from(arguments.queues),
            next: connection,
            step: u64::from(arguments.connections),
        };
        (socket, move || turn.next())
    });
    let rate = Schedule {
        rate: u64::from(arguments.rate),
        batch: 1,
    };
    let mut commits = Load::start(going_on.collect(), rate, clock, window)?;
    let used = commits.until_the_end(clock, window, &arguments.output)?;
    commits.end(&mut figures, "commit")?;
    figures.used(used, window.seconds());
    Ok(figures)
}

fn topic(queues: i32) -> Frame {
    let list = TopicConfigList {
        topic_config_list: vec![TopicConfig::new(TOPIC, queues)],
    };
    Frame::request(RequestCode::UpdateAndCreateTopicList).with_body(json::write_standard(&list))
}

fn name(group: u32) -> String {
    format!("BenchGroup_{group:06}")
}

/// Requests that create all groups, so many each.
fn create(count: u32, batch: u32) -> impl Iterator<Item = Frame> {
    (0..count).step_by(batch as usize).map(move |first| {
        let list = GroupConfigList {
            group_config_list: (first..count.min(first + batch))
                .map(|group| GroupConfig::new(name(group)))
                .collect(),
        };
        Frame::request(RequestCode::UpdateAndCreateSubscriptiongroupList).with_body(json::write_standard(&list))
    })
}

fn commit(group: u32, queue_id: i32, commit_offset: i64) -> Frame {
    let mut frame = Frame::request(RequestCode::UpdateConsumerOffset);
    UpdateConsumerOffsetHeader {
        consumer_group: &name(group),
        topic: TOPIC,
        queue_id,
        commit_offset,
    }
    .encode(&mut frame.ext);
    frame
}

/// Commits of all groups in turn, each greater than the one before.
struct Turn {
    groups: u32,
    queues: u64,
    next: u64,
    step: u64,
}

impl Turn {
    fn next(&mut self) -> Frame {
        let (round, group) = (self.next / u64::from(self.groups), self.next % u64::from(self.groups));
        self.next += self.step;
        commit(group as u32, (round % self.queues) as i32, (round / self.queues) as i64 + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_changes_an_offset() {
        let mut turn = Turn {
            groups: 3,
            queues: 2,
            next: 0,
            step: 1,
        };
        let mut last = std::collections::HashMap::new();
        for _ in 0..20 {
            let frame = turn.next();
            let header = UpdateConsumerOffsetHeader::decode(&frame.ext).unwrap();
            let place = (header.consumer_group.to_owned(), header.queue_id);
            let before = last.insert(place, header.commit_offset).unwrap_or(1);
            assert!(before < header.commit_offset);
        }
        assert_eq!(last.len(), 6);
    }
}
