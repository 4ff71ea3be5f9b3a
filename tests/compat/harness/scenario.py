"""How a scenario is declared and what it gets.

    @sdk('java-5.5.0', 'java-4.9.8', 'go')      once per client library; `s.driver` speaks to it
    @raw                                         frames by hand; what `s.saw(label, answer)` notes is compared with the oracle
    @mqadmin                                     Apache's mqadmin in `s.driver`; what it prints is compared likewise

A scenario waits for conditions with a deadline, never for a time, and leaves nothing running.
"""
import json
import os
import re
import threading
import time
import traceback

from . import drivers, targets, wire
from .targets import wait_for

ALL = []
ORACLE = os.path.join(drivers.HERE, 'oracle')


#: Cases that are about more than a proxy serves: connections that the harness cuts between client and broker, tools, the broker's own address, the
#: port for VIP clients, the creation of topics on request.
WITHOUT_PROXY = {
    'sends_whose_answers_are_cut_off_are_stored_once', 'batches_whose_answers_are_cut_off_are_stored_once', 'the_native_admin_follows_a_consumer',
    'a_trace_shows_the_whole_way_of_a_message', 'the_vip_port_takes_sends', 'a_client_creates_a_topic',
    # Go's clients of one process that share an id must have the same name server.
    'a_consumer_subscribed_before_the_topic_has_messages_misses_nothing [go]', 'a_trace_topic_of_ones_own [go]'}


#: One case for each thing that clients do.
SHORT = {
    'a_message_arrives_with_all_its_parts', 'async_sends_call_back_and_all_arrive', 'one_way_sends_arrive', 'a_batch_gets_an_offset_for_each_message',
    'transactions_end_as_their_producer_says', 'queues_are_shared_again_when_consumers_join_leave_and_die', 'two_consumers_share_and_take_over',
    'ordered_consumption_keeps_order_in_each_queue', 'broadcasting_gives_every_consumer_everything', 'a_pull_consumer_reads_and_commits',
    'lite_pull_subscribes_polls_and_commits', 'a_delayed_message_is_not_consumed_before_its_time', 'a_message_that_fails_is_given_again',
    # Go's takes 41 s.
    'after_the_last_retry_a_message_is_dead_and_can_be_read [java-5.5.0]', 'a_request_has_the_reply_of_who_consumes_it', 'clients_send_for_a_time_and_recall',
    'a_group_in_pop_mode_gets_all_and_failures_again', 'offsets_are_reset_while_a_consumer_is_online', 'plain_and_encrypted_clients_share_ports_and_topics'}


class Case:
    def __init__(self, run, name, client, deadline, settings, ours=False, recorded=False, beside=()):
        self.run, self.name, self.client, self.deadline, self.settings = run, name, client, deadline, settings
        self.ours, self.recorded, self.beside = ours, recorded, beside

    @property
    def behind_a_proxy(self):
        """Whether it also holds for clients that reach the broker through a proxy."""
        return self.client not in (None, 'mqadmin') and not {self.name, self.title} & WITHOUT_PROXY

    @property
    def title(self):
        return f'{self.name} [{self.client}]' if self.client else self.name


def sdk(*clients, deadline=90, settings=None, ours=False, beside=()):
    """One case per client library. `settings` (broker properties) give the case a target of its own. `ours`: it looks at the process
    itself, or takes something from it, in a way that only ApogeeMQ's process has; the Java broker is not asked. `beside`: drivers that it
    uses, too."""
    def declare(run):
        for client in [c for c in clients if c in drivers.KINDS]:
            ALL.append(Case(run, run.__name__, client, deadline, settings, ours, beside=beside))
        return run
    return declare


def raw(run=None, *, deadline=60, settings=None, ours=False):
    def declare(run):
        ALL.append(Case(run, run.__name__, None, deadline, settings, ours, recorded=True))
        return run
    return declare(run) if run else declare


def mqadmin(run=None, *, deadline=240, settings=None):
    """Commands that look at the whole cluster, so each case has a target of its own and its names are its own business."""
    def declare(run):
        ALL.append(Case(run, run.__name__, 'mqadmin', deadline, settings or {}, recorded=True))
        return run
    return declare(run) if run else declare


JAVA = ('java-5.5.0', 'java-4.9.8')


