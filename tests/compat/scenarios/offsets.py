"""Consumer offsets (14, 15) and queue offsets (29 to 32)."""
import time

from harness import wire
from harness.scenario import raw


@raw
def consumer_offsets(s):
    topic, empty, c = s.topic(queues=2), s.topic('empty', queues=1), s.connect()
    s.send_raw(topic, 5)
    group = s.name('g')
    ask = lambda **more: c.ask(wire.QUERY_OFFSET, dict(dict(consumerGroup=group, topic=topic, queueId=0), **more))  # noqa: E731
    commit = lambda offset, **more: c.ask(wire.UPDATE_OFFSET, dict(  # noqa: E731
        dict(consumerGroup=group, topic=topic, queueId=0, commitOffset=offset), **more))
    s.saw('new group, queue with messages', ask())
    s.saw('new group, empty queue', ask(topic=empty))
    s.saw('new group, empty queue beside a full one', ask(queueId=1))
    s.saw('new group, zero not wanted', ask(setZeroIfNotFound=False))
    s.saw('new group, zero wanted', ask(setZeroIfNotFound=True))
    s.saw('unknown topic', ask(topic=s.name('nowhere')))
    s.saw('queue out of range', ask(queueId=9))
    s.saw('commit of an unknown group', commit(3))
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
    s.saw('commit', commit(3))
    s.saw('committed', ask())
    s.saw('committed, zero not wanted', ask(setZeroIfNotFound=False))
    s.saw('commit going back', commit(1))
    s.saw('after going back', ask())
    s.saw('commit beyond the end', commit(1000))
    s.saw('after beyond the end', ask())
    s.saw('commit negative', commit(-5))
    s.saw('after negative', ask())
    s.saw('commit to an unknown topic', commit(1, topic=s.name('nowhere')))
    s.saw('commit to a queue out of range', commit(1, queueId=9))
    s.saw('after a queue out of range', ask(queueId=9))
    s.saw('commit without a queue', commit(1, queueId=None))
    s.saw('commit without an offset', commit(None))
    s.saw('ask without a queue', ask(queueId=None))
    s.saw('the other queue', ask(queueId=1))
    s.saw('another group', ask(consumerGroup=s.name('g2')))


@raw
def queue_ends(s):
    topic, c = s.topic(queues=2), s.connect()
    ask = lambda code, **more: c.ask(code, dict(dict(topic=topic, queueId=0), **more))  # noqa: E731
    for state in ('empty', 'filled'):
        for code in (wire.MAX_OFFSET, wire.MIN_OFFSET, wire.EARLIEST_TIME):
            s.saw(f'{code} {state}', ask(code), None)
        s.saw(f'30 uncommitted {state}', ask(wire.MAX_OFFSET, committed=False))
        s.saw(f'29 now {state}', ask(wire.SEARCH_OFFSET, timestamp=int(time.time() * 1000) + 100000))
        s.send_raw(topic, 5)
    for code in (wire.MAX_OFFSET, wire.MIN_OFFSET, wire.EARLIEST_TIME):
        s.saw(f'{code} of an unknown topic', ask(code, topic=s.name('nowhere')))
        s.saw(f'{code} of a queue out of range', ask(code, queueId=9))
        s.saw(f'{code} of a negative queue', ask(code, queueId=-1))
        s.saw(f'{code} without a queue', ask(code, queueId=None))
    s.saw('29 of an unknown topic', ask(wire.SEARCH_OFFSET, topic=s.name('nowhere'), timestamp=1))
    s.saw('29 of a queue out of range', ask(wire.SEARCH_OFFSET, queueId=9, timestamp=1))
    s.saw('29 without a timestamp', ask(wire.SEARCH_OFFSET))
    earliest = int(ask(wire.EARLIEST_TIME).ext['timestamp'])
    assert earliest == c.ask(wire.PULL, wire.pull_header(topic, 0)).messages()[0]['stored']


@raw
def offsets_by_time(s):
    topic, c = s.topic(queues=1), s.connect()
    sent = 0
    for n in (1, 3, 1, 5, 2):  # groups that may share a millisecond
        for o in [c.start(wire.SEND, wire.send_header(topic), b'x') for _ in range(n)]:
            c.answer(o)
        sent += n
        s.visible(topic, 0, sent)
        last = c.ask(wire.PULL, wire.pull_header(topic, sent - 1)).messages()[0]['stored']
        s.wait(lambda: time.time() * 1000 > last + 4, 'another millisecond')
    times = [m['stored'] for m in c.ask(wire.PULL, wire.pull_header(topic, 0)).messages()]
    assert len(times) == sent

    def search(t, boundary=None):
        return int(c.ask(wire.SEARCH_OFFSET, dict(topic=topic, queueId=0, timestamp=t, boundaryType=boundary)).ext['offset'])

    for boundary in (None, 'LOWER', 'lower'):
        for t in sorted({t + d for t in times for d in (-1, 0, 1)}):
            expected = next((i for i, x in enumerate(times) if x >= t), sent)
            got = search(t, boundary)
            assert got == expected, f'{boundary} {t - times[0]}: {got}, not {expected}; {[x - times[0] for x in times]}'
    distinct = sorted(set(times))
    upper = {}
    for i, t in enumerate(distinct):
        upper[f'{i} exactly'] = search(t, 'UPPER') - max(j for j, x in enumerate(times) if x == t)
        if i + 1 < len(distinct) and distinct[i + 1] > t + 1:
            upper[f'{i} a little later'] = search(t + 1, 'UPPER') - max(j for j, x in enumerate(times) if x <= t)
    s.saw('UPPER relative to the last message at or before', sorted(set(upper.values())))
    s.saw('UPPER before all', search(times[0] - 1000, 'UPPER'))
    s.saw('UPPER after all', search(times[-1] + 100000, 'UPPER'))
    s.saw('LOWER before all', search(times[0] - 1000, 'LOWER'))
    s.saw('LOWER after all', search(times[-1] + 100000, 'LOWER'))
    s.saw('zero', search(0))
    s.saw('negative', search(-1))
    s.saw('unknown boundary', search(times[0], 'SIDEWAYS'))
