//! Producers and consumers of the protocol, against a whole broker.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use proxy::v2::telemetry_command::Command;
use proxy::v2::*;
use support::{Client, Server, attempt, bodies, code, endpoints, message, millis, queue, receipt, resource};

#[test]
fn a_message_is_sent_received_and_acknowledged() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        let sent = client
            .sent(Message {
                user_properties: [("own".to_owned(), "v".to_owned())].into(),
                ..message("t", "hello", |system| {
                    system.tag = Some("a".to_owned());
                    system.keys = vec!["k".to_owned()];
                })
            })
            .await;
        assert_eq!((sent.message_id.as_str(), sent.offset), ("id-t-hello", 0));
        let got = client.receive_all("g", "t", 1).await;
        let system = got[0].system_properties.as_ref().unwrap();
        assert_eq!(bodies(&got), ["hello"]);
        assert_eq!(got[0].user_properties["own"], "v");
        assert_eq!((system.tag.as_deref(), system.keys.as_slice()), (Some("a"), &["k".to_owned()][..]));
        assert_eq!((system.message_id.as_str(), attempt(&got[0])), ("id-t-hello", 1));
        assert_eq!(system.body_digest.as_ref().unwrap().checksum, "5D41402ABC4B2A76B9719D911017C592");
        assert_eq!(client.ack("g", "t", &receipt(&got[0])).await, Code::Ok);
        let (code, none) = client.receive(Client::receive_request("g", "t", 60_000)).await;
        assert!(none.is_empty() && code == Code::MessageNotFound);
    });
}

#[test]
fn a_receive_that_waits_is_woken_by_a_message() {
    Server::start(|_, _| {}).run(async |server| {
        let (mut consumer, mut producer) = (server.client("c").await, server.client("p").await);
        consumer.subscribe("g", "t").await;
        let request = ReceiveMessageRequest {
            long_polling_timeout: Some(millis(20_000)),
            ..Client::receive_request("g", "t", 60_000)
        };
        let waiting = consumer.receive(request);
        let (got, _) = tokio::join!(waiting, producer.sent(message("t", "x", |_| {})));
        assert_eq!(bodies(&got.1), ["x"]);
    });
}

#[test]
fn a_message_that_is_not_acknowledged_comes_again() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        client.sent(message("t", "x", |_| {})).await;
        let first = client.receive_all("g", "t", 1).await;
        let (changed, handle) = client.change("g", "t", &receipt(&first[0]), 1).await;
        assert_eq!(changed, Code::Ok);
        let again = client.receive_all("g", "t", 1).await;
        assert_eq!((bodies(&again), attempt(&again[0])), (vec!["x".to_owned()], 2));
        assert_eq!(client.ack("g", "t", &receipt(&again[0])).await, Code::Ok);
        // The handle of the first delivery.
        assert_ne!(client.change("g", "t", &handle, 1_000).await.0, Code::Ok);
    });
}

#[test]
fn wrong_handles_are_refused_with_what_to_do() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        client.sent(message("t", "x", |_| {})).await;
        let got = client.receive_all("g", "t", 1).await;
        let handle = receipt(&got[0]);
        for (group, topic, handle) in [("h", "t", handle.as_str()), ("g", "u", &handle), ("g", "t", "x"), ("g", "t", "")] {
            assert_eq!(
                client.ack(group, topic, handle).await,
                Code::InvalidReceiptHandle,
                "{group} {topic} {handle}"
            );
        }
        assert_eq!(client.ack("g", "t", &handle).await, Code::Ok);
        let expired = "0 1000 10 0 0 b 0 0 0";
        assert_eq!(client.ack("g", "t", expired).await, Code::InvalidReceiptHandle);
        assert_eq!(client.change("g", "t", &handle, 86_400_000).await.0, Code::IllegalInvisibleTime);
    });
}

#[test]
fn a_topic_takes_messages_of_its_type_only() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        let fifo = |topic: &str, body: &str| message(topic, body, |system| system.message_group = Some("group".to_owned()));
        // The first message of a new topic says its type.
        client.sent(fifo("orders", "1")).await;
        client.sent(fifo("orders", "2")).await;
        let wrong = client.send(vec![message("orders", "3", |_| {})]).await;
        let status = wrong.status.unwrap();
        assert_eq!(status.code(), Code::MessagePropertyConflictWithType);
        assert!(
            status.message.contains("the expected type is FIFO, but actual type is NORMAL"),
            "{}",
            status.message
        );
        client.sent(message("plain", "1", |_| {})).await;
        let wrong = client.send(vec![fifo("plain", "2")]).await;
        assert_eq!(code(wrong.status), Code::MessagePropertyConflictWithType);
        // So does the first one of a topic that a consumer has created.
        client.subscribe("g", "later").await;
        client.sent(fifo("later", "1")).await;
        assert_eq!(bodies(&client.receive_all("g", "later", 1).await), ["1"]);
        let wrong = client.send(vec![message("later", "2", |_| {})]).await;
        assert_eq!(code(wrong.status), Code::MessagePropertyConflictWithType);
    });
}

