"""Order locks: 41 and 42."""
import time

from harness import wire
from harness.scenario import raw


def queues(answer):
    return sorted(q['queueId'] for q in answer.json().get('lockOKMQSet', []))


def ask(c, code, topic, group, client, ids, **more):
    body = dict(consumerGroup=group, clientId=client, mqSet=[dict(topic=topic, brokerName='broker-a', queueId=q) for q in ids], **more)
    return c.ask(code, {}, body)


@raw
def locks_belong_to_one_client(s):
    topic, c, group = s.topic(queues=4), s.connect(), s.name('g')
    s.saw('first locks two', ask(c, wire.LOCK, topic, group, 'first', [0, 1]), queues)
    s.saw('first again', ask(c, wire.LOCK, topic, group, 'first', [0, 1]), queues)
    s.saw('second wants three', ask(c, wire.LOCK, topic, group, 'second', [0, 1, 2]), queues)
    s.saw('first wants all', ask(c, wire.LOCK, topic, group, 'first', [0, 1, 2, 3]), queues)
    s.saw('another group', ask(c, wire.LOCK, topic, s.name('g2'), 'second', [0, 1, 2, 3]), queues)
    s.saw('second unlocks what is not its own', ask(c, wire.UNLOCK, topic, group, 'second', [0]))
    s.saw('still locked', ask(c, wire.LOCK, topic, group, 'second', [0]), queues)
    s.saw('first unlocks', ask(c, wire.UNLOCK, topic, group, 'first', [0]))
    s.saw('second gets it', ask(c, wire.LOCK, topic, group, 'second', [0]), queues)
    s.saw('unlock of what was never locked', ask(c, wire.UNLOCK, topic, s.name('g3'), 'x', [0]))
    s.saw('lock of nothing', ask(c, wire.LOCK, topic, group, 'first', []), queues)
    s.saw('lock of a topic that is not there', ask(c, wire.LOCK, s.name('nowhere'), group, 'first', [0]), queues)
    s.saw('only this broker', ask(c, wire.LOCK, topic, s.name('g4'), 'first', [0], onlyThisBroker=True), queues)
    c.oneway(wire.UNLOCK, {}, __import__('json').dumps(dict(consumerGroup=group, clientId='second', mqSet=[
        dict(topic=topic, brokerName='broker-a', queueId=0)])).encode())
    s.wait(lambda: queues(ask(c, wire.LOCK, topic, group, 'third', [0])) == [0], 'a one-way unlock works')


@raw(deadline=110)
def a_lock_expires_after_a_minute(s):
    """A client that dies does not unlock; its lock ends 60 s after the last renewal."""
    topic, c, group = s.topic(queues=2), s.connect(), s.name('g')
    ask(c, wire.LOCK, topic, group, 'dead', [0, 1])
    begin = time.monotonic()
    assert queues(ask(c, wire.LOCK, topic, group, 'heir', [0, 1])) == []
    s.wait(lambda: time.monotonic() - begin > 15, 'a quarter of a minute')
    renewed = time.monotonic()
    assert queues(ask(c, wire.LOCK, topic, group, 'dead', [1])) == [1]
    s.wait(lambda: queues(ask(c, wire.LOCK, topic, group, 'heir', [0])) == [0], 'the lock expires', 80)
    first = time.monotonic() - begin
    s.wait(lambda: queues(ask(c, wire.LOCK, topic, group, 'heir', [1])) == [1], 'the renewed lock expires', 80)
    second = time.monotonic() - renewed
    assert 58 < first < 65 and 58 < second < 65, (first, second)