class Scenario:
    """What a running case can do. Names made with `name` are its own, so cases run beside each other."""

    def __init__(self, case, target, session):
        self.case, self.target, self.session = case, target, session
        self.handles, self.processes, self.connections, self.own_targets = [], [], [], []
        self.noted, self.slow = {}, []
        self.end = time.monotonic() + case.deadline
        self.prefix = case.name.replace('_', '-')[:60] + ('-' + case.client.replace('.', '') if case.client else '')
        #: Whatever it writes; removed when it has passed.
        self.work = os.path.join(session.work, self.prefix)
        os.makedirs(self.work, exist_ok=True)

    # ---- names and places

    def name(self, what=''):
        return f'{self.prefix}-{what}' if what else self.prefix

    @property
    def driver(self):
        return self.session.driver(self.case.client)

    def left(self):
        return max(0.1, self.end - time.monotonic())

    def wait(self, condition, why, deadline=None):
        begin = time.monotonic()
        try:
            return wait_for(condition, min(deadline or self.case.deadline, self.left()), why)
        finally:
            self.took(begin, why)

    def took(self, begin, why):
        if time.monotonic() - begin > 2:
            self.slow.append(f'{time.monotonic() - begin:.1f} s: {why}')

    def connect(self, address=None):
        connection = wire.Connection(address or self.target.broker)
        self.connections.append(connection)
        return connection

    def own_target(self, settings=None, kind=None, behind=False, **more):
        """Another name server and broker, for what a shared one would not survive. `behind`: behind proxies, if the shared one is."""
        kind = kind or self.target.kind
        work = os.path.join(self.work, f'target-{len(self.own_targets)}')
        target = targets.KINDS[kind](work, settings, **more)
        if behind and isinstance(self.session.target, targets.Behind):
            target = targets.Behind(target, work)
        self.own_targets.append(target)
        return target.start()

    # ---- clients

    def start(self, op, h, driver=None, target=None, **request):
        """Starts a client under a handle; it is stopped when the case ends."""
        return self.driver_client(op, h, (target or self.target).namesrv, driver, **request)

    def driver_client(self, op, h, namesrv, driver=None, **request):
        """A client with these name servers."""
        driver = driver or self.driver
        handle = f'{self.prefix}.{h}'
        client = Client(self, driver, handle)
        self.handles.append(client)
        driver.call(op, h=handle, namesrv=namesrv, **request)
        return client

    def producer(self, h='producer', **request):
        return self.start('producer', h, group=request.pop('group', self.name('pg')), **request)

    def push(self, h, subs, group=None, **request):
        client = self.start('push', h, subs=subs if isinstance(subs, dict) else {subs: '*'}, group=group or self.name('g'), **request)
        client.group = group or self.name('g')
        return client

    def process(self, properties=None):
        """A driver process of its own, to be killed, or for Java system properties of its own."""
        driver = drivers.Driver(drivers.KINDS[self.case.client], self.work, properties)
        self.processes.append(driver)
        return driver

    # ---- administration by hand

    def topic(self, name='t', queues=4, perm=6, target=None, order=False):
        """Creates a topic and waits until the name server routes to it."""
        target, full = target or self.target, self.name(name)
        with wire.Connection(target.broker) as c:
            answer = c.ask(wire.UPDATE_TOPIC, dict(topic=full, defaultTopic='TBW102', readQueueNums=queues, writeQueueNums=queues,
                                                   perm=perm, topicFilterType='SINGLE_TAG', topicSysFlag=0, order=order))
        assert answer.code == 0, answer
        self.wait(lambda: self.routed(full, target), f'{full} is routed')
        return full

    def routed(self, topic, target=None):
        with wire.Connection((target or self.target).namesrv) as c:
            return c.ask(wire.ROUTE, dict(topic=topic)).code == 0

    def ask(self, code, ext=None, body=b'', target=None):
        """One request on a connection of its own, to the broker."""
        with wire.Connection((target or self.target).broker) as c:
            return c.ask(code, ext, body)

    def consumers(self, group, target=None):
        answer = self.ask(wire.CONSUMER_LIST, dict(consumerGroup=group), target=target)
        return answer.json()['consumerIdList'] if answer.code == 0 else []

    def committed(self, group, topic, queue=0, target=None):
        answer = self.ask(wire.QUERY_OFFSET, dict(consumerGroup=group, topic=topic, queueId=queue, setZeroIfNotFound=False), target=target)
        return int(answer.ext['offset']) if answer.code == 0 else None

    def send_raw(self, topic, count, queue=0, tags=None, prefix='m', connection=None, props=None):
        """Synchronous sends by hand; returns the offsets."""
        own = connection or wire.Connection(self.target.broker)
        out = []
        for i in range(count):
            fields = dict(props or {}, **({'TAGS': tags} if tags else {}))
            answer = own.ask(wire.SEND, wire.send_header(topic, queue, props=fields), f'{prefix}{i}'.encode())
            assert answer.code == 0, answer
            out.append(int(answer.ext['queueOffset']))
        self.visible(topic, queue, out[-1] + 1, own)
        if not connection:
            own.close()
        return out

    def visible(self, topic, queue, end, connection=None):
        """Waits until readers see the queue up to `end`: the Java broker's queues follow its log a little later."""
        ask = (connection or self).ask
        self.wait(lambda: int(ask(wire.MAX_OFFSET, dict(topic=topic, queueId=queue)).ext['offset']) >= end, f'{topic} reaches {end}')

    # ---- the oracle

    def saw(self, label, answer, body=None):
        """Notes an answer (or any value) for comparison. `body` chooses what of the body counts: a function of the answer."""
        assert label not in self.noted, f'{label} noted twice'
        if isinstance(answer, wire.Answer):
            value = dict(code=answer.code, remark=answer.remark, ext=dict(answer.ext))
            if body is not None:
                value['body'] = body(answer) if callable(body) else body
        else:
            value = answer
        self.noted[label] = self._normal(value)
        return answer

    VOLATILE = re.compile(r'(msgId|offsetMsgId|transactionId|batchUniqId|lastTimestamp|lastUpdateTimestamp|lastUpdateTimestampMs|indexLastUpdateTimestamp|'
                          r'indexLastUpdatePhyoffset|subVersion|dataVersion|timestamp|clientAddr|recallHandle|earliest|'
                          r'stored|born|log|store_host|born_host|msg_id|offset_msg_id)$')

    def _normal(self, value, key=''):
        if self.VOLATILE.match(key) and value not in (None, '', -1, '-1', 0, '0'):
            return f'<{key}>'
        if isinstance(value, dict):
            return {str(k): self._normal(v, str(k)) for k, v in sorted(value.items(), key=lambda kv: str(kv[0]))}
        if isinstance(value, (list, tuple)):
            return [self._normal(v, key) for v in value]
        if isinstance(value, bytes):
            value = value.decode('utf-8', 'backslashreplace')
        if isinstance(value, str):
            if key == 'remark' and re.match(r'(java|org|com)\.|Cannot invoke', value):
                return '<a Java exception>'
            for address, mark in ((self.target.broker, '<broker>'), (self.target.namesrv, '<namesrv>')):
                value = value.replace(address, mark)
            value = re.sub(r'127\.0\.0\.1:\d+', '<address>', value)
            return value if len(value) <= 600 else f'{value[:600]}... ({len(value)})'
        return value

    # ---- the end

    def close(self):
        for client in self.handles:
            try:
                client.stop()
            except Exception:  # noqa: BLE001 - a client of a killed process, or of a failed case
                pass
        for process in self.processes:
            process.close()
        for connection in self.connections:
            connection.close()
        for target in self.own_targets:
            try:
                target.stop()
            except Exception:  # noqa: BLE001
                traceback.print_exc()


