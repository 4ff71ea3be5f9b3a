//! Scenarios with the published Rust SDK of the gRPC protocol: `scenarios LABEL ENDPOINT plain SUFFIX [NAME…]`.
//!
//! The same as java/src/Scenarios.java: topics and groups exist, each scenario has its own, all run at the same time. One line per
//! scenario. Version 5.0.0 has a producer and a simple consumer that receives and acknowledges; push consumers, the change of an invisible
//! duration and recalls are missing, so are the scenarios that need them. Its `enable_tls` cannot connect: the SDK configures no TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocketmq::conf::{ClientOption, LoggingFormat, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::{MessageBuilder, MessageView};
use rocketmq::model::transaction::{Transaction, TransactionChecker, TransactionResolution};
use rocketmq::{Producer, SimpleConsumer};

const SOON: Duration = Duration::from_secs(120);

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Arguments {
    label: String,
    endpoint: String,
    suffix: String,
}

static ARGUMENTS: OnceLock<Arguments> = OnceLock::new();

fn arguments() -> &'static Arguments {
    ARGUMENTS.get().expect("set by main")
}

fn name(base: &str) -> String {
    format!("{base}{}", arguments().suffix)
}

fn check(holds: bool, what: impl Into<String>) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(what.into().into())
    }
}

fn client_option() -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(&arguments().endpoint);
    option.set_timeout(Duration::from_secs(10));
    // Version 5.0.0 sends it as the deadline of the request, too: servers refuse less than five seconds.
    option.set_long_polling_timeout(Duration::from_secs(6));
    option
}

async fn producer(topic: &str, checker: Option<Box<TransactionChecker>>) -> Outcome<Producer> {
    let mut option = ProducerOption::default();
    option.set_logging_format(LoggingFormat::Json);
    option.set_topics(vec![topic]);
    let mut producer = match checker {
        Some(checker) => Producer::new_transaction_producer(option, client_option(), checker)?,
        None => Producer::new(option, client_option())?,
    };
    producer.start().await?;
    Ok(producer)
}

/// A consumer with its subscription.
struct Consumer {
    inner: SimpleConsumer,
    topic: String,
    filter: FilterExpression,
}

impl Consumer {
    /// A new group begins with the last message of each queue: its first receives say where that is.
    async fn begun(topic: &str, group: &str, filter: FilterExpression) -> Outcome<Self> {
        let mut option = SimpleConsumerOption::default();
        option.set_logging_format(LoggingFormat::Json);
        option.set_topics(vec![topic]);
        option.set_consumer_group(group);
        let mut inner = SimpleConsumer::new(option, client_option())?;
        inner.start().await?;
        let consumer = Self {
            inner,
            topic: topic.to_owned(),
            filter,
        };
        loop {
            let old = consumer.some(16, 30).await?;
            if old.is_empty() {
                return Ok(consumer);
            }
            for view in old {
                consumer.inner.ack(&view).await?;
            }
        }
    }

    async fn some(&self, count: i32, invisible_seconds: u64) -> Outcome<Vec<MessageView>> {
        let received = self
            .inner
            .receive_with(&self.topic, &self.filter, count, Duration::from_secs(invisible_seconds))
            .await;
        match received {
            // Compat: Apache's proxy waits until the deadline, so this client often gives up first.
            Err(error) if error.to_string().contains("Timeout expired") => Ok(Vec::new()),
            received => Ok(received?),
        }
    }

    /// Receives that many; acknowledges everything.
    async fn receive(&self, count: usize) -> Outcome<Vec<MessageView>> {
        let (mut got, start) = (Vec::new(), Instant::now());
        while got.len() < count {
            check(start.elapsed() < SOON, format!("received {} of {count}", got.len()))?;
            for view in self.some(16, 30).await? {
                self.inner.ack(&view).await?;
                got.push(view);
            }
        }
        Ok(got)
    }
}

fn all() -> FilterExpression {
    FilterExpression::new(FilterType::Tag, "*")
}

fn message(topic: &str, body: &str) -> MessageBuilder {
    MessageBuilder::builder().set_topic(topic).set_body(body.as_bytes().to_vec())
}

