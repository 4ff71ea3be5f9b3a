"""Timers: messages that ask for a time, what waits and what is delivered, and their recall."""
import base64
import random
import struct
import time

from harness import wire
from harness.scenario import JAVA, raw, sdk

from .transactions import COMMIT, HALF, all_of, send_half, texts

TIMERS = 'rmq_sys_wheel_timer'
CHECK_POINT, METRICS, RECALL, SWITCH_ENGINE = 60, 61, 370, 5001
RECALLS = {'recallMessageEnable': 'true'}
DAY = 86_400_000
LONGEST_S = 3 * 86_400


def now_ms():
    return int(time.time() * 1000)


def handle(text):
    """What a handle says: version, topic, broker, time and key."""
    version, topic, broker, due, key = base64.urlsafe_b64decode(text).decode().split(' ')
    return dict(version=version, topic=topic, broker=broker, due=int(due), key=key)


def encoded(*words):
    return base64.urlsafe_b64encode(' '.join(str(w) for w in words).encode()).decode()


def plain(message):
    """What does not change from run to run, of a message that waits or was delivered."""
    props = dict(message['props'])
    for name in ('TIMER_OUT_MS', 'TIMER_ENQUEUE_MS', 'TIMER_DEQUEUE_MS', 'TIMER_DELIVER_MS', 'BORN_TIMESTAMP', 'bornTimestamp'):
        if props.get(name, '').isdigit() and len(props[name]) > 6:
            props[name] = '<time>'
    for name in ('UNIQ_KEY', 'TIMER_DEL_UNIQKEY'):
        if len(props.get(name, '')) > 16:
            props[name] = '<long>'
    return dict(topic=message['topic'], queue=message['queue'], reconsumed=message['reconsumed'], sys_flag=message['sys_flag'],
                flag=message['flag'], prepared=message['prepared'], body=message['body'].decode(), crc_ok=message['crc_ok'], props=props)


def by_text(messages):
    return {m['body'].decode(): plain(m) for m in messages}


def in_time(s, message, due_from, due_to=None):
    """Stored in its own topic when it was due, and not much later. It was due between the two, epoch ms. The clocks are one."""
    late = message['stored'] - due_from
    assert late >= 0, f'{-late} ms early: {message}'
    limit = 1100 if s.target.kind == 'apogee' else 5000
    assert message['stored'] - (due_to or due_from) < limit, f'{late} ms late: {message}'
    return late


def send(c, topic, text, props, queue=0, **more):
    return c.ask(wire.SEND, wire.send_header(topic, queue, props=props, **more), text.encode())


def recall(c, topic, text, without=None):
    return c.ask(RECALL, {**dict(producerGroup='pg', topic=topic, recallHandle=text), **(without or {})})


