"""Producers that are faster than their consumers: what a queue is for.

OVERLOAD_SECONDS=30 ./run --only a_consumer_ten_times_too_slow --times      the full size: six minutes, 300,000 messages; for a release build
"""
import os
import threading

from harness.scenario import sdk

from .groups import Sender, after_stop, everything

SECONDS = int(os.environ.get('OVERLOAD_SECONDS', '3'))
RATE, QUEUES, DELAY_MS = 10_000, 4, 4  # a consumer thread a queue, 4 ms a message: 1,000 a second
SIZE = 1024
#: What the broker may keep of the log in its own memory, 4 MiB for its end and as much for older parts; the messages are 31 MB, ten times as much at full size.
CACHES = dict(apogeeTailCacheBytes=4 << 20, apogeeReadBlockBytes=4 << 20)
#: Growth of the process's own memory, not the page cache, once it is under load.
GROWTH_MB = 24


class Memory:
    """The anonymous memory of a process, looked at ten times a second: the highest value between `begin` and `end`."""

    def __init__(self, pid):
        self.path, self.over, self.first, self.highest = f'/proc/{pid}/status', threading.Event(), None, 0
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def now(self):
        with open(self.path) as f:
            return next(int(line.split()[1]) / 1024 for line in f if line.startswith('RssAnon'))

    def begin(self):
        self.first = self.highest = self.now()
        self.thread.start()

    def _watch(self):
        while not self.over.wait(0.1):
            self.highest = max(self.highest, self.now())

    def end(self):
        self.over.set()
        self.thread.join()
        return self.highest - self.first


@sdk('java-5.5.0', deadline=180 + 15 * SECONDS, settings=CACHES, ours=True)
def a_consumer_ten_times_too_slow_refuses_nothing_and_gets_all_in_order(s):
    """10,000 messages a second against 1,000: nothing is refused, the broker's memory stays flat, each queue keeps its order."""
    topic, count = s.topic(queues=QUEUES), RATE * SECONDS
    consumer = s.push('c', topic, driver=s.process(), orderly=True, delay_ms=DELAY_MS, brief=True)
    sender = s.producer(driver=s.process(), retries=0, timeout_ms=60_000, api_timeout_ms=60_000)
    warm = sender.call('send_at_rate', topic=topic, queues=QUEUES, rate=RATE // 10, count=RATE // 10, size=SIZE, prefix='w', timeout=60)
    assert warm == dict(warm, acknowledged=RATE // 10, failed={}), warm
    memory = Memory(s.target.process.pid)
    memory.begin()
    load = sender.call('send_at_rate', topic=topic, queues=QUEUES, rate=RATE, count=count, size=SIZE, prefix='m', timeout=60 + 10 * SECONDS)
    assert load == dict(load, acknowledged=count, failed={}), load
    behind = count + RATE // 10 - len(consumer.received())
    assert behind > count // 2, f'the consumer keeps up, only {behind} of {count} messages wait: this tests nothing'
    got, last = 0, {}
    expected = {q: [f'w{i}' for i in range(q, RATE // 10, QUEUES)] + [f'm{i}' for i in range(q, count, QUEUES)] for q in range(QUEUES)}
    while got < count + RATE // 10:
        messages = consumer.received(min(got + RATE // 10, count + RATE // 10), start=got)
        for m in messages:
            at = last.get(m['queue'], -1) + 1
            assert m['offset'] == at and m['text'].split(' ')[0] == expected[m['queue']][at], (m, at)
            last[m['queue']] = at
        got += len(messages)
    assert got == sum(len(texts) for texts in expected.values()), got
    growth = memory.end()
    assert growth < GROWTH_MB, f'memory grew by {growth:.0f} MB while {count} messages of {SIZE} bytes came, from {memory.first:.0f} MB'
    s.slow.append(f'{count} messages sent in {load["ms"] / 1000:.1f} s, {behind} behind at its end; memory {memory.first:.0f} MB + {growth:.1f} MB')


@sdk('java-5.5.0', 'java-4.9.8', 'go', 'node', 'cpp', deadline=120)
def a_consumer_stopped_for_a_while_misses_nothing(s):
    """Messages come before, while and after its group has no consumer at all."""
    topic, group = s.topic(queues=4), s.name('g')
    first = s.push('first', topic, group=group)
    sender = Sender(s, topic, 4)
    first.received(40)
    first.stop()
    before = set(after_stop(first))
    s.wait(lambda: not s.consumers(group), 'the group has no consumer')
    count = len(sender.sent)
    s.wait(lambda: len(sender.sent) > count + 100, 'messages come while nobody consumes')
    second = s.push('second', topic, group=group, instance=s.name('second'))
    count = len(sender.sent)
    s.wait(lambda: len(sender.sent) > count + 20, 'messages come while it consumes again')
    everything(s, sender.stop(), lambda: before | set(second.texts()))
