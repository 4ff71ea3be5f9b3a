"""Sends by hand: what the answers say, what is stored."""
import struct
import time

from harness import wire
from harness.scenario import raw
from harness.summaries import stored

BORN = 1700000000000


@raw
def send_answers_and_stored_bytes(s):
    topic, c = s.topic(queues=2), s.connect()
    props = dict(UNIQ_KEY='UNIQ0001', KEYS='k1 k2', TAGS='TagA', own='värde', WAIT='true')
    s.saw('10', c.ask(wire.SEND, wire.send_header(topic, 1, props=props, flag=7, bornTimestamp=BORN), b'one'))
    s.saw('310', c.ask(wire.SEND_V2, wire.v2(wire.send_header(topic, 1, props=props)), b'two'))
    s.saw('310 without properties', c.ask(wire.SEND_V2, wire.v2(wire.send_header(topic, 1)), b'three'))
    s.saw('310 with broker name', c.ask(wire.SEND_V2, wire.v2(wire.send_header(topic, 1, brokerName='broker-a')), b'four'))
    s.saw('10 without optional fields', c.ask(wire.SEND, wire.send_header(
        topic, 1, properties=None, reconsumeTimes=None, unitMode=None, batch=None), b'five'))
    s.saw('unknown extra fields', c.ask(wire.SEND, wire.send_header(topic, 1, whatIsThis='?', lo=False, ns='', nsd=False), b'six'))
    s.saw('compressed flag is kept', c.ask(wire.SEND, wire.send_header(topic, 1, sysFlag=1 | (2 << 8)), b'\x00\x01 not looked into'))
    s.saw('multi tag flag', c.ask(wire.SEND, wire.send_header(topic, 1, sysFlag=2, props=dict(TAGS='x')), b'eight'))
    s.saw('reconsume times', c.ask(wire.SEND, wire.send_header(topic, 1, reconsumeTimes=3), b'nine'))
    s.saw('trailing property mark', c.ask(wire.SEND, wire.send_header(topic, 1, properties='a\x01b'), b'ten'))
    s.saw('empty property value', c.ask(wire.SEND, wire.send_header(topic, 1, properties='a\x01\x02b\x01c\x02'), b'eleven'))
    s.saw('wait false', c.ask(wire.SEND, wire.send_header(topic, 1, props=dict(WAIT='false', x='y')), b'twelve'))
    s.visible(topic, 1, 12)
    got = c.ask(wire.PULL, wire.pull_header(topic, 0, queue=1))
    s.saw('stored', got, stored)
    messages = got.messages()
    assert messages[0]['born'] == BORN and messages[0]['born_host'] == c.local, messages[0]
    assert all(m['store_host'] == s.target.broker for m in messages), messages
    assert all(abs(m['stored'] / 1000 - time.time()) < 60 for m in messages)


@raw
def a_message_id_is_address_and_log_offset(s):
    topic, c = s.topic(queues=1), s.connect()
    answer = c.ask(wire.SEND, wire.send_header(topic), b'x')
    s.visible(topic, 0, 1)
    message = c.ask(wire.PULL, wire.pull_header(topic, 0)).messages()[0]
    host, port = s.target.broker.split(':')
    expected = bytes(int(p) for p in host.split('.')) + struct.pack('>iq', int(port), message['log'])
    assert answer.ext['msgId'] == expected.hex().upper(), answer
    s.saw('view by id', c.ask(wire.VIEW_MESSAGE, dict(offset=message['log'])), stored)
    s.saw('view by id with topic', c.ask(wire.VIEW_MESSAGE, dict(offset=message['log'], topic=topic)), stored)


