"""The broker stops, is killed and comes back under running clients."""
import time

from harness import wire
from harness.scenario import JAVA, raw, sdk

from .groups import Sender, everything


@sdk(*JAVA, deadline=300, settings={})
def clients_go_on_after_a_restart_of_the_broker(s):
    topic, group = s.topic(queues=4), s.name('g')
    consumer = s.push('c', topic, group=group)
    sender = Sender(s, topic, 4)
    consumer.received(50)
    s.target.restart()
    count = len(sender.sent)
    s.wait(lambda: len(sender.sent) > count + 50, 'sends go on')
    sent = sender.stop()
    everything(s, sent, lambda: set(consumer.texts()))
    producer = s.producer()
    assert producer.send(topic, 'after')['status'] == 'SEND_OK'


@sdk('java-5.5.0', deadline=300, settings={'flushDiskType': 'SYNC_FLUSH'})
def ordered_consumption_holds_through_a_kill_of_the_broker(s):
    topic, group = s.topic(queues=4), s.name('g')
    consumer = s.push('c', topic, group=group, orderly=True)
    sender = Sender(s, topic, 4)
    consumer.received(40)
    s.target.restart(kill=True)
    count = len(sender.sent)
    s.wait(lambda: len(sender.sent) > count + 50, 'sends go on')
    sent = sender.stop()
    everything(s, sent, lambda: set(consumer.texts()))
    # First deliveries are in order in every queue, whatever was given twice.
    seen = {}
    for m in consumer.received():
        last = seen.get(m['queue'], -1)
        assert m['offset'] <= last + 1, f'queue {m["queue"]}: {m["offset"]} after {last}, something was skipped'
        seen[m['queue']] = max(last, m['offset'])


@sdk('go', 'node', 'cpp', deadline=300, settings={})
def a_client_goes_on_after_a_restart_of_the_broker(s):
    topic = s.topic(queues=2)
    consumer, producer = s.push('c', topic), s.producer()
    producer.send(topic, 'before')
    consumer.received(1)
    s.target.restart()
    sent = []
    def sends():
        try:
            producer.send(topic, f'after{len(sent)}')
            sent.append(f'after{len(sent)}')
        except Exception:  # noqa: BLE001 - the library reconnects in its own time
            time.sleep(0.2)
        return len(sent) >= 5
    s.wait(sends, 'sends go on', 60)
    s.wait(lambda: set(sent) <= set(consumer.texts()), 'what was sent arrives', 120)


@sdk('java-5.5.0', deadline=300, settings={})
def offsets_and_topics_are_there_after_a_restart(s):
    topic, group = s.topic(queues=2), s.name('g')
    s.send_raw(topic, 10, queue=1)
    consumer = s.push('c', topic, group=group)
    consumer.received(10)
    s.wait(lambda: s.committed(group, topic, 1) == 10, 'the offset is committed')
    consumer.stop()
    s.target.restart()
    assert s.committed(group, topic, 1) == 10
    assert s.routed(topic)
    s.send_raw(topic, 3, queue=1, prefix='n')
    second = s.push('c2', topic, group=group)
    assert sorted(second.texts(3)) == ['n0', 'n1', 'n2']


def _goes_on(s):
    """Offsets in acknowledgements, in stored messages and in the queue are one and the same, over kills and stops."""
    topic, sent = s.topic(queues=2), [[], []]
    for how in ('kill', 'stop', 'kill', 'kill'):
        with wire.Connection(s.target.broker) as c:
            for i in range(40):
                queue = i % 2
                answer = c.ask(wire.SEND, wire.send_header(topic, queue), f'{how}-{len(sent[queue])}'.encode())
                assert answer.code == 0, answer
                assert int(answer.ext['queueOffset']) == len(sent[queue]), (how, answer, len(sent[queue]))
                sent[queue].append(f'{how}-{len(sent[queue])}')
        s.target.restart(kill=how == 'kill')
        s.wait(lambda: s.routed(topic), f'{topic} is routed')
        for queue in (0, 1):
            got, offset = [], 0
            while offset < len(sent[queue]):
                answer = s.ask(wire.PULL, wire.pull_header(topic, offset, queue=queue))
                assert answer.code == 0, answer
                assert [m['offset'] for m in answer.messages()] == list(range(offset, int(answer.ext['nextBeginOffset']))), answer
                got += [m['body'].decode() for m in answer.messages()]
                offset = int(answer.ext['nextBeginOffset'])
            assert got == sent[queue], (how, got[-5:], sent[queue][-5:])


@raw(settings={'flushDiskType': 'SYNC_FLUSH'}, deadline=400)
def queue_offsets_go_on_after_a_kill_with_sync_flush(s):
    _goes_on(s)


@raw(settings={}, deadline=400)
def queue_offsets_go_on_after_a_kill(s):
    """Of the process: what it had written is with the kernel."""
    _goes_on(s)
