"""The C++ client, as the PyPI package `rocketmq` ships it, behind one line of JSON per request; see ../java/src/Driver.java.

Its C interface hands out bodies as C strings, so texts end at the first NUL. Nothing is asserted here.
"""
import base64
import hashlib
import json
import os
import sys
import threading

ANSWERS = os.fdopen(os.dup(1), 'w', encoding='utf-8')
os.dup2(2, 1)  # the library prints

from rocketmq.client import Message, Producer, PushConsumer  # noqa: E402
from rocketmq.ffi import MessageModel, dll  # noqa: E402

clients, inboxes, lock = {}, {}, threading.Lock()
names = iter(range(1 << 30))


class Inbox:
    def __init__(self):
        self.received, self.changed = [], threading.Condition()

    def accept(self, message):
        body = message.body or b''
        text = lambda value: value.decode('utf-8', 'replace') if value else None  # noqa: E731
        item = dict(topic=message.topic, queue=message.queue_id, offset=message.queue_offset, msg_id=message.id, tags=text(message.tags),
                    keys=text(message.keys), reconsumed=message.reconsume_times, size=len(body),
                    props={k: text(message[k]) for k in ('color', 'n', 'i') if message[k]})
        if len(body) <= 300:
            item['text'] = body.decode('utf-8', 'replace')
        else:
            item['sha256'] = hashlib.sha256(body).hexdigest()
        with self.changed:
            self.received.append(item)
            self.changed.notify_all()

    def wait(self, start, least, timeout):
        with self.changed:
            self.changed.wait_for(lambda: len(self.received) >= least, timeout)
            return dict(messages=self.received[start:], next=len(self.received))


def message(r, topic):
    out = Message(topic)
    out.set_body(base64.b64decode(r['b64']) if 'b64' in r else r.get('text', ''))
    if 'tags' in r:
        out.set_tags(r['tags'])
    if 'keys' in r:
        out.set_keys(r['keys'])
    for name, value in r.get('props', {}).items():
        out.set_property(name, value)
    return out


def described(result):
    return dict(status='SEND_OK' if result.status == 0 else result.status.name, msg_id=result.msg_id, offset=result.offset)


def producer(r):
    client = Producer(r['group'], timeout=r.get('timeout_ms', 10000), max_message_size=r.get('max_size', 4 << 20))
    client.set_namesrv_addr(r['namesrv'])
    # Producers of one instance share a client, and with it the name server of the first; the package has no method for this.
    dll.SetProducerInstanceName(client._handle, r.get('instance', r['h']).encode())
    client.start()
    clients[r['h']] = client


def push(r):
    model = MessageModel.BROADCASTING if r.get('model') == 'BROADCASTING' else MessageModel.CLUSTERING
    client = PushConsumer(r['group'], orderly=r.get('orderly', False), message_model=model)
    client.set_namesrv_addr(r['namesrv'])
    client.set_instance_name(r.get('instance', r['h']))
    client.set_thread_count(r.get('threads', 4))
    inboxes[r['h']] = inbox = Inbox()
    for topic, expression in r['subs'].items():
        client.subscribe(topic, inbox.accept, expression)
    client.start()
    clients[r['h']] = client


def send(r):
    client = clients[r['h']]
    if r.get('mode') == 'oneway':
        client.send_oneway(message(r, r['topic']))
    elif r.get('mode') == 'async':
        return send_all(client, [message(r, r['topic'])])[0]
    else:
        return described(client.send_sync(message(r, r['topic'])))


def send_all(client, messages):
    done, results, failures = threading.Semaphore(0), [], []
    for one in messages:
        client.send_async(one, lambda result: (results.append(described(result)), done.release()),
                          lambda problem: (failures.append(problem), done.release()))
    for _ in messages:
        if not done.acquire(timeout=60):
            raise TimeoutError('a callback is missing after 60 s')
    if failures:
        raise failures[0]
    return results


def send_many(r):
    client = clients[r['h']]
    messages = [message(dict(r, text=f'{r["prefix"]}{i}'), r['topic']) for i in range(r['count'])]
    if r.get('mode') == 'sync':
        return dict(results=[described(client.send_sync(m)) for m in messages])
    return dict(results=send_all(client, messages))


def perform(r):
    op = r['op']
    if op == 'received':
        return inboxes[r['h']].wait(r.get('from', 0), r.get('min', 0), r.get('timeout_ms', 10000) / 1000)
    if op == 'send_batch':
        return described(clients[r['h']].send_batch([message(m, r['topic']) for m in r['messages']]))
    if op == 'stop':
        client = clients.pop(r['h'], None)
        return client and client.shutdown()
    if op in ('producer', 'push', 'send', 'send_many'):
        return globals()[op](r)
    raise NotImplementedError(f'unsupported: {op}')


def answer(r):
    try:
        reply = dict(id=r['id'], ok=perform(r) or {})
    except Exception as problem:  # noqa: BLE001
        reply = dict(id=r['id'], error=f'{type(problem).__name__}: {problem}')
    with lock:
        ANSWERS.write(json.dumps(reply) + '\n')
        ANSWERS.flush()


for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
os._exit(0)
