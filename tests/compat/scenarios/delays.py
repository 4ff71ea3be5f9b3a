"""Delay levels: what waits where, and that nothing comes before its time."""
import json
import os
import shutil
import time

from harness import targets, wire
from harness.scenario import JAVA, raw, sdk
from harness.summaries import stored

SCHEDULE = 'SCHEDULE_TOPIC_XXXX'


def waiting(s, connection, level, topic):
    """The messages for a topic that wait or waited at a level, by hand."""
    out, at = [], 0
    while True:
        answer = connection.ask(wire.PULL, wire.pull_header(SCHEDULE, at, queue=level - 1))
        if answer.code != 0:
            return out
        out += [m for m in answer.messages() if m['props'].get('REAL_TOPIC') == topic]
        for message in out:
            # When it is due, which is kept with it here and not by the Java broker.
            due = message['props'].pop('TIMER_DELIVER_MS', None)
            assert due is None or int(due) > message['born'], message
        at = int(answer.ext['nextBeginOffset'])


def not_early(message, level_seconds):
    """Stored in its own topic no earlier than the delay after its birth; the clocks are one."""
    assert message['stored'] - message['born'] >= level_seconds * 1000, message


@raw
def delayed_sends_and_what_is_stored(s):
    topic, c = s.topic(queues=2), s.connect()

    def send(label, props, **more):
        s.saw(label, without_offset(c.ask(wire.SEND, wire.send_header(topic, 1, props=props, **more), label.encode())))

    send('level 1', dict(DELAY='1', TAGS='a', UNIQ_KEY='U1', WAIT='true', KEYS='k'))
    send('a forged destination', dict(DELAY='1', REAL_TOPIC='elsewhere', REAL_QID='9'))
    send('a level wins over exact times', dict(DELAY='1', TIMER_DELAY_SEC='60', TIMER_DELAY_MS='60000', TIMER_DELIVER_MS='9999999999999'))
    send('level 0', dict(DELAY='0'))
    send('level -1', dict(DELAY='-1'))
    send('no number', dict(DELAY='x'))
    send('a transaction sent for a retry by an old client', dict(DELAY='1', TRAN_MSG='true', PGROUP='g'), reconsumeTimes=1)
    send('a half message by its flag alone', dict(DELAY='1'), sysFlag=4)
    s.wait(lambda: len(waiting(s, c, 1, topic)) == 4, 'four messages wait')
    s.visible(topic, 1, 6)
    delivered = c.ask(wire.PULL, wire.pull_header(topic, 0, queue=1)).messages()
    s.saw('waited', {m['body'].decode(): plain(m) for m in waiting(s, c, 1, topic)})
    s.saw('stored', {m['body'].decode(): plain(m) for m in delivered})
    for message in delivered:
        if 'REAL_TOPIC' in message['props']:
            not_early(message, 1)


def without_offset(answer):
    """The queue of a level is everyone's."""
    answer.ext.pop('queueOffset', None)
    return answer


def plain(message):
    """What does not change from run to run, of a message that waits or came back."""
    props = dict(message['props'])
    for name in ('UNIQ_KEY', 'ORIGIN_MESSAGE_ID'):
        if name in props and props[name] != 'U1':
            props[name] = f'<{len(props[name]) > 16}>'
    return dict(topic=message['topic'], queue=message['queue'], reconsumed=message['reconsumed'], sys_flag=message['sys_flag'],
                flag=message['flag'], prepared=message['prepared'], body=message['body'].decode(), crc_ok=message['crc_ok'], props=props)


@raw
def the_entry_of_a_waiting_message_says_when_it_is_due(s):
    topic, c = s.topic(queues=1), s.connect()
    for level in ('5', '18', '19', '2147483647'):
        answer = c.ask(wire.SEND, wire.send_header(topic, props=dict(DELAY=level, TAGS='tag')), level.encode())
        assert answer.code == 0 and answer.ext['queueId'] == '0', answer
    s.wait(lambda: len(waiting(s, c, 18, topic)) == 3 and len(waiting(s, c, 5, topic)) == 1, 'all wait')
    for level, seconds in ((5, 60), (18, 7200)):
        for message in waiting(s, c, level, topic):
            assert message['props']['DELAY'] == str(level), message
            ask = dict(topic=SCHEDULE, queueId=level - 1, index=message['offset'], count=1)
            entry = json.loads(c.ask(321, ask).body)['queueData'][0]
            assert entry['tagsCode'] == message['stored'] + seconds * 1000, (entry, message)


