"""A data directory goes from the Java broker to this one and back, with everything that is in it.

`DIRECTORY_MESSAGES=500000` makes it as many messages at each station, of which there are five.
"""
import base64
import collections
import json
import os
import shutil
import subprocess
import time

from harness import targets, wire
from harness.scenario import raw

from .transactions import CHECK, COMMIT, HALF, ROLLBACK, UNKNOWN, Half, all_of, send_half, texts

MESSAGES = int(os.environ.get('DIRECTORY_MESSAGES', 4000))
DEADLINE = 300 + MESSAGES // 300
BATCH, QUEUES, GROUPS = 200, 4, 2
SETTINGS = {
    'messageDelayLevel': '1s 2h', 'flushDelayOffsetInterval': 300, 'flushConsumerOffsetInterval': 300,
    # An answer of a pull may hold many: this reads everything at every station.
    'maxTransferCountOnMessageInMemory': 1024, 'maxTransferCountOnMessageInDisk': 1024,
    'maxTransferBytesOnMessageInMemory': 1 << 20, 'maxTransferBytesOnMessageInDisk': 1 << 20,
}
#: Who has the directory, and how it lets go of it: a kill, or a stop in order.
STATIONS = (('apache', False), ('apogee', False), ('apache', True), ('apogee', True), ('apogee', False), ('apache', False))


@raw(ours=True, deadline=DEADLINE)
def a_directory_of_apache_5_5_moves_here_and_back(s):
    moves(s, None)


@raw(ours=True, deadline=DEADLINE)
def a_directory_of_apache_4_9_moves_here_and_back(s):
    moves(s, '4.9.7')  # the last 4.9 whose broker is on Maven Central


@raw(ours=True, deadline=DEADLINE)
def a_directory_with_extended_queue_entries_moves_here_and_back(s):
    moves(s, None, enableConsumeQueueExt=True)


