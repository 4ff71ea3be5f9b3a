"""Pull and lite pull consumers of the Java clients."""
from harness.scenario import JAVA, sdk


@sdk(*JAVA)
def a_pull_consumer_reads_and_commits(s):
    topic = s.topic(queues=2)
    s.send_raw(topic, 10, queue=1)
    consumer = s.start('pull_consumer', 'pull', group=s.name('g'))
    def pull(offset, **more):
        return consumer.call('pull', topic=topic, queue=1, offset=offset, **more)
    got = pull(0, max=4)
    assert got['status'] == 'FOUND' and [m['text'] for m in got['messages']] == ['m0', 'm1', 'm2', 'm3'], got
    assert (got['next'], got['min'], got['max']) == (4, 0, 10), got
    assert [m['text'] for m in pull(4)['messages']] == [f'm{i}' for i in range(4, 10)]
    end = pull(10)
    assert (end['status'], end['next']) == ('NO_NEW_MSG', 10), end
    beyond = pull(50)
    assert (beyond['status'], beyond['next']) == ('OFFSET_ILLEGAL', 10), beyond
    assert pull(0, sub='none')['status'] == 'NO_MATCHED_MSG'
    consumer.call('commit', topic=topic, queue=1, offset=7)
    s.wait(lambda: consumer.call('committed', topic=topic, queue=1)['offset'] == 7, 'the offset is committed')
    assert s.committed(s.name('g'), topic, 1) == 7
    assert consumer.call('offsets', topic=topic, queue=1)['max'] == 10


@sdk(*JAVA)
def a_blocking_pull_waits_for_the_next_message(s):
    topic = s.topic(queues=1)
    consumer = s.start('pull_consumer', 'pull', group=s.name('g'))
    import threading
    got = {}
    thread = threading.Thread(target=lambda: got.update(consumer.call('pull', topic=topic, offset=0, block=True)))
    thread.start()
    producer = s.producer()
    producer.send(topic, 'awaited')
    thread.join(15)
    assert got.get('status') == 'FOUND' and got['messages'][0]['text'] == 'awaited', got


@sdk(*JAVA)
def offsets_and_times_can_be_asked(s):
    topic = s.topic(queues=1)
    producer = s.producer()
    empty = producer.call('offsets', topic=topic, queue=0)
    assert (empty['min'], empty['max'], empty['earliest_ms']) == (0, 0, -1), empty
    s.send_raw(topic, 3)
    asked = producer.call('offsets', topic=topic, queue=0)
    assert (asked['min'], asked['max']) == (0, 3) and asked['earliest_ms'] > 1_600_000_000_000, asked
    assert producer.call('search', topic=topic, queue=0, timestamp=asked['earliest_ms']) == 0
    assert producer.call('search', topic=topic, queue=0, timestamp=asked['earliest_ms'] + 3600_000) == 3
    assert producer.call('search', topic=topic, queue=0, timestamp=0) == 0


@sdk(*JAVA)
def lite_pull_subscribes_polls_and_commits(s):
    topic, group = s.topic(queues=2), s.name('g')
    for queue in (0, 1):
        s.send_raw(topic, 5, queue=queue, prefix=f'{queue}-')
    first = s.start('lite', 'lite1', group=group, topic=topic)
    got = first.poll(10)
    assert sorted(m['text'] for m in got) == sorted(f'{q}-{n}' for q in (0, 1) for n in range(5))
    first.call('commit')
    s.wait(lambda: [s.committed(group, topic, q) for q in (0, 1)] == [5, 5], 'the offsets are committed')
    assert first.call('committed', topic=topic, queue=0)['offset'] == 5
    first.stop()
    s.send_raw(topic, 2, queue=1, prefix='new')
    second = s.start('lite', 'lite2', group=group, topic=topic)
    assert [m['text'] for m in second.poll(2)] == ['new0', 'new1']


@sdk(*JAVA)
def lite_pull_commits_by_itself(s):
    topic, group = s.topic(queues=1), s.name('g')
    s.send_raw(topic, 5)
    consumer = s.start('lite', 'lite', group=group, topic=topic, auto_commit=True)
    consumer.poll(5)
    def committed():
        consumer.call('poll', timeout_ms=200)
        return s.committed(group, topic) == 5
    s.wait(committed, 'the offset is committed')


@sdk(*JAVA)
def lite_pull_assigns_and_seeks(s):
    topic = s.topic(queues=2)
    s.send_raw(topic, 10, queue=1)
    consumer = s.start('lite', 'lite', group=s.name('g'))
    consumer.call('assign', topic=topic, queues=[1])
    consumer.call('seek', topic=topic, queue=1, offset=6)
    texts = [m['text'] for m in consumer.poll(4)]
    while texts[-1] != 'm9':
        texts += [m['text'] for m in consumer.poll(1)]  # the client may have pulled before it was told to seek
    assert texts[-4:] == ['m6', 'm7', 'm8', 'm9'], texts
    consumer.call('seek_begin', topic=topic, queue=1)
    assert [m['text'] for m in consumer.poll(10)] == [f'm{i}' for i in range(10)]
    consumer.call('seek_end', topic=topic, queue=1)
    s.send_raw(topic, 1, queue=1, prefix='end')
    assert [m['text'] for m in consumer.poll(1)] == ['end0']


@sdk(*JAVA)
def lite_pull_filters_tags(s):
    topic = s.topic(queues=1)
    for tag in 'abab':
        s.send_raw(topic, 1, tags=tag, prefix=tag)
    consumer = s.start('lite', 'lite', group=s.name('g'), topic=topic, sub='b')
    assert [m['text'] for m in consumer.poll(2)] == ['b0', 'b0']


@sdk(*JAVA)
def lite_pull_consumers_share_a_topic(s):
    topic, group = s.topic(queues=4), s.name('g')
    consumers = [s.start('lite', f'lite{i}', group=group, topic=topic) for i in range(2)]
    def shares():
        got = [sorted(c.call('lite_assignment')['queues']) for c in consumers]
        return all(len(g) == 2 for g in got) and sorted(got[0] + got[1]) == [0, 1, 2, 3]
    s.wait(shares, 'each has two queues')
