"""Transactions: half messages, how they end, what becomes of those that nobody ends, and what clients see of it."""
import threading
import time

from harness import wire
from harness.scenario import JAVA, raw, sdk

HALF, MARKS, GIVEN_UP = 'RMQ_SYS_TRANS_HALF_TOPIC', 'RMQ_SYS_TRANS_OP_HALF_TOPIC', 'TRANS_CHECK_MAX_TIME_TOPIC'
COMMIT, ROLLBACK, UNKNOWN = 8, 12, 0
CHECK, RESUME = 39, 323
#: Nothing is asked while a scenario looks.
NEVER_ASKED = {'transactionCheckInterval': 3_600_000}
#: Producers are asked soon, and as often as it takes on a slow machine.
ASKED_SOON = {'transactionTimeOut': 1000, 'transactionCheckInterval': 1000, 'transactionCheckMax': 1_000_000}


class Half:
    """A half message that was stored."""

    def __init__(self, answer, group):
        self.answer, self.group = answer, group
        self.offset, self.log = int(answer.ext['queueOffset']), int(answer.ext['msgId'][-16:], 16)

    def end(self, outcome, **more):
        """The header fields that end it."""
        return {**dict(producerGroup=self.group, tranStateTableOffset=self.offset, commitLogOffset=self.log, commitOrRollback=outcome,
                       fromTransactionCheck=False, msgId=self.answer.ext.get('transactionId')), **more}


def send_half(c, topic, text, group='pg', queue=0, props=None, **more):
    fields = dict(TRAN_MSG='true', PGROUP=group, **(props or {}))
    return c.ask(wire.SEND, wire.send_header(topic, queue, group=group, props=fields, **dict(dict(sysFlag=4), **more)), text.encode())


def half(s, c, topic, text, group='pg', **more):
    """A half message that is stored and can be read."""
    answer = send_half(c, topic, text, group, **more)
    assert answer.code == 0, answer
    stored = Half(answer, group)
    s.visible(HALF, 0, stored.offset + 1, c)
    return stored


def all_of(c, topic, queue=0):
    out, at = [], 0
    while True:
        answer = c.ask(wire.PULL, wire.pull_header(topic, at, queue=queue))
        if answer.code != 0:
            return out
        out += answer.messages()
        at = int(answer.ext['nextBeginOffset'])


def texts(messages):
    return [m['body'].decode() for m in messages]


def plain(message, of=None):
    """What does not change from run to run; `of`: the half message that it was made of."""
    prepared = 'of the half message' if of and message['prepared'] == of.log else message['prepared']
    props = dict(message['props'])
    if len(props.get('UNIQ_KEY', '')) > 16:
        props['UNIQ_KEY'] = '<made by the broker>'
    if len(props.get('__transactionId__', '')) > 16:
        props['__transactionId__'] = '<as UNIQ_KEY>' if props['__transactionId__'] == message['props'].get('UNIQ_KEY') else '<another>'
    return dict(topic=message['topic'], queue=message['queue'], reconsumed=message['reconsumed'], sys_flag=message['sys_flag'],
                flag=message['flag'], prepared=prepared, crc_ok=message['crc_ok'], props=props)


def no_answer(c, code, header):
    """An answer that does not come: one to a later request of the connection is there first, twice."""
    opaque = c.start(code, header)
    for _ in range(2):
        c.ask(wire.MAX_OFFSET, dict(topic=HALF, queueId=0))
    time.sleep(0.5)
    return opaque not in c.answers


