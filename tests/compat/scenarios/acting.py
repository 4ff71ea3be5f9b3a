"""A slave that acts for its master, of either broker: the master is killed; consumers go on, and what becomes due arrives through another broker. Then the
master comes back."""
import time

from harness import wire
from harness.scenario import sdk

from .replicas import is_copied, own
from .transactions import send_in_transaction

#: brokerIP2: a master of Apache that starts waits for a connection from the host that its slave is registered with.
MODE = dict(brokerIP2='127.0.0.1', enableSlaveActingMaster='true', enableRemoteEscape='true', totalReplicas=2, transactionCheckInterval=1000, transactionTimeOut=2000)
UPDATE_NAMESRV = 318
#: When what waits is due: the master is killed before.
DUE_MS = 20_000
DELAY_20S = dict(messageDelayLevel='20s')
PLAIN, HALVES = 20, 8


@sdk('java-5.5.0', ours=True, deadline=400)
def our_slave_acts_for_our_master(s):
    acts(s, 'apogee', 'apogee')


@sdk('java-5.5.0', ours=True, deadline=400)
def our_slave_acts_for_a_master_of_apache(s):
    acts(s, 'apache', 'apogee')


@sdk('java-5.5.0', ours=True, deadline=400)
def a_slave_of_apache_acts_for_our_master(s):
    acts(s, 'apogee', 'apache')


def acts(s, master_kind, slave_kind):
    names = own(s, 'apogee', {}, 'names', roles='namesrv')
    names.start()
    with wire.Connection(names.namesrv) as c:
        answer = c.ask(UPDATE_NAMESRV, {}, b'supportActingMaster=true\nnotifyMinBrokerIdChanged=true\n')
        assert answer.code == 0, answer
    master = start(s, names, master_kind, 'master')
    other = start(s, names, 'apogee', 'other', brokerName='broker-b')
    # Apache's slave that acts serves no pulls without it.
    slave = start(s, names, slave_kind, 'slave', brokerRole='SLAVE', brokerId=1, slaveReadEnable=str(slave_kind == 'apache').lower())
    s.wait(lambda: members(names) == {0: master.broker, 1: slave.broker}, 'master and slave are registered', 60)
    topic = s.topic(queues=2, target=master)
    s.topic(queues=2, target=other)
    s.wait(lambda: len(brokers_of(names, topic)) == 2, 'both brokers have the topic', 30)

    producer = s.producer('producer', target=names)
    consumer = s.push('early', topic, target=names, threads=1)
    producer.send(topic, 'before', queue=0)
    consumer.received(1, 60)
    consumer.stop()
    s.wait(lambda: has_tables(slave, topic, consumer.group), 'the slave has the tables', 120)
    transactional = s.start('transaction_producer', 'tp', target=names, group=s.name('tg'))
    expected = {f'm{n}' for n in range(PLAIN)}
    for n in range(PLAIN):
        producer.send(topic, f'm{n}', queue=n % 2)
    expected |= {'delayed', 'timed'}
    producer.send(topic, 'delayed', delay=1, queue=0)
    producer.send(topic, 'timed', deliver_ms=int(time.time() * 1000) + DUE_MS, queue=1)
    halves = [send_in_transaction(transactional, topic, f'half {n}', 'unknown', ','.join(['unknown'] * 40 + ['commit']) if n else 'commit')
              for n in range(HALVES)]
    texts_of_halves = {f'half {n}' for n in range(HALVES)}
    assert any(half['broker'] == 'broker-a' for half in halves), halves
    with wire.Connection(master.broker) as c:
        s.wait(lambda: is_copied(c), 'the slave has all of it', 60)
    master.stop(kill=True)

    s.wait(lambda: members(names) == {1: slave.broker}, 'the master is gone', 60)
    route = s.wait(lambda: acting_route(names, topic, slave), 'the slave shows as the master', 30)
    assert route['perm'] & 2 == 0, route
    if slave_kind == 'apogee':
        s.wait(lambda: runtime(slave)['apogeeActingMaster'] == 'true', 'the slave acts', 30)
    consumer = s.push('late', topic, group=consumer.group, target=names, threads=1)
    consumes(s, consumer, expected, 'while the master is gone')
    if slave_kind == 'apogee':
        s.wait(lambda: int(runtime(slave)['apogeeEscapedMessages']) >= 2 + sum(half['broker'] == 'broker-a' for half in halves),
               'all that was open or due went to the other broker', 60)
    s.wait(lambda: 'half 0' in consumer.texts(), 'a transaction is finished', 90)

    master.start()
    s.wait(lambda: members(names) == {0: master.broker, 1: slave.broker}, 'the master is back', 120)
    if slave_kind == 'apogee':
        s.wait(lambda: runtime(slave)['apogeeActingMaster'] == 'false', 'the slave no longer acts', 30)
    after = {f'after {n}' for n in range(PLAIN)}
    send_to_master(s, producer, topic, after)
    consumes(s, consumer, expected | after, 'when the master is back')
    got = [text for text in consumer.texts() if text not in texts_of_halves]
    again = sorted({text for text in got if got.count(text) > 1})
    print(f'{s.case.title}: {len(expected | after)} expected, consumed again: {again}')
    if (master_kind, slave_kind) == ('apogee', 'apogee'):
        assert not {'delayed', 'timed'} & set(again), f'delivered twice: {again}'
    with wire.Connection(master.broker) as c:
        s.wait(lambda: is_copied(c), 'the slave follows again', 60)