@raw
def a_batch_answers_every_id_and_the_first_offset(s):
    topic, c = s.topic(queues=1), s.connect()
    items = [(b'one', dict(UNIQ_KEY='U1', KEYS='a', TAGS='t1'), 5), (b'two', dict(UNIQ_KEY='U2')), (b'', {}), ('fyra Ä'.encode(), dict(x='y'))]
    c.ask(wire.SEND, wire.send_header(topic), b'before')
    answer = c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True, bornTimestamp=BORN)), wire.batch_body(items[:2] + items[3:]))
    s.saw('batch', answer)
    c.ask(wire.SEND, wire.send_header(topic), b'after')
    s.visible(topic, 0, 5)
    got = c.ask(wire.PULL, wire.pull_header(topic, 0))
    s.saw('stored', got, stored)
    ids = answer.ext['msgId'].split(',')
    host, port = s.target.broker.split(':')
    front = bytes(int(p) for p in host.split('.')) + struct.pack('>i', int(port))
    assert ids == [(front + struct.pack('>q', m['log'])).hex().upper() for m in got.messages()[1:4]], (ids, got.messages())
    s.saw('a batch of one', c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True)), wire.batch_body(items[:1])))
    s.saw('properties of the request do not count', c.ask(
        wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True, props=dict(UNIQ_KEY='R', z='1'))), wire.batch_body(items[:1])))
    s.visible(topic, 0, 7)
    s.saw('stored later', c.ask(wire.PULL, wire.pull_header(topic, 5)), stored)


@raw
def a_negative_queue_means_any(s):
    topic, c = s.topic(queues=3), s.connect()
    answers = [c.ask(wire.SEND, wire.send_header(topic, -1), b'x') for _ in range(30)]
    assert {a.code for a in answers} == {0} and {int(a.ext['queueId']) for a in answers} <= {0, 1, 2}, answers
    s.wait(lambda: sum(int(c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=q)).ext['offset']) for q in range(3)) == 30, 'all are visible')


@raw
def pipelined_sends_on_one_connection_keep_their_order(s):
    """The Java broker has several threads for sends, so it promises nothing here; ApogeeMQ does."""
    topic, c = s.topic(queues=1), s.connect()
    frames, opaques = [], []
    for i in range(1000):
        opaque = next(wire._opaque)
        opaques.append(opaque)
        frames.append(wire.encode(wire.SEND, wire.send_header(topic), b'm%d' % i, opaque=opaque))
    c.send_bytes(b''.join(frames))
    answers = [c.answer(o) for o in opaques]
    assert {a.code for a in answers} == {0}, [a for a in answers if a.code][:3]
    offsets = [int(a.ext['queueOffset']) for a in answers]
    assert sorted(offsets) == list(range(1000))
    if s.target.kind == 'apogee':
        assert offsets == list(range(1000)), 'the order of the connection was not kept'


@raw
def one_way_requests_are_not_answered(s):
    topic, c = s.topic(queues=1), s.connect()
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=s.name('g'))).code == 0
    quiet = [c.start(wire.SEND, wire.send_header(topic), b'x', flag=2) for _ in range(3)]
    quiet.append(c.start(wire.SEND, wire.send_header(topic, 99), b'refused', flag=2))
    quiet.append(c.start(wire.UPDATE_OFFSET, dict(consumerGroup=s.name('g'), topic=topic, queueId=0, commitOffset=2), flag=2))
    quiet.append(c.start(29999, {}, flag=2))
    s.wait(lambda: int(c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=0)).ext['offset']) == 3, 'all are stored')
    s.wait(lambda: s.committed(s.name('g'), topic) == 2, 'the offset is committed')
    assert not [o for o in quiet if o in c.answers], 'a one-way request was answered'


@raw
def auto_created_topics_take_queues_and_perm_from_the_default_topic(s):
    c = s.connect()

    def config(topic):
        with wire.Connection(s.target.namesrv) as n:
            s.wait(lambda: n.ask(wire.ROUTE, dict(topic=topic)).code == 0, f'{topic} is routed')
            return n.ask(wire.ROUTE, dict(topic=topic)).json()['queueDatas'][0]

    for wanted in (1, 4, 8, 12):
        topic = s.name(f'auto{wanted}')
        s.saw(f'{wanted} queues wanted', c.ask(wire.SEND, wire.send_header(topic, defaultTopicQueueNums=wanted), b'x'))
        s.saw(f'route of {wanted}', config(topic))
    s.saw('0 queues wanted', c.ask(wire.SEND, wire.send_header(s.name('auto0'), defaultTopicQueueNums=0), b'x'))
    s.saw('-1 queues wanted', c.ask(wire.SEND, wire.send_header(s.name('auto-1'), defaultTopicQueueNums=-1), b'x'))
    s.saw('unknown default topic', c.ask(wire.SEND, wire.send_header(s.name('auto-x'), defaultTopic=s.name('nope')), b'x'))
    template = s.topic('template', queues=3, perm=7)
    s.saw('own default topic', c.ask(wire.SEND, wire.send_header(s.name('auto-own'), defaultTopic=template, defaultTopicQueueNums=8), b'x'))
    plain = s.topic('plain', queues=3, perm=6)
    s.saw('default topic that must not be inherited', c.ask(wire.SEND, wire.send_header(s.name('auto-plain'), defaultTopic=plain), b'x'))
    s.saw('queue beyond the created ones', c.ask(wire.SEND, wire.send_header(s.name('auto-q'), 5, defaultTopicQueueNums=2), b'x'))