@raw(settings=NEVER_ASKED, deadline=120)
def half_messages_and_how_they_end(s):
    topic, c = s.topic(queues=2), s.connect()
    a = half(s, c, topic, 'a', queue=1, props=dict(UNIQ_KEY='U1', KEYS='k1', TAGS='x', WAIT='true', own='1'), bornTimestamp=1234567, flag=9)
    s.saw('half message', a.answer)
    s.saw('without an id of the client', half(s, c, topic, 'b', queue=1).answer)
    forged = half(s, c, topic, 'c', props=dict(UNIQ_KEY='U2', REAL_TOPIC='elsewhere', REAL_QID='7', TRANSACTION_CHECK_TIMES='2'))
    stored = [plain(m) for m in all_of(c, HALF)]
    s.saw('halves', stored)
    s.saw('halves of honest senders', stored[:2])
    s.saw('where the forged one goes', {k: stored[2]['props'][k] for k in ('REAL_TOPIC', 'REAL_QID')})
    s.saw('nothing is delivered', [all_of(c, topic, q) for q in (0, 1)])

    s.saw('of another group', c.ask(wire.END_TRANSACTION, a.end(COMMIT, producerGroup='other')))
    s.saw('another queue offset', c.ask(wire.END_TRANSACTION, a.end(COMMIT, tranStateTableOffset=1)))
    s.saw('a queue offset far out', c.ask(wire.END_TRANSACTION, a.end(COMMIT, tranStateTableOffset=1 << 40)))
    s.saw('a negative queue offset', c.ask(wire.END_TRANSACTION, a.end(COMMIT, tranStateTableOffset=-1)))
    s.saw('a log offset far out', c.ask(wire.END_TRANSACTION, a.end(COMMIT, commitLogOffset=1 << 40)))
    s.saw('the log offset of another', c.ask(wire.END_TRANSACTION, a.end(COMMIT, commitLogOffset=forged.log)))
    for field in ('producerGroup', 'tranStateTableOffset', 'commitLogOffset', 'commitOrRollback'):
        s.saw(f'without {field}', c.ask(wire.END_TRANSACTION, a.end(COMMIT, **{field: None})))
    s.saw('unknown is not answered', no_answer(c, wire.END_TRANSACTION, a.end(UNKNOWN)))
    s.saw('unknown after a check is not answered', no_answer(c, wire.END_TRANSACTION, a.end(UNKNOWN, fromTransactionCheck=True)))
    s.saw('another word', c.ask(wire.END_TRANSACTION, a.end(4)))
    s.saw('still nothing', [all_of(c, topic, q) for q in (0, 1)])

    s.saw('commit', c.ask(wire.END_TRANSACTION, a.end(COMMIT)))
    s.visible(topic, 1, 1, c)
    committed, = all_of(c, topic, 1)
    s.saw('committed', plain(committed, a))
    first = next(m for m in all_of(c, HALF) if m['offset'] == a.offset)
    assert committed['log'] > first['log'] and committed['born'] == first['born'] == 1234567 and committed['body'] == b'a'
    assert committed['born_host'] == first['born_host'], (committed, first)
    by_key = dict(topic=topic, key='k1', maxNum=8, beginTimestamp=0, endTimestamp=1 << 62)
    s.saw('is found by its key', len(c.ask(wire.QUERY_MESSAGE, by_key).messages()))
    s.saw('commit of the forged one', c.ask(wire.END_TRANSACTION, forged.end(COMMIT)))
    s.visible(topic, 0, 1, c)
    s.saw('the forged one', [plain(m, forged) for m in all_of(c, topic, 0)])
    b = half(s, c, topic, 'd', queue=1)
    s.saw('rollback', c.ask(wire.END_TRANSACTION, b.end(ROLLBACK)))
    s.saw('rollback after a check', c.ask(wire.END_TRANSACTION, half(s, c, topic, 'e').end(ROLLBACK, fromTransactionCheck=True)))
    after = half(s, c, topic, 'f')
    s.saw('commit after a check', c.ask(wire.END_TRANSACTION, after.end(COMMIT, fromTransactionCheck=True)))
    s.saw('commit again', c.ask(wire.END_TRANSACTION, after.end(COMMIT)))
    s.saw('commit after a rollback', c.ask(wire.END_TRANSACTION, b.end(COMMIT)))
    s.saw('rollback after a commit', c.ask(wire.END_TRANSACTION, a.end(ROLLBACK)))
    opaque = c.start(wire.END_TRANSACTION, half(s, c, topic, 'g').end(COMMIT), flag=2)
    s.wait(lambda: 'g' in texts(all_of(c, topic)), 'a one-way commit is delivered')
    s.saw('a one-way commit is not answered', opaque not in c.answers)

    def marked():
        marks = all_of(c, MARKS)
        ended = sorted({int(n) for m in marks for n in m['body'].decode().split(',') if n})
        return ended if len(ended) >= 6 else None
    s.saw('half messages that are done', s.wait(marked, 'removal marks are written', 20))
    s.saw('tags of marks', sorted({m['props'].get('TAGS') for m in all_of(c, MARKS)}))
    s.saw('the queues', [sorted(set(texts(all_of(c, topic, q)))) for q in (0, 1)])


