"""The frame itself: both header encodings, wrong fields, lies about lengths, halves, unknown codes."""
import json
import struct
import time

from harness import wire
from harness.scenario import raw
from harness.summaries import texts


def alive(s):
    """The broker still serves others."""
    assert s.ask(wire.MAX_OFFSET, dict(topic='SELF_TEST_TOPIC', queueId=0)).code == 0


@raw
def unknown_codes(s):
    c = s.connect()
    for code in (0, 9, 13, 22, 47, 9999, 99999, -1, 2**31 - 1):
        s.saw(f'code {code}', c.ask(code))
    for code in (209, 301):
        s.saw(f'declared only: {code}', c.ask(code))
    with wire.Connection(s.target.namesrv) as n:
        for code in (9999, wire.SEND, wire.HEARTBEAT):
            s.saw(f'name server, code {code}', n.ask(code))
    alive(s)


@raw
def missing_and_malformed_header_fields(s):
    topic, c = s.topic(queues=1), s.connect()
    good = wire.send_header(topic)
    for field in ('producerGroup', 'topic', 'defaultTopic', 'defaultTopicQueueNums', 'queueId', 'sysFlag', 'bornTimestamp', 'flag'):
        s.saw(f'send without {field}', c.ask(wire.SEND, {k: v for k, v in good.items() if k != field}, b'x'))
        s.saw(f'send v2 without {field}', c.ask(wire.SEND_V2, wire.v2({k: v for k, v in good.items() if k != field}), b'x'))
    for field, value in (('queueId', 'one'), ('queueId', ''), ('queueId', '1.5'), ('sysFlag', '99999999999'), ('bornTimestamp', 'now'),
                         ('queueId', ' 0'), ('queueId', '+0'), ('batch', 'perhaps'), ('unitMode', 'TRUE')):
        s.saw(f'send with {field}={value!r}', c.ask(wire.SEND, dict(good, **{field: value}), b'x'))
    good = wire.pull_header(topic, 0)
    for field in good:
        if field not in ('subscription', 'expressionType'):
            s.saw(f'pull without {field}', c.ask(wire.PULL, {k: v for k, v in good.items() if k != field}), lambda a: len(a.body) > 0)
    s.saw('send without any field', c.ask(wire.SEND, {}, b'x'))
    s.saw('pull without any field', c.ask(wire.PULL))
    s.saw('14 without any field', c.ask(wire.QUERY_OFFSET))
    s.saw('30 without any field', c.ask(wire.MAX_OFFSET))
    s.saw('17 without any field', c.ask(wire.UPDATE_TOPIC))
    with wire.Connection(s.target.namesrv) as n:
        s.saw('105 without any field', n.ask(wire.ROUTE))
    alive(s)


@raw
def headers_of_other_clients(s):
    topic, c = s.topic(queues=1), s.connect()

    def ask(head, body=b'x'):
        opaque = next(wire._opaque)
        c.send_bytes(wire.frame(json.dumps(dict(dict(code=wire.SEND, flag=0, extFields={k: wire.text_of(v) for k, v in wire.send_header(topic).items()}),
                                                **head, opaque=opaque)).encode(), body))
        return c.answer(opaque)

    s.saw('an unknown language', ask(dict(language='COBOL', version=1)))
    s.saw('no language', ask(dict(version=1)))
    s.saw('no version', ask(dict(language='GO')))
    s.saw('unknown keys', ask(dict(language='JAVA', version=1, shoeSize=43, nested={'a': [1, {'b': None}]})))
    s.saw('null remark', ask(dict(language='JAVA', version=1, remark=None)))
    s.saw('serialize type', ask(dict(language='CPP', version=1, serializeTypeCurrentRPC='JSON')))
    s.saw('ext values that are not text', ask(dict(language='OTHER', version=1, extFields={
        k: v for k, v in wire.send_header(topic).items()})))
    s.saw('language as a number', ask(dict(language=9, version=1)))
    s.saw('escaped names', ask(dict(language='JAVA', version=1, remark='"quoted" \\ \u00e4 \U0001f680')))
    s.visible(topic, 0, 7)


@raw
def the_binary_header(s):
    topic, c = s.topic(queues=1), s.connect()
    s.saw('send', c.ask(wire.SEND, wire.send_header(topic, props=dict(KEYS='nyckel Ä')), b'x', binary=True, language='JAVA'))
    s.saw('send v2', c.ask(wire.SEND_V2, wire.v2(wire.send_header(topic)), b'y', binary=True, language='GO'))
    s.visible(topic, 0, 2)
    answer = c.ask(wire.PULL, wire.pull_header(topic, 0), binary=True, language='CPP')
    s.saw('pull', answer, texts)
    if s.target.kind == 'apogee':  # the Java broker answers this one in JSON
        assert answer.binary, 'a binary request was answered in JSON'
    s.saw('refusal', c.ask(wire.SEND, wire.send_header(topic, 77), b'x', binary=True))
    s.saw('unknown code', c.ask(9999, binary=True))
    s.saw('missing field', c.ask(wire.MAX_OFFSET, dict(topic=topic), binary=True))
    s.saw('JSON again on the same connection', c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=0)))
    with wire.Connection(s.target.namesrv) as n:
        route = n.ask(wire.ROUTE, dict(topic=topic), binary=True)
        assert route.code == 0 and route.json()['queueDatas'], route
        assert route.binary or s.target.kind == 'apache', route


