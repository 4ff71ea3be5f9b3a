"""Finding messages again: by offset id, by key, by unique key, through the clients."""
from harness.drivers import DriverError
from harness.scenario import JAVA, sdk


@sdk(*JAVA)
def messages_are_found_by_id_key_and_unique_key(s):
    topic = s.topic(queues=2)
    producer = s.producer()
    sent = producer.send(topic, 'findme', keys='order-1 order-2', tags='T', queue=1)
    for i in range(5):
        producer.send(topic, f'other{i}', keys='order-2', queue=0)
    by_offset_id = producer.call('view', topic=topic, msg_id=sent['offset_msg_id'])
    assert by_offset_id['text'] == 'findme' and by_offset_id['keys'] == 'order-1 order-2', by_offset_id
    def found(key):
        try:
            return [m['text'] for m in producer.call('query', topic=topic, key=key)['messages']]
        except DriverError:  # the index may lag
            return []
    s.wait(lambda: found('order-1') == ['findme'], 'found by the first key')
    s.wait(lambda: sorted(found('order-2')) == sorted(['findme'] + [f'other{i}' for i in range(5)]), 'found by the second key')
    by_unique = producer.call('view', topic=topic, msg_id=sent['msg_id'])
    assert by_unique['text'] == 'findme' and by_unique['msg_id'] == sent['msg_id'], by_unique
    assert found('no-such-key') == []


@sdk(*JAVA)
def a_batch_is_found_by_each_key(s):
    topic = s.topic(queues=1)
    producer = s.producer()
    producer.call('send_batch', topic=topic, messages=[dict(text=f'b{i}', keys=f'bk{i}') for i in range(3)])
    def found(key):
        try:
            return [m['text'] for m in producer.call('query', topic=topic, key=key)['messages']]
        except DriverError:
            return []
    for i in range(3):
        s.wait(lambda i=i: found(f'bk{i}') == [f'b{i}'], f'bk{i} is found')