@raw
def batches_are_not_delayed(s):
    topic, c = s.topic(queues=1), s.connect()
    two = wire.batch_body([(b'one', {}), (b'two', {})])
    s.saw('a level for the batch', c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True, props=dict(DELAY='1'))), two))
    inside = wire.batch_body([(b'three', dict(DELAY='3')), (b'four', dict(DELAY='x'))])
    s.saw('levels inside', c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True)), inside))
    s.visible(topic, 0, 2)
    s.saw('stored', c.ask(wire.PULL, wire.pull_header(topic, 0)), stored)


@raw(deadline=120)
def levels_one_to_three_come_in_time(s):
    topic, c = s.topic(queues=1), s.connect()
    for level, seconds in ((3, 10), (2, 5), (1, 1)):
        for i in range(5):
            assert c.ask(wire.SEND, wire.send_header(topic, props=dict(DELAY=str(level))), f'{level}-{i}'.encode()).code == 0
    s.visible(topic, 0, 15)
    messages = c.ask(wire.PULL, wire.pull_header(topic, 0)).messages()
    assert [m['body'].decode() for m in messages] == [f'{level}-{i}' for level in (1, 2, 3) for i in range(5)]
    for message in messages:
        seconds = {'1': 1, '2': 5, '3': 10}[message['body'].decode()[0]]
        not_early(message, seconds)
        late = message['stored'] - message['born'] - seconds * 1000
        assert late < (200 if s.target.kind == 'apogee' else 3000), f'{late} ms late: {message}'


@raw
def many_messages_due_at_once_keep_their_order(s):
    topic, c = s.topic(queues=1), s.connect()
    frames = [wire.encode(wire.SEND, wire.send_header(topic, props=dict(DELAY='2')), b'%d' % i, flag=2) for i in range(3000)]
    c.send_bytes(b''.join(frames))
    s.visible(topic, 0, 3000)
    got, at = [], 0
    while at < 3000:
        answer = c.ask(wire.PULL, wire.pull_header(topic, at))
        got += answer.messages()
        at = int(answer.ext['nextBeginOffset'])
    for message in got:
        not_early(message, 5)
    numbers = [int(m['body']) for m in got]
    assert sorted(numbers) == list(range(3000))
    if s.target.kind == 'apogee':  # the Java broker has several threads for sends
        assert numbers == list(range(3000)), 'the order of sending was not kept'


@raw(settings={'messageDelayLevel': '1s 2s', 'flushDelayOffsetInterval': 500}, deadline=90)
def levels_of_ones_own_and_their_progress(s):
    topic, c = s.topic(queues=1), s.connect()
    answer = c.ask(45)
    s.saw('nothing yet', dict(json_of(answer.body), dataVersion=None))
    for level in ('2', '3', '18'):
        assert c.ask(wire.SEND, wire.send_header(topic, props=dict(DELAY=level)), level.encode()).code == 0
    s.visible(topic, 0, 3)
    s.saw('all are of level 2', [m['props']['DELAY'] for m in c.ask(wire.PULL, wire.pull_header(topic, 0)).messages()])
    s.wait(lambda: json_of(c.ask(45).body)['offsetTable'] == {'2': 3}, 'the level has moved')
    s.saw('progress', dict(json_of(c.ask(45).body), dataVersion=None))
    table = c.ask(wire.RUNTIME_INFO).json()['table']
    s.saw('runtime', {k: v for k, v in table.items() if k.startswith('scheduleMessageOffset')})
    path = os.path.join(s.target.work, 'store' if s.target.kind == 'apache' else 'data', 'config', 'delayOffset.json')
    s.wait(lambda: os.path.exists(path) and json_of(open(path, 'rb').read())['offsetTable'] == {'2': 3}, 'the progress is saved', 30)
    s.saw('file', open(path).read().replace(str(json_of(open(path, 'rb').read())['dataVersion']['timestamp']), '<time>'))