@raw(settings=NEVER_ASKED)
def what_makes_a_half_message(s):
    topic, c = s.topic(queues=1), s.connect()

    def send(label, props, body=None, **more):
        return s.saw(label, c.ask(wire.SEND, wire.send_header(topic, props=props, **more), body or label.encode()))

    send('TRAN_MSG without the flag', dict(TRAN_MSG='true', PGROUP='pg'), sysFlag=0)
    send('TRAN_MSG in capitals', dict(TRAN_MSG='TRUE', PGROUP='pg'), sysFlag=4)
    send('TRAN_MSG=false', dict(TRAN_MSG='false', PGROUP='pg'), sysFlag=0)
    send('a half message without a group', dict(TRAN_MSG='true'), sysFlag=4)
    send('with another flag', dict(TRAN_MSG='true', PGROUP='pg'), sysFlag=8)
    for flag, name in ((4, 'prepared'), (8, 'commit'), (12, 'rollback')):
        send(f'{name} by the flag alone', dict(PGROUP='pg'), sysFlag=flag)
    two = wire.batch_body([(b'one', dict(TRAN_MSG='true', PGROUP='pg')), (b'two', {})])
    s.saw('inside of a batch', c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True)), two))
    whole = wire.batch_body([(b'three', {}), (b'four', {})])
    header = wire.send_header(topic, batch=True, sysFlag=4, props=dict(TRAN_MSG='true', PGROUP='pg'))
    s.saw('a batch', c.ask(wire.SEND_BATCH, wire.v2(header), whole))
    s.saw('to a topic that is made by it', send_half(c, s.name('made'), 'x'))
    s.saw('a queue out of range', send_half(c, topic, 'x', queue=5))
    s.saw('by code 10 with another field', send_half(c, topic, 'x', unknownField='1'))
    read_only = s.topic('ro', perm=4)
    s.saw('read only topic', send_half(c, read_only, 'x'))
    s.wait(lambda: len(all_of(c, HALF)) >= 4, 'half messages are stored')
    time.sleep(0.5)
    s.saw('stored', {m['body'].decode(): plain(m) for m in all_of(c, topic)})
    s.saw('half messages', [dict(plain(m), text=m['body'].decode()) for m in all_of(c, HALF)])


@raw(settings=NEVER_ASKED)
def a_half_message_with_a_delay_level(s):
    """The Java broker acknowledges it and then throws it away; here the level counts from the commit on."""
    topic, c = s.topic(queues=1), s.connect()
    answer = s.saw('half message', send_half(c, topic, 'later', props=dict(DELAY='1', UNIQ_KEY='U1')))
    if s.target.kind == 'apache':
        return
    sent = Half(answer, 'pg')
    s.visible(HALF, 0, 1, c)
    assert c.ask(wire.END_TRANSACTION, sent.end(COMMIT)).code == 0
    begin = time.time()
    s.visible(topic, 0, 1, c)
    message, = all_of(c, topic)
    assert message['stored'] >= (begin + 0.9) * 1000 and message['body'] == b'later', message


@raw(settings={**NEVER_ASKED, 'transactionTimeOut': 5000})
def a_producer_that_asked_for_time_ends_in_time(s):
    topic, c = s.topic(queues=1), s.connect()

    def end(label, seconds, outcome, age_ms, is_answer=False):
        born = int(time.time() * 1000) - age_ms
        one = half(s, c, topic, label, props=dict(CHECK_IMMUNITY_TIME_IN_SECONDS=seconds), bornTimestamp=born)
        s.saw(label, c.ask(wire.END_TRANSACTION, one.end(outcome, fromTransactionCheck=is_answer)))

    end('in time', '60', COMMIT, 0)
    end('a commit too late', '10', COMMIT, 11_000)
    end('a rollback too late', '10', ROLLBACK, 11_000)
    end('too late but asked', '10', COMMIT, 11_000, True)
    end('minus one, in the time of all', '-1', COMMIT, 0)
    end('minus one, after it', '-1', COMMIT, 20_000)
    end('no number, after the time of all', 'soon', COMMIT, 20_000)
    end('zero, after the time of all', '0', COMMIT, 20_000)
    s.visible(topic, 0, 2, c)


def question(pushed):
    """Request 39, without what changes from run to run."""
    message, = pushed.messages()
    ext, own = dict(pushed.ext), message['props'].get('UNIQ_KEY')
    agree = dict(log_offset=int(ext.pop('commitLogOffset')) == message['log'], offset_id=int(ext['offsetMsgId'][-16:], 16) == message['log'],
                 queue_offset=int(ext.pop('tranStateTableOffset')) == message['offset'], id=ext.get('msgId') == own,
                 transaction=ext.get('transactionId') == own)
    return dict(code=pushed.code, flag=pushed.flag, ext=ext, agree=agree, message=dict(plain(message), text=message['body'].decode()))


