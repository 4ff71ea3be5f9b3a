"""Messages with priorities: the queue a priority names, and the order in which pops read the queues."""
from harness import wire
from harness.scenario import raw, sdk

from .pops import pop


def with_priorities(s, c):
    """A topic of three queues whose messages have priorities, and a group."""
    topic, group = s.topic(queues=3), s.name('g')
    assert c.ask(wire.UPDATE_TOPIC, dict(topic=topic, defaultTopic='TBW102', readQueueNums=3, writeQueueNums=3, perm=6, order=False,
                                         topicFilterType='SINGLE_TAG', topicSysFlag=0, attributes='+message.type=PRIORITY')).code == 0
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
    return topic, group


def send(s, topic, *priorities, queue=0):
    """Messages whose text is their priority; all ask for the same queue."""
    stored = []
    for priority in priorities:
        with wire.Connection(s.target.broker) as c:
            header = wire.send_header(topic, queue, props={'_SYS_MSG_PRIORITY_': str(priority)})
            answer = c.ask(wire.SEND, header, str(priority).encode())
        assert answer.code == 0, answer
        at, offset = int(answer.ext['queueId']), int(answer.ext['queueOffset'])
        s.visible(topic, at, offset + 1)
        stored.append(at)
    return stored


def texts(answer):
    return [m['body'].decode() for m in answer.messages()] if answer.code == 0 else []


def one_by_one(c, topic, group, **more):
    got = []
    while True:
        found = texts(pop(c, topic, group, queueId=-1, maxMsgNums=1, **more))
        if not found:
            return got
        got += found


@raw
def the_highest_priority_is_popped_first(s):
    c = s.connect()
    topic, group = with_priorities(s, c)
    s.saw('queues', send(s, topic, 0, 1, 2, 9, 1, 0))
    s.saw('one by one', one_by_one(c, topic, group))
    other = s.name('other')
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=other)).code == 0
    s.saw('together', texts(pop(c, topic, other, queueId=-1)))
    s.saw('of one queue', texts(pop(c, topic, s.name('third'), queueId=1)))
    refused = c.ask(wire.UPDATE_GROUP, body=dict(groupName=s.name('bad'), attributes={'+priority.factor': '101'}))
    s.saw('a factor out of range', refused.code)


@raw
def a_group_without_a_priority_factor_starts_at_any_queue(s):
    c = s.connect()
    topic, group = with_priorities(s, c)
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group, attributes={'+priority.factor': '0'})).code == 0
    send(s, topic, *(n % 3 for n in range(45)))
    got = one_by_one(c, topic, group)
    assert sorted(got) == sorted(str(n % 3) for n in range(45)), got
    assert got != sorted(got, reverse=True), 'not by priority'


@raw(settings=dict(priorityOrderAsc='false'))
def zero_is_the_highest_priority_if_the_order_is_not_ascending(s):
    c = s.connect()
    topic, group = with_priorities(s, c)
    send(s, topic, 0, 1, 2, 9, 1, 0)
    s.saw('one by one', one_by_one(c, topic, group))


def retried(s, c, topic, group, priorities):
    """Pops these and lets their time pass; then what is popped."""
    send(s, topic, *priorities)
    first = pop(c, topic, group, queueId=-1, invisibleTime=1000)
    assert len(texts(first)) == len(priorities), texts(first)
    retry = f'%RETRY%{group}_{topic}'

    def stored():
        at = [c.ask(wire.MAX_OFFSET, dict(topic=retry, queueId=q)) for q in range(3)]
        return [int(a.ext['offset']) if a.code == 0 else 0 for a in at]
    s.wait(lambda: sum(stored()) == len(priorities), 'all are in the retry topic')
    s.saw('retry topic', stored())
    send(s, topic, 0)
    s.saw('then', one_by_one(c, topic, group))


@raw(settings=dict(useSeparateRetryQueue='true'))
def retried_messages_keep_their_priority_in_queues_of_their_own(s):
    c = s.connect()
    retried(s, c, *with_priorities(s, c), [0, 2, 1])


@raw
def retried_messages_are_popped_after_all_others_of_any_priority(s):
    c = s.connect()
    retried(s, c, *with_priorities(s, c), [2])


@sdk('java-5.5.0')
def a_pulling_consumer_gets_messages_of_all_priorities(s):
    """Priorities are the queues' numbers: a consumer that pulls reads its queues side by side, on Apache's broker, too."""
    with wire.Connection(s.target.broker) as c:
        topic, group = with_priorities(s, c)
        consumer = s.push('c', topic, group=group)
        assert send(s, topic, 0, 1, 2, 9, 1, 0) == [0, 1, 2, 2, 1, 0]
        assert sorted(m['text'] for m in consumer.received(6)) == ['0', '0', '1', '1', '2', '9']