#[test]
fn messages_of_a_group_stay_in_order_and_block_their_queue() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        let rule = protocol::group::GroupConfig {
            consume_message_orderly: true,
            ..protocol::group::GroupConfig::new("g")
        };
        server.broker.operations().core.groups.update(vec![rule], 1).unwrap();
        let fifo = |body: &str| message("t", body, |system| system.message_group = Some("group".to_owned()));
        client.sent(fifo("0")).await;
        // A new group begins with the last message of each queue.
        for old in client.receive(Client::receive_request("g", "t", 60_000)).await.1 {
            assert_eq!(client.ack("g", "t", &receipt(&old)).await, Code::Ok);
        }
        for body in ["1", "2", "3"] {
            client.sent(fifo(body)).await;
        }
        let (_, answer) = client.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
        let Some(settings::PubSub::Subscription(told)) = answer.pub_sub else {
            panic!()
        };
        assert_eq!(told.fifo, Some(true));
        let assigned = client.rpc.query_assignment(QueryAssignmentRequest {
            topic: resource("t"),
            group: resource("g"),
            endpoints: endpoints(),
        });
        assert_eq!(assigned.await.unwrap().into_inner().assignments.len(), 8, "each queue");
        let one = || ReceiveMessageRequest {
            batch_size: 1,
            ..Client::receive_request("g", "t", 60_000)
        };
        let first = client.receive(one()).await.1;
        assert_eq!(client.receive(one()).await.0, Code::MessageNotFound, "the queue is blocked");
        assert_eq!(client.ack("g", "t", &receipt(&first[0])).await, Code::Ok);
        let second = client.receive(one()).await.1;
        assert_eq!((bodies(&first)[0].as_str() < bodies(&second)[0].as_str(), second.len()), (true, 1));
    });
}

#[test]
fn a_message_waits_for_its_time_and_can_be_recalled() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        let delayed = |body: &str, due: prost_types::Timestamp| message("t", body, |system| system.delivery_timestamp = Some(due));
        client.subscribe("g", "t").await;
        let recalled = client.sent(delayed("recalled", support::after(3_600_000))).await;
        let due = support::after(1_000);
        client.sent(delayed("kept", due)).await;
        assert!(!recalled.recall_handle.is_empty());
        let request = RecallMessageRequest {
            topic: resource("t"),
            recall_handle: recalled.recall_handle,
        };
        let answer = client.rpc.recall_message(request).await.unwrap().into_inner();
        assert_eq!((code(answer.status), answer.message_id.as_str()), (Code::Ok, "id-t-recalled"));
        let got = client.receive_all("g", "t", 1).await;
        assert_eq!(bodies(&got), ["kept"]);
        let now = support::after(0);
        assert!(
            (now.seconds, now.nanos) >= (due.seconds, due.nanos),
            "it came before {due:?}, at {now:?}"
        );
    });
}

