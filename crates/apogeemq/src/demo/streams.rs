//! One stream of events, three groups of consumers. Each has its own position, its own pace and its own selection.

use std::time::Duration;

use client::{Message, Producer};
use protocol::topic::TopicConfig;

use super::reader::Reader;
use super::terminal::{Colour, bar};
use super::{Stage, check};
use crate::failure::Failure;

/// The part's title.
pub(super) const TITLE: &str = "3. One stream of events for billing, e-mail and analytics, which join when they like.";

const TOPIC: &str = "events";
/// Orders; each has an event of every kind.
const ORDERS: u64 = 30;
const KINDS: [&str; 3] = ["created", "paid", "shipped"];
/// Billing takes all events, e-mail two kinds, analytics all, later and faster.
const GROUPS: [(&str, &str, i32); 3] = [("billing", "*", 4), ("e-mail", "paid || shipped", 4), ("analytics", "*", 16)];
const TICK: Duration = Duration::from_millis(40);

/// A group and what it got.
struct Member {
    reader: Option<Reader>,
    got: Vec<String>,
}

/// Runs the part; returns what was shown to be true.
pub(super) async fn run(stage: &mut Stage) -> Result<String, Failure> {
    let queues = stage.server.topic(TopicConfig::new(TOPIC, 1)).await?;
    let orders = stage.scaled(ORDERS);
    let events = orders * KINDS.len() as u64;
    let expected = |tags: &str| -> Vec<String> {
        let all = (0..orders).flat_map(|order| KINDS.map(|kind| (order, kind)));
        let wanted = all.filter(|(_, kind)| tags == "*" || tags.contains(kind));
        wanted.map(|(order, kind)| format!("order {order} {kind}")).collect()
    };
    let mut members = Vec::new();
    for (name, tags, _) in GROUPS {
        let joins_late = name == "analytics";
        let reader = match joins_late {
            true => None,
            false => Some(Reader::open(&stage.server.client(), name, &queues, tags).await?),
        };
        members.push(Member { reader, got: Vec::new() });
    }
    let shop = Producer::new(&stage.server.client(), "shop");
    let mut sent = 0;
    let is_complete = |members: &[Member]| {
        let groups = members.iter().zip(GROUPS);
        groups
            .into_iter()
            .all(|(member, (_, tags, _))| member.got.len() >= expected(tags).len())
    };
    while sent < orders || !is_complete(&members) {
        if sent < orders {
            for kind in KINDS {
                let message = Message::new(TOPIC, format!("order {sent} {kind}")).tags(kind);
                shop.send_to(&queues[0], message).await.map_err(Failure::new)?;
            }
            sent += 1;
        } else if members[2].reader.is_none() {
            // Long after the first event: the broker still has it.
            let (name, tags, _) = GROUPS[2];
            members[2].reader = Some(Reader::open(&stage.server.client(), name, &queues, tags).await?);
        }
        for (member, (_, _, pace)) in members.iter_mut().zip(GROUPS) {
            if let Some(reader) = &mut member.reader {
                member.got.extend(reader.next(pace).await?);
            }
        }
        stage.terminal.draw(block(sent * KINDS.len() as u64, events, &members));
        tokio::time::sleep(TICK).await;
    }
    for (member, (name, tags, _)) in members.iter().zip(GROUPS) {
        check(&format!("{name} gets its events once, in order"), &expected(tags), &member.got)?;
    }
    stage.sent += events;
    Ok(format!(
        "{events} events: billing got {}, e-mail {}, analytics {} although it joined last; each once, in order",
        members[0].got.len(),
        members[1].got.len(),
        members[2].got.len()
    ))
}

fn block(sent: u64, events: u64, members: &[Member]) -> Vec<String> {
    let line = |name: &str, value: u64, note: &str| format!("  {name:<14}{} {value:>5}{note}", bar(Colour::Green, value, events, 40));
    let mut block = vec![line("events", sent, "")];
    for (member, (name, tags, _)) in members.iter().zip(GROUPS) {
        let note = match (&member.reader, tags) {
            (None, _) => "   not there yet".to_owned(),
            (Some(_), "*") => String::new(),
            (Some(_), tags) => format!("   only {tags}"),
        };
        block.push(line(name, member.got.len() as u64, &note));
    }
    block
}