fn body(view: &MessageView) -> String {
    String::from_utf8_lossy(view.body()).into_owned()
}

fn bodies(views: &[MessageView]) -> BTreeSet<String> {
    views.iter().map(body).collect()
}

fn set(bodies: &[&str]) -> BTreeSet<String> {
    bodies.iter().map(|body| body.to_string()).collect()
}

async fn normal() -> Outcome {
    let topic = name("normal");
    let consumer = Consumer::begun(&topic, &name("g-normal"), all()).await?;
    let producer = producer(&topic, None).await?;
    let built = message(&topic, "hello")
        .set_tag("a")
        .set_keys(vec!["k1", "k2"])
        .set_properties([("own", "v")].into())
        .build()?;
    let receipt = producer.send(built).await?;
    let got = consumer.receive(1).await?;
    let view = &got[0];
    check(view.message_id() == receipt.message_id(), "message id")?;
    let property = view.properties().get("own").map(String::as_str);
    check(body(view) == "hello" && view.tag() == Some("a") && property == Some("v"), "content")?;
    check(view.keys() == ["k1", "k2"] && view.delivery_attempt() == 1, "keys")?;
    for batch in 0..10 {
        let messages = (0..10)
            .map(|n| message(&topic, &format!("n{}", batch * 10 + n)).build())
            .collect::<Result<Vec<_>, _>>()?;
        // Apache's proxy answers with one receipt for all.
        check(!producer.batch_send(messages).await?.is_empty(), "a receipt of a batch")?;
    }
    check(bodies(&consumer.receive(100).await?).len() == 100, "100 different messages")?;
    let large = "x".repeat(1 << 20);
    producer.send(message(&topic, &large).build()?).await?;
    check(body(&consumer.receive(1).await?[0]) == large, "a large message")?;
    producer.shutdown().await?;
    Ok(consumer.inner.shutdown().await?)
}

async fn filters() -> Outcome {
    let topic = name("filter");
    let tags = Consumer::begun(&topic, &name("g-tags"), FilterExpression::new(FilterType::Tag, "a || b")).await?;
    let sql = Consumer::begun(&topic, &name("g-sql"), FilterExpression::new(FilterType::Sql, "n > 1")).await?;
    let producer = producer(&topic, None).await?;
    for (n, tag) in ["a", "b", "c"].into_iter().enumerate() {
        producer
            .send(
                message(&topic, tag)
                    .set_tag(tag)
                    .set_properties([("n", n.to_string())].into())
                    .build()?,
            )
            .await?;
    }
    let got = bodies(&tags.receive(2).await?);
    check(got == set(&["a", "b"]), format!("by tags {got:?}"))?;
    check(body(&sql.receive(1).await?[0]) == "c", "by SQL")
}

async fn delay() -> Outcome {
    let topic = name("delay");
    let consumer = Consumer::begun(&topic, &name("g-delay"), all()).await?;
    let producer = producer(&topic, None).await?;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs() as i64);
    let due = now()? + 5;
    producer.send(message(&topic, "kept").set_delivery_timestamp(due).build()?).await?;
    check(body(&consumer.receive(1).await?[0]) == "kept", "the message")?;
    check(now()? >= due, "not early")
}

