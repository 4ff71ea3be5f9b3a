"""Topics that recognise repeated sends: a message is stored once, however often its producer has to send it."""
import threading
from concurrent.futures import ThreadPoolExecutor

from harness import wire
from harness.proxy import Lossy
from harness.scenario import raw, sdk

#: Clients, each with a connection, and so many threads, so that a connection that is cut makes many of them send again.
CLIENTS, THREADS = 4, 15
#: Of the answers to sends: so many are lost with their connection, so many alone.
CUT, DROPPED = 0.3, 0.002


def topic_with(s, attributes, queues=4):
    topic = s.topic(queues=queues)
    answer = s.ask(wire.UPDATE_TOPIC, dict(topic=topic, defaultTopic='TBW102', readQueueNums=queues, writeQueueNums=queues, perm=6,
                                           topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False, attributes=attributes))
    assert answer.code == 0, answer
    return topic


def stored(s, topic, queues=4):
    """The place of each text: queue and offset; each is there once."""
    places = {}
    with wire.Connection(s.target.broker) as c:
        for queue in range(queues):
            at, end = 0, int(c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=queue)).ext['offset'])
            while at < end:
                answer = c.ask(wire.PULL, wire.pull_header(topic, at, queue=queue))
                assert answer.code == 0, answer
                for m in answer.messages():
                    text = m['body'].decode()
                    assert text not in places, f'{text} is stored at {places[text]} and at {(queue, m["offset"])}'
                    places[text] = (queue, m['offset'])
                at = int(answer.ext['nextBeginOffset'])
    return places


def send_through_losses(s, count, batch, kill):
    topic = topic_with(s, '+dedup.window.seconds=3600')
    lossy = Lossy(s.target, CUT, DROPPED)
    try:
        producers = [s.producer(f'through{n}', target=lossy, timeout_ms=1500) for n in range(CLIENTS)]
        kills = threading.Event()

        def kill_in_the_middle():
            s.wait(lambda: lossy.sends > count // batch // 2 or kills.is_set(), 'the sends are on their way')
            s.target.restart(kill=True)
        killer = threading.Thread(target=kill_in_the_middle)
        if kill:
            killer.start()
        each = dict(topic=topic, count=count // CLIENTS, threads=THREADS, batch=batch, timeout=150)
        with ThreadPoolExecutor() as at_once:
            sending = [at_once.submit(p.call, 'send_until_stored', prefix=f'{n}m', **each) for n, p in enumerate(producers)]
            sent = [result for one in sending for result in one.result()['results']]
        kills.set()
        if kill:
            killer.join()
    finally:
        lossy.close()
    places = stored(s, topic)
    assert len(places) == count, f'{count - len(places)} of {count} messages are missing'
    assert len(sent) == count // batch
    told = {r['texts'][0]: (r['queue'], r['offset']) for r in sent}
    wrong = {text: (place, places[text]) for text, place in told.items() if places[text] != place}
    assert not wrong, f'{len(wrong)} answers name another place than that of the message: {list(wrong.items())[:5]}'
    repeats = lossy.sends - count // batch
    s.slow.append(f'{repeats} of {lossy.sends} sends were repeats')
    # Nearly a third of the answers is lost, whatever the machine.
    assert repeats > count // batch // 4, f'only {repeats} sends were repeated'


@sdk('java-5.5.0', deadline=240, settings={}, ours=True)
def sends_whose_answers_are_cut_off_are_stored_once(s):
    """A kill of the broker in the middle, too."""
    send_through_losses(s, count=3000, batch=1, kill=True)


@sdk('java-5.5.0', deadline=240, settings={}, ours=True)
def batches_whose_answers_are_cut_off_are_stored_once(s):
    send_through_losses(s, count=20_000, batch=10, kill=True)


@sdk('java-5.5.0', 'go', ours=True)
def repeats_by_business_key(s):
    """Another message with the same keys, from any client, is answered like the first one."""
    topic, producer = topic_with(s, '+dedup.window.seconds=60,+dedup.by=KEYS', queues=1), s.producer()
    first = producer.send(topic, 'a', keys='order-1')
    again = producer.send(topic, 'b', keys='order-1')
    assert (again['queue'], again['offset'], again['offset_msg_id']) == (first['queue'], first['offset'], first['offset_msg_id']), (first, again)
    producer.send(topic, 'c', keys='order-2')
    assert set(stored(s, topic, 1)) == {'a', 'c'}


@raw(ours=True)
def what_the_attributes_may_be(s):
    def set_to(attributes, topic=None):
        answer = s.ask(wire.UPDATE_TOPIC, dict(topic=topic or s.name('refused'), defaultTopic='TBW102', readQueueNums=1, writeQueueNums=1, perm=6,
                                               topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False, attributes=attributes))
        return answer.code, answer.remark
    for attributes, why in [('+dedup.window.seconds=604801', 'value is not in range(0, 604800)'), ('+dedup.by=TAGS', '[UNIQ_KEY, KEYS]')]:
        code, remark = set_to(attributes)
        assert code != 0 and why in remark, (code, remark)
    code, remark = set_to('+dedup.window.seconds=60', f'%RETRY%{s.name("g")}')
    assert code != 0 and 'dedup.window.seconds cannot be set on topic[%RETRY%' in remark, (code, remark)