@raw(settings={**ASKED_SOON, 'transactionCheckMax': 2}, deadline=180)
def a_producer_is_asked_and_then_the_message_is_given_up(s):
    topic, c = s.topic(queues=2), s.connect()
    group = 'pg'
    assert c.ask(wire.HEARTBEAT, body=wire.heartbeat('client', producers=[group])).code == 0
    sent = half(s, c, topic, 'nobody knows', group, queue=1, props=dict(UNIQ_KEY='U1', TAGS='x', own='1'), flag=9)
    asked = c.wait_pushed(CHECK, 1, 60)
    s.saw('the first question', question(asked[0]))
    asked = c.wait_pushed(CHECK, 2, 60)
    s.saw('the second question', question(asked[1]))
    s.wait(lambda: all_of(c, GIVEN_UP), 'it is given up', 60)
    given_up, = all_of(c, GIVEN_UP)
    s.saw('given up', plain(given_up))
    assert given_up['body'] == b'nobody knows' and given_up['born'] == [m for m in all_of(c, HALF) if m['offset'] == sent.offset][0]['born']
    halves = [dict(plain(m), text=m['body'].decode()) for m in all_of(c, HALF) if m['body'] == b'nobody knows']
    s.saw('half messages', halves)
    firsts = [m['props'].pop('APOGEE_TRAN_FIRST_QUEUE_OFFSET', None) for m in halves]
    assert firsts == ([None, '0', '0'] if s.target.kind == 'apogee' else [None] * 3), firsts
    s.saw('half messages but for their flags', [dict(m, flag=None) for m in halves])
    topics = c.ask(wire.ALL_TOPICS).json()['topicConfigTable']
    fields = ('perm', 'readQueueNums', 'writeQueueNums')
    s.saw('the topics', {t: {k: topics[t][k] for k in fields} for t in (HALF, MARKS, GIVEN_UP) if t in topics})
    s.saw('nothing is delivered', [all_of(c, topic, q) for q in (0, 1)])
    s.saw('the dead topic is not sent to', c.ask(wire.SEND, wire.send_header(GIVEN_UP), b'x'))

    offset_id = lambda message: '7F000001%08X%016X' % (int(s.target.broker.split(':')[1]), message['log'])  # noqa: E731
    s.saw('resume without an id', c.ask(RESUME, {}))
    s.saw('resume of no id', c.ask(RESUME, dict(topic=GIVEN_UP, msgId='xyz')))
    s.saw('resume of no message', c.ask(RESUME, dict(topic=GIVEN_UP, msgId='7F0000010000000000000FFFFFFFFFFF')))
    s.saw('resume', c.ask(RESUME, dict(topic=GIVEN_UP, msgId=offset_id(given_up))))
    asked = c.wait_pushed(CHECK, 3, 60)
    s.saw('the question after resuming', question(asked[2]))
    ends = dict(producerGroup=group, tranStateTableOffset=asked[2].ext['tranStateTableOffset'], commitLogOffset=asked[2].ext['commitLogOffset'],
                commitOrRollback=COMMIT, fromTransactionCheck=True, msgId='U1', transactionId='U1')
    s.saw('its commit', c.ask(wire.END_TRANSACTION, ends))
    s.visible(topic, 1, 1, c)
    message, = all_of(c, topic, 1)
    shown = plain(message)
    shown['prepared'] = message['prepared'] == int(asked[2].ext['commitLogOffset'])
    s.saw('delivered', shown)


#: As above; the Java broker writes removal marks soon, so that it does not ask again for what has ended.
CHECKED = {**ASKED_SOON, 'transactionCheckInterval': 2000, 'transactionOpBatchInterval': 100}
CLIENTS = (*JAVA, 'go')


def transactional(s, h='tp', **more):
    return s.start('transaction_producer', h, group=s.name('tg'), **more)


def send_in_transaction(producer, topic, text, local, check='unknown', **more):
    sent = producer.call('send_in_transaction', topic=topic, body=text, props=dict(local=local, check=check), **more)
    assert sent['status'] == 'SEND_OK', sent
    return sent


def delivered(s, topic, expected, queues=4):
    """Waits until these are in the topic; nothing is there twice. The Java broker commits what it is told again, so there it may be."""
    def there():
        with wire.Connection(s.target.broker) as c:
            return sorted(t for q in range(queues) for t in texts(all_of(c, topic, q)))
    s.wait(lambda: set(expected) <= set(there()), f'{expected} are delivered', 60)
    found = there() if s.target.kind == 'apogee' else sorted(set(there()))
    assert found == sorted(expected), found