@raw(deadline=120)
def times_that_messages_ask_for(s):
    """Precedence, limits and codes; what waits, what is delivered, and when."""
    topic, c = s.topic(queues=2), s.connect()
    waits, due = [], {}

    def ask(label, props, delay_ms=None, queue=0, **more):
        before = now_ms()
        answer = send(c, topic, label, props, queue, **more)
        after = now_ms()
        text = answer.ext.get('recallHandle')
        if delay_ms is not None:
            assert answer.code == 0, answer
            due[label] = (before + delay_ms, after + delay_ms)
            said = handle(text)
            assert said['version'] == 'v1' and said['topic'] == topic and said['broker'] == 'broker-a', said
            assert said['key'] == answer.ext['msgId'] or said['key'] == props.get('UNIQ_KEY') or len(said['key']) > 16, (said, answer)
            # Another broker floors it to the second.
            assert before + delay_ms - 1000 <= said['due'] <= after + delay_ms + 1, (said, before + delay_ms)
            waits.append(label)
        answer.ext.pop('queueOffset', None)  # the timer topic is everyone's
        s.saw(label, answer)

    far, soon = now_ms() + DAY, now_ms() + 2500
    ask('seconds before all', dict(TIMER_DELAY_SEC='2', TIMER_DELAY_MS='60000', TIMER_DELIVER_MS=far, UNIQ_KEY='U1', TAGS='a', KEYS='k',
                                   WAIT='true', own='1'), 2000, queue=1, flag=9)
    ask('ms before a time', dict(TIMER_DELAY_MS='1500', TIMER_DELIVER_MS=far), 1500)
    ask('a time', dict(TIMER_DELIVER_MS=soon))
    due['a time'] = (soon, soon)
    ask('one ms', dict(TIMER_DELAY_MS='1'))
    ask('a forged destination', dict(TIMER_DELAY_SEC='1', REAL_TOPIC='elsewhere', REAL_QID='9'), 1000)
    ask('forged times', dict(TIMER_DELAY_SEC='1', TIMER_ENQUEUE_MS='1', TIMER_DEQUEUE_MS='2', TIMER_ROLL_TIMES='3'), 1000)
    ask('it says that it has waited', dict(TIMER_DELAY_SEC='60', TIMER_OUT_MS='1'))
    ask('a sign', dict(TIMER_DELAY_SEC='+1'), 1000)
    ask('a time that has passed', dict(TIMER_DELIVER_MS='1'))
    ask('zero', dict(TIMER_DELAY_SEC='0'))
    ask('negative', dict(TIMER_DELAY_MS='-5'))
    ask('a negative time', dict(TIMER_DELIVER_MS='-5'))
    ask('no number', dict(TIMER_DELAY_SEC='x'))
    ask('no number before a good one', dict(TIMER_DELAY_SEC='x', TIMER_DELAY_MS='1000'))
    ask('a fraction', dict(TIMER_DELIVER_MS='1.5'))
    ask('nothing', dict(TIMER_DELAY_MS=''))
    ask('a blank before', dict(TIMER_DELAY_MS=' 5'))
    ask('too large for a number', dict(TIMER_DELIVER_MS='9223372036854775808'))
    ask('too far by seconds', dict(TIMER_DELAY_SEC=LONGEST_S + 2))
    ask('too far by ms', dict(TIMER_DELAY_MS=LONGEST_S * 1000 + 2000))
    ask('too far by a time', dict(TIMER_DELIVER_MS=now_ms() + LONGEST_S * 1000 + 60_000))
    ask('farther than any time', dict(TIMER_DELAY_SEC='9223372036854775'))
    ask('the largest time', dict(TIMER_DELIVER_MS='9223372036854775807'))
    ask('a level before all', dict(DELAY='1', TIMER_DELAY_SEC='3600'))
    ask('a level that is none', dict(DELAY='0', TIMER_DELAY_SEC='1'), 1000)
    ask('a queue out of range', dict(TIMER_DELAY_SEC='1'), queue=7)
    ask('to a topic that is made by it', dict(TIMER_DELAY_SEC='1'), queue=1)
    read_only = s.topic('ro', perm=4)
    answer = send(c, read_only, 'x', dict(TIMER_DELAY_SEC='1'))
    answer.ext.pop('queueOffset', None)
    s.saw('to a topic that is read only', answer)
    if s.target.kind == 'apogee':  # the Java broker stores it, and delivers no timer message ever after
        assert send(c, TIMERS, 'x', dict(TIMER_DELAY_SEC='1')).code != 0
    one_way = c.start(wire.SEND, wire.send_header(topic, props=dict(TIMER_DELAY_SEC='1')), b'one way', flag=2)

    s.wait(lambda: {*due, 'one way', 'one ms', 'a level before all', 'zero', 'it says that it has waited', 'a level that is none'}
           <= set(texts(all_of(c, topic, 0) + all_of(c, topic, 1))), 'they are delivered', 60)
    assert one_way not in c.answers
    delivered = all_of(c, topic, 0) + all_of(c, topic, 1)
    s.saw('waited', by_text(m for m in all_of(c, TIMERS) if m['props'].get('REAL_TOPIC') == topic))
    for text, message in sorted(by_text(delivered).items()):
        s.saw(f'delivered: {text}', message)
    assert len(delivered) == len(set(texts(delivered))), texts(delivered)
    for message in delivered:
        if message['body'].decode() in due:
            in_time(s, message, *due[message['body'].decode()])
            props = message['props']
            assert int(props['TIMER_ENQUEUE_MS']) <= int(props['TIMER_DEQUEUE_MS']) <= message['stored'] + 1, message
            value, exact = int(props['TIMER_OUT_MS']), due[message['body'].decode()][1]
            if s.target.kind == 'apogee':
                assert value <= exact, message
            else:
                assert value % 1000 == 0 and value < exact, message
    by_key = dict(topic=topic, key='k', maxNum=8, beginTimestamp=0, endTimestamp=1 << 62)
    s.saw('found by its key', by_text(c.ask(wire.QUERY_MESSAGE, by_key).messages()))