def start(s, names, kind, name, **settings):
    target = own(s, kind, {**MODE, **DELAY_20S, **settings}, name, roles='broker', namesrv=names.namesrv)
    target.start()
    return target


def consumes(s, consumer, expected, when):
    try:
        s.wait(lambda: expected <= set(consumer.texts()), 'all is consumed', 120)
    except AssertionError as error:
        raise AssertionError(f'{when}: missing {sorted(expected - set(consumer.texts()))}') from error


def members(names):
    """The brokers of broker-a by their ids."""
    with wire.Connection(names.namesrv) as c:
        table = c.ask(wire.CLUSTER_INFO).json()['brokerAddrTable'].get('broker-a')
        return {int(number): address for number, address in table['brokerAddrs'].items()} if table else {}


def brokers_of(names, topic):
    with wire.Connection(names.namesrv) as c:
        return [data['brokerName'] for data in c.ask(wire.ROUTE, dict(topic=topic)).json()['brokerDatas']]


def acting_route(names, topic, slave):
    """The queues of broker-a, when the slave shows as its master."""
    with wire.Connection(names.namesrv) as c:
        route = c.ask(wire.ROUTE, dict(topic=topic)).json()
    addresses = {data['brokerName']: data['brokerAddrs'] for data in route['brokerDatas']}.get('broker-a', {})
    if {int(number): address for number, address in addresses.items()} != {0: slave.broker}:
        return None
    return next(data for data in route['queueDatas'] if data['brokerName'] == 'broker-a')


def has_tables(target, topic, group):
    with wire.Connection(target.broker) as c:
        topics, groups = c.ask(wire.ALL_TOPICS).json()['topicConfigTable'], c.ask(wire.ALL_GROUPS).json()['subscriptionGroupTable']
        return topic in topics and group in groups


def runtime(target):
    with wire.Connection(target.broker) as c:
        return c.ask(wire.RUNTIME_INFO).json()['table']


def send_to_master(s, producer, topic, texts):
    """A client sends to the master again when it has asked for the route."""
    for text in sorted(texts):
        def sent(text=text):
            try:
                return producer.send(topic, text, queue=0)['status'] == 'SEND_OK'
            except Exception:  # noqa: BLE001 - the driver's own kind
                return False
        s.wait(sent, f'{text} is sent to broker-a', 60)