class Client:
    """A producer or consumer inside a driver."""

    def __init__(self, scenario, driver, handle):
        self.s, self.driver, self.h, self.running = scenario, driver, handle, True

    def call(self, op, **request):
        return self.driver.call(op, h=self.h, **request)

    def send(self, topic, body='', **more):
        return self.call('send', topic=topic, body=body, **more)

    def send_many(self, topic, count, prefix='m', **more):
        return self.call('send_many', topic=topic, count=count, prefix=prefix, **more)['results']

    def received(self, at_least=0, deadline=None, start=0):
        """All messages the listener got, once there are `at_least` of them."""
        deadline = min(deadline or self.s.case.deadline, self.s.left())
        begin = time.monotonic()
        got = self.call('received', min=at_least, timeout_ms=int(deadline * 1000), timeout=deadline + 30, **{'from': start})
        self.s.took(begin, f'{self.h} receives {at_least}')
        assert not got.get('overlapped'), f'{self.h}: two threads were in the listener for one queue at once'
        messages = got['messages']
        assert start + len(messages) >= at_least, \
            f'{self.h} received {start + len(messages)} of {at_least} messages in {deadline:.0f} s: {[m.get("text") for m in messages][-20:]}'
        return messages

    def texts(self, at_least=0, deadline=None):
        return [m.get('text') for m in self.received(at_least, deadline)]

    def assigned(self, topic):
        return sorted(self.call('assigned', topic=topic)['queues'])

    def poll(self, at_least, deadline=30):
        """Polls a lite pull consumer until it returned so many messages."""
        out, end = [], time.monotonic() + min(deadline, self.s.left())
        while len(out) < at_least:
            assert time.monotonic() < end, f'{self.h} polled {len(out)} of {at_least} messages: {[m.get("text") for m in out][-20:]}'
            out += self.call('poll', timeout_ms=500)['messages']
        return out

    def stop(self):
        if self.running:
            self.running = False
            self.call('stop', timeout=30)