@raw
def a_send_to_a_retry_topic_creates_it(s):
    c = s.connect()
    group = s.name('g')
    s.ask(wire.UPDATE_GROUP, body=dict(groupName=group, retryQueueNums=2))
    s.saw('known group', c.ask(wire.SEND, wire.send_header(f'%RETRY%{group}', group='CLIENT_INNER_PRODUCER', reconsumeTimes=1), b'x'))
    s.visible(f'%RETRY%{group}', 0, 1)
    s.saw('stored', c.ask(wire.PULL, wire.pull_header(f'%RETRY%{group}', 0, group=group)), stored)


@raw
def four_megabytes_by_hand(s):
    topic, c = s.topic(queues=1), s.connect()
    c.timeout = 30
    body = bytes(range(256)) * (4 << 12)
    s.saw('4 MiB', c.ask(wire.SEND, wire.send_header(topic), body))
    s.saw('one more', c.ask(wire.SEND, wire.send_header(topic), body + b'x'))
    s.visible(topic, 0, 1)
    got = c.ask(wire.PULL, wire.pull_header(topic, 0)).messages()
    assert len(got) == 1 and got[0]['body'] == body and got[0]['crc_ok']


@raw
def a_reply_goes_to_who_asked(s):
    asker, replier, client = s.connect(), s.connect(), s.name('asker')
    assert asker.ask(wire.HEARTBEAT, body=wire.heartbeat(client, producers=[s.name('p')])).code == 0
    answered = lambda a: dict(code=a.code, remark=a.remark, ext={k: v for k, v in a.ext.items()  # noqa: E731
                                                                  if k not in ('queueOffset', 'transactionId')})

    def header(code, **props):
        fields = wire.send_header('DefaultCluster_REPLY_TOPIC', 0, props=dict(props, CORRELATION_ID='c1', MSG_TYPE='reply'))
        return wire.v2(fields) if code == wire.SEND_REPLY_V2 else fields

    for count, (label, code, acknowledged) in enumerate((('324', wire.SEND_REPLY, 0), ('325', wire.SEND_REPLY_V2, 0),
                                                         ('refused by who asked', wire.SEND_REPLY_V2, 1)), 1):
        opaque = replier.start(code, header(code, REPLY_TO_CLIENT=client), b'answer')
        pushed = asker.wait_pushed(wire.PUSH_REPLY, count)[-1]
        asker.send_bytes(wire.encode(acknowledged, opaque=pushed.opaque, flag=1))
        ext = {k: v for k, v in pushed.ext.items() if k not in ('bornTimestamp', 'storeTimestamp')}
        ext['properties'] = dict(wire.properties(ext['properties']), PUSH_REPLY_TIME='<time>')
        s.saw(f'{label}, pushed', dict(ext=ext, body=pushed.body, oneway=bool(pushed.flag & 2)))
        s.saw(f'{label}, answered', answered(replier.answer(opaque)))
    s.saw('to nobody', answered(replier.ask(wire.SEND_REPLY_V2, header(wire.SEND_REPLY_V2, REPLY_TO_CLIENT=s.name('nobody')), b'x')))
    s.saw('to no one named', answered(replier.ask(wire.SEND_REPLY_V2, header(wire.SEND_REPLY_V2), b'x')))
