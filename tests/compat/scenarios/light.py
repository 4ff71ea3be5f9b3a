"""Light message queues (%LMQ%): a message is also in the queues that its property INNER_MULTI_DISPATCH names."""
import os
import shutil
import subprocess

from harness import targets, wire
from harness.scenario import raw

from .timers import plain

LIGHT = {'enableLmq': 'true', 'enableMultiDispatch': 'true'}
QUOTA = {**LIGHT, 'enableLmqQuota': 'true', 'maxLmqConsumeQueueNum': 2}
READER = '%LMQ%reader'


def send(c, topic, text, queues, **props):
    named = dict(INNER_MULTI_DISPATCH=','.join(queues)) if queues else {}
    return c.ask(wire.SEND, wire.send_header(topic, props={**named, **props}), text.encode())


def pull(c, name, offset=0, **more):
    return c.ask(wire.PULL, wire.pull_header(name, offset, group=READER, **more))


def end(c, code, queue):
    return int(c.ask(code, dict(topic=queue, queueId=0)).ext['offset'])


def everything(c, queue, at=0):
    found = []
    while True:
        answer = pull(c, queue, at)
        if answer.code != 0:
            return found
        found += answer.messages()
        at = int(answer.ext['nextBeginOffset'])


def has(s, c, queue, count):
    s.wait(lambda: end(c, wire.MAX_OFFSET, queue) >= count, f'{count} messages are in {queue}', 30)


@raw(settings=LIGHT)
def light_queues_are_sent_to_and_pulled(s):
    topic, c = s.topic(queues=1), s.connect()
    a, b, lite = f'%LMQ%{topic}-a', f'%LMQ%{topic}-b', f'%LMQ%${topic}$lite'
    s.saw('to one', send(c, topic, 'one', [a], TAGS='x'))
    s.saw('to two', send(c, topic, 'two', [a, b], TAGS='y'))
    s.saw('to none', send(c, topic, 'none', []))
    s.saw('to a lite topic', c.ask(wire.SEND, wire.send_header(topic, props={'__LITE_TOPIC': 'lite'}), b'lite'))
    s.saw('an end of its own', send(c, topic, 'three', [b], INNER_MULTI_QUEUE_OFFSET='77'))
    s.saw('a comma too many', send(c, topic, 'four', [b, '']))
    for queue, count in ((a, 2), (b, 3), (lite, 1)):
        has(s, c, queue, count)
    names = {a: 'a', b: 'b', lite: 'lite', topic: 'topic'}

    def stored(message):
        seen = plain(message)
        seen['topic'] = names[seen['topic']]
        named = seen['props'].pop('INNER_MULTI_DISPATCH', '')
        seen['dispatch'] = [names.get(name, name) for name in named.split(',')]
        return seen
    for queue in (a, b, lite):
        s.saw(f'in {names[queue]}', [stored(m) for m in everything(c, queue)])
        s.saw(f'ends of {names[queue]}', [end(c, code, queue) for code in (wire.MIN_OFFSET, wire.MAX_OFFSET)])
    s.saw('by tag', [m['body'].decode() for m in pull(c, a, sub='y').messages()])
    s.saw('beyond', pull(c, a, 9))
    s.saw('at the end', pull(c, a, 2))
    s.saw('another queue of it', pull(c, a, queue=1))
    s.saw('one that has no message', pull(c, '%LMQ%none'))


@raw(settings=LIGHT)
def offsets_in_light_queues(s):
    topic, c = s.topic(queues=1), s.connect()
    queue = f'%LMQ%{topic}'
    assert send(c, topic, 'one', [queue]).code == 0
    has(s, c, queue, 1)
    place = dict(consumerGroup=READER, topic=queue, queueId=0)
    s.saw('before', c.ask(wire.QUERY_OFFSET, place))
    s.saw('committed', c.ask(wire.UPDATE_OFFSET, dict(place, commitOffset=1)))
    s.saw('after', c.ask(wire.QUERY_OFFSET, place))
    s.saw('of a group that does not exist', c.ask(wire.UPDATE_OFFSET, dict(place, consumerGroup=s.name('none'), commitOffset=1)))


