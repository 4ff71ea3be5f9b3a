"""Messages that fail: given back, given again, and in the end in the dead letter queue."""
from harness import wire
from harness.scenario import JAVA, raw, sdk
from scenarios.delays import all_of, not_early, plain, texts, waiting

CLIENTS = (*JAVA, 'go')


@raw
def a_message_is_sent_back(s):
    """36 by hand: its answers, what waits, and what comes back. The first retry waits at level 3, so levels are asked for here."""
    topic, c, group = s.topic(queues=2), s.connect(), s.name('g')
    retry, dead = f'%RETRY%{group}', f'%DLQ%{group}'
    c.ask(wire.SEND, wire.send_header(topic, 1, props=dict(TAGS='a', KEYS='k', UNIQ_KEY='U1', own='x'), flag=5), b'one')
    s.visible(topic, 1, 1)
    first = all_of_queue(c, topic, 1)[0]

    def back(label, message, **more):
        fields = dict(offset=message['log'], group=group, delayLevel=1, originMsgId='ORIGIN', originTopic=topic, unitMode=False)
        fields.update(more)
        return s.saw(label, c.ask(wire.SEND_BACK, {k: v for k, v in fields.items() if v is not None}, version=wire.VERSION_5_5))

    back('the first time', first)
    s.visible(retry, 0, 1)
    once = all_of(c, retry)[0]
    s.saw('once', plain(once))
    assert once['props']['ORIGIN_MESSAGE_ID'] == offset_id(s, first['log']), once
    assert once['born'] == first['born'] and once['born_host'] == first['born_host'] and once['store_host'] == s.target.broker
    assert once['stored'] - waiting(s, c, 1, retry)[0]['stored'] >= 1000
    back('the second time', once)
    s.visible(retry, 0, 2)
    s.saw('twice', plain(all_of(c, retry)[1]))
    assert all_of(c, retry)[1]['props']['ORIGIN_MESSAGE_ID'] == offset_id(s, first['log'])
    back('with no level', once, delayLevel=0)
    s.wait(lambda: waiting(s, c, 4, retry), 'it waits at level 4')
    s.saw('waits at level 4', plain(waiting(s, c, 4, retry)[0]))
    back('with a level above the highest', once, delayLevel=99)
    s.wait(lambda: waiting(s, c, 18, retry), 'it waits at level 18')
    back('to the dead letters', once, delayLevel=-1)
    s.visible(dead, 0, 1)
    s.saw('dead', plain(all_of(c, dead)[0]))
    back('over the limit', once, maxReconsumeTimes=1)
    back('at a limit of none', first, maxReconsumeTimes=0)
    s.visible(dead, 0, 3)
    s.saw('more dead', [plain(m) for m in all_of(c, dead)[1:]])
    back('without what is optional', first, originMsgId=None, originTopic=None, unitMode=None)
    s.visible(retry, 0, 3)
    s.saw('topics', {name: topic_of(c, name) for name in (retry, dead)})


def all_of_queue(connection, topic, queue):
    return connection.ask(wire.PULL, wire.pull_header(topic, 0, queue=queue)).messages()


def offset_id(s, log):
    host, port = s.target.broker.split(':')
    return (bytes(int(p) for p in host.split('.')) + int(port).to_bytes(4, 'big') + log.to_bytes(8, 'big')).hex().upper()


def topic_of(connection, name):
    config = connection.ask(wire.ALL_TOPICS).json()['topicConfigTable'][name]
    return {k: config[k] for k in ('readQueueNums', 'writeQueueNums', 'perm', 'order', 'topicSysFlag')}


@raw
def refused_give_backs(s):
    topic, c, group = s.topic(queues=1), s.connect(), s.name('g')
    s.send_raw(topic, 1)
    log = all_of(c, topic)[0]['log']

    def back(label, **fields):
        s.saw(label, c.ask(wire.SEND_BACK, fields))

    back('no record begins there', offset=log + 1, group=group, delayLevel=1)
    back('beyond the log', offset=1 << 40, group=group, delayLevel=1)
    back('below 0', offset=-1, group=group, delayLevel=1)
    back('a group that cannot be', offset=log, group='a b', delayLevel=1)
    back('without a group', offset=log, delayLevel=1)
    back('without an offset', group=group, delayLevel=1)
    back('without a level', offset=log, group=group)
    back('a level that is no number', offset=log, group=group, delayLevel='x')
    closed = s.name('closed')
    c.ask(wire.UPDATE_GROUP, body=dict(groupName=closed, retryQueueNums=0))
    back('a group without retries', offset=log, group=closed, delayLevel=1)
    blocked = s.name('blocked')
    s.saw('a retry topic that may not be written', c.ask(wire.UPDATE_TOPIC, dict(
        topic=f'%RETRY%{blocked}', defaultTopic='TBW102', readQueueNums=1, writeQueueNums=1, perm=4, topicFilterType='SINGLE_TAG',
        topicSysFlag=0, order=False)))
    back('is not written', offset=log, group=blocked, delayLevel=1)


