"""Scenarios with the published Python SDK of the gRPC protocol: `scenarios.py LABEL ENDPOINT plain|tls SUFFIX [NAME...]`.

The same as java/src/Scenarios.java: topics and groups exist, each scenario has its own, all run at the same time. One line per scenario.
With `tls` the SDK trusts only who signed the server's certificate: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names that authority.
"""
import contextlib
import os
import sys
import threading
import time
import traceback

from rocketmq import (ClientConfiguration, ConsumeResult, Credentials, FilterExpression, Message, MessageListener, Producer, PushConsumer,
                      SimpleConsumer, TransactionChecker, TransactionResolution)
from rocketmq.grpc_protocol import FilterType
from rocketmq.v5.exception import InternalErrorException

SOON = 120
LABEL, ENDPOINT, TLS, SUFFIX = sys.argv[1], sys.argv[2], sys.argv[3] == 'tls', sys.argv[4]


class Failed(Exception):
    pass


def check(holds, what):
    if not holds:
        raise Failed(what)


def name(base):
    return base + SUFFIX


def configuration():
    return ClientConfiguration(ENDPOINT, Credentials(), request_timeout=10)


@contextlib.contextmanager
def running(client):
    client.startup()
    try:
        yield client
    finally:
        client.shutdown()


def producer(topic, checker=None):
    return running(Producer(configuration(), [topic], checker=checker, tls_enable=TLS))


def push(topic, group, consume):
    class Listener(MessageListener):
        def consume(self, message):
            return consume(message)
    return running(PushConsumer(configuration(), group, Listener(), {topic: FilterExpression()}, tls_enable=TLS))


@contextlib.contextmanager
def begun(topic, group, expression=None):
    """A new group begins with the last message of each queue: its first receives say where that is."""
    with running(SimpleConsumer(configuration(), group, {topic: expression or FilterExpression()}, await_duration=5, tls_enable=TLS)) as consumer:
        end = time.monotonic() + SOON
        while True:
            try:
                old = consumer.receive(16, 30)
            except InternalErrorException:
                # Compat: the SDK does not wait for its settings, and Apache's proxy fails until it has them.
                check(time.monotonic() < end, 'the server has no settings of the consumer')
                time.sleep(0.1)
                continue
            if not old:
                break
            for view in old:
                consumer.ack(view)
        yield consumer


def message(topic, body, tag=None, group=None, due=None, keys=(), **properties):
    made = Message()
    made.topic, made.body = topic, body.encode()
    if tag:
        made.tag = tag
    if group:
        made.message_group = group
    if due:
        made.delivery_timestamp = due
    for key in keys:
        made.keys = key
    for key, value in properties.items():
        made.add_property(key, value)
    return made


def body(view):
    return view.body.decode()


def receive(consumer, count):
    """Receives that many; acknowledges everything."""
    got, end = [], time.monotonic() + SOON
    while len(got) < count:
        check(time.monotonic() < end, f'received {len(got)} of {count}')
        for view in consumer.receive(16, 30):
            got.append(view)
            consumer.ack(view)
    return got


def find(consumer, text):
    """The message with this body; others are acknowledged."""
    end = time.monotonic() + SOON
    while True:
        check(time.monotonic() < end, f'not received: {text}')
        for view in consumer.receive(1, 60):
            if body(view) == text:
                return view
            consumer.ack(view)


def wait(what, holds):
    end = time.monotonic() + SOON
    while not holds():
        check(time.monotonic() < end, f'not in time: {what}')
        time.sleep(0.02)


def warm(sender, make, arrived):
    """Sends until the push consumer is known to receive."""
    def holds():
        for one in make():
            sender.send(one)
        time.sleep(0.3)
        return arrived()
    wait('the consumer begins', holds)


def normal():
    topic = name('normal')
    with begun(topic, name('g-normal')) as consumer, producer(topic) as sender:
        receipt = sender.send(message(topic, 'hello', tag='a', keys=('k1', 'k2'), own='v'))
        view, = receive(consumer, 1)
        check(view.message_id == receipt.message_id, 'message id')
        check(body(view) == 'hello' and view.tag == 'a' and view.properties['own'] == 'v', 'content')
        check(set(view.keys) == {'k1', 'k2'} and view.delivery_attempt == 1, 'keys')
        sent = [sender.send_async(message(topic, f'n{n}')) for n in range(100)]
        for one in sent:
            one.result(SOON)
        check(len({body(view) for view in receive(consumer, 100)}) == 100, '100 different messages')
        large = 'x' * (1 << 20)
        sender.send(message(topic, large))
        check(body(receive(consumer, 1)[0]) == large, 'a large message')


def change_invisible():
    topic = name('change')
    with begun(topic, name('g-change')) as consumer, producer(topic) as sender:
        sender.send(message(topic, 'later'))
        first = find(consumer, 'later')
        consumer.change_invisible_duration(first, 1)
        again = find(consumer, 'later')
        consumer.ack(again)
        check(again.message_id == first.message_id and again.delivery_attempt == 2, f'delivered again, attempt {again.delivery_attempt}')


def filters():
    topic = name('filter')
    with begun(topic, name('g-tags'), FilterExpression('a || b')) as tags, \
            begun(topic, name('g-sql'), FilterExpression('n > 1', FilterType.SQL)) as sql, producer(topic) as sender:
        for n, tag in enumerate('abc'):
            sender.send(message(topic, tag, tag=tag, n=str(n)))
        got = {body(view) for view in receive(tags, 2)}
        check(got == {'a', 'b'}, f'by tags {got}')
        check(body(receive(sql, 1)[0]) == 'c', 'by SQL')