@raw(settings={'timerMaxDelaySec': 3, 'timerPrecisionMs': 100})
def a_limit_and_a_precision_of_ones_own(s):
    topic, c = s.topic(queues=1), s.connect()
    due = {}
    for text, props, delay in (('within', dict(TIMER_DELAY_SEC='3'), 3000), ('ms', dict(TIMER_DELAY_MS='1234'), 1234),
                               ('too far', dict(TIMER_DELAY_SEC='4'), None)):
        due[text] = now_ms() + (delay or 0)
        s.saw(text, send(c, topic, text, props))
    s.visible(topic, 0, 2)
    for message in all_of(c, topic):
        in_time(s, message, due[message['body'].decode()], due[message['body'].decode()] + 500)
    for text, message in sorted(by_text(all_of(c, topic)).items()):
        s.saw(f'delivered: {text}', message)


@raw(deadline=90)
def batches_have_no_timers(s):
    topic, c = s.topic(queues=1), s.connect()
    inside = wire.batch_body([(b'one', dict(TIMER_DELAY_SEC='5')), (b'two', dict(TIMER_DELIVER_MS='x'))])
    s.saw('times inside', c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True)), inside))
    s.visible(topic, 0, 2)
    s.saw('stored', [plain(m) for m in all_of(c, topic)])
    if s.target.kind == 'apogee':  # the Java broker makes timers of its messages without their time, and delivers no timer ever after
        whole = wire.batch_body([(b'three', {}), (b'four', {})])
        header = wire.send_header(topic, batch=True, props=dict(TIMER_DELAY_SEC='5'))
        assert c.ask(wire.SEND_BATCH, wire.v2(header), whole).code == 0
        s.visible(topic, 0, 4)


