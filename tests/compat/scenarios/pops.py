"""POP: messages handed out by the broker, by hand and by the Java client in POP mode."""
import base64
import os
import re
import shutil
import time

from harness import targets, wire
from harness.scenario import raw, sdk


def pop(c, topic, group, **more):
    ext = dict(consumerGroup=group, topic=topic, queueId=0, maxMsgNums=32, invisibleTime=60000, pollTime=0, bornTime=0, initMode=0)
    ext.update(more)
    return c.ask(wire.POP, ext)


def masked(answer):
    """Times and the number of the revive queue change from run to run."""
    ext = {k: v for k, v in answer.ext.items()}
    for name in ('popTime', 'reviveQid'):
        if ext.get(name) not in (None, '999'):
            ext[name] = f'<{name}>'
    messages = [dict(topic=m['topic'], queue=m['queue'], offset=m['offset'], reconsumed=m['reconsumed'], body=m['body'].decode(),
                     handle=re.sub(r'^(\d+) \d+ (\d+) \d+ (\d) \S+ ', r'\1 <t> \2 <q> \3 <b> ', m['props'].get('POP_CK', '')))
                for m in answer.messages()] if answer.code == 0 else []
    return dict(code=answer.code, remark=answer.remark if answer.code in (0, 209, 210) else None, ext=ext, messages=messages)


def handle(answer, start, offset):
    ext = answer.ext
    return f"{start} {ext['popTime']} {ext['invisibleTime']} {ext['reviveQid']} 0 broker-a 0 {offset}"


def ack(c, topic, group, extra, offset, code=None, **more):
    return c.ask(code or wire.ACK, dict(consumerGroup=group, topic=topic, queueId=0, extraInfo=extra, offset=offset, **more))


def code_of(answer):
    return answer.code


@raw
def a_pop_is_answered_as_by_apache(s):
    topic, group, c = s.topic(queues=1), s.name('g'), s.connect()
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
    s.saw('empty', masked(pop(c, topic, group)))
    s.send_raw(topic, 3)
    first = pop(c, topic, group, maxMsgNums=2)
    s.saw('two of three', masked(first))
    second = pop(c, topic, group)
    s.saw('the third', masked(second))
    s.saw('nothing left', masked(pop(c, topic, group)))
    s.saw('acknowledged', code_of(ack(c, topic, group, handle(first, 0, 0), 0)))
    s.saw('acknowledged again', code_of(ack(c, topic, group, handle(first, 0, 0), 0)))
    s.saw('offset out of range', code_of(ack(c, topic, group, handle(first, 0, 0), 99)))
    s.saw('handle of too few parts', code_of(ack(c, topic, group, '1 2 3', 0)))
    s.saw('more time', code_of(ack(c, topic, group, handle(first, 0, 1), 1, wire.CHANGE_INVISIBLE, invisibleTime=90000)))
    bits = base64.b64encode(bytes([1])).decode()
    acks = [dict(c=group, t=topic, r='0', so=2, q=0, rq=int(second.ext['reviveQid']), pt=int(second.ext['popTime']), it=60000, b=bits)]
    s.saw('a batch', code_of(c.ask(wire.BATCH_ACK, body=dict(brokerName='broker-a', acks=acks))))
    s.saw('an empty batch', code_of(c.ask(wire.BATCH_ACK, body=dict(acks=[]))))
    s.saw('too many', code_of(pop(c, topic, group, maxMsgNums=33)))
    s.saw('unknown topic', code_of(pop(c, s.name('nowhere'), group)))
    s.saw('a queue that is not there', code_of(pop(c, topic, group, queueId=3)))
    s.saw('a malformed expression', code_of(pop(c, topic, group, expType='TAG', exp='||')))
    disabled = s.name('disabled')
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=disabled, consumeEnable=False)).code == 0
    s.saw('a group that may not consume', code_of(pop(c, topic, disabled)))


@raw
def a_pop_in_order_is_answered_as_by_apache(s):
    topic, group, c = s.topic(queues=1), s.name('g'), s.connect()
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group, consumeMessageOrderly=True)).code == 0
    s.send_raw(topic, 4)
    first = pop(c, topic, group, order='true', maxMsgNums=2, attemptId='a')
    s.saw('first', masked(first))
    s.saw('blocked', masked(pop(c, topic, group, order='true')))
    s.saw('the same attempt', masked(pop(c, topic, group, order='true', maxMsgNums=2, attemptId='a')))
    again = pop(c, topic, group, order='true', maxMsgNums=2, attemptId='a')
    s.saw('an old pop time', code_of(ack(c, topic, group, handle(first, 0, 0), 0)))
    s.saw('acknowledged', code_of(ack(c, topic, group, handle(again, 0, 0), 0)))
    s.saw('not popped', code_of(ack(c, topic, group, handle(again, 0, 3), 3)))
    s.saw('more time', code_of(ack(c, topic, group, handle(again, 0, 1), 1, wire.CHANGE_INVISIBLE, invisibleTime=1)))
    time.sleep(0.05)  # until it is visible again
    s.saw('the second again, and the third', masked(pop(c, topic, group, order='true', maxMsgNums=2)))


