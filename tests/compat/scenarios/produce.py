"""What producers of the client libraries do: every way of sending, and that what arrives is what was sent."""
import hashlib
import json
import random

from harness import wire
from harness.drivers import DriverError
from harness.scenario import JAVA, sdk

ALL = (*JAVA, 'go', 'node', 'cpp')
UNICODE = 'Grüße, 你好, здравствуйте, 🚀 end'


def by_offset(messages):
    return sorted(messages, key=lambda m: (m['queue'], m['offset']))


@sdk(*ALL)
def a_message_arrives_with_all_its_parts(s):
    topic = s.topic(queues=1)
    consumer = s.push('c', topic)
    producer = s.producer()
    sent = producer.send(topic, UNICODE, tags='TagÄ', keys='key1 ключ2', props={'color': 'blå', 'n': '42'})
    assert sent['status'] == 'SEND_OK', sent
    assert sent.get('queue', 0) == 0 and sent['offset'] == 0, sent
    got = consumer.received(1)[0]
    assert got['text'] == UNICODE, got
    assert got['tags'] == 'TagÄ' and got['keys'] == 'key1 ключ2', got
    assert got['props']['color'] == 'blå' and got['props']['n'] == '42', got
    assert got['msg_id'] == sent['msg_id'], (got, sent)
    assert (got['topic'], got['queue'], got['offset']) == (topic, 0, 0), got
    if s.case.client in (*JAVA, 'go'):
        assert got['offset_msg_id'] == sent['offset_msg_id'], (got, sent)


@sdk(*ALL)
def sync_sends_are_acknowledged_with_rising_offsets(s):
    topic = s.topic(queues=1)
    results = s.producer().send_many(topic, 20, mode='sync')
    assert [r['offset'] for r in results] == list(range(20)), results
    assert len({r['msg_id'] for r in results}) == 20
    assert {r['status'] for r in results} == {'SEND_OK'}


@sdk(*JAVA, 'go', 'cpp')
def async_sends_call_back_and_all_arrive(s):
    topic = s.topic(queues=4)
    consumer = s.push('c', topic)
    results = s.producer().send_many(topic, 200)
    assert len(results) == 200 and {r['status'] for r in results} == {'SEND_OK'}
    assert len({r['msg_id'] for r in results}) == 200
    assert sorted(consumer.texts(200)) == sorted(f'm{i}' for i in range(200))


@sdk(*JAVA, 'go', 'cpp')
def one_way_sends_arrive(s):
    topic = s.topic(queues=4)
    consumer, producer = s.push('c', topic), s.producer()
    for i in range(20):
        producer.send(topic, f'm{i}', mode='oneway')
    assert sorted(consumer.texts(20)) == sorted(f'm{i}' for i in range(20))


@sdk(*JAVA, 'go')
def a_batch_gets_an_offset_for_each_message(s):
    topic = s.topic(queues=1)
    consumer, producer = s.push('c', topic), s.producer()
    producer.send(topic, 'before')
    sent = producer.call('send_batch', topic=topic, messages=[
        dict(text=f'b{i}', tags='T', keys=f'k{i}', props={'i': str(i)}) for i in range(10)])
    assert sent['status'] == 'SEND_OK' and sent['offset'] == 1, sent
    ids = sent['offset_msg_id'].split(',')
    assert len(ids) == 10 and len(set(ids)) == 10, sent
    producer.send(topic, 'after')
    got = by_offset(consumer.received(12))
    assert [m['text'] for m in got] == ['before'] + [f'b{i}' for i in range(10)] + ['after'], got
    assert [m['offset'] for m in got] == list(range(12))
    assert [m['offset_msg_id'] for m in got[1:11]] == ids
    assert all(m['props']['i'] == str(i) and m['keys'] == f'k{i}' for i, m in enumerate(got[1:11]))


@sdk(*JAVA)
def pipelined_sends_to_one_queue_all_arrive(s):
    """The client hands asynchronous sends to a thread pool, so their order is its own; none is lost or doubled."""
    topic = s.topic(queues=2)
    producer = s.producer()
    results = producer.send_many(topic, 500, queue=1)
    assert sorted(r['offset'] for r in results) == list(range(500))
    consumer = s.push('c', topic)
    got = by_offset(consumer.received(500))
    assert {m['queue'] for m in got} == {1} and sorted(m['text'] for m in got) == sorted(f'm{i}' for i in range(500))


@sdk(*JAVA)
def compressed_bodies_come_back_whole(s):
    topic = s.topic(queues=1)
    consumer = s.push('c', topic)
    text = 'compress me, 压缩 ' * 4000
    digest = hashlib.sha256(text.encode()).hexdigest()
    types = {'ZLIB': 3, 'LZ4': 1, 'ZSTD': 2}
    for name in types:
        producer = s.producer(name, compress_type=name, compress_over=100)
        producer.send(topic, text, keys=name)
    got = consumer.received(3)
    assert sorted(m['keys'] for m in got) == sorted(types), got
    assert all(m['sha256'] == digest for m in got), got
    with wire.Connection(s.target.broker) as c:
        stored = c.ask(wire.PULL, wire.pull_header(topic, 0)).messages()
    assert all(m['sys_flag'] & 1 and (m['sys_flag'] >> 8) & 7 == types[m['props']['KEYS']] for m in stored), stored
    assert all(len(m['body']) < len(text) / 10 and m['crc_ok'] for m in stored)