async fn transactions() -> Outcome {
    let topic = name("transaction");
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = asked.clone();
    let checker = Box::new(move |_id: String, view: MessageView| {
        seen.lock().expect("no panic under the lock").insert(body(&view));
        if body(&view) == "orphan-commit" {
            TransactionResolution::COMMIT
        } else {
            TransactionResolution::ROLLBACK
        }
    });
    let consumer = Consumer::begun(&topic, &name("g-transaction"), all()).await?;
    let producer = producer(&topic, Some(checker)).await?;
    for text in ["commit", "rollback", "orphan-commit", "orphan-rollback"] {
        let built = MessageBuilder::transaction_message_builder(&topic, text.as_bytes().to_vec()).build()?;
        let transaction = producer.send_transaction_message(built).await?;
        match text {
            "commit" => transaction.commit().await?,
            "rollback" => transaction.rollback().await?,
            _ => {}
        }
    }
    let got = bodies(&consumer.receive(2).await?);
    check(got == set(&["commit", "orphan-commit"]), format!("committed {got:?}"))?;
    let start = Instant::now();
    while *asked.lock().expect("no panic under the lock") != set(&["orphan-commit", "orphan-rollback"]) {
        check(start.elapsed() < SOON, "not in time: both orphans are asked for")?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// By a simple consumer of a group with order.
async fn fifo() -> Outcome {
    let topic = name("fifo");
    let consumer = Consumer::begun(&topic, &name("g-fifo"), all()).await?;
    let producer = producer(&topic, None).await?;
    for n in 0..10 {
        for group in ["a", "b", "c"] {
            producer
                .send(MessageBuilder::fifo_message_builder(&topic, format!("{group}-{n}").into_bytes(), group).build()?)
                .await?;
        }
    }
    let mut got: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for view in consumer.receive(30).await? {
        let group = view.message_group().unwrap_or_default();
        got.entry(group.to_owned()).or_default().push(body(&view));
    }
    for group in ["a", "b", "c"] {
        let expected: Vec<_> = (0..10).map(|n| format!("{group}-{n}")).collect();
        check(got.get(group) == Some(&expected), format!("in order {group} {:?}", got.get(group)))?;
    }
    Ok(())
}

async fn wrong_use() -> Outcome {
    let topic = name("wrong");
    let consumer = Consumer::begun(&topic, &name("g-wrong"), all()).await?;
    let producer = producer(&topic, None).await?;
    let other = producer.send(message(&topic, "x").set_message_group("g").build()?).await;
    check(other.is_err(), "a message of another type was stored")?;
    producer.send(message(&topic, "wrong").build()?).await?;
    let (mut got, start) = (Vec::new(), Instant::now());
    while got.is_empty() {
        check(start.elapsed() < SOON, "not received: wrong")?;
        got = consumer.some(1, 10).await?;
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    match consumer.inner.ack(&got[0]).await {
        Ok(()) => return Err("an expired handle was taken".into()),
        Err(error) => {
            let text = format!("{error:?}").to_lowercase();
            check(text.contains("expired") || text.contains("handle"), text)?;
        }
    }
    consumer.receive(1).await?;
    Ok(())
}

async fn passes(scenario: &'static str, run: impl Future<Output = Outcome>) -> bool {
    let start = Instant::now();
    let outcome = run.await;
    let word = if outcome.is_ok() { "ok  " } else { "FAIL" };
    let why = outcome.as_ref().err().map(|error| format!("\n       {error}")).unwrap_or_default();
    println!(
        "{word} {scenario} [{}] ({:.1} s){why}",
        arguments().label,
        start.elapsed().as_secs_f64()
    );
    outcome.is_ok()
}

#[tokio::main]
async fn main() {
    let mut given = std::env::args().skip(1);
    let mut next = || given.next().expect("LABEL ENDPOINT plain SUFFIX [NAME…]");
    let (label, endpoint, security, suffix) = (next(), next(), next(), next());
    assert_eq!(security, "plain", "the SDK has no TLS");
    let wanted: Vec<String> = given.collect();
    ARGUMENTS.set(Arguments { label, endpoint, suffix }).ok().expect("set once");
    let wanted = |scenario: &str| wanted.is_empty() || wanted.iter().any(|one| one == scenario);
    // Where the SDK's log goes.
    std::fs::create_dir_all("logs").expect("the working directory is writable");
    let mut running = Vec::new();
    macro_rules! start {
        ($name:literal, $run:expr) => {
            if wanted($name) {
                running.push(tokio::spawn(passes($name, $run)));
            }
        };
    }
    start!("normal", normal());
    start!("filters", filters());
    start!("delay", delay());
    start!("transactions", transactions());
    start!("fifo", fifo());
    start!("wrongUse", wrong_use());
    let mut passed = true;
    for one in running {
        passed &= one.await.unwrap_or(false);
    }
    std::process::exit(if passed { 0 } else { 1 });
}