@raw
def a_pop_waits_and_notifications_tell(s):
    topic, group, c = s.topic(queues=2), s.name('g'), s.connect()
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
    note = lambda **more: c.ask(wire.NOTIFICATION, dict(consumerGroup=group, topic=topic, queueId=-1, pollTime=0, bornTime=0, **more))  # noqa: E731
    s.saw('no message', note())
    s.saw('nobody waits', c.ask(wire.POLLING_INFO, dict(consumerGroup=group, topic=topic, queueId=-1)))
    other = s.connect()
    parked = other.start(wire.POP, dict(consumerGroup=group, topic=topic, queueId=-1, maxMsgNums=32, invisibleTime=60000, pollTime=20000,
                                        bornTime=int(time.time() * 1000), initMode=0))
    s.wait(lambda: c.ask(wire.POLLING_INFO, dict(consumerGroup=group, topic=topic, queueId=-1)).ext.get('pollingNum') == '1', 'it is parked')
    s.send_raw(topic, 1, queue=1)
    answer = masked(other.answer(parked, 15))
    assert answer['messages'][0]['queue'] == 1, answer
    s.send_raw(topic, 1, queue=0)
    s.saw('a message', note())
    peeked = c.ask(wire.PEEK, dict(consumerGroup=group, topic=topic, queueId=0, maxMsgNums=8))
    s.saw('peeked', [m['body'].decode() for m in peeked.messages()])


@sdk('java-5.5.0')
def a_group_in_pop_mode_gets_all_and_failures_again(s):
    """The broker assigns queues; two members share them. Then the group pulls, and pops again."""
    topic, group, c = s.topic(queues=4), s.name('g'), s.connect()
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0

    def mode(name):
        assert c.ask(wire.SET_REQUEST_MODE, body=dict(topic=topic, consumerGroup=group, mode=name, popShareQueueNum=0)).code == 0

    mode('POP')
    consumers = [s.push(f'c{n}', topic, group=group, instance=s.name(f'i{n}'), server_rebalance=True, fail_first=n) for n in (0, 1)]
    for queue in range(4):
        s.send_raw(topic, 5, queue=queue, prefix=f'q{queue}-')
    wanted = {f'q{q}-{n}' for q in range(4) for n in range(5)}

    def received():
        return {m['text'] for consumer in consumers for m in consumer.received()}
    s.wait(lambda: received() >= wanted, 'every message is consumed, also the one that failed')
    s.wait(lambda: all((s.committed(group, topic, q) or 0) == 5 for q in range(4)), 'what is acknowledged is committed')
    mode('PULL')
    for consumer in consumers:
        consumer.stop()
    again = s.push('c2', topic, group=group, instance=s.name('i2'), server_rebalance=True)
    s.send_raw(topic, 3, queue=0, prefix='pulled-')
    s.wait(lambda: {m['text'] for m in again.received()} >= {f'pulled-{n}' for n in range(3)}, 'it pulls')
    again.stop()
    mode('POP')
    last = s.push('c3', topic, group=group, instance=s.name('i3'), server_rebalance=True)
    s.send_raw(topic, 3, queue=0, prefix='popped-')
    s.wait(lambda: {m['text'] for m in last.received()} >= {f'popped-{n}' for n in range(3)}, 'it pops')


@sdk('java-5.5.0')
def what_waits_to_be_popped_again_is_pulled_after_a_switch(s):
    """The Java client subscribes to the retry topic of POP when the broker tells it to pull."""
    topic, group, c = s.topic(queues=1), s.name('g'), s.connect()
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
    s.send_raw(topic, 2)
    assert len(pop(c, topic, group, invisibleTime=1000).messages()) == 2
    s.visible(f'%RETRY%{group}_{topic}', 0, 2)
    assert c.ask(wire.SET_REQUEST_MODE, body=dict(topic=topic, consumerGroup=group, mode='PULL', popShareQueueNum=0)).code == 0
    consumer = s.push('c', topic, group=group, instance=s.name('i'), server_rebalance=True)
    s.send_raw(topic, 1, prefix='new')
    s.wait(lambda: {m['text'] for m in consumer.received()} >= {'m0', 'm1', 'new0'}, 'it pulls what was popped and failed')


@raw(ours=True, deadline=200)
def popped_messages_move_here_and_back(s):
    """What was popped from the Java broker and not acknowledged is delivered here, and the other way round."""
    topic, group, before, gone = s.name('t'), s.name('g'), None, []
    for n, kind in enumerate(('apache', 'apogee', 'apache')):
        target = targets.KINDS[kind](os.path.join(s.work, f'{n}-{kind}'), dict(flushConsumerOffsetInterval=300))
        s.own_targets.append(target)
        if before:
            shutil.move(os.path.join(before.work, before.directory), os.path.join(target.work, target.directory))
        target.start()
        with wire.Connection(target.broker, timeout=60) as c:
            if not before:
                assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
                assert c.ask(wire.UPDATE_TOPIC, dict(topic=topic, defaultTopic='TBW102', readQueueNums=1, writeQueueNums=1, perm=6,
                                                     topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False)).code == 0
                s.send_raw(topic, 4, connection=c)
            found, left = [], {f'm{i}' for i in range(4)} - set(gone)

            def popped():
                answer = pop(c, topic, group, invisibleTime=12000)
                if answer.code == 0:
                    found.extend((m, answer) for m in answer.messages())
                return {m['body'].decode() for m, _ in found} >= left
            s.wait(popped, f'the {kind} at station {n} delivers what is left: {left}', 60)
            come = [m['body'].decode() for m, _ in found]
            assert sorted(come) == sorted(left), (kind, n, come)
            assert all(m['reconsumed'] == n for m, _ in found), found
            message, answer = found[0]
            retried = message['props'].get('POP_CK')
            extra = retried or handle(answer, 0, message['offset'])
            place = dict(consumerGroup=group, topic=f'%RETRY%{group}_{topic}' if retried else topic, queueId=0)
            assert c.ask(wire.ACK, dict(place, extraInfo=extra, offset=message['offset'])).code == 0
            gone.append(message['body'].decode())
        target.stop()
        before = target