def delay_and_recall():
    topic = name('delay')
    with begun(topic, name('g-delay')) as consumer, producer(topic) as sender:
        due = int(time.time()) + 5
        gone = sender.send(message(topic, 'recalled', due=due))
        sender.send(message(topic, 'kept', due=due))
        recalled = sender.recall_message(topic, gone.recall_handle)
        check(recalled == gone.message_id, f'recalled id {recalled}')
        text = body(receive(consumer, 1)[0])
        check(text == 'kept', f'only the other one: {text}')
        check(time.time() >= due, 'not early')


def transactions():
    topic, asked = name('transaction'), set()

    class Checker(TransactionChecker):
        def check(self, view):
            asked.add(body(view))
            return TransactionResolution.COMMIT if body(view) == 'orphan-commit' else TransactionResolution.ROLLBACK

    with begun(topic, name('g-transaction')) as consumer, producer(topic, Checker()) as sender:
        for text in ('commit', 'rollback', 'orphan-commit', 'orphan-rollback'):
            transaction = sender.begin_transaction()
            sender.send(message(topic, text), transaction)
            if text == 'commit':
                transaction.commit()
            if text == 'rollback':
                transaction.rollback()
        got = {body(view) for view in receive(consumer, 2)}
        check(got == {'commit', 'orphan-commit'}, f'committed {got}')
        wait('both orphans are asked for', lambda: asked == {'orphan-commit', 'orphan-rollback'})


def push_consumer():
    topic, got, attempts = name('push'), set(), []

    def consume(view):
        if body(view) == 'failing' and view.delivery_attempt < 3:
            attempts.append(view.delivery_attempt)
            return ConsumeResult.FAILURE
        got.add(body(view))
        return ConsumeResult.SUCCESS

    with producer(topic) as sender, push(topic, name('g-push'), consume):
        warm(sender, lambda: [message(topic, 'warm')], lambda: 'warm' in got)
        for n in range(50):
            sender.send(message(topic, f'n{n}'))
        sender.send(message(topic, 'failing'))
        wait('all are consumed', lambda: len(got) == 52)
        check(attempts == [1, 2], f'failed twice: {attempts}')


def fifo():
    topic, got, failed = name('fifo'), {}, set()

    def consume(view):
        group, n = body(view).split('-')
        if group != 'warm' and n == '3' and body(view) not in failed:
            failed.add(body(view))
            return ConsumeResult.FAILURE
        got.setdefault(group, []).append(int(n))
        return ConsumeResult.SUCCESS

    with producer(topic) as sender, push(topic, name('g-fifo'), consume):
        warm(sender, lambda: [message(topic, 'warm-0', group=f'w{n}') for n in range(8)], lambda: 'warm' in got)
        for n in range(10):
            for group in 'abc':
                sender.send(message(topic, f'{group}-{n}', group=group))
        for group in 'abc':
            wait(f'all of group {group}', lambda: len(got.get(group, [])) >= 10)
            check(got[group] == list(range(10)), f'in order {group} {got[group]}')


def dead_letters():
    """The group retries once."""
    topic, attempts, arrived = name('dead'), [], threading.Event()

    def consume(view):
        if body(view) == 'warm':
            arrived.set()
            return ConsumeResult.SUCCESS
        attempts.append(view.delivery_attempt)
        return ConsumeResult.FAILURE

    with producer(topic) as sender, push(topic, name('g-dead'), consume):
        warm(sender, lambda: [message(topic, 'warm')], arrived.is_set)
        sender.send(message(topic, 'failing'))
        wait('it failed twice', lambda: len(attempts) >= 2)
        # Apache's broker hands it out a third time, and the proxy stores it as a dead letter then.
        time.sleep(12)
        check(len(attempts) == 2, f'no third attempt: {attempts}')


def wrong_use():
    topic = name('wrong')
    with begun(topic, name('g-wrong')) as consumer, producer(topic) as sender:
        try:
            sender.send(message(topic, 'x', group='g'))
        except Exception:
            pass
        else:
            raise Failed('a message of another type was stored')
        sender.send(message(topic, 'wrong'))
        got = []
        end = time.monotonic() + SOON
        while not got:
            check(time.monotonic() < end, 'not received: wrong')
            got = consumer.receive(1, 10)
        time.sleep(12)
        try:
            consumer.ack(got[0])
        except Exception as error:
            check('expired' in str(error).lower() or 'handle' in str(error).lower(), str(error))
        else:
            raise Failed('an expired handle was taken')
        receive(consumer, 1)


def passes(label, scenario):
    start, why = time.monotonic(), None
    try:
        scenario()
    except Exception as error:
        why = repr(error)
        if not isinstance(error, Failed):
            traceback.print_exc()
    line = f'{"FAIL" if why else "ok  "} {label} [{LABEL}] ({time.monotonic() - start:.1f} s)'
    print(f'{line}\n       {why}' if why else line, flush=True)
    return why is None


def main():
    scenarios = {'normal': normal, 'changeInvisible': change_invisible, 'filters': filters, 'delayAndRecall': delay_and_recall,
                 'transactions': transactions, 'pushConsumer': push_consumer, 'fifo': fifo, 'deadLetters': dead_letters, 'wrongUse': wrong_use}
    wanted = sys.argv[5:] or list(scenarios)
    outcomes = {}
    threads = [threading.Thread(target=lambda one=one: outcomes.update({one: passes(one, scenarios[one])})) for one in wanted if one in scenarios]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.flush()
    os._exit(0 if all(outcomes.values()) else 1)  # threads of the SDK do not end


if __name__ == '__main__':
    main()