#[test]
fn a_transaction_commits_rolls_back_or_is_asked_for() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("p").await;
        let half = |body: &str| message("t", body, |system| system.set_message_type(MessageType::Transaction));
        let end = |sent: &SendResultEntry, resolution: TransactionResolution| EndTransactionRequest {
            topic: resource("t"),
            message_id: sent.message_id.clone(),
            transaction_id: sent.transaction_id.clone(),
            resolution: resolution.into(),
            source: TransactionSource::SourceClient.into(),
            ..EndTransactionRequest::default()
        };
        let (mut telemetry, _) = client.produce("t").await;
        let committed = client.sent(half("committed")).await;
        client.subscribe("g", "t").await;
        let rolled_back = client.sent(half("rolled back")).await;
        let answer = client
            .rpc
            .end_transaction(end(&committed, TransactionResolution::Commit))
            .await
            .unwrap();
        assert_eq!(code(answer.into_inner().status), Code::Ok);
        let answer = client
            .rpc
            .end_transaction(end(&rolled_back, TransactionResolution::Rollback))
            .await
            .unwrap();
        assert_eq!(code(answer.into_inner().status), Code::Ok);
        let got = client.receive_all("g", "t", 1).await;
        assert_eq!(bodies(&got), ["committed"]);

        client.sent(half("orphaned")).await;
        let asked = loop {
            match telemetry.next().await {
                // On a slow machine it is asked for the others, too.
                Command::RecoverOrphanedTransactionCommand(asked) if asked.message.as_ref().unwrap().body != "orphaned".as_bytes() => {}
                Command::RecoverOrphanedTransactionCommand(asked) => break asked,
                other => panic!("{other:?}"),
            }
        };
        let answer = client
            .rpc
            .end_transaction(EndTransactionRequest {
                topic: resource("t"),
                message_id: "id-t-orphaned".to_owned(),
                transaction_id: asked.transaction_id,
                resolution: TransactionResolution::Commit.into(),
                source: TransactionSource::SourceServerCheck.into(),
                ..EndTransactionRequest::default()
            })
            .await
            .unwrap();
        assert_eq!(code(answer.into_inner().status), Code::Ok);
        assert_eq!(bodies(&client.receive_all("g", "t", 1).await), ["orphaned"]);

        let wrong = end(
            &SendResultEntry {
                transaction_id: "x".to_owned(),
                ..SendResultEntry::default()
            },
            TransactionResolution::Commit,
        );
        let answer = client.rpc.end_transaction(wrong).await.unwrap();
        assert_eq!(code(answer.into_inner().status), Code::InvalidTransactionId);
    });
}

#[test]
fn several_messages_of_a_request_have_outcomes_of_their_own() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        let bodies_sent: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
        let answer = client
            .send(bodies_sent.iter().map(|body| message("t", body, |_| {})).collect())
            .await;
        assert_eq!((code(answer.status), answer.entries.len()), (Code::Ok, 20));
        let offsets: Vec<i64> = answer.entries.iter().map(|entry| entry.offset).collect();
        assert!(offsets.is_sorted_by(|a, b| a + 1 == *b), "one queue, in order: {offsets:?}");
        let mut got = bodies(&client.receive_all("g", "t", 20).await);
        got.sort();
        assert_eq!(got, bodies_sent);
        let mixed = client.send(vec![message("t", "a", |_| {}), message("u", "b", |_| {})]).await;
        assert_eq!(code(mixed.status), Code::MessageCorrupted);
        assert_eq!(code(client.send(Vec::new()).await.status), Code::MessageCorrupted);
    });
}

#[test]
fn filters_select_by_tags_and_by_sql() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        let by = |group: &str, kind: FilterType, text: &str| ReceiveMessageRequest {
            filter_expression: Some(FilterExpression {
                r#type: kind.into(),
                expression: text.to_owned(),
            }),
            long_polling_timeout: Some(millis(300)),
            ..Client::receive_request(group, "t", 60_000)
        };
        client.receive(by("tags", FilterType::Tag, "a || b")).await;
        client.receive(by("sql", FilterType::Sql, "n > 1")).await;
        for (n, tag) in ["a", "b", "c"].into_iter().enumerate() {
            let tagged = message("t", tag, |system| system.tag = Some(tag.to_owned()));
            client
                .sent(Message {
                    user_properties: [("n".to_owned(), n.to_string())].into(),
                    ..tagged
                })
                .await;
        }
        let mut got = Vec::new();
        while got.len() < 2 {
            got.extend(bodies(&client.receive(by("tags", FilterType::Tag, "a || b")).await.1));
        }
        got.sort();
        assert_eq!(got, ["a", "b"]);
        let selected = loop {
            let selected = client.receive(by("sql", FilterType::Sql, "n > 1")).await.1;
            if !selected.is_empty() {
                break selected;
            }
        };
        assert_eq!(bodies(&selected), ["c"]);
        let (wrong, _) = client.receive(by("sql", FilterType::Sql, "n >")).await;
        assert_eq!(wrong, Code::IllegalFilterExpression);
    });
}

