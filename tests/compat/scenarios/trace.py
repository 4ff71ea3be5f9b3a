"""Trace: clients write what they did with a message to a topic, and both command lines show the whole way of it."""
import json
import re
import subprocess

from harness.scenario import JAVA, sdk
from harness.targets import apogee_binary

#: The trace topic exists from the start, and producers are soon asked for transactions that they did not end.
TRACED = {'traceTopicEnable': 'true', 'transactionTimeOut': 1000, 'transactionCheckInterval': 1000, 'transactionCheckMax': 1_000_000}
TOPIC = 'RMQ_SYS_TRACE_TOPIC'


class Traces:
    """What `apogeemq admin queryMsgTraceById` and mqadmin's command of that name show."""

    def __init__(self, s, topic=TOPIC):
        self.s, self.topic = s, topic

    def steps(self, msg_id):
        command = [apogee_binary(), 'admin', 'queryMsgTraceById', '-n', self.s.target.namesrv, '--output', 'json', '-t', self.topic, '-i', msg_id]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        return json.loads(done.stdout)['steps'] if done.returncode == 0 else []

    def of(self, msg_id, kinds, what):
        """The steps, sorted by kind, once there is one of each of `kinds`."""
        found = []

        def complete():
            found[:] = sorted(self.steps(msg_id), key=lambda step: step['kind'])
            return {step['kind'] for step in found} == set(kinds)
        try:
            self.s.wait(complete, f'the trace of {what} has {kinds}')
        except AssertionError as problem:
            raise AssertionError(f'{problem}; it has {found}') from None
        return found

    def mqadmin(self, msg_id):
        """Kind, group and outcome of the steps that mqadmin shows: sends and ended consumptions."""
        words = ['queryMsgTraceById', '-n', self.s.target.namesrv, '-t', self.topic, '-i', msg_id]
        printed = self.s.session.driver('mqadmin').call('mqadmin', args=words, ms=60_000, timeout=120)['out']
        return sorted(re.findall(r'^(Pub|Sub) +(\S+) .* (success|failed)', printed, re.M))


def clients(s, trace):
    """A producer, a transaction producer and a consumer that trace, and a topic. They are in a process of their own, because the Go client
    has one connection for all traces of a process. Java clients write traces every 5 s."""
    topic, driver = s.topic('t', queues=2), s.process()
    return (s.producer(trace=trace, driver=driver),
            s.start('transaction_producer', 'deciding', group=s.name('tg'), trace=trace, driver=driver),
            s.push('c', topic, trace=trace, driver=driver), topic)


@sdk(*JAVA, 'go', settings=TRACED, deadline=150, beside=('mqadmin',))
def a_trace_shows_the_whole_way_of_a_message(s):
    producer, deciding, consumer, topic = clients(s, '')
    transaction = lambda text, local, check: deciding.call(  # noqa: E731
        'send_in_transaction', topic=topic, body=text, props=dict(local=local, check=check))['msg_id']
    normal = producer.send(topic, 'normal', keys='k1', tags='red')['msg_id']
    delayed = producer.send(topic, 'delayed', delay=1)['msg_id']
    # The Java broker also asks for transactions that have just ended, and then delivers them twice.
    committed, rolled_back = transaction('committed', 'commit', 'commit'), transaction('rolled back', 'rollback', 'rollback')
    checked = transaction('checked', 'unknown', 'commit')
    s.wait(lambda: set(consumer.texts()) == {'normal', 'delayed', 'committed', 'checked'}, 'all are consumed')

    traces, consumed = Traces(s), ['SubBefore', 'SubAfter']
    sent, after, before = traces.of(normal, ['Pub', *consumed], 'a normal message')
    assert (sent['messageType'], sent['success'], sent['topic'], sent['group']) == ('normal', True, topic, s.name('pg')), sent
    assert (sent['keys'], sent['tags'], sent['storeHost']) == ('k1', 'red', s.target.broker), sent
    assert (after['success'], after['group'], before['retryTimes'], before['group']) == (True, consumer.group, 0, consumer.group), (after, before)
    steps = traces.of(delayed, ['Pub', *consumed], 'a delayed message')
    if s.case.client in JAVA:  # the Go client calls every message normal
        assert [step['messageType'] for step in steps if step['kind'] == 'Pub'] == ['delayed'], steps
    if s.case.client in JAVA:  # the Go client does not trace how transactions end
        ended = lambda steps: {(step['transactionState'], step['fromCheck']) for step in steps if step['kind'] == 'EndTransaction'}  # noqa: E731
        steps = traces.of(committed, ['Pub', 'EndTransaction', *consumed], 'a committed message')
        assert [step['messageType'] for step in steps if step['kind'] == 'Pub'] == ['half'], steps
        assert ('COMMIT_MESSAGE', False) in ended(steps) <= {('COMMIT_MESSAGE', False), ('COMMIT_MESSAGE', True)}, steps
        steps = traces.of(rolled_back, ['Pub', 'EndTransaction'], 'a rolled back message')
        assert ('ROLLBACK_MESSAGE', False) in ended(steps) <= {('ROLLBACK_MESSAGE', False), ('ROLLBACK_MESSAGE', True)}, steps
        steps = traces.of(checked, ['Pub', 'EndTransaction', *consumed], 'a message that a check found')
        s.wait(lambda: ended(traces.steps(checked)) == {('UNKNOW', False), ('COMMIT_MESSAGE', True)}, 'both its ends are traced')
    else:
        for msg_id, what in ((committed, 'a committed message'), (checked, 'a message that a check found')):
            traces.of(msg_id, ['Pub', *consumed], what)
        traces.of(rolled_back, ['Pub'], 'a rolled back message')

    whole = lambda group: [('Pub', group, 'success'), ('Sub', consumer.group, 'success')]  # noqa: E731
    for msg_id, group in ((normal, s.name('pg')), (delayed, s.name('pg')), (committed, s.name('tg')), (checked, s.name('tg'))):
        s.wait(lambda: sorted(set(traces.mqadmin(msg_id))) == whole(group), f'mqadmin shows {whole(group)} of {msg_id}')
    s.wait(lambda: traces.mqadmin(rolled_back) == [('Pub', s.name('tg'), 'success')], 'mqadmin shows that one was sent and not consumed')


@sdk(*JAVA, 'go', deadline=120, beside=('mqadmin',))
def a_trace_topic_of_ones_own(s):
    # The first trace of a Java client creates it; the Go client drops traces without a topic.
    own = s.name('traces') if s.case.client in JAVA else s.topic('traces')
    producer, _, consumer, topic = clients(s, own)
    msg_id = producer.send(topic, 'normal')['msg_id']
    consumer.received(1)
    traces = Traces(s, own)
    traces.of(msg_id, ['Pub', 'SubBefore', 'SubAfter'], 'the message')
    s.wait(lambda: traces.mqadmin(msg_id) == [('Pub', s.name('pg'), 'success'), ('Sub', consumer.group, 'success')], 'mqadmin shows both')