@raw
def a_group_has_rules_for_retries(s):
    topic, c, group = s.topic(queues=1), s.connect(), s.name('g')
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group, retryQueueNums=3, retryMaxTimes=1)).code == 0
    s.send_raw(topic, 1)
    log = all_of(c, topic)[0]['log']
    for _ in range(30):
        assert c.ask(wire.SEND_BACK, dict(offset=log, group=group, delayLevel=1)).code == 0
    retry = f'%RETRY%{group}'

    def ends():
        return [int(c.ask(wire.MAX_OFFSET, dict(topic=retry, queueId=q)).ext['offset']) for q in range(3)]
    s.wait(lambda: sum(ends()) == 30 and all(ends()), 'all three queues of the retry topic are used')
    s.saw('topic', topic_of(c, retry))
    once = next(q for q in (all_of_queue(c, retry, q) for q in range(3)) if q)[0]
    old = dict(offset=once['log'], group=group, delayLevel=1, maxReconsumeTimes=5, originTopic=topic)
    answer = c.ask(wire.SEND_BACK, old, version=100)  # too old to say how often
    assert answer.code == 0, answer
    s.visible(f'%DLQ%{group}', 0, 1)
    s.saw('dead', [plain(m) for m in all_of(c, f'%DLQ%{group}')])


@raw
def sends_to_a_retry_topic(s):
    """What clients do that cannot give back; a group that holds locks consumes in order."""
    c, group = s.connect(), s.name('g')
    retry, dead = f'%RETRY%{group}', f'%DLQ%{group}'
    c.ask(wire.UPDATE_GROUP, body=dict(groupName=group, retryMaxTimes=3))

    def send(label, **more):
        answer = c.ask(wire.SEND, wire.send_header(retry, 0, group='CLIENT_INNER_PRODUCER',
                                                   props=dict(DELAY='1', RETRY_TOPIC='first', UNIQ_KEY=label), **more), label.encode())
        answer.ext.pop('queueOffset', None)
        s.saw(label, answer)

    send('at the limit', reconsumeTimes=5, maxReconsumeTimes=5)
    send('over the limit', reconsumeTimes=6, maxReconsumeTimes=5)
    send('at the limit of the group', reconsumeTimes=3)
    send('over the limit of the group', reconsumeTimes=4)
    s.ask(wire.LOCK, body=dict(consumerGroup=group, clientId='client', mqSet=[dict(topic='t', brokerName='broker-a', queueId=0)]))
    send('in order', reconsumeTimes=1, maxReconsumeTimes=5)
    s.ask(wire.UNLOCK, body=dict(consumerGroup=group, clientId='client', mqSet=[dict(topic='t', brokerName='broker-a', queueId=0)]))
    send('not in order', reconsumeTimes=1, maxReconsumeTimes=5)
    s.visible(retry, 0, 3)
    s.visible(dead, 0, 3)
    for name in (retry, dead):
        s.saw(f'in {name}', {m['body'].decode(): {**plain(m), 'props': m['props']} for m in all_of(c, name)})
    for message in all_of(c, retry):
        not_early(message, 1)