#[test]
fn clients_get_the_endpoints_back_through_which_they_came() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        client.sent(message("t", "x", |_| {})).await;
        let route = |topic: &str, endpoints| QueryRouteRequest {
            topic: resource(topic),
            endpoints,
        };
        let answer = client.rpc.query_route(route("t", endpoints())).await.unwrap().into_inner();
        assert_eq!((code(answer.status), answer.message_queues.len()), (Code::Ok, 8));
        let first = &answer.message_queues[0];
        let broker = first.broker.clone().unwrap();
        assert_eq!((broker.name.as_str(), broker.endpoints), ("b", endpoints()));
        assert_eq!(first.accept_message_types().collect::<Vec<_>>(), [MessageType::Normal]);
        let new = client.rpc.query_route(route("new", endpoints())).await.unwrap().into_inner();
        assert!(new.message_queues[0].accept_message_types().any(|kind| kind == MessageType::Fifo));
        for (topic, endpoints, expected) in [
            ("t", None, Code::IllegalAccessPoint),
            ("", endpoints(), Code::IllegalTopic),
            ("a b", endpoints(), Code::IllegalTopic),
            ("RMQ_SYS_TRANS_HALF_TOPIC", endpoints(), Code::IllegalTopic),
        ] {
            let answer = client.rpc.query_route(route(topic, endpoints)).await.unwrap().into_inner();
            assert_eq!(code(answer.status), expected, "{topic}");
        }
    });
    let server = Server::start(|broker, _| broker.auto_create_topic_enable = false);
    server.run(async |server| {
        let mut client = server.client("c").await;
        let answer = client.rpc.query_route(QueryRouteRequest {
            topic: resource("t"),
            endpoints: endpoints(),
        });
        assert_eq!(code(answer.await.unwrap().into_inner().status), Code::TopicNotFound);
        assert_eq!(code(client.send(vec![message("t", "x", |_| {})]).await.status), Code::TopicNotFound);
    });
}

#[test]
fn a_failed_message_goes_to_the_dead_letters() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        client.sent(message("t", "x", |_| {})).await;
        let got = client.receive_all("g", "t", 1).await;
        let request = ForwardMessageToDeadLetterQueueRequest {
            group: resource("g"),
            topic: resource("t"),
            receipt_handle: receipt(&got[0]),
            message_id: "id".to_owned(),
            delivery_attempt: 3,
            max_delivery_attempts: 3,
            lite_topic: None,
        };
        let answer = client.rpc.forward_message_to_dead_letter_queue(request).await.unwrap().into_inner();
        assert_eq!(code(answer.status), Code::Ok);
        let mut pulled = client
            .rpc
            .pull_message(PullMessageRequest {
                group: resource("reader"),
                message_queue: queue("%DLQ%g", 0),
                offset: 0,
                batch_size: 1,
                filter_expression: None,
                long_polling_timeout: Some(millis(0)),
            })
            .await
            .unwrap()
            .into_inner();
        let mut found = Vec::new();
        while let Some(answer) = pulled.message().await.unwrap() {
            if let Some(pull_message_response::Content::Message(message)) = answer.content {
                found.push(message);
            }
        }
        assert_eq!(bodies(&found), ["x"]);
    });
}

#[test]
fn offsets_are_updated_and_queried() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        let place = client
            .sent(message("t", "x", |system| system.message_id = "one".to_owned()))
            .await
            .offset;
        assert_eq!(place, 0);
        let all = async |client: &mut Client, policy: QueryOffsetPolicy| {
            let mut sum = 0;
            for id in 0..8 {
                let request = QueryOffsetRequest {
                    message_queue: queue("t", id),
                    query_offset_policy: policy.into(),
                    timestamp: Some(support::after(-60_000)),
                };
                let answer = client.rpc.query_offset(request).await.unwrap().into_inner();
                assert_eq!(code(answer.status), Code::Ok);
                sum += answer.offset;
            }
            sum
        };
        assert_eq!(all(&mut client, QueryOffsetPolicy::Beginning).await, 0);
        assert_eq!(all(&mut client, QueryOffsetPolicy::End).await, 1);
        assert_eq!(all(&mut client, QueryOffsetPolicy::Timestamp).await, 0);
        let get = |group: &str| GetOffsetRequest {
            group: resource(group),
            message_queue: queue("t", 0),
        };
        let none = client.rpc.get_offset(get("other")).await.unwrap().into_inner();
        assert_eq!(code(none.status), Code::OffsetNotFound);
        let update = UpdateOffsetRequest {
            group: resource("g"),
            message_queue: queue("t", 0),
            offset: 0,
        };
        assert_eq!(code(client.rpc.update_offset(update).await.unwrap().into_inner().status), Code::Ok);
        let stored = client.rpc.get_offset(get("g")).await.unwrap().into_inner();
        assert_eq!((code(stored.status), stored.offset), (Code::Ok, 0));
    });
}