def half_messages(s):
    return int(s.ask(wire.MAX_OFFSET, dict(topic=HALF, queueId=0)).ext['offset'])


@sdk(*CLIENTS, settings=CHECKED, deadline=150)
def transactions_end_as_their_producer_says(s):
    topic = s.topic()
    consumer, producer = s.push('c', topic), transactional(s)
    send_in_transaction(producer, topic, 'commits', 'commit')
    send_in_transaction(producer, topic, 'rolls back', 'rollback')
    sent = send_in_transaction(producer, topic, 'unknown and commits', 'unknown', 'commit')
    send_in_transaction(producer, topic, 'unknown and rolls back', 'unknown', 'rollback')
    send_in_transaction(producer, topic, 'unknown for long', 'unknown', 'unknown,unknown,commit')
    assert consumer.received(1)[0]['text'] == 'commits'
    consumer.received(3)
    s.wait(lambda: 'unknown and rolls back' in producer.call('checked')['texts'], 'it is asked for', 60)
    # Another round, so that nothing is left that could come.
    send_in_transaction(producer, topic, 'the last', 'unknown', 'commit')
    expected = ['commits', 'unknown and commits', 'unknown for long', 'the last']
    s.wait(lambda: 'the last' in consumer.texts(), 'the last is delivered', 60)
    delivered(s, topic, expected)
    got = consumer.received()
    assert {m['text'] for m in got} == set(expected), got
    assert sent['msg_id'] in [m['msg_id'] for m in got if m['text'] == 'unknown and commits'], (sent, got)
    if s.target.kind == 'apogee':
        assert len(got) == len(expected), f'something came twice: {got}'
        checked = producer.call('checked')['texts']
        assert sorted(set(checked)) == sorted(['unknown and commits', 'unknown and rolls back', 'unknown for long', 'the last']), checked
        assert checked.count('unknown for long') == 3, checked


@sdk(*CLIENTS, settings=CHECKED, deadline=150)
def another_producer_of_the_group_answers_for_one_that_died(s):
    topic = s.topic()
    process = s.process()
    dying = s.start('transaction_producer', 'dying', driver=process, group=s.name('tg'))
    beside(lambda: send_in_transaction(dying, topic, 'of the dead', 'never', 'commit'))
    s.wait(lambda: half_messages(s) >= 1, 'the half message is stored')
    process.kill()
    other = transactional(s)
    # A client tells the brokers of the topics that it sends to that it is there.
    send_in_transaction(other, topic, 'own', 'commit')
    delivered(s, topic, ['of the dead', 'own'])
    assert 'of the dead' in other.call('checked')['texts']


def beside(call):
    """Calls what does not end before its process is killed."""
    def ignored():
        try:
            call()
        except Exception:  # noqa: BLE001 - that is how it ends
            pass
    threading.Thread(target=ignored, daemon=True).start()


@sdk(*CLIENTS, settings=CHECKED, deadline=150)
def a_producer_group_that_comes_back_is_asked(s):
    topic = s.topic()
    first = transactional(s, 'first')
    send_in_transaction(first, topic, 'waits', 'unknown', 'commit')
    first.stop()
    if s.target.kind == 'apogee':  # the Java broker counts likewise; when, depends on its load
        s.wait(lambda: half_messages(s) >= 3, 'it is checked while nobody is there', 60)
    second = transactional(s, 'second')
    send_in_transaction(second, topic, 'own', 'commit')
    delivered(s, topic, ['waits', 'own'])
    assert 'waits' in second.call('checked')['texts']


@sdk('java-5.5.0', 'go', settings=CHECKED, deadline=240)
def open_transactions_survive_a_kill_of_the_broker(s):
    topic = s.topic()
    process = s.process()
    producer = s.start('transaction_producer', 'dying', driver=process, group=s.name('tg'))
    send_in_transaction(producer, topic, 'commits', 'commit')
    send_in_transaction(producer, topic, 'rolls back', 'rollback')
    delivered(s, topic, ['commits'])
    before = half_messages(s)
    beside(lambda: send_in_transaction(producer, topic, 'is open', 'never', 'commit'))
    s.wait(lambda: half_messages(s) > before, 'the half message is stored')
    process.kill()
    s.target.restart(kill=True)
    s.wait(lambda: s.routed(topic), 'the topic is routed')
    send_in_transaction(transactional(s), topic, 'own', 'commit')
    delivered(s, topic, ['commits', 'is open', 'own'])