@raw(deadline=90)
def failures_are_counted(s):
    topic, c, group = s.topic(queues=1), s.connect(), s.name('g')
    s.send_raw(topic, 1)
    log = all_of(c, topic)[0]['log']
    for level in (1, 1, -1):
        assert c.ask(wire.SEND_BACK, dict(offset=log, group=group, delayLevel=level, originTopic=topic)).code == 0

    def minute(name, key):
        answer = c.ask(315, dict(statsName=name, statsKey=key))
        return answer.json()['statsMinute']['sum'] if answer.code == 0 else None
    s.wait(lambda: minute('SNDBCK_PUT_NUMS', f'{topic}@{group}') == 3, 'what was given back is counted', 30)
    s.wait(lambda: minute('SNDBCK2DLQ_TIMES', f'null@{topic}@{group}@SEND_BACK_TO_DLQ') == 1, 'the dead are counted', 30)
    s.wait(lambda: minute('TOPIC_PUT_NUMS', f'%RETRY%{group}') == 2, 'what was delivered is counted', 30)
    assert (minute('TOPIC_PUT_NUMS', 'SCHEDULE_TOPIC_XXXX') or 0) >= 2
    assert (minute('QUEUE_PUT_NUMS', 'SCHEDULE_TOPIC_XXXX@0') or 0) >= 2
    assert (minute('QUEUE_GET_NUMS', 'SCHEDULE_TOPIC_XXXX@0@SCHEDULE_CONSUMER') or 0) >= 2
    assert (minute('GROUP_GET_NUMS', 'SCHEDULE_TOPIC_XXXX@SCHEDULE_CONSUMER') or 0) >= 2


@sdk(*CLIENTS)
def a_message_that_fails_twice_comes_three_times(s):
    topic = s.topic(queues=1)
    consumer = s.push('c', topic, fail_first=2, retry_level=1)
    s.send_raw(topic, 1)
    got = consumer.received(3)
    assert [(m['text'], m['reconsumed']) for m in got] == [('m0', 0), ('m0', 1), ('m0', 2)], got
    assert got[2]['props']['ORIGIN_MESSAGE_ID'], got[2]
    s.wait(lambda: s.committed(consumer.group, f'%RETRY%{consumer.group}') == 2, 'the retries are committed')


@sdk(*CLIENTS, deadline=120)
def retries_wait_longer_each_time_as_the_broker_likes(s):
    topic = s.topic(queues=1)
    consumer = s.push('c', topic, fail_first=2)
    s.send_raw(topic, 1)
    got = consumer.received(3)
    waits = [after['stored_ms'] - before['stored_ms'] for before, after in zip(got, got[1:])]
    assert waits[0] >= 10_000 and waits[1] >= 30_000, waits


@sdk(*CLIENTS, deadline=120)
def after_the_last_retry_a_message_is_dead_and_can_be_read(s):
    topic = s.topic(queues=1)
    consumer = s.push('c', topic, fail_first=99, retry_level=1, max_reconsume=2)
    s.send_raw(topic, 1)
    got = consumer.received(3)
    assert [m['reconsumed'] for m in got] == [0, 1, 2], got
    dead = f'%DLQ%{consumer.group}'
    s.wait(lambda: s.routed(dead), 'the dead letter queue is routed', 30)
    reader = s.push('dead', dead, group=s.name('reader'), instance=s.name('reader'))
    letters = reader.received(1)
    assert (letters[0]['text'], letters[0]['reconsumed']) == ('m0', 3), letters
    assert letters[0]['props']['RETRY_TOPIC'] == topic, letters
    assert len(consumer.received()) == 3, 'it came once more'


@sdk(*CLIENTS)
def an_ordered_queue_is_held_up_by_the_message_that_fails(s):
    topic = s.topic(queues=1)
    consumer = s.push('c', topic, orderly=True, fail_first=2, suspend_ms=100)
    s.send_raw(topic, 3)
    got = consumer.received(5)
    assert [m['text'] for m in got] == ['m0', 'm0', 'm0', 'm1', 'm2'], got


@sdk(*JAVA)
def an_ordered_message_at_its_limit_is_dead_and_the_queue_goes_on(s):
    topic = s.topic(queues=1)
    consumer = s.push('c', topic, orderly=True, fail_first=3, suspend_ms=100, max_reconsume=2)
    s.send_raw(topic, 2)
    got = consumer.received(4)
    assert [m['text'] for m in got] == ['m0', 'm0', 'm0', 'm1'], got
    dead = f'%DLQ%{consumer.group}'
    s.wait(lambda: s.ask(wire.MAX_OFFSET, dict(topic=dead, queueId=0)).ext.get('offset') == '1', 'it is in the dead letter queue', 30)
    with wire.Connection(s.target.broker) as c:
        assert texts(all_of(c, dead)) == ['m0']