def json_of(body):
    return wire.lenient_json(body.decode())


@raw(settings={'messageDelayLevel': '1s 3s 2h', 'flushDelayOffsetInterval': 60000}, deadline=120)
def what_waits_survives_a_kill(s):
    """Also what is due while nobody is there; ApogeeMQ delivers nothing twice, the Java broker what it did not note."""
    topic, c = s.topic(queues=1), s.connect()
    for i in range(20):
        assert c.ask(wire.SEND, wire.send_header(topic, props=dict(DELAY='1', UNIQ_KEY=f'A{i}')), f'a{i}'.encode()).code == 0
    s.visible(topic, 0, 20)
    for i in range(20):
        assert c.ask(wire.SEND, wire.send_header(topic, props=dict(DELAY='2', UNIQ_KEY=f'B{i}')), f'b{i}'.encode()).code == 0
    s.target.restart(kill=True)
    c = s.connect()
    got = s.wait(lambda: all_of(c, topic) if {f'b{i}' for i in range(20)} <= set(texts(all_of(c, topic))) else None, 'all have come')
    for message in got:
        not_early(message, 1 if message['body'].startswith(b'a') else 3)
    assert set(texts(got)) == {f'{x}{i}' for x in 'ab' for i in range(20)}
    if s.target.kind == 'apogee':
        assert len(got) == 40, f'delivered twice: {texts(got)}'


def all_of(connection, topic):
    out, at = [], 0
    while True:
        answer = connection.ask(wire.PULL, wire.pull_header(topic, at))
        if answer.code != 0:
            return out
        out += answer.messages()
        at = int(answer.ext['nextBeginOffset'])


def texts(messages):
    return [m['body'].decode() for m in messages]


@sdk(*JAVA, 'go')
def a_delayed_message_is_not_consumed_before_its_time(s):
    topic = s.topic(queues=1)
    # With several threads it could tell of what one pull brought in another order.
    consumer = s.push('c', topic, threads=1)
    producer = s.producer()
    begin = time.time()
    for level in (3, 2, 1):
        producer.call('send', topic=topic, text=f'level{level}', delay=level)
    producer.call('send', topic=topic, text='at once')
    got = consumer.received(4)
    assert [m['text'] for m in got] == ['at once', 'level1', 'level2', 'level3'], got
    for message in got:
        seconds = {'level1': 1, 'level2': 5, 'level3': 10}.get(message['text'], 0)
        assert message['stored_ms'] / 1000 >= begin + seconds - 0.002, (message, begin)


@raw(ours=True, deadline=240)
def what_waits_goes_on_under_the_other_broker(s):
    """A directory of the Java broker is taken over, and given back to it, while messages wait that become due under the next one."""
    settings = {'messageDelayLevel': '1s 6s', 'flushDelayOffsetInterval': 500}
    sent, before = [], None
    for n, kind in enumerate(('apache', 'apogee', 'apache')):
        target = targets.KINDS[kind](os.path.join(s.work, f'{n}-{kind}'), settings)
        s.own_targets.append(target)
        if before:
            shutil.copytree(os.path.join(before.work, before.directory), os.path.join(target.work, target.directory))
        target.start()
        topic = s.topic('t', queues=1, target=target)
        with wire.Connection(target.broker) as c:
            s.wait(lambda: set(sent) <= set(texts(all_of(c, topic))), f'what waited has come under {kind}', 60)
            for level in (1, 2):
                for i in range(5):
                    sent.append(f'{kind}{n}-{level}-{i}')
                    answer = c.ask(wire.SEND, wire.send_header(topic, props=dict(DELAY=str(level))), sent[-1].encode())
                    assert answer.code == 0, answer
            s.wait(lambda: f'{kind}{n}-1-4' in texts(all_of(c, topic)), 'the first level has come', 30)
            messages = all_of(c, topic)
        assert len(messages) == len(set(texts(messages))), f'something came twice under {kind}: {texts(messages)}'
        for message in messages:
            not_early(message, int(message['props']['DELAY']) * 5 - 4)
        target.stop()
        before = target