@sdk('go', 'node', 'cpp')
def a_compressed_body_comes_back_whole(s):
    topic = s.topic(queues=1)
    consumer = s.push('c', topic)
    text = 'compress me, 压缩 ' * 4000
    s.producer(compress_over=100).send(topic, text)
    assert consumer.received(1)[0]['sha256'] == hashlib.sha256(text.encode()).hexdigest()


@sdk(*JAVA, 'go')
def four_megabytes_pass_and_one_byte_more_is_refused(s):
    topic = s.topic(queues=1)
    producer = s.producer(max_size=16 << 20, timeout_ms=30000, retries=0)
    body = random.Random(7).randbytes(4 << 20)
    consumer = s.push('c', topic)
    assert producer.send(topic, body)['status'] == 'SEND_OK'
    try:
        producer.send(topic, body + b'x')
        raise AssertionError('4 MiB + 1 was taken')
    except DriverError as e:
        assert s.case.client == 'go' or e.code == 13, (e.code, str(e))
    got = consumer.received(1)[0]
    assert got['size'] == 4 << 20 and got['sha256'] == hashlib.sha256(body).hexdigest(), got


@sdk(*JAVA, 'go')
def an_unknown_topic_is_created_on_first_use(s):
    topic = s.name('auto')
    producer = s.producer(queue_nums=3)
    assert producer.send(topic, 'first')['status'] == 'SEND_OK'
    s.wait(lambda: s.routed(topic), 'the new topic is routed')
    with wire.Connection(s.target.namesrv) as c:
        route = c.ask(wire.ROUTE, dict(topic=topic)).json()
    queues = route['queueDatas'][0]
    expected = 3 if s.case.client in JAVA else None
    if expected:
        assert queues['readQueueNums'] == expected and queues['writeQueueNums'] == expected, queues
    assert queues['perm'] == 6, queues


@sdk(*JAVA, 'go', settings={'autoCreateTopicEnable': 'false'})
def without_auto_creation_an_unknown_topic_is_refused(s):
    producer = s.producer(retries=0)
    try:
        producer.send(s.name('nowhere'), 'x')
        raise AssertionError('the send was taken')
    except DriverError as e:
        assert 'route' in str(e).lower() or 'topic' in str(e).lower(), str(e)
    topic = s.topic('known', queues=1)
    assert producer.send(topic, 'x')['status'] == 'SEND_OK'


@sdk(*JAVA)
def a_client_creates_a_topic(s):
    producer = s.producer()
    topic = s.name('made')
    producer.call('create_topic', topic=topic, queues=3, key='TBW102')
    s.wait(lambda: s.routed(topic), 'the topic is routed')
    assert sorted(producer.call('publish_queues', topic=topic)['queues']) == [0, 1, 2]


@sdk(*JAVA)
def the_vip_port_takes_sends(s):
    topic = s.topic(queues=1)
    assert s.producer(vip=True).send(topic, 'through the other port')['status'] == 'SEND_OK'


@sdk(*JAVA, 'go')
def a_read_only_topic_is_refused_and_a_write_only_one_taken(s):
    read_only, write_only = s.topic('ro', perm=4), s.topic('wo', perm=2)
    producer = s.producer(retries=0)
    try:
        producer.send(read_only, 'x')
        raise AssertionError('the send was taken')
    except DriverError:
        pass
    assert producer.send(write_only, 'x')['status'] == 'SEND_OK'


@sdk(*JAVA)
def properties_survive_up_to_their_limit(s):
    topic = s.topic(queues=1)
    consumer, producer = s.push('c', topic), s.producer(retries=0)
    big = 'v' * 30000
    producer.send(topic, 'x', props={'big': big})
    assert consumer.received(1)[0]['props']['big'] == big
    try:
        producer.send(topic, 'x', props={'big': 'v' * 40000})
        raise AssertionError('properties of 40 kB were taken')
    except DriverError as e:
        assert e.code == 13, (e.code, str(e))


@sdk('go')
def pipelined_go_sends_keep_count(s):
    topic = s.topic(queues=1)
    results = s.producer().send_many(topic, 300)
    assert sorted(r['offset'] for r in results) == list(range(300))
    assert json.dumps(results[0])


@sdk(*JAVA)
def a_request_has_the_reply_of_who_consumes_it(s):
    topic = s.topic(queues=2)
    answering = s.producer('answering', group=s.name('pg-answering'))
    s.push('consumer', topic, answers_with=answering.h)
    asking = s.producer('asking', group=s.name('pg-asking'))
    assert [asking.call('ask', topic=topic, text=f'q{i}')['text'] for i in range(5)] == [f'answer to q{i}' for i in range(5)]
