"""Every check before a message is stored, and its code."""
from harness import wire
from harness.scenario import raw


@raw
def refused_sends(s):
    topic, c = s.topic(queues=2), s.connect()
    c.timeout = 20

    def send(label, header, body=b'x', shared=False):
        answer = c.ask(wire.SEND, header, body)
        if shared:
            answer.ext.pop('queueOffset', None)  # others send there, too
        s.saw(label, answer)

    send('empty body', wire.send_header(topic), b'')
    send('queue id of the count', wire.send_header(topic, 2))
    send('queue id far out', wire.send_header(topic, 1 << 20))
    send('properties of 32767 bytes', wire.send_header(topic, properties='k\x01' + 'v' * (32767 - 3) + '\x02'))
    send('properties of 32768 bytes', wire.send_header(topic, properties='k\x01' + 'v' * (32768 - 3) + '\x02'))
    send('properties of 100000 bytes', wire.send_header(topic, properties='k\x01' + 'v' * 100000 + '\x02'))
    for name, label in (('', 'empty topic'), (' ', 'blank topic'), ('a b', 'topic with a space'), ('a.b', 'topic with a dot'),
                        ('täpic', 'topic with a letter beyond ASCII'), ('t' * 127, 'topic of 127'), ('t' * 128, 'topic of 128'),
                        ('t' * 256, 'topic of 256'), ('$x', 'topic with a dollar'), ('a/b', 'topic with a slash')):
        send(label, wire.send_header(name))
    for name in ('TBW102', 'SCHEDULE_TOPIC_XXXX', 'RMQ_SYS_TRANS_HALF_TOPIC', 'RMQ_SYS_TRANS_OP_HALF_TOPIC', 'TRANS_CHECK_MAX_TIME_TOPIC',
                 'SELF_TEST_TOPIC', 'OFFSET_MOVED_EVENT', 'RMQ_SYS_TRACE_TOPIC', 'BenchmarkTest', 'DefaultCluster', 'broker-a',
                 'rmq_sys_anything'):
        send(f'to {name}', wire.send_header(name), shared=True)
    read_only, none = s.topic('ro', perm=4), s.topic('none', perm=0)
    send('read only topic', wire.send_header(read_only))
    send('topic without perm', wire.send_header(none))
    send('empty producer group', wire.send_header(topic, group=''))
    send('producer group of 300', wire.send_header(topic, group='g' * 300))
    send('retry topic of an unknown group', wire.send_header('%RETRY%' + s.name('nobody')))
    send('dead letter topic of an unknown group', wire.send_header('%DLQ%' + s.name('nobody')))


@raw
def refused_batches(s):
    topic, c = s.topic(queues=1), s.connect()

    def send(label, body, name=topic, queue=0):
        s.saw(label, c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(name, queue, batch=True)), body))

    good = wire.batch_body([(b'one', {}), (b'two', {})])
    send('good', good)
    send('to a retry topic', good, '%RETRY%' + s.name('g'))
    send('queue out of range', good, queue=7)
    send('topic of 128', good, 't' * 128)
    c.timeout = 20
    send('4 MiB and more in all', wire.batch_body([(b'x' * (1 << 20), {})] * 5))
    read_only = s.topic('ro', perm=4)
    send('read only topic', good, read_only)
    s.visible(topic, 0, 2)
    assert int(c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=0)).ext['offset']) == 2


@raw
def broken_batches_are_refused_and_nothing_of_them_is_stored(s):
    """How the Java broker ends these differs (some kill the request without an answer); here: a code, and nothing stored."""
    topic = s.topic(queues=1)
    good = wire.batch_body([(b'one', {}), (b'two', {})])
    broken = {'cut in the second message': good[:-3], 'empty': b'', 'three bytes': b'abc',
              'size of the first lies, too long': b'\x00\x00\xff\xff' + good[4:],
              'size of the first is negative': b'\xff\xff\xff\xff' + good[4:],
              'body length lies': good[:16] + b'\x7f\xff\xff\xff' + good[20:],
              'body length is negative': good[:16] + b'\xff\xff\xff\xff' + good[20:]}
    for label, body in broken.items():
        with wire.Connection(s.target.broker) as c:
            try:
                answer = c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True)), body, timeout=3)
                if s.target.kind == 'apogee':
                    assert answer.code != 0, f'{label}: {answer}'
            except (TimeoutError, wire.Closed) as e:
                assert s.target.kind == 'apache', f'{label}: {e}'
    if s.target.kind == 'apogee':
        assert s.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=0)).ext['offset'] == '0'
    assert s.ask(wire.SEND, wire.send_header(topic), b'still served').code == 0


