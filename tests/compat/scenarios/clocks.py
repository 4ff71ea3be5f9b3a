"""The wall clock of the broker's machine steps forward and back: nothing comes early, nothing is lost, nothing comes twice."""
import os
import time

from harness import targets, wire
from harness.scenario import raw, sdk
from harness.targets import in_sync, replicas

from .delays import all_of, texts
from .failover import Deliveries, Pair, Sends, until_sent
from .groups import everything

HOUR, MINUTE = 3_600_000, 60_000
PRELOADED = '/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1'.format(os.uname().machine)


class Stepped(targets.Apogee):
    """A server whose wall clock is some time off; its monotonic clock is not."""

    def __init__(self, work, settings, **more):
        super().__init__(work, settings, **more)
        self.step_to(0)
        self.environment = dict(LD_PRELOAD=PRELOADED, FAKETIME_TIMESTAMP_FILE=self._file(), FAKETIME_NO_CACHE='1',
                                FAKETIME_DONT_FAKE_MONOTONIC='1', DONT_FAKE_MONOTONIC='1')

    def _file(self):
        return os.path.join(self.work, 'clock')

    def step_to(self, off_ms):
        with open(self._file() + '.new', 'w') as file:
            file.write(f'{off_ms / 1000:+f}')
        os.replace(self._file() + '.new', self._file())
        self.off_ms = off_ms

    def now_ms(self):
        return int(time.time() * 1000) + self.off_ms


class SteppedNames(targets.NamesWithController, Stepped):
    """A name server with the controller, likewise."""


@sdk('java-5.5.0', ours=True, deadline=200)
def clocks_that_step_elect_nobody(s):
    """Those of the master, of the slave and of the controller, an hour forward and back, under load: leases and heartbeats go by the monotonic clock."""
    assert os.path.exists(PRELOADED), f'{PRELOADED} is missing: install libfaketime'
    pair = Pair(s, SteppedNames, Stepped)
    before = replicas(pair.names)
    topic = s.topic(queues=2, target=pair.master)
    consumer = Deliveries(s.push('consumer', topic, target=pair.names, brief=True))
    loads = [Sends(s, s.producer(target=pair.names), topic)]
    until_sent(s, loads, 50)
    for who, server in (('master', pair.master), ('slave', pair.slave), ('controller', pair.names)):
        moment = time.monotonic()
        for off_ms in (HOUR, 0, -HOUR, 0):
            server.step_to(off_ms)
            # Longer than a lease, and than a replica may be late.
            time.sleep(2.5)
            until_sent(s, loads, 20, since=time.monotonic())
        assert in_sync(pair.names) == [1, 2], replicas(pair.names)
        s.slow.append(f'the clock of the {who} stepped: no acknowledged send for {loads[0].gap(moment):.2f} s at most')
    sent = loads[0].stop()
    assert loads[0].failed == 0, loads[0].failed
    after = replicas(pair.names)
    assert all(after[name] == before[name] for name in ('masterAddress', 'masterEpoch', 'syncStateSetEpoch')), (before, after)
    everything(s, sent, lambda: set(consumer.texts()))


@raw(ours=True, deadline=240)
def a_clock_that_steps_an_hour_forward_and_back(s):
    assert os.path.exists(PRELOADED), f'{PRELOADED} is missing: install libfaketime'
    target = Stepped(os.path.join(s.work, 'stepped'), dict(messageDelayLevel='1s 30m 90m', flushDelayOffsetInterval=300))
    s.own_targets.append(target)
    target.start()
    topic, due = s.name('t'), {}

    def send(c, text, delay_ms, level=None):
        props = dict(DELAY=str(level)) if level else dict(TIMER_DELAY_MS=str(delay_ms))
        due[text] = target.now_ms() + delay_ms
        answer = c.ask(wire.SEND, wire.send_header(topic, props=dict(UNIQ_KEY=text, **props)), text.encode())
        assert answer.code == 0, answer

    def came(c, *expected):
        """These, and no others: a timer and a delay level of one second that are sent now come behind what is due now."""
        last = [f'{len(due)}-timer', f'{len(due)}-level']
        send(c, last[0], 1_000)
        send(c, last[1], 1_000, level=1)
        s.wait(lambda: {*expected, *last} <= set(texts(all_of(c, topic))), f'{expected} have come', 30)
        probes = {text for text in due if text[0].isdigit()}
        there = all_of(c, topic)
        assert sorted(text for text in texts(there) if text not in probes) == sorted(expected), texts(there)
        early = {m['body']: due[m['body'].decode()] - m['stored'] for m in there if m['stored'] < due[m['body'].decode()]}
        assert not early, early

    with wire.Connection(target.broker) as c:
        send(c, 'half-an-hour', 30 * MINUTE)
        send(c, 'level-of-half-an-hour', 30 * MINUTE, level=2)
        send(c, 'ninety-minutes', 90 * MINUTE)
        send(c, 'level-of-ninety-minutes', 90 * MINUTE, level=3)
        came(c)
        target.step_to(HOUR)
        first = ['half-an-hour', 'level-of-half-an-hour']
        came(c, *first)
        send(c, 'ten-minutes', 10 * MINUTE)
        target.step_to(0)
        came(c, *first)
        target.step_to(HOUR)
        came(c, *first)
        target.step_to(0)
        came(c, *first)
    target.restart(kill=True)
    with wire.Connection(target.broker) as c:
        came(c, *first)
        target.step_to(2 * HOUR)
        came(c, *first, 'ten-minutes', 'ninety-minutes', 'level-of-ninety-minutes')
