"""Clients that reach several brokers through ApogeeMQ's proxies, which are all that they know. What one broker serves through them is in all other files:
`run --target apogee-proxy`."""
import os
import time

from harness import targets, wire
from harness.scenario import sdk

from .consume import per_queue_in_order
from .transactions import send_in_transaction, transactional


class Cluster:
    """Two brokers behind two proxies. `more`: settings of brokers; `proxies`: of proxies."""

    def __init__(self, s, more=None, proxies=None, plain=True):
        self.s = s
        work = os.path.join(s.work, 'cluster')
        self.first = targets.Apogee(os.path.join(work, 'a'), more, plain=plain)
        self.front = targets.Behind(self.first, work, proxies)
        s.own_targets.append(self.front)
        self.front.start()
        self.second = targets.Apogee(os.path.join(work, 'b'), {'brokerName': 'broker-b', **(more or {})}, roles='broker',
                                     namesrv=self.first.namesrv, plain=plain)
        # It is stopped before the name server.
        s.own_targets.insert(s.own_targets.index(self.front), self.second)
        self.second.start()

    def topic(self, name, queues):
        """On both brokers, and on both in the routes of the proxies."""
        for broker in (self.first, self.second):
            full = self.s.topic(name, queues, target=broker)

        def on_both():
            with wire.Connection(self.front.namesrv) as c:
                route = c.ask(wire.ROUTE, dict(topic=full)).body.decode()
                return 'broker-a' in route and 'broker-b' in route
        self.s.wait(on_both, f'{full} is on both brokers')
        return full

    def stored(self, broker, topic, queues):
        return sum(int(self.s.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=queue), target=broker).ext['offset']) for queue in range(queues))


@sdk('java-5.5.0', deadline=180, ours=True)
def two_brokers_and_two_proxies_are_one_cluster(s):
    cluster = Cluster(s, {'transactionCheckInterval': 1000, 'transactionTimeOut': 1000})
    s.target = cluster.front
    topic, ordered = cluster.topic('t', 2), cluster.topic('o', 2)
    members = [s.push(f'c{n}', topic, group=s.name('g')) for n in range(3)]
    # One of the group reaches the brokers directly.
    members.append(s.push('direct', topic, group=s.name('g'), target=cluster.first))

    def is_shared():
        held = [len(member.assigned(topic)) for member in members]
        return held == [1, 1, 1, 1]
    s.wait(is_shared, 'each of four members has one of four queues')
    producer = s.producer()
    assert {r['status'] for r in producer.send_many(topic, 400)} == {'SEND_OK'}
    assert cluster.stored(cluster.first, topic, 2) > 0 and cluster.stored(cluster.second, topic, 2) > 0

    def consumed():
        return sorted(text for member in members for text in member.texts())
    s.wait(lambda: len(consumed()) >= 400, 'everything is consumed')
    assert consumed() == sorted(f'm{i}' for i in range(400))
    assert all(member.texts() for member in members)

    in_order = [s.push(f'o{n}', ordered, group=s.name('og'), orderly=True) for n in range(2)]
    s.wait(lambda: [len(member.assigned(ordered)) for member in in_order] == [2, 2], 'the ordered queues are shared')
    assert {r['status'] for r in producer.send_many(ordered, 200, mode='sync')} == {'SEND_OK'}
    s.wait(lambda: sum(len(member.texts()) for member in in_order) >= 200, 'everything in order is consumed')
    for member in in_order:
        got = member.received()
        for host in {m['offset_msg_id'][:16] for m in got}:
            per_queue_in_order([m for m in got if m['offset_msg_id'].startswith(host)])

    transactions = transactional(s)
    for i in range(4):
        send_in_transaction(transactions, topic, f'unknown {i}', 'unknown', 'commit')
    s.wait(lambda: {f'unknown {i}' for i in range(4)} <= set(consumed()), 'checks of both brokers reach their producer, and its answers them')

    # Without one of the brokers the other takes all, at once.
    before = cluster.stored(cluster.first, topic, 2)
    cluster.second.stop()
    assert {producer.send(topic, f'after {i}')['status'] for i in range(8)} == {'SEND_OK'}
    assert cluster.stored(cluster.first, topic, 2) == before + 8
    s.wait(lambda: {f'after {i}' for i in range(8)} <= set(consumed()), 'they are consumed')
    # And the other one is found again.
    cluster.second.start()
    s.wait(lambda: {producer.send(topic, f'again {time.monotonic()}')['status'] for _ in range(4)} == {'SEND_OK'}
           and cluster.stored(cluster.second, topic, 2) > 100, 'both take messages again')


@sdk('java-5.5.0', deadline=120, ours=True)
def a_proxy_that_dies_is_replaced_by_another(s):
    cluster = Cluster(s)
    s.target = cluster.front
    topic = cluster.topic('t', 2)
    both = ';'.join(cluster.front.proxies)
    # A name instead of the address that routes tell: two connections of one client.
    named = both.replace('127.0.0.1', 'localhost')
    consumers = [s.driver_client('push', f'c{n}', named, subs={topic: '*'}, group=s.name('g')) for n in range(2)]
    producer = s.driver_client('producer', 'p', named, group=s.name('pg'))

    def consumed():
        return {text for consumer in consumers for text in consumer.texts()}
    assert {producer.send(topic, f'm{i}')['status'] for i in range(20)} == {'SEND_OK'}
    s.wait(lambda: len(consumed()) == 20, 'everything is consumed')
    cluster.front.kill_one()

    def is_sent():
        try:
            return producer.send(topic, 'after')['status'] == 'SEND_OK'
        except Exception:  # noqa: BLE001 - it looks for the other proxy within its next round
            return False
    s.wait(is_sent, 'the other proxy serves the producer', 60)
    s.wait(lambda: 'after' in consumed(), 'the other proxy serves the consumers', 60)
    assert {f'm{i}' for i in range(20)} <= consumed()


@sdk('java-5.5.0', deadline=120, ours=True)
def proxies_reach_brokers_that_are_encrypted_only(s):
    cluster = Cluster(s, {'tls.server.mode': 'enforcing'}, {'tls.enable': 'true'}, plain=False)
    s.target = cluster.front
    group = s.name('g')
    # Nothing is created by hand: that would need an encrypted connection.
    producer = s.producer(tls=True)
    sent = producer.send_many(s.name('t'), 50)
    assert {r['status'] for r in sent} == {'SEND_OK'}
    consumer = s.push('c', s.name('t'), group=group, tls=False)
    assert sorted(consumer.texts(50)) == sorted(f'm{i}' for i in range(50))