@raw(settings=LIGHT)
def a_parked_pull_of_a_light_queue_is_answered(s):
    topic, c, other = s.topic(queues=1), s.connect(), s.connect()
    queue = f'%LMQ%{topic}'
    assert send(other, topic, 'first', [queue]).code == 0
    has(s, other, queue, 1)
    waits = c.start(wire.PULL, wire.pull_header(queue, 1, group=READER, flags=wire.SUBSCRIPTION | wire.SUSPEND, suspend=15000))
    assert send(other, topic, 'second', [queue]).code == 0
    answer = c.answer(waits, 15)
    assert (answer.code, [m['body'] for m in answer.messages()]) == (0, [b'second']), answer


@raw(settings=QUOTA)
def a_quota_of_light_queues(s):
    topic, c = s.topic(queues=1), s.connect()
    for n in range(2):
        assert send(c, topic, f'{n}', [f'%LMQ%{topic}-{n}']).code == 0
        has(s, c, f'%LMQ%{topic}-{n}', 1)
    s.saw('one more', send(c, topic, 'x', [f'%LMQ%{topic}-2']))
    s.saw('one that is there', send(c, topic, 'x', [f'%LMQ%{topic}-1']).code)


@raw(ours=True, deadline=240)
def a_directory_with_light_queues_moves_here_and_back(s):
    """Each broker goes on where the other has left: messages, ends and offsets."""
    topic, sent, before = s.name('t'), [], None
    queues = [f'%LMQ%{topic}-{n}' for n in range(5)] + [f'%LMQ%${topic}$lite']
    for n, kind in enumerate(('apache', 'apogee', 'apache', 'apogee', 'apogee')):
        target = targets.KINDS[kind](os.path.join(s.work, f'{n}-{kind}'), LIGHT)
        s.own_targets.append(target)
        if before:
            if before.kind == 'apogee' and kind == 'apache':
                exported = subprocess.run([targets.apogee_binary(), 'store', 'export-light', os.path.join(before.work, before.directory), '-c',
                                           os.path.join(before.work, 'broker.conf')], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                assert exported.returncode == 0, exported.stdout[-3000:]
            shutil.move(os.path.join(before.work, before.directory), os.path.join(target.work, target.directory))
        target.start()
        with wire.Connection(target.broker) as c:
            if n == 0:
                assert c.ask(wire.UPDATE_TOPIC, dict(topic=topic, defaultTopic='TBW102', readQueueNums=1, writeQueueNums=1, perm=6,
                                                     topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False)).code == 0
            contents(s, c, queues, sent)
            for place, queue in enumerate(queues):
                committed = c.ask(wire.QUERY_OFFSET, dict(consumerGroup=READER, topic=queue, queueId=0, setZeroIfNotFound=False))
                # A kill may lose the last commits, as on both brokers.
                allowed = [offset(last, place) for last in ((n - 1, n - 2) if n == 4 else (n - 1,))]
                assert n == 0 or int(committed.ext.get('offset', -1)) in allowed, (kind, queue, committed)
            for turn in range(20):
                to = [queues[turn % 6], queues[(turn * 7 + 3) % 6]] if turn % 3 else [queues[turn % 6]]
                to = list(dict.fromkeys(to))
                text = f'{n}-{turn}'
                assert send(c, topic, text, to).code == 0
                sent.append((text, to))
            contents(s, c, queues, sent)
            for place, queue in enumerate(queues):
                assert c.ask(wire.UPDATE_OFFSET, dict(consumerGroup=READER, topic=queue, queueId=0, commitOffset=offset(n, place))).code == 0
        target.stop(kill=n == 3)
        before = target


def offset(station, place):
    """An offset that the queue has by then: one behind its end does not survive a kill."""
    return 3 * station + place % 3


def contents(s, c, queues, sent):
    for queue in queues:
        expected = [text for text, to in sent if queue in to]
        has(s, c, queue, len(expected))
        found = [m['body'].decode() for m in everything(c, queue)]
        assert found == expected, (queue, found, expected)