@raw(deadline=120)
def many_are_delivered_in_the_order_of_their_times(s):
    """Sent in another order; here to the millisecond, on the Java broker to the second."""
    topic, c, chance = s.topic(queues=1), s.connect(), random.Random(7)
    begin = now_ms() + 3000
    times = [begin + chance.randrange(4000) for _ in range(400)]
    frames = [wire.encode(wire.SEND, wire.send_header(topic, props=dict(TIMER_DELIVER_MS=at)), str(at).encode(), flag=2) for at in times]
    c.send_bytes(b''.join(frames))
    s.wait(lambda: int(c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=0)).ext['offset']) >= len(times), 'all come', 60)
    got = all_of(c, topic)
    found = [int(m['body']) for m in got]
    assert sorted(found) == sorted(times)
    late = [in_time(s, m, int(m['body'])) for m in got]
    assert found == sorted(times) if s.target.kind == 'apogee' else [(t - 1) // 1000 for t in found] == sorted((t - 1) // 1000 for t in times), found
    s.slow.append(f'late by {sorted(late)[len(late) // 2]} ms at the median, {max(late)} ms at most')


@raw(settings={'timerWheelEnable': 'false', **RECALLS})
def timers_that_are_switched_off(s):
    topic, c = s.topic(queues=1), s.connect()
    for label, props in (('seconds', dict(TIMER_DELAY_SEC='1')), ('no number', dict(TIMER_DELAY_MS='x')),
                         ('a time that has passed', dict(TIMER_DELIVER_MS='1'))):
        s.saw(label, send(c, topic, label, props))
    s.saw('recall', recall(c, topic, encoded('v1', topic, 'broker-a', now_ms() + 60_000, 'U1')))
    s.saw('recall too late', recall(c, topic, encoded('v1', topic, 'broker-a', 5, 'U1')))
    for engine in ('F', 'R', None):
        s.saw(f'engine {engine}', c.ask(SWITCH_ENGINE, dict(E_T=engine) if engine else {}))
    s.saw('runtime', runtime(c))


def runtime(c):
    table = c.ask(wire.RUNTIME_INFO).json()['table']
    return {k: '<rate>' if k.endswith('Tps') else v for k, v in table.items() if k.startswith('timer')}


@raw
def an_engine_of_timers(s):
    c = s.connect()
    for engine in ('R', 'X', ''):
        s.saw(f'engine {engine}', c.ask(SWITCH_ENGINE, dict(E_T=engine)))
    s.saw('no engine', c.ask(SWITCH_ENGINE, dict(other='1')))
    s.saw('nothing', c.ask(SWITCH_ENGINE))


@raw(settings={})
def the_engine_of_files_goes_on(s):
    topic, c = s.topic(queues=1), s.connect()
    assert send(c, topic, 'before', dict(TIMER_DELAY_SEC='4')).code == 0
    s.saw('engine F', c.ask(SWITCH_ENGINE, dict(E_T='F')))
    assert send(c, topic, 'after', dict(TIMER_DELAY_SEC='2')).code == 0
    s.wait(lambda: {'before', 'after'} <= set(texts(all_of(c, topic))), 'both are delivered', 40)
    s.saw('delivered', sorted(set(texts(all_of(c, topic)))))


@raw(settings={'timerFlushIntervalMs': 500}, deadline=90)
def what_is_known_of_waiting_timers(s):
    """Codes 60 and 61, and what the runtime information says."""
    topic, other, c = s.topic(queues=1), s.topic('u', queues=1), s.connect()
    s.saw('runtime of nothing', runtime(c))
    s.saw('counts of nothing', counts(c))
    for n in range(3):
        assert send(c, topic, f'far{n}', dict(TIMER_DELAY_SEC='3600')).code == 0
    assert send(c, other, 'far', dict(TIMER_DELAY_SEC='3600')).code == 0
    assert send(c, topic, 'near', dict(TIMER_DELAY_SEC='2')).code == 0
    s.visible(topic, 0, 1)
    expected = {topic: 3, other: 1}
    s.wait(lambda: {t: one['count'] for t, one in counts(c)['timingCount'].items() if one['count']} == expected, 'they are counted', 30)
    s.saw('counts', {t: one for t, one in counts(c)['timingCount'].items()})
    s.wait(lambda: runtime(c)['timerCongestNum'] == '4', 'they are counted in the runtime information', 30)
    s.saw('runtime', runtime(c))
    s.wait(lambda: check_point(c)['queue'] == 5, 'the check point is written', 30)
    point = check_point(c)
    assert abs(point['read'] - now_ms()) < 20_000 and point['read'] % 1000 == 0, point
    s.saw('check point', dict(bytes=point['bytes'], log=point['log'], queue=point['queue'], version=point['state']))


def counts(c):
    found = c.ask(METRICS).json()
    version = found.pop('dataVersion')
    assert set(version) >= {'counter', 'timestamp'}, version
    for one in found['timingCount'].values():
        assert one['timeStamp'] > 0, found
        one['timeStamp'] = '<time>'
    return found


def check_point(c):
    body = c.ask(CHECK_POINT).body
    read, log, queue, master, state, changed, changes = struct.unpack('>7q', body[:56])
    return dict(bytes=len(body), read=read, log=log, queue=queue, master=master, state=state)


@raw
def recalls_are_forbidden_if_nothing_else_is_said(s):
    topic, c = s.topic(queues=1), s.connect()
    s.saw('recall', recall(c, topic, encoded('v1', topic, 'broker-a', now_ms() + 60_000, 'U1')))
    s.saw('recall of nothing', recall(c, topic, 'x'))


@raw(settings=RECALLS, deadline=120)
def recalled_messages_are_not_delivered(s):
    topic, c = s.topic(queues=2), s.connect()
    sent = {}
    for n, label in enumerate(('recalled', 'kept', 'recalled twice', 'not recalled')):
        answer = send(c, topic, label, dict(TIMER_DELAY_SEC='6', UNIQ_KEY=f'U{n}'), queue=n % 2)
        sent[label] = answer.ext['recallHandle']
        assert handle(sent[label])['key'] == f'U{n}', answer
    without_key = send(c, topic, 'without a key of its own', dict(TIMER_DELAY_SEC='6'))
    sent['without a key of its own'] = without_key.ext['recallHandle']
    for label in ('recalled', 'recalled twice', 'without a key of its own'):
        answer = recall(c, topic, sent[label])
        assert answer.ext['msgId'] == handle(sent[label])['key'], answer
        s.saw(label, answer)
    s.saw('again', recall(c, topic, sent['recalled twice']))
    words = handle(sent['not recalled'])
    far = words['due'] + 60_000
    s.saw('of a message that is not there', recall(c, topic, encoded('v1', topic, 'broker-a', far, 'nobody')))
    s.saw('at another time', recall(c, topic, encoded('v1', topic, 'broker-a', far, 'U3')))
    s.saw('without padding', recall(c, topic, encoded('v1', topic, 'broker-a', far, 'nobody').rstrip('=')))
    s.saw('without a group', recall(c, topic, encoded('v1', topic, 'broker-a', far, 'nobody'), dict(producerGroup=None)))
    s.visible(TIMERS, 0, 11)
    for n, message in enumerate(all_of(c, TIMERS)):
        s.saw(f'what waits {n}', plain(message))

    s.saw('no topic', recall(c, s.name('nowhere'), sent['kept']))
    s.saw('another topic', recall(c, s.topic('u'), sent['kept']))
    s.saw('another broker', recall(c, topic, encoded('v1', topic, 'broker-b', far, 'U1')))
    s.saw('another version', recall(c, topic, encoded('v2', topic, 'broker-a', far, 'U1')))
    s.saw('too few words', recall(c, topic, encoded('v1', topic, 'broker-a', far)))
    s.saw('more words', recall(c, topic, encoded('v1', topic, 'broker-a', far, 'nobody', 'more')))
    s.saw('no Base64', recall(c, topic, '***'))
    s.saw('an empty handle', recall(c, topic, ''))
    s.saw('a time that has passed', recall(c, topic, encoded('v1', topic, 'broker-a', now_ms() - 1, 'U1')))
    s.saw('a time that is no number', recall(c, topic, encoded('v1', topic, 'broker-a', 'soon', 'U1')))
    s.saw('too far', recall(c, topic, encoded('v1', topic, 'broker-a', now_ms() + (LONGEST_S + 5) * 1000, 'U1')))
    for field in ('topic', 'recallHandle'):
        s.saw(f'without {field}', recall(c, topic, sent['kept'], {field: None}))

    def there():
        return texts(all_of(c, topic, 0) + all_of(c, topic, 1))
    s.wait(lambda: {'kept', 'not recalled'} <= set(there()), 'what is not recalled is delivered', 60)
    time.sleep(1.5)
    s.saw('delivered', sorted(there()))
    s.saw('after delivery', recall(c, topic, sent['kept']))


@raw(settings={**RECALLS, 'brokerPermission': 4}, deadline=60)
def recalls_at_a_broker_that_takes_no_messages(s):
    c = s.connect()
    s.saw('recall', recall(c, 'TBW102', encoded('v1', 'TBW102', 'broker-a', now_ms() + 60_000, 'U1')))


@raw(settings={**RECALLS, 'brokerPermission': 4, 'allowRecallWhenBrokerNotWriteable': 'true'}, deadline=60)
def recalls_at_a_broker_that_takes_nothing_else(s):
    c = s.connect()
    s.saw('recall', recall(c, 'TBW102', encoded('v1', 'TBW102', 'broker-a', now_ms() + 60_000, 'U1')))


@raw(settings={'transactionCheckInterval': 3_600_000}, deadline=120)
def a_transaction_of_a_timer(s):
    """A delay counts from the commit on; a time is a time. The Java broker makes a timer of the half message itself and forgets its topic:
    it is acknowledged and never delivered."""
    topic, c = s.topic(queues=1), s.connect()
    at = now_ms() + 4000
    sent, due = {}, {}
    for text, props in (('a delay', dict(TIMER_DELAY_SEC='1')), ('a time', dict(TIMER_DELIVER_MS=at)), ('passed', dict(TIMER_DELIVER_MS='1')),
                        ('no number', dict(TIMER_DELAY_SEC='x')), ('too far', dict(TIMER_DELAY_SEC=LONGEST_S + 60))):
        answer = send_half(c, topic, text, props=props)
        answer.ext.pop('queueOffset', None)
        s.saw(text, answer)
        if answer.code == 0:
            sent[text] = answer
    if s.target.kind == 'apache':
        return
    s.visible(HALF, 0, 3, c)
    halves = {m['body'].decode(): m for m in all_of(c, HALF)}
    for text, half in halves.items():
        assert half['props'].get('TIMER_OUT_MS') is None, half
        ends = dict(producerGroup='pg', tranStateTableOffset=half['offset'], commitLogOffset=half['log'], commitOrRollback=COMMIT,
                    fromTransactionCheck=False, msgId=sent[text].ext.get('transactionId'))
        due[text] = {'a delay': now_ms() + 1000, 'a time': at}.get(text)
        assert c.ask(wire.END_TRANSACTION, ends).code == 0, text
    s.wait(lambda: len(all_of(c, topic)) >= 3, 'they are delivered', 60)
    messages = all_of(c, topic)
    assert texts(messages) == ['passed', 'a delay', 'a time'], texts(messages)
    for message in messages[1:]:
        in_time(s, message, due[message['body'].decode()], due[message['body'].decode()] + 1000)
        assert message['prepared'] > 0 or 'PGROUP' in message['props'], message


@sdk(*JAVA, 'go', settings=RECALLS, deadline=120)
def clients_send_for_a_time_and_recall(s):
    """The new Java client sends and recalls, as only it can; each client receives."""
    topic = s.topic(queues=1)
    consumer = s.push('c', topic, threads=1)
    driver = s.session.driver('java-5.5.0')
    producer = s.start('producer', 'timers', driver=driver, group=s.name('tg'))
    begin, due = now_ms(), {}

    def sent(text, due_ms, **how):
        due[text] = due_ms
        answer = producer.call('send', topic=topic, text=text, **how)
        assert answer['status'] == 'SEND_OK' and handle(answer['recall_handle'])['key'] == answer['msg_id'], answer
        return answer

    sent('third', begin + 7000, deliver_ms=begin + 7000)
    sent('second', begin + 5000, timer_ms=5000)
    sent('first', begin + 3000, timer_s=3)
    taken = sent('taken back', begin + 6000, timer_s=6)
    assert producer.call('recall', topic=topic, handle=taken['recall_handle'])['msg_id'] == taken['msg_id']
    try:
        producer.call('recall', topic=topic, handle=encoded('v1', topic, 'broker-a', begin - 1, 'U'))
    except Exception as refused:  # noqa: BLE001 - the driver's own kind
        assert 'recall failed' in str(refused), refused
    else:
        raise AssertionError('a recall that is too late succeeded')
    producer.call('send', topic=topic, text='at once')
    own = s.producer('own')
    own.call('send', topic=topic, text='of this client', props={'TIMER_DELAY_SEC': '9'} if s.case.client == 'go' else {}, **(
        {} if s.case.client == 'go' else {'raw_props': {'TIMER_DELAY_SEC': '9'}}))
    due['of this client'] = begin + 9000
    got = consumer.received(5)
    assert [m['text'] for m in got] == ['at once', 'first', 'second', 'third', 'of this client'], got
    for message in got[1:]:
        assert message['stored_ms'] >= due[message['text']] - 2, (message, due)
