"""Compacted topics (cleanup.policy=COMPACTION): the last message of each key is kept, and limits of topics."""
import os
import shutil
import subprocess

from harness import targets, wire
from harness.scenario import JAVA, raw, sdk
from harness.summaries import texts

#: Nine messages a file, and a pass each second.
SMALL = {'compactionMappedFileSize': 46000, 'compactionCqMappedFileSize': 460, 'compactionScheduleInternal': 1000, 'cleanResourceInterval': 1000}


def make(s, c, topic, attributes='+cleanup.policy=COMPACTION'):
    answer = c.ask(wire.UPDATE_TOPIC, dict(topic=topic, defaultTopic='TBW102', readQueueNums=1, writeQueueNums=1, perm=6,
                                           topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False, attributes=attributes))
    if answer.code == 0:
        s.wait(lambda: s.routed(topic), f'{topic} is routed')
    return answer


def put(c, topic, values, begin=0):
    """A message for each value; the keys repeat."""
    for n in range(begin, begin + values):
        answer = c.ask(wire.SEND, wire.send_header(topic, props=dict(KEYS=f'k{n % 5}', TAGS=f't{n % 2}')), f'v{n}'.encode())
        assert (answer.code, answer.ext['queueOffset']) == (0, str(n)), answer


def pull(c, topic, offset=0, **more):
    return c.ask(wire.PULL, wire.pull_header(topic, offset, **more))


def everything(c, topic):
    """Offsets and texts of all that can be read."""
    found, at = [], 0
    while True:
        answer = pull(c, topic, at)
        if answer.code != 0:
            return found
        found += [(m['offset'], m['body'].decode()) for m in answer.messages()]
        at = int(answer.ext['nextBeginOffset'])


@raw(settings=SMALL, deadline=120)
def a_compacted_topic_keeps_the_last_of_each_key(s):
    topic, c = s.name('t'), s.connect()
    s.saw('made', make(s, c, topic))
    s.saw('without a key', c.ask(wire.SEND, wire.send_header(topic), b'x'))
    s.saw('with a blank one', c.ask(wire.SEND, wire.send_header(topic, props=dict(KEYS='  ')), b'x'))
    put(c, topic, 7)
    s.wait(lambda: len(everything(c, topic)) == 7, 'seven are readable')
    s.saw('before a file is full', everything(c, topic))
    s.saw('from 3', pull(c, topic, 3), texts)
    put(c, topic, 23, 7)
    s.wait(lambda: everything(c, topic)[0][0] == 22, 'the full files are compacted', 60)
    s.saw('compacted', everything(c, topic))
    for offset in (0, 10, 24, 29, 30):
        s.saw(f'pulled from {offset}', pull(c, topic, offset), texts)
    s.saw('beyond the end', pull(c, topic, 40), texts)
    s.saw('two at most', pull(c, topic, 0, max_nums=2), texts)
    s.saw('min', c.ask(wire.MIN_OFFSET, dict(topic=topic, queueId=0)))
    s.saw('max', c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=0)))


@raw(deadline=60)
def attributes_of_what_becomes_of_old_messages(s):
    c = s.connect()
    for name, text in (('kept', '+cleanup.policy=DELETE'), ('wrong', '+cleanup.policy=NONE'), ('hours', '+reserve.time=24'),
                       ('negative', '+reserve.time=-2')):
        s.saw(text, make(s, c, s.name(name), text))
    make(s, c, s.name('fixed'))
    s.saw('changed later', make(s, c, s.name('fixed'), '+cleanup.policy=DELETE'))


@sdk(*JAVA, 'go', settings=SMALL, deadline=120)
def consumers_of_a_compacted_topic_get_the_last_of_each_key(s):
    topic, c = s.name('t'), s.connect()
    assert make(s, c, topic).code == 0
    put(c, topic, 30)
    s.wait(lambda: everything(c, topic)[0][0] == 22, 'the full files are compacted', 60)
    consumer = s.push('c', topic, start='FIRST_OFFSET')
    kept = [f'v{n}' for n in range(22, 30)]
    assert sorted(consumer.texts(len(kept))) == kept
    put(c, topic, 3, 30)
    assert sorted(consumer.texts(len(kept) + 3)) == kept + ['v30', 'v31', 'v32']


@raw(ours=True, deadline=240)
def a_directory_with_compacted_topics_moves_here_and_back(s):
    """Each broker compacts what the other has left, and a log that is gone takes no value with it."""
    topic, sent, before = s.name('t'), 0, None
    for n, kind in enumerate(('apache', 'apogee', 'apache', 'apogee')):
        target = targets.KINDS[kind](os.path.join(s.work, f'{n}-{kind}'), SMALL)
        s.own_targets.append(target)
        if before:
            shutil.move(os.path.join(before.work, before.directory), os.path.join(target.work, target.directory))
        target.start()
        with wire.Connection(target.broker) as c:
            if n == 0:
                assert c.ask(wire.UPDATE_TOPIC, dict(topic=topic, defaultTopic='TBW102', readQueueNums=1, writeQueueNums=1, perm=6,
                                                     topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False,
                                                     attributes='+cleanup.policy=COMPACTION')).code == 0
            values(s, c, topic, sent)
            put(c, topic, 22, sent)
            sent += 22
            values(s, c, topic, sent)
            full = sent // 9 * 9 - (9 if sent % 9 == 0 else 0)
            s.wait(lambda: everything(c, topic)[0][0] >= full - 5, 'the full files are compacted', 60)
            values(s, c, topic, sent)
        target.stop()
        checked = subprocess.run([targets.apogee_binary(), 'store', 'check', os.path.join(target.work, target.directory), '-c',
                                  os.path.join(target.work, 'broker.conf')], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert checked.returncode == 0, checked.stdout[-3000:]
        before = target


def values(s, c, topic, sent):
    """The last value of each key is there, and offsets are those of the messages."""
    def is_there():
        found = everything(c, topic)
        assert all(text == f'v{offset}' for offset, text in found), found
        assert [offset for offset, _ in found] == sorted({offset for offset, _ in found}), found
        last = {n % 5: f'v{n}' for n in range(sent)}
        return {n: text for n, text in ((offset % 5, text) for offset, text in found)} == last
    s.wait(is_there, f'the last values of {sent} messages', 30)