@raw
def halves_and_many_at_once(s):
    topic = s.topic(queues=1)
    frames = b''.join(wire.encode(wire.SEND, wire.send_header(topic), b'm%d' % i, opaque=90000 + i) for i in range(20))
    c = s.connect()
    for i in range(0, len(frames), 997):  # cut anywhere
        c.send_bytes(frames[i:i + 997])
        time.sleep(0.002)
    assert {c.answer(90000 + i).code for i in range(20)} == {0}
    s.visible(topic, 0, 20)
    slow = s.connect()
    one = wire.encode(wire.MAX_OFFSET, dict(topic=topic, queueId=0), opaque=90100)
    for byte in one:
        slow.send_bytes(bytes([byte]))
    assert slow.answer(90100).ext['offset'] == '20'
    half = s.connect()
    half.send_bytes(one[:20])
    half.close()
    alive(s)


@raw
def lies_about_lengths_close_the_connection(s):
    """Nobody else is harmed. What exactly the Java broker does with each is not asked."""
    good = wire.encode(wire.MAX_OFFSET, dict(topic='SELF_TEST_TOPIC', queueId=0), opaque=90200)
    lies = {
        'frame of 2 GiB': struct.pack('>iI', 2**31 - 1, 100) + good[8:],
        'negative frame': struct.pack('>iI', -5, 100) + good[8:],
        'frame of 17 MiB': struct.pack('>iI', 17 << 20, 100) + good[8:],
        'frame of zero': struct.pack('>i', 0),
        'frame of three': struct.pack('>i', 3) + b'abc',
        'header longer than the frame': struct.pack('>iI', len(good) - 4, 0xFFFFFF) + good[8:],
        'header of zero': struct.pack('>iI', 4, 0),
        'header that is not JSON': wire.frame(b'this is not JSON'),
        'header cut inside': wire.frame(b'{"code":30,"opaque":1,"extFields":{"topic":"x'),
        'header that is a list': wire.frame(b'[1,2,3]'),
        'unknown serialisation': wire.frame(b'{"code":30,"opaque":1}', kind=77),
        'binary header that is too short': wire.frame(b'\x00\x1e\x00', kind=1),
        'binary ext longer than the header': wire.frame(struct.pack('>hbhiiii', 30, 0, 0, 1, 0, 0, 1 << 30), kind=1),
        'binary remark longer than the header': wire.frame(struct.pack('>hbhiii', 30, 0, 0, 1, 0, 1 << 30), kind=1),
        'HTTP': b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
    }
    for address in (s.target.broker, s.target.namesrv):
        for label, data in lies.items():
            with wire.Connection(address) as c:
                c.send_bytes(data)
                if s.target.kind == 'apogee':
                    # A clear error or a close, at once. Half a frame may be waited for, but not one over the limit.
                    answered = c.changed
                    with answered:
                        done = answered.wait_for(lambda: c.closed or c.answers, 5)
                    assert done, f'{label} on {address}: neither answer nor close'
    alive(s)


@raw
def a_response_nobody_asked_for_is_ignored(s):
    topic, c = s.topic(queues=1), s.connect()
    c.send_bytes(wire.encode(0, {}, b'', opaque=4242, flag=1))
    assert c.ask(wire.SEND, wire.send_header(topic), b'x').code == 0


@raw
def opaque_is_any_number(s):
    topic, c = s.topic(queues=1), s.connect()
    for opaque in (0, -1, 2**31 - 1, -2**31):
        c.send_bytes(wire.encode(wire.SEND, wire.send_header(topic), b'x', opaque=opaque))
        assert c.answer(opaque).code == 0


@raw
def a_client_that_never_reads_harms_nobody(s):
    topic = s.topic(queues=1)
    with wire.Connection(s.target.broker) as c:
        c.timeout = 30
        for _ in range(8):
            assert c.ask(wire.SEND, wire.send_header(topic), b'x' * 200_000).code == 0
    import socket
    host, port = s.target.broker.split(':')
    deaf = socket.create_connection((host, int(port)))
    deaf.settimeout(1)
    request = wire.encode(wire.PULL, wire.pull_header(topic, 0))
    try:
        for _ in range(2000):
            deaf.sendall(request)
    except OSError:
        pass  # closed, or no longer read: both are fine
    begin = time.monotonic()
    other = s.connect()
    for _ in range(50):
        assert other.ask(wire.SEND, wire.send_header(topic), b'y').code == 0
    assert time.monotonic() - begin < 5
    deaf.close()
    alive(s)