@raw(settings={'brokerPermission': 4})
def a_read_only_broker(s):
    topic = s.topic(queues=1)
    s.saw('send', s.ask(wire.SEND, wire.send_header(topic), b'x'))
    s.saw('batch', s.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True)), wire.batch_body([(b'x', {})])))
    s.visible(topic, 0, 2) if s.noted['send']['code'] == 0 else None
    s.saw('pull', s.ask(wire.PULL, wire.pull_header(topic, 0)))
    with wire.Connection(s.target.namesrv) as n:
        s.saw('route', [q['perm'] for q in n.ask(wire.ROUTE, dict(topic=topic)).json()['queueDatas']])


@raw(settings={'brokerPermission': 2})
def a_write_only_broker(s):
    topic = s.topic(queues=1)
    s.saw('send', s.ask(wire.SEND, wire.send_header(topic), b'x'))
    s.saw('pull', s.ask(wire.PULL, wire.pull_header(topic, 0)))


@raw(settings={'autoCreateTopicEnable': 'false', 'autoCreateSubscriptionGroup': 'false', 'maxMessageSize': 1000,
               'rejectTransactionMessage': 'true'})
def a_strict_broker(s):
    topic, c = s.topic(queues=1), s.connect()
    s.saw('unknown topic', c.ask(wire.SEND, wire.send_header(s.name('nowhere')), b'x'))
    s.saw('default topic', c.ask(wire.SEND, wire.send_header(s.name('nowhere'), defaultTopic=topic), b'x'))
    s.saw('1000 bytes', c.ask(wire.SEND, wire.send_header(topic), b'x' * 1000))
    s.saw('1001 bytes', c.ask(wire.SEND, wire.send_header(topic), b'x' * 1001))
    s.saw('batch over the size', c.ask(wire.SEND_BATCH, wire.v2(wire.send_header(topic, batch=True)), wire.batch_body([(b'x' * 600, {})] * 2)))
    s.saw('pull of an unknown group', c.ask(wire.PULL, wire.pull_header(topic, 0, group=s.name('g'))))
    s.saw('commit of an unknown group', c.ask(wire.UPDATE_OFFSET, dict(consumerGroup=s.name('g'), topic=topic, queueId=0, commitOffset=1)))
    s.saw('offset of an unknown group', c.ask(wire.QUERY_OFFSET, dict(consumerGroup=s.name('g'), topic=topic, queueId=0)))
    s.saw('transaction', c.ask(wire.SEND, wire.send_header(topic, sysFlag=4, props=dict(TRAN_MSG='true', PGROUP='g')), b'x'))
    s.saw('heartbeat of an unknown group', c.ask(wire.HEARTBEAT, body=wire.heartbeat('client', [dict(group=s.name('g'), subs={topic: '*'})])))
    s.saw('its consumers', c.ask(wire.CONSUMER_LIST, dict(consumerGroup=s.name('g'))))
    with wire.Connection(s.target.namesrv) as n:
        s.saw('route of TBW102', n.ask(wire.ROUTE, dict(topic='TBW102')))
        s.saw('route of an unknown topic', n.ask(wire.ROUTE, dict(topic=s.name('nowhere'))))


@raw(ours=True, deadline=120, settings={'flushDiskType': 'SYNC_FLUSH', 'apogeeMaxUnconfirmedBytes': 1 << 20, 'syncFlushTimeout': 60000})
def more_than_waits_for_the_device_is_refused_as_busy_and_nothing_of_it_is_stored(s):
    topic = s.topic(queues=1)
    connections = [s.connect() for _ in range(8)]
    taken, refused = [], []

    def burst():
        asked = [(c, c.start(wire.SEND, wire.send_header(topic), b'x' * (1 << 19))) for _ in range(8) for c in connections]
        for c, opaque in asked:
            answer = c.answer(opaque, 60)
            assert answer.code in (0, 2), answer
            if answer.code:
                assert 'apogeeMaxUnconfirmedBytes' in answer.remark, answer
            (refused if answer.code else taken).append(answer)
        return refused

    s.wait(burst, 'a burst is too much for the device')
    s.visible(topic, 0, len(taken))
    assert int(s.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=0)).ext['offset']) == len(taken)
    # It goes on by itself.
    assert s.ask(wire.SEND, wire.send_header(topic), b'x').code == 0