def recorded(name):
    path = os.path.join(ORACLE, f'{name}.json')
    return json.load(open(path)) if os.path.exists(path) else None


def record(name, noted):
    with open(os.path.join(ORACLE, f'{name}.json'), 'w') as f:
        json.dump(noted, f, indent=1, ensure_ascii=False, sort_keys=True)
        f.write('\n')


def deviations():
    return json.load(open(os.path.join(drivers.HERE, 'deviations.json')))


def compare(name, noted, kind):
    """Differences between what was seen and what the oracle recorded; remarks only have to be there or not."""
    expected = recorded(name)
    if expected is None:
        return [f'no recording oracle/{name}.json; run --target apache --record']
    if kind == 'apogee':
        for d in deviations():
            if d['scenario'] == name:
                for label in [l for l in expected if re.fullmatch(d['step'], l)]:
                    expected[label] = _merged(expected[label], d['answer'])
    out = []
    for label in sorted(set(expected) | set(noted)):
        out += [f'{label}: {d}' for d in _differences(expected.get(label, '<not there>'), noted.get(label, '<not there>'), '')]
    return out


def _merged(old, new):
    """`new` over `old`: objects field by field; "absent" removes a field."""
    if isinstance(old, dict) and isinstance(new, dict):
        out = dict(old)
        for k, v in new.items():
            if v == '<absent>':
                out.pop(k, None)
            else:
                out[k] = _merged(old.get(k), v)
        return out
    return new


def _differences(expected, got, path):
    """A remark is text for people: of a refusal it has to be there, of a success it does not count."""
    if expected == '<any>':
        return []
    if isinstance(expected, dict) and isinstance(got, dict):
        out = []
        if 'remark' in expected and 'code' in expected:
            remarks, expected, got = (expected['remark'], got.get('remark')), dict(expected, remark=None), dict(got, remark=None)
            if expected['code'] == got.get('code') != 0 and bool(remarks[0]) != bool(remarks[1]):
                out.append(f'remark is {remarks[1]!r}, not {remarks[0]!r}')
        for k in sorted(set(expected) | set(got)):
            out += _differences(expected.get(k, '<not there>'), got.get(k, '<not there>'), f'{path}.{k}')
        return out
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        return [d for i, (e, g) in enumerate(zip(expected, got)) for d in _differences(e, g, f'{path}[{i}]')]
    return [] if expected == got else [f'{path.lstrip(".") or "value"} is {_short(got)}, not {_short(expected)}']


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 300 else text[:300] + '...'


class Session:
    """One run: the shared target and one driver process per client library."""

    def __init__(self, kind, work):
        self.work = work
        self.started, self.lock = {}, threading.Lock()
        self.target = targets.TARGETS[kind](os.path.join(work, 'target'))
        self.kind = self.target.kind

    def driver(self, client):
        with self.lock:
            if client not in self.started:
                self.started[client] = drivers.Driver(drivers.KINDS[client], self.work)
            return self.started[client]

    def close(self):
        for driver in self.started.values():
            driver.close()
        self.target.stop()