@raw(ours=True, deadline=240)
def a_directory_with_queues_that_are_not_here_is_refused(s):
    """A start and a check refuse a batch queue, with the name of its topic."""
    batches = s.name('b')
    java = targets.Apache(os.path.join(s.work, 'batches'))
    s.own_targets.append(java)
    java.start()
    with wire.Connection(java.broker) as c:
        made = c.ask(wire.UPDATE_TOPIC, dict(topic=batches, defaultTopic='TBW102', readQueueNums=1, writeQueueNums=1, perm=6,
                                             topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False, attributes='+queue.type=BatchCQ'))
        assert made.code == 0, made
        body = wire.batch_body([(b'one', {}), (b'two', {})])
        answer = c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(batches, 0, props=dict(UNIQ_KEY='u'), batch=True)), body)
        assert answer.code == 0, answer
        s.visible(batches, 0, 2, c)
    java.stop()
    for arguments in (['store', 'check', os.path.join(java.work, java.directory)],
                      ['broker', '-n', '127.0.0.1:1', '--data', os.path.join(java.work, java.directory)]):
        refused = subprocess.run([targets.apogee_binary(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert refused.returncode == 1 and f'which this version cannot read: {batches}.' in refused.stdout, refused.stdout
    java.start()


@raw(ours=True, deadline=240)
def filters_move_here_and_back(s):
    """Each broker keeps the SQL filters that the other registered."""
    topic, told, before = s.name('t'), {}, None
    for n, kind in enumerate(('apogee', 'apache', 'apogee', 'apache')):
        target = targets.KINDS[kind](os.path.join(s.work, f'{n}-{kind}'), dict(enablePropertyFilter='true'))
        s.own_targets.append(target)
        if before:
            shutil.move(os.path.join(before.work, before.directory), os.path.join(target.work, target.directory))
        target.start()
        group = f'group-{n}'
        told[group] = f"a BETWEEN {n} AND 3 AND b = 'grün'"
        with wire.Connection(target.broker) as c:
            beat = wire.heartbeat('client', consumers=[dict(group=group, subs={topic: f'SQL92:{told[group]}'})])
            assert c.ask(wire.HEARTBEAT, body=beat).code == 0
        target.stop()
        with open(os.path.join(target.work, target.directory, 'config/consumerFilter.json'), encoding='utf-8') as file:
            kept = json.load(file)['filterDataByTopic'][topic]['groupFilterData']
        assert {group: filter['expression'] for group, filter in kept.items()} == told, (kind, kept)
        bits = {group: filter['bloomFilterData'] for group, filter in kept.items()}
        assert not before or bits.items() >= before.bits.items(), (bits, before.bits)
        target.bits, before = bits, target


def moves(s, version, **settings):
    """`settings`: of the Java broker only."""
    contents, before = Contents(s.name('t')), None
    for n, (kind, kill) in enumerate(STATIONS):
        more, own = (dict(version=version), settings) if kind == 'apache' else ({}, {})
        target = targets.KINDS[kind](os.path.join(s.work, f'{n}-{kind}'), {**SETTINGS, **own}, **more)
        s.own_targets.append(target)
        if before:
            shutil.move(os.path.join(before.work, before.directory), os.path.join(target.work, target.directory))
        target.start()
        with wire.Connection(target.broker, timeout=60) as c:
            if before:
                contents.are_there(s, c)
            if n < len(STATIONS) - 1:
                contents.add(s, c, n)
            # What a kill must not lose here is what was saved in time: offsets are saved three times a second.
            s.wait(lambda: contents.are_saved(target), 'offsets are saved', 60)
        target.stop(kill=kill)
        check(target)
        before = target


def check(target):
    """`apogeemq store check` finds no damage, in a directory of either broker, stopped or killed."""
    conf = os.path.join(target.work, 'broker.conf')
    done = subprocess.run([targets.apogee_binary(), 'store', 'check', os.path.join(target.work, target.directory), '-c', conf],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


class Contents:
    """What was put into the directory and is to be found in it."""

    def __init__(self, topic):
        self.topic, self.sent, self.delayed, self.waiting = topic, [[] for _ in range(QUEUES)], [], 0
        self.offsets, self.groups, self.perms = {}, {}, {}

    def add(self, s, c, n):
        """Messages of station `n`, committed offsets, a group and a topic with settings of their own, messages that wait."""
        if n == 0:
            self.set_topic(c, self.topic, 6)
        self.set_topic(c, f'{self.topic}-{n}', 4)
        self.set_group(c, f'{self.topic}-g{n}', 3 + n)
        for first in range(0, MESSAGES, BATCH):
            queue = first // BATCH % QUEUES
            texts = [f'{n}-{i}' for i in range(first, min(first + BATCH, MESSAGES))]
            body = wire.batch_body([(text.encode(), dict(KEYS=f'k{text}', UNIQ_KEY=f'u{text}', TAGS=tag_of(text))) for text in texts])
            answer = c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(self.topic, queue, batch=True)), body)
            assert answer.code == 0 and answer.ext['queueOffset'].split(',')[0] == str(len(self.sent[queue])), answer
            self.sent[queue] += texts
        for level, text in ((1, f'delayed-{n}'), (2, f'waits-{n}')):
            for _ in range(5):
                assert c.ask(wire.SEND, wire.send_header(f'{self.topic}-{level}', props=dict(DELAY=str(level))), text.encode()).code == 0
        self.delayed += [f'delayed-{n}'] * 5
        self.waiting += 5
        self.all_are_visible(s, c)
        for g in range(GROUPS):
            name = f'{self.topic}-c{g}'
            self.set_group(c, name, 16)
            for queue in range(QUEUES):
                offset = len(self.sent[queue]) // (g + 2)
                answer = c.ask(wire.UPDATE_OFFSET, dict(consumerGroup=name, topic=self.topic, queueId=queue, commitOffset=offset))
                assert answer.code == 0, answer
                self.offsets[name, queue] = offset

    def set_topic(self, c, topic, perm):
        self.perms[topic] = perm
        answer = c.ask(wire.UPDATE_TOPIC, dict(topic=topic, defaultTopic='TBW102', readQueueNums=QUEUES, writeQueueNums=QUEUES, perm=perm,
                                               topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False))
        assert answer.code == 0, answer

    def set_group(self, c, group, times):
        self.groups[group] = times
        assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group, retryMaxTimes=times)).code == 0

    def all_are_visible(self, s, c):
        for queue, texts in enumerate(self.sent):
            s.visible(self.topic, queue, len(texts), c)
        s.visible('SCHEDULE_TOPIC_XXXX', 1, self.waiting, c)
        s.visible(f'{self.topic}-1', 0, len(self.delayed), c)

    def are_saved(self, target):
        """Whether the broker's files say what was committed last."""
        def saved(name):
            with open(os.path.join(target.work, target.directory, 'config', name)) as f:
                return wire.lenient_json(f.read())['offsetTable']
        committed, delays = saved('consumerOffset.json'), saved('delayOffset.json')
        return (all(committed.get(f'{self.topic}@{group}', {}).get(str(queue)) == offset for (group, queue), offset in self.offsets.items())
                and delays.get('1') == len(self.delayed))

    def are_there(self, s, c):
        self.all_are_visible(s, c)
        for queue, texts in enumerate(self.sent):
            assert read(c, self.topic, queue) == texts, f'queue {queue} has something else'
            assert read(c, self.topic, queue, 'odd') == [t for t in texts if tag_of(t) == 'odd'], f'queue {queue} by tag'
        assert read(c, f'{self.topic}-1', 0) == self.delayed, 'delayed messages are missing or came twice'
        assert c.ask(wire.MAX_OFFSET, dict(topic='SCHEDULE_TOPIC_XXXX', queueId=1)).ext['offset'] == str(self.waiting)
        assert read(c, f'{self.topic}-2', 0) == [], 'what waits for two hours has come'
        for (group, queue), offset in self.offsets.items():
            answer = c.ask(wire.QUERY_OFFSET, dict(consumerGroup=group, topic=self.topic, queueId=queue))
            assert answer.ext.get('offset') == str(offset), (group, queue, offset, answer)
        groups = c.ask(wire.ALL_GROUPS).json()['subscriptionGroupTable']
        assert {g: groups[g]['retryMaxTimes'] for g in self.groups} == self.groups
        topics = c.ask(wire.ALL_TOPICS).json()['topicConfigTable']
        assert {t: topics[t]['perm'] for t in self.perms} == self.perms
        for texts in self.sent:
            for text in (texts[0], texts[len(texts) // 2], texts[-1]):
                for word in (f'k{text}', f'u{text}'):
                    found = c.ask(wire.QUERY_MESSAGE, dict(topic=self.topic, key=word, maxNum=8, beginTimestamp=0, endTimestamp=1 << 62))
                    assert [m['body'].decode() for m in found.messages()] == [text], (word, found)


#: Who has the directory, whether it is killed, and its settings. The Java broker that is killed asks nobody and writes no removal marks.
ASKS = dict(transactionTimeOut=1000, transactionCheckInterval=1000, transactionCheckMax=1_000_000)
OWNERS = (('apache', False, dict(ASKS, transactionOpBatchInterval=100)), ('apogee', False, ASKS),
          ('apache', True, dict(transactionCheckInterval=3_600_000, transactionOpBatchInterval=3_600_000)), ('apogee', True, ASKS),
          ('apogee', False, ASKS), ('apache', False, dict(ASKS, transactionOpBatchInterval=100)))


@raw(ours=True, deadline=400)
def open_transactions_move_here_and_back(s):
    """Each ends as its producer said, wherever it ends: committed ones are there once, the others never."""
    topic, before, book = s.name('t'), None, Book()
    for n, (kind, kill, settings) in enumerate(OWNERS):
        target = targets.KINDS[kind](os.path.join(s.work, f'{n}-{kind}'), settings)
        s.own_targets.append(target)
        if before:
            shutil.move(os.path.join(before.work, before.directory), os.path.join(target.work, target.directory))
        target.start()
        with wire.Connection(target.broker, timeout=60) as c:
            asks = settings['transactionCheckInterval'] <= 1000
            if asks:
                assert c.ask(wire.HEARTBEAT, body=wire.heartbeat('client', producers=['pg'])).code == 0
                book.settle(s, c, topic, kind, n)
            elif kind == 'apache':
                s.wait(lambda: set(book.expected()) - set(book.left) <= set(texts(all_of(c, topic))), 'committed messages are there')
            book.open_some(s, c, topic, n)
            book.there = collections.Counter(texts(all_of(c, topic)))
        target.stop(kill=kill)
        check(target)
        before = target


#: Who has the directory, and whether it is killed. What waits longer than four seconds is written again and again.
KEEPERS = (('apache', False), ('apogee', False), ('apache', True), ('apogee', True), ('apogee', False), ('apache', False))
TIMERS = dict(timerRollWindowSlot=4, timerFlushIntervalMs=300, recallMessageEnable='true')


@raw(ours=True, deadline=600)
def timers_move_here_and_back(s):
    timers_move(s, TIMERS)


@raw(ours=True, deadline=600)
def timers_of_a_wheel_in_snapshots_move_here_and_back(s):
    """The Java broker that is killed has not made its first snapshot: only its timer log has what it took."""
    timers_move(s, TIMERS, lambda kill: dict(timerWheelSnapshotFlush='true', timerWheelSnapshotIntervalMs=3_600_000 if kill else 1000))


@raw(ours=True, deadline=600)
def timers_of_another_precision_move_here_and_back(s):
    timers_move(s, dict(TIMERS, timerPrecisionMs=100, timerRollWindowSlot=40))


def timers_move(s, settings, of_java=None):
    """What waits is delivered wherever it becomes due: none early, and nothing here that was delivered before, by whichever broker.
    `of_java`: settings of the Java broker only, by whether it is killed."""
    topic, before, timers = s.name('t'), None, Timers(exact=of_java is None)
    for n, (kind, kill) in enumerate(KEEPERS):
        own = of_java(kill) if of_java and kind == 'apache' else {}
        target = targets.KINDS[kind](os.path.join(s.work, f'{n}-{kind}'), {**settings, **own})
        s.own_targets.append(target)
        if before:
            shutil.move(os.path.join(before.work, before.directory), os.path.join(target.work, target.directory))
        begin = now_ms()
        target.start()
        if kind == 'apache':
            timers.java.append((begin, 1 << 62))
        with wire.Connection(target.broker, timeout=60) as c:
            timers.recall_some(c, topic)
            if n < len(KEEPERS) - 1:
                timers.send(s, c, topic, n)
            timers.wait_for_due(s, c, topic, None if n < len(KEEPERS) - 1 else timers.last())
        target.stop(kill=kill)
        if kind == 'apache':
            timers.java[-1] = (begin, now_ms())
        check(target)
        timers.are_shown(target, kill)
        before = target
    s.slow.append(f'{len(timers.due)} timers, {timers.twice} of them came twice from the Java broker')


class Timers:
    """What was sent, with when it is due."""

    def __init__(self, exact):
        #: By text: due time in epoch ms; those that are recalled; handles of those that the next station recalls; when Java had it.
        self.due, self.recalled, self.handles, self.java = {}, set(), {}, []
        self.exact, self.twice = exact, 0

    def last(self):
        return max(self.due.values())

    def send(self, s, c, topic, n):
        delays = [('near', 300 * i + 100) for i in range(10)] + [('far', 9_000 + 4_100 * i) for i in range(10)]
        delays += [('recalled', 8_000 + 5_000 * i) for i in range(3)] + [('recalled-later', 90_000 + i) for i in range(3)]
        for i, (word, delay) in enumerate(delays):
            text = f'{n}-{word}-{i}'
            due = now_ms() + delay
            answer = c.ask(wire.SEND, wire.send_header(topic, props=dict(TIMER_DELAY_MS=delay, UNIQ_KEY=text)), text.encode())
            assert answer.code == 0, answer
            if word == 'recalled-later':
                self.handles[text] = answer.ext['recallHandle']
                self.recalled.add(text)
            elif word == 'recalled':
                self.recall(c, topic, text, answer.ext['recallHandle'])
            else:
                self.due[text] = due

    def recall(self, c, topic, text, handle):
        answer = c.ask(370, dict(producerGroup='pg', topic=topic, recallHandle=handle))
        assert answer.code == 0 and answer.ext['msgId'] == text, answer
        self.recalled.add(text)

    def recall_some(self, c, topic):
        for text, handle in self.handles.items():
            if int(base64.urlsafe_b64decode(handle).decode().split(' ')[3]) > now_ms() + 3000:
                self.recall(c, topic, text, handle)
            else:  # the machine is slow: it may be delivered
                self.recalled.discard(text)
        self.handles = {}

    def wait_for_due(self, s, c, topic, until):
        """Until what was due until then is delivered; without a time, what is due now."""
        until = until or now_ms() + 1000
        while now_ms() < until:
            time.sleep(0.1)
        due = {text for text, at in self.due.items() if at <= until}
        s.wait(lambda: due <= set(texts(all_of(c, topic))), 'what is due has come', 120)
        found = collections.defaultdict(list)
        for message in all_of(c, topic):
            found[message['body'].decode()].append(message['stored'])
        for text, times in found.items():
            early = self.due.get(text, 0) - min(times)
            assert early <= 0, f'{text} came {early} ms early'
            # The Java broker delivers again what it did not note, and a recalled message if the recall was to be written again meanwhile.
            here = [at for at in times if not any(begin <= at <= end for begin, end in self.java)]
            assert text not in self.recalled or not here, f'{text} was recalled and came at {times}, java had it at {self.java}'
            again = [at for at in times[1:] if at in here]
            assert not again or text in self.rolled_twice(c), f'{text} came at {times}, java had it at {self.java}'
        self.twice = sum(len(times) > 1 for times in found.values())

    def rolled_twice(self, c):
        """What the Java broker, on a slow machine, wrote again twice for the same turn: these are two messages since then."""
        turns = collections.Counter()
        for message in all_of(c, 'rmq_sys_wheel_timer'):
            if any(begin <= message['stored'] <= end for begin, end in self.java):
                turns[message['body'].decode(), message['props'].get('TIMER_ROLL_TIMES')] += 1
        return {text for (text, turn), times in turns.items() if turn and times > 1}

    def are_shown(self, target, kill):
        """A dump lists what waits; after a kill some of it may not be in the queue yet."""
        done = subprocess.run([targets.apogee_binary(), 'store', 'dump', 'timers', os.path.join(target.work, target.directory), '-o', 'json',
                               '--limit', '10000', '-c', os.path.join(target.work, 'broker.conf')], stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0, done
        shown = {line['uniq_key'] for line in map(json.loads, done.stdout.splitlines()) if line['what'] != 'recall'}
        missing = {text for text, at in self.due.items() if at > now_ms() + 2000} - shown
        assert kill or not self.exact or not missing, f'not shown: {sorted(missing)}'


def now_ms():
    return int(time.time() * 1000)


class Book:
    """How a producer's transactions end."""

    def __init__(self):
        #: By text: how it ends; those that are left for the next station; what was in the topic when the last station ended.
        self.outcomes, self.left, self.there = {}, {}, collections.Counter()
        #: Texts whose transaction may have been asked for before it ended.
        self.slow = set()

    def expected(self):
        return [text for text, outcome in self.outcomes.items() if outcome == COMMIT]

    def open_some(self, s, c, topic, n):
        """Some end at once, the last thing before the broker ends, some are left."""
        def opened(text, outcome, leave):
            answer = send_half(c, topic, text)
            assert answer.code == 0, answer
            self.outcomes[text] = outcome
            if leave:
                self.left[text] = Half(answer, 'pg')
            return Half(answer, 'pg')
        for i in range(3):
            opened(f'{n}-left-commits-{i}', COMMIT, True)
            opened(f'{n}-left-rolls-back-{i}', ROLLBACK, True)
        for i in range(3):
            for word, outcome in (('commits', COMMIT), ('rolls-back', ROLLBACK)):
                begun = time.monotonic()
                sent = opened(f'{n}-{word}-{i}', outcome, False)
                s.visible(HALF, 0, sent.offset + 1, c)
                answer = c.ask(wire.END_TRANSACTION, sent.end(outcome))
                # It may have been asked for already, on a slow machine: then the Java broker leaves its copy open.
                assert answer.code == 0, answer
                if time.monotonic() - begun > 0.1:
                    self.slow.add(f'{n}-{word}-{i}')
        s.wait(lambda: {f'{n}-commits-{i}' for i in range(3)} <= set(texts(all_of(c, topic))), 'commits are delivered')
        self.slow |= {message['body'].decode() for p in c.pushed if p.code == CHECK for message in p.messages()}

    def settle(self, s, c, topic, kind, n):
        """All that was left ends: on ApogeeMQ some by the name of the first half message, the rest when the producer is asked."""
        if kind == 'apogee':
            for text in [t for t in self.left if t.endswith('-0')]:
                answer = c.ask(wire.END_TRANSACTION, self.left[text].end(self.outcomes[text]))
                assert answer.code in (0, 604), answer  # the Java broker has written it again: its copy is asked for
        self.left = {}
        probe = f'{n}-probe'
        assert send_half(c, topic, probe).code == 0
        self.outcomes[probe] = UNKNOWN
        seen = []

        def asked():
            """Answers questions; true when the last half message was asked for twice, so that all before it were looked at."""
            for question in [p for p in c.pushed if p.code == CHECK][len(seen):]:
                message, = question.messages()
                text = message['body'].decode()
                seen.append(text)
                if self.outcomes[text] != UNKNOWN:
                    ends = dict(producerGroup='pg', tranStateTableOffset=question.ext['tranStateTableOffset'],
                                commitLogOffset=question.ext['commitLogOffset'], commitOrRollback=self.outcomes[text], fromTransactionCheck=True)
                    c.oneway(wire.END_TRANSACTION, ends)
            return seen.count(probe) >= 3
        s.wait(asked, 'questions are asked', 90)
        self.outcomes[probe] = ROLLBACK
        s.wait(lambda: (asked(), set(self.expected()) <= set(texts(all_of(c, topic))))[1], 'committed messages are there', 60)
        found = collections.Counter(texts(all_of(c, topic)))
        assert set(found) == set(self.expected()), (kind, n, sorted(set(found) ^ set(self.expected())))
        if kind == 'apogee':
            twice = [text for text in found if found[text] > max(1, self.there[text]) and text not in self.slow]
            assert not twice, f'delivered again at station {n}: {twice}'
            again = [text for text in seen if self.there[text] and text not in self.slow]
            assert not again, f'asked for although it was committed: {again}'


def tag_of(text):
    return 'odd' if int(text.split('-')[-1]) % 2 else 'even'


def read(c, topic, queue, tag='*'):
    """The texts of a queue from its beginning."""
    out, at = [], 0
    while True:
        answer = c.ask(wire.PULL, wire.pull_header(topic, at, queue=queue, max_nums=1024, group='reader', sub=tag))
        if answer.code not in (0, 20):
            return out
        found = answer.messages() if answer.code == 0 else []
        assert all(m['crc_ok'] for m in found), topic
        if tag == '*':
            assert [m['offset'] for m in found] == list(range(at, at + len(found))), topic
        out += [m['body'].decode() for m in found]
        at = int(answer.ext['nextBeginOffset'])
