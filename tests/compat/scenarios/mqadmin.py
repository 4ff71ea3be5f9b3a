"""Apache's mqadmin: what operators type, and what it prints.

Every command runs against the same state on both brokers. Blanks are told once (columns follow the longest value), and what differs
from run to run has a mark in its place: times, ids, addresses, ports of clients, durations. Of an exception the class and the code
count, not the text and not where it was thrown.
"""
import json
import os
import re
import time

from harness import wire
from harness.scenario import mqadmin

CLUSTER = 'DefaultCluster'
BROKER = 'broker-a'
MARKS = [
    (r'\b(?!127\.0\.0\.1\b)\d{1,3}(\.\d{1,3}){3}\b', '<ip>'),
    (r'\b[0-9A-F]{32,64}(?=\b|SendResult)', '<id>'),
    (r'\d{4}-\d\d-\d\d[ #]\d\d:\d\d:\d\d([,:.]\d{1,3})?', '<time>'),
    (r'\b20\d{12,15}\b', '<time>'),
    (r'\b1[6-9]\d{11}\b', '<ms>'),
    (r'DESC: .*?(?= BROKER:|$)', 'DESC: <text>'),
    (r'BROKER: \S+', 'BROKER: <address>'),
    (r'[ \t]+', ' '),
]


def masked(text, marks=()):
    """Lines with marks in place of what differs from run to run."""
    lines = []
    for line in text.splitlines():
        for pattern, mark in (*marks, *MARKS):
            line = re.sub(pattern, mark, line)
        if line.strip():
            lines.append(line.strip())
    return lines


def thrown(text):
    """The exceptions of a stack trace, without where they come from."""
    lines = [line for line in masked(text) if not re.match(r'at |\.\.\. \d+ more|See https:|For more information|SLF4J:', line)]
    return [re.sub(r'(connect to|wait response on the channel) .*', r'\1 <address>', line) for line in lines]


class Mqadmin:
    """Runs commands against the case's target and notes what they print, under the words of the command or a label."""

    def __init__(self, s):
        self.s = s

    def run(self, command, *args, ms=60_000):
        """What a command printed; `ended` is false when it had to be interrupted."""
        words = [command, *map(str, args), *([] if '-n' in args else ['-n', self.s.target.namesrv])]
        return self.s.driver.call('mqadmin', args=words, ms=ms, timeout=ms / 1000 + 60)

    def text(self, command, *args):
        answer = self.run(command, *args)
        assert answer['ended'] and not thrown(answer['err']), answer
        return answer['out']

    def saw(self, label, command, *args, ms=60_000, marks=(), lines=None, file=None, file_lines=list):
        """Runs and notes. `lines` chooses and orders what of the lines counts; `file` is read after the command, `file_lines` chooses
        likewise."""
        answer = self.run(command, *args, ms=ms)
        out = masked(answer['out'], marks)
        noted = dict(out=lines(out) if lines else out)
        if thrown(answer['err']):
            noted['err'] = thrown(answer['err'])
        if not answer['ended']:
            noted['ended'] = False
        if file:
            assert os.path.exists(file), answer
            noted['file'] = file_lines(masked(open(file).read(), marks))
        self.s.saw(f'{command}{" " if label else ""}{label}', noted)
        return answer

    def both(self, label, command, *args, **more):
        """At one broker and at all of the cluster."""
        self.saw(f'{label} of a broker'.strip(), command, '-b', self.s.target.broker, *args, **more)
        self.saw(f'{label} of a cluster'.strip(), command, '-c', CLUSTER, *args, **more)


def written(s, name, value):
    path = os.path.join(s.work, name)
    with open(path, 'w') as f:
        f.write(value if isinstance(value, str) else json.dumps(value))
    return path


def made(s, topic, queues=4, **more):
    """A topic of exactly this name."""
    fields = dict(topic=topic, defaultTopic='TBW102', readQueueNums=queues, writeQueueNums=queues, perm=6, topicFilterType='SINGLE_TAG',
                  topicSysFlag=0, order=False)
    assert s.ask(wire.UPDATE_TOPIC, dict(fields, **more)).code == 0
    s.wait(lambda: s.routed(topic), f'{topic} is routed')
    return topic


def perm(s, topic):
    with wire.Connection(s.target.namesrv) as c:
        return c.ask(wire.ROUTE, dict(topic=topic)).json()['queueDatas'][0]['perm']


@mqadmin
def mqadmin_topics(s):
    m, broker = Mqadmin(s), s.target.broker
    m.saw('before', 'topicList', lines=sorted)
    m.both('', 'updateTopic', '-t', 'orders', '-r', 4, '-w', 4, '-p', 6)
    m.saw('defaults', 'updateTopic', '-b', broker, '-t', 'plain')
    m.saw('ordered at a broker', 'updateTopic', '-b', broker, '-t', 'ordered', '-o', 'true', '-r', 3, '-w', 3)
    m.saw('ordered in a cluster', 'updateTopic', '-c', CLUSTER, '-t', 'ordered-too', '-o', 'true')
    m.saw('unit', 'updateTopic', '-b', broker, '-t', 'unit', '-u', 'true', '-s', 'true')
    m.saw('with attributes', 'updateTopic', '-b', broker, '-t', 'fifo', '-a', '+message.type=FIFO')
    m.saw('unknown attribute', 'updateTopic', '-b', broker, '-t', 'other', '-a', '+nonsense=1')
    m.saw('bad name', 'updateTopic', '-b', broker, '-t', 'a b')
    m.saw('system topic', 'updateTopic', '-b', broker, '-t', 'TBW102')
    m.saw('unknown cluster', 'updateTopic', '-c', 'nowhere', '-t', 'orders')
    spec = [dict(topicName=f'listed-{i}', readQueueNums=2, writeQueueNums=2, perm=6) for i in range(2)]
    m.both('', 'updateTopicList', '-f', written(s, 'topics.json', spec))
    m.saw('', 'topicList', lines=sorted)
    m.saw('with clusters', 'topicList', '-c', lines=sorted)

    m.saw('', 'topicRoute', '-t', 'orders')
    m.saw('as a list', 'topicRoute', '-t', 'orders', '-l')
    m.saw('attributes and unit', 'topicRoute', '-t', 'unit')
    m.saw('unknown', 'topicRoute', '-t', 'nowhere')
    m.saw('', 'topicClusterList', '-t', 'orders')
    m.saw('unknown', 'topicClusterList', '-t', 'nowhere')
    m.saw('empty', 'topicStatus', '-t', 'orders')
    s.send_raw('orders', 5)
    s.send_raw('orders', 2, queue=3)
    m.saw('', 'topicStatus', '-t', 'orders')
    m.saw('in its cluster', 'topicStatus', '-t', 'orders', '-c', CLUSTER)
    m.saw('unknown', 'topicStatus', '-t', 'nowhere')
    m.saw('', 'allocateMQ', '-t', 'orders', '-i', 'one,two')

    m.saw('of a broker', 'updateTopicPerm', '-b', broker, '-t', 'orders', '-p', 4)
    s.wait(lambda: perm(s, 'orders') == 4, 'the permission is routed')
    m.saw('of a cluster', 'updateTopicPerm', '-c', CLUSTER, '-t', 'orders', '-p', 2)
    s.wait(lambda: perm(s, 'orders') == 2, 'the permission is routed')
    m.saw('as it is', 'updateTopicPerm', '-c', CLUSTER, '-t', 'orders', '-p', 2)
    m.saw('unknown', 'updateTopicPerm', '-b', broker, '-t', 'nowhere', '-p', 4)
    m.saw('changed', 'topicRoute', '-t', 'orders')

    m.saw('put', 'updateOrderConf', '-t', 'orders', '-m', 'put', '-v', f'{BROKER}:4')
    m.saw('get', 'updateOrderConf', '-t', 'orders', '-m', 'get')
    m.saw('delete', 'updateOrderConf', '-t', 'orders', '-m', 'delete')
    m.saw('get deleted', 'updateOrderConf', '-t', 'orders', '-m', 'get')
    m.saw('get of a cluster', 'updateOrderConf', '-t', 'ordered-too', '-m', 'get')

    m.saw('', 'deleteTopic', '-t', 'orders', '-c', CLUSTER)
    m.saw('twice', 'deleteTopic', '-t', 'orders', '-c', CLUSTER)
    m.saw('ordered', 'deleteTopic', '-t', 'ordered-too', '-c', CLUSTER)
    m.saw('system topic', 'deleteTopic', '-t', 'TBW102', '-c', CLUSTER)
    m.saw('unknown cluster', 'deleteTopic', '-t', 'plain', '-c', 'nowhere')
    m.saw('after', 'topicList', lines=sorted)
    m.saw('deleted', 'topicRoute', '-t', 'orders')


@mqadmin
def mqadmin_groups(s):
    m, broker = Mqadmin(s), s.target.broker
    made(s, 'orders', 2)
    m.both('', 'updateSubGroup', '-g', 'workers')
    m.saw('all options', 'updateSubGroup', '-b', broker, '-g', 'slow', '-s', 'true', '-m', 'true', '-d', 'true', '-o', 'false', '-q', 2, '-r', 3,
          '-i', 0, '-w', 1, '-a', 'true')
    m.saw('with a policy', 'updateSubGroup', '-b', broker, '-g', 'policy', '-p', '{"type":"EXPONENTIAL","exponentialRetryPolicy":'
          '{"initial":1000,"max":60000,"multiplier":3}}')
    m.saw('bad name', 'updateSubGroup', '-b', broker, '-g', 'a b')
    groups = [dict(groupName=f'listed-{i}', retryMaxTimes=5) for i in range(2)]
    m.both('', 'updateSubGroupList', '-f', written(s, 'groups.json', groups))
    for group in ('workers', 'slow', 'policy', 'listed-0', 'nobody'):
        m.saw(group, 'getConsumerConfig', '-g', group)

    m.both('pull', 'setConsumeMode', '-t', 'orders', '-g', 'workers', '-m', 'PULL', '-q', 0)
    m.saw('unknown mode', 'setConsumeMode', '-b', broker, '-t', 'orders', '-g', 'workers', '-m', 'PUSH')
    m.saw('retry topic', 'setConsumeMode', '-b', broker, '-t', '%RETRY%workers', '-g', 'workers', '-m', 'PULL')

    m.saw('nobody is there', 'consumerConnection', '-g', 'workers')
    m.saw('nobody is there', 'producerConnection', '-g', 'senders', '-t', 'orders')
    m.saw('nobody is there', 'producer', '-b', broker)
    m.saw('nobody is there', 'consumerStatus', '-g', 'workers')
    m.saw('nobody is there', 'consumerProgress', '-g', 'workers')

    producer = s.producer(group='senders')
    for i in range(10):
        producer.send('orders', f'm{i}', queue=i % 2)
    consumer = s.push('workers', 'orders', group='workers')
    consumer.received(10)
    s.wait(lambda: s.committed('workers', 'orders', 0) == 5 and s.committed('workers', 'orders', 1) == 5, 'all is committed')
    s.send_raw('orders', 1, queue=1, connection=None)
    consumer.received(11)
    s.wait(lambda: s.committed('workers', 'orders', 1) == 6, 'the last is committed')

    m.saw('', 'consumerConnection', '-g', 'workers')
    m.saw('of a broker', 'consumerConnection', '-g', 'workers', '-b', broker)
    m.saw('', 'producerConnection', '-g', 'senders', '-t', 'orders')
    m.saw('other group', 'producerConnection', '-g', 'nobody', '-t', 'orders')
    m.saw('', 'producer', '-b', broker, lines=lambda out: sorted(re.sub(r'lastUpdateTimestamp.*', '<rest>', line) for line in out))
    running = (r'^(#?PROP_(CONSUMER_START_TIMESTAMP|CLIENT_VERSION|CORE_POOL_SIZE|THREADPOOL_CORE_SIZE)).*', r'\1'), (r'(?<= )\d+\.\d\d', '<rate>')
    m.saw('', 'consumerStatus', '-g', 'workers', marks=((r'\d{13}/\S+', '<file>'), *running))
    m.saw('of a broker', 'consumerStatus', '-g', 'workers', '-b', broker, marks=((r'\d{13}/\S+', '<file>'), *running))
    client = s.consumers('workers')[0]
    of_client = m.run('consumerStatus', '-g', 'workers', '-i', client)
    s.saw('consumerStatus of a client', [line for line in masked(of_client['out'], ((r'\d+\.\d\d', '<rate>'),))
                                         if line.startswith(('#', 'orders')) or 'consumerGroup' in line])
    stacks = m.run('consumerStatus', '-g', 'workers', '-i', client, '-s')['out']
    assert 'ConsumeMessageThread' in stacks or 'PullMessageService' in stacks, stacks[-2000:]
    m.saw('unknown client', 'consumerStatus', '-g', 'workers', '-i', 'nobody@1')

    rate = ((r'Consume TPS: .*', 'Consume TPS: <rate>'),)
    m.saw('', 'consumerProgress', '-g', 'workers', marks=rate, lines=sorted)
    m.saw('of a topic', 'consumerProgress', '-g', 'workers', '-t', 'orders', marks=rate)
    m.saw('with clients', 'consumerProgress', '-g', 'workers', '-s', 'true', marks=(*rate, (r'\b(?!127\.)\d+(\.\d+){3}\b', '<ip>')), lines=sorted)
    m.saw('of all', 'consumerProgress', marks=((r'(?<=CLUSTERING) +\d+', ' <rate>'),), lines=sorted)
    m.saw('unknown', 'consumerProgress', '-g', 'nobody')
    m.saw('', 'brokerConsumeStats', '-b', broker, lines=sorted)
    m.saw('far behind', 'brokerConsumeStats', '-b', broker, '-l', 1000, lines=sorted)
    m.saw('ordered', 'brokerConsumeStats', '-b', broker, '-o', 'true', lines=sorted)
    events = [event for event in s.driver.call('monitor', namesrv=s.target.namesrv)['events'] if '__MONITOR_CONSUMER' not in event]
    s.saw('one round of startMonitoring', sorted(masked('\n'.join(events), ((r'subVersion=\d+', 'subVersion=<version>'),))))

    m.both('', 'deleteSubGroup', '-g', 'listed-0')
    m.saw('with offsets', 'deleteSubGroup', '-b', broker, '-g', 'slow', '-r', 'true')
    m.saw('deleted', 'getConsumerConfig', '-g', 'listed-0')


@mqadmin
def mqadmin_offsets(s):
    m, broker = Mqadmin(s), s.target.broker
    made(s, 'orders', 2)
    s.send_raw('orders', 10)
    s.send_raw('orders', 6, queue=1)
    for group in ('from', 'to', 'idle'):
        assert s.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
    for queue, offset in ((0, 4), (1, 3)):
        s.ask(wire.UPDATE_OFFSET, dict(consumerGroup='from', topic='orders', queueId=queue, commitOffset=offset))
        s.ask(wire.UPDATE_OFFSET, dict(consumerGroup='idle', topic='orders', queueId=queue, commitOffset=offset))
    made(s, '%RETRY%from', 1)
    made(s, '%RETRY%to', 1)
    made(s, '%RETRY%idle', 1)
    committed = lambda group: {queue: s.committed(group, 'orders', queue) for queue in (0, 1)}  # noqa: E731
    m.saw('', 'cloneGroupOffset', '-s', 'from', '-d', 'to', '-t', 'orders', '-o', 'true')
    s.saw('cloned', committed('to'))
    m.saw('unknown', 'cloneGroupOffset', '-s', 'nobody', '-d', 'to', '-t', 'orders')

    m.saw('offline, the start', 'resetOffsetByTime', '-g', 'idle', '-t', 'orders', '-s', 0, lines=sorted)
    s.saw('offline, committed', committed('idle'))
    m.saw('offline, one queue', 'resetOffsetByTime', '-g', 'idle', '-t', 'orders', '-s', -1, '-b', broker, '-q', 0, '-o', 7)
    s.saw('offline, one queue committed', committed('idle'))
    m.saw('offline, one queue too far', 'resetOffsetByTime', '-g', 'idle', '-t', 'orders', '-s', -1, '-b', broker, '-q', 0, '-o', 70)
    m.saw('offline, now', 'resetOffsetByTime', '-g', 'idle', '-t', 'orders', '-s', 'now', lines=sorted)
    m.saw('unknown topic', 'resetOffsetByTime', '-g', 'idle', '-t', 'nowhere', '-s', 0)
    m.saw('offline', 'skipAccumulatedMessage', '-g', 'from', '-t', 'orders', lines=sorted)
    s.saw('skipped', committed('from'))

    consumer = s.push('workers', 'orders', group='workers')
    consumer.received(16)
    s.wait(lambda: committed('workers') == {0: 10, 1: 6}, 'all is committed')
    m.saw('online, the start', 'resetOffsetByTime', '-g', 'workers', '-t', 'orders', '-s', 0, lines=sorted)
    consumer.received(32)
    s.wait(lambda: committed('workers') == {0: 10, 1: 6}, 'all is committed again')
    m.saw('online', 'skipAccumulatedMessage', '-g', 'workers', '-t', 'orders', lines=sorted)
    s.wait(lambda: committed('workers') == {0: 10, 1: 6}, 'the end is committed')


def traced_message(s, m):
    """The id of a message sent just now, once its trace is found. None if there is no trace after a few looks: the command hands its
    trace to a sender in the background and then closes it, so that on a busy machine the trace may never leave."""
    sent = m.text('sendMessage', '-t', 'traced', '-p', 'body', '-b', BROKER, '-i', 0, '-m', 'true').split()[-1]
    return next((sent for _ in range(3) if 'Pub' in m.run('queryMsgTraceById', '-i', sent)['out']), None)


@mqadmin(settings=dict(traceTopicEnable='true'))
def mqadmin_messages(s):
    m, broker = Mqadmin(s), s.target.broker
    made(s, 'orders', 2)
    made(s, 'traced', 1)
    begin = int(time.time() * 1000) - 1000
    resent = ((r'queueId=\d+', 'queueId=<queue>'), (r'queueOffset=\d+', 'queueOffset=<offset>'))
    m.saw('', 'sendMessage', '-t', 'orders', '-p', 'first', '-k', 'k1 both', '-c', 'red', '-b', BROKER, '-i', 0)
    m.saw('other queue', 'sendMessage', '-t', 'orders', '-p', 'second', '-k', 'k2 both', '-c', 'blue', '-b', BROKER, '-i', 1)
    m.saw('traced', 'sendMessage', '-t', 'orders', '-p', 'third', '-k', 'k3', '-b', BROKER, '-i', 0, '-m', 'true')
    m.saw('unknown broker', 'sendMessage', '-t', 'orders', '-p', 'x', '-b', 'nowhere', '-i', 0)
    m.saw('queue without a broker', 'sendMessage', '-t', 'orders', '-p', 'x', '-i', 0)
    with wire.Connection(broker) as c:
        s.visible('orders', 0, 2, c)
        s.visible('orders', 1, 1, c)
        stored = {r['body']: r for q in (0, 1) for r in c.ask(wire.PULL, wire.pull_header('orders', 0, queue=q)).messages()}
        first = stored[b'first']
        found = lambda key: c.ask(wire.QUERY_MESSAGE, dict(topic='orders', key=key, maxNum=9, beginTimestamp=0,  # noqa: E731
                                                           endTimestamp=begin + 3600_000)).code == 0
        s.wait(lambda: found('k3'), 'the index has the last message')
    host, port = broker.split(':')
    offset_id = ''.join(f'{int(b):02X}' for b in host.split('.')) + f'{int(port):08X}{first["log"]:016X}'
    unique = first['props']['UNIQ_KEY']

    details = ((r'Message Body Path: .*', 'Message Body Path: <file>'),)
    m.saw('', 'queryMsgById', '-t', 'orders', '-i', offset_id, marks=details)
    m.saw('body format', 'queryMsgById', '-t', 'orders', '-i', offset_id, '-f', 'ASCII', marks=details)
    m.saw('not there', 'queryMsgById', '-t', 'orders', '-i', offset_id[:16] + 'FFFFFFFF' * 2)
    m.saw('', 'queryMsgByKey', '-t', 'orders', '-k', 'both')
    m.saw('of one', 'queryMsgByKey', '-t', 'orders', '-k', 'k2')
    m.saw('at most one', 'queryMsgByKey', '-t', 'orders', '-k', 'both', '-m', 1)
    m.saw('in a time', 'queryMsgByKey', '-t', 'orders', '-k', 'k1', '-b', begin, '-e', begin + 3600_000)
    m.saw('before', 'queryMsgByKey', '-t', 'orders', '-k', 'k1', '-b', begin - 7200_000, '-e', begin - 3600_000)
    m.saw('unknown', 'queryMsgByKey', '-t', 'orders', '-k', 'nothing')
    m.saw('', 'queryMsgByUniqueKey', '-t', 'orders', '-i', unique, marks=details)
    m.saw('all', 'queryMsgByUniqueKey', '-t', 'orders', '-i', unique, '-a', marks=details)
    m.saw('unknown', 'queryMsgByUniqueKey', '-t', 'orders', '-i', unique[:-4] + 'FFFF')
    m.saw('', 'queryMsgByOffset', '-t', 'orders', '-b', BROKER, '-i', 0, '-o', 0, marks=details)
    m.saw('too far', 'queryMsgByOffset', '-t', 'orders', '-b', BROKER, '-i', 0, '-o', 99)
    traced = s.wait(lambda: traced_message(s, m), 'the trace of a message is found')
    m.saw('', 'queryMsgTraceById', '-i', traced, marks=((r'(\d+)ms', '<took>'),), lines=lambda out: out)

    m.saw('', 'printMsg', '-t', 'orders', '-d', 'true', lines=printed)
    m.saw('of a tag', 'printMsg', '-t', 'orders', '-s', 'red', '-d', 'true', lines=printed)
    m.saw('in a time', 'printMsg', '-t', 'orders', '-b', begin, '-e', begin + 3600_000, lines=printed)
    m.saw('', 'printMsgByQueue', '-t', 'orders', '-a', BROKER, '-i', 0, '-p', 'true', '-d', 'true', lines=printed)
    m.saw('counted by tag', 'printMsgByQueue', '-t', 'orders', '-a', BROKER, '-i', 0, '-f', 'true', lines=printed)
    m.saw('', 'consumeMessage', '-t', 'orders', '-c', 10, lines=printed)
    m.saw('of a queue', 'consumeMessage', '-t', 'orders', '-b', BROKER, '-i', 0, '-c', 10, lines=printed)
    m.saw('from an offset', 'consumeMessage', '-t', 'orders', '-b', BROKER, '-i', 0, '-o', 1, '-g', 'readers', '-c', 10, lines=printed)
    m.saw('', 'queryCq', '-t', 'orders', '-q', 0, '-i', 0, '-c', 5, '-b', broker, marks=entries)
    m.saw('of a group', 'queryCq', '-t', 'orders', '-q', 0, '-i', 0, '-c', 5, '-b', broker, '-g', 'nobody', marks=entries)
    m.saw('unknown queue', 'queryCq', '-t', 'orders', '-q', 9, '-i', 0, '-c', 5, '-b', broker)

    consumer = s.push('workers', 'orders', group='workers')
    consumer.received(3)
    client = s.consumers('workers')[0]
    m.saw('consumed by a client', 'queryMsgById', '-t', 'orders', '-i', offset_id, '-g', 'workers', '-d', client,
          marks=((r'(?<=spentTimeMills=)\d+', '<took>'),))
    consumer.received(4)
    m.saw('consumed by an unknown client', 'queryMsgById', '-t', 'orders', '-i', offset_id, '-g', 'workers', '-d', 'nobody@1')
    m.saw('consumed by a client', 'queryMsgByUniqueKey', '-t', 'orders', '-i', unique, '-g', 'workers', '-d', client,
          marks=((r'(?<=spentTimeMills=)\d+', '<took>'),))
    consumer.received(5)
    m.saw('sent again', 'queryMsgById', '-t', 'orders', '-i', offset_id, '-s', 'true', '-u', 'u', marks=resent)
    consumer.received(6)
    s.wait(lambda: s.committed('workers', 'orders', 0) is not None, 'something is committed')
    tracks = lambda out: [line for line in out if 'CONSUMED' in line or 'trackType' in line or 'MessageTrack' in line]  # noqa: E731
    s.wait(lambda: 'CONSUMED' in m.run('queryMsgById', '-t', 'orders', '-i', offset_id)['out'].replace('NOT_CONSUME_YET', ''), 'it is consumed')
    m.saw('with who consumed it', 'queryMsgById', '-t', 'orders', '-i', offset_id, lines=tracks)

    m.saw('', 'sendMsgStatus', '-b', BROKER, '-c', 3, marks=((r'rt=\d+ms', 'rt=<took>'), (r'queueId=\d+', 'queueId=<queue>'),
                                                             (r'queueOffset=\d+', 'queueOffset=<offset>')))
    m.saw('', 'checkMsgSendRT', '-t', 'orders', '-a', 3, '-s', 16, marks=((r'(?<= )(true|false) +\d+', r'\1 <took>'), (r'Avg RT: .*', 'Avg RT: <took>'),
                                                                         (r'(?<=broker-a)\s+\d', ' <queue>')))
    m.saw('', 'clusterRT', '-a', 3, '-s', 16, '-i', 60, '-c', CLUSTER, ms=8000, marks=((r'\d+\.\d\d', '<took>'),),
          lines=lambda out: out)


entries = ((r'(?<="physicOffset":)\d+|(?<=physicOffset=)\d+|(?<=tagsCode=)-?\d+', '<value>'),)


def printed(lines):
    return sorted(re.sub(r'(storeSize|storeHost|commitLogOffset|bodyCRC|preparedTransactionOffset|bornHost)=[^,\]]*', r'\1=<value>', line)
                  for line in lines)


@mqadmin
def mqadmin_cluster(s):
    m, broker, namesrv = Mqadmin(s), s.target.broker, s.target.namesrv
    made(s, 'orders', 2)
    producer = s.producer(group='senders')
    for i in range(6):
        producer.send('orders', f'm{i}', queue=i % 2)
    consumer = s.push('workers', 'orders', group='workers')
    consumer.received(6)
    s.wait(lambda: s.committed('workers', 'orders', 0) == 3 and s.committed('workers', 'orders', 1) == 3, 'all is committed')
    numbers = ((r'(?<![\d.])\d+\.\d+(E-?\d+)?(?![\d.])', '<number>'),)
    m.saw('', 'clusterList', marks=numbers)
    m.saw('of one', 'clusterList', '-c', CLUSTER, marks=numbers)
    m.saw('more', 'clusterList', '-m', marks=((r'(?<= )\d+', '<count>'),))
    m.saw('unknown', 'clusterList', '-c', 'nowhere')
    keys = lambda out: sorted(re.search(r'(\S+) *:(?! *\d+ *\w+ *:)', line).group(1) for line in out  # noqa: E731
                              if not re.search(r'commitLogDiskRatio_|scheduleMessageOffset|getTransferedTps|\bapogee', line))
    m.both('', 'brokerStatus', lines=keys)
    values = dict(line.split(':', 1) for line in m.text('brokerStatus', '-b', broker).splitlines() if ':' in line)
    values = {key.strip(): value.strip() for key, value in values.items()}
    s.saw('brokerStatus values', {key: values.get(key) for key in (
        'brokerActive', 'brokerVersion', 'brokerVersionDesc', 'startAcceptSendRequestTimeStamp', 'dispatchBehindBytes', 'putMessageFailedTimes',
        'msgPutTotalTodayNow', 'msgGetTotalTodayNow', 'msgPutTotalTodayMorning', 'msgGetTotalYesterdayMorning', 'sendThreadPoolQueueSize',
        'pullThreadPoolQueueSize', 'pageCacheLockTimeMills', 'timerReadBehind', 'timerCongestNum', 'queryThreadPoolQueueCapacity')})
    s.wait(lambda: re.search(r'orders +workers +0 .* 6 +6', m.run('statsAll', '-t', 'orders')['out']), 'the statistics have a sample')
    rates = ((r'\d+\.\d\d', '<rate>'),)
    m.saw('', 'statsAll', marks=rates, lines=sorted)
    m.saw('active', 'statsAll', '-a', marks=rates, lines=sorted)
    m.saw('of a topic', 'statsAll', '-t', 'orders', marks=rates)

    wanted = ('brokerName', 'brokerClusterName', 'brokerId', 'brokerRole', 'autoCreateTopicEnable', 'autoCreateSubscriptionGroup', 'fileReservedTime',
              'deleteWhen', 'flushDiskType', 'maxMessageSize', 'defaultTopicQueueNums', 'brokerPermission', 'msgTraceTopicName', 'traceOn',
              'traceTopicEnable', 'slaveReadEnable')
    setting = lambda out: sorted(line for line in out if line.split('=')[0].strip() in wanted)  # noqa: E731
    m.both('', 'getBrokerConfig', lines=setting)
    m.both('', 'updateBrokerConfig', '-k', 'maxMessageSize', '-v', 65536)
    m.saw('changed', 'getBrokerConfig', '-b', broker, lines=lambda out: [line for line in out if 'maxMessageSize' in line])
    m.saw('in the black list', 'updateBrokerConfig', '-b', broker, '-k', 'brokerConfigPath', '-v', '/tmp/x')
    m.saw('unknown key', 'updateBrokerConfig', '-b', broker, '-k', 'noSuchKey', '-v', 1)
    wanted_of_namesrv = ('listenPort', 'orderMessageEnable', 'deleteTopicWithBrokerRegistration', 'enableAllTopicList', 'supportActingMaster')
    m.saw('', 'getNamesrvConfig', lines=lambda out: sorted(re.sub(r'listenPort.*', 'listenPort', line) for line in out
                                                           if line.split('=')[0].strip() in wanted_of_namesrv))
    m.saw('', 'updateNamesrvConfig', '-k', 'orderMessageEnable', '-v', 'true')
    m.saw('changed', 'getNamesrvConfig', lines=lambda out: [line for line in out if 'orderMessageEnable' in line])
    m.saw('in the black list', 'updateNamesrvConfig', '-k', 'kvConfigPath', '-v', '/tmp/x')
    m.saw('', 'updateKvConfig', '-s', 'space', '-k', 'key', '-v', 'value')
    m.saw('', 'deleteKvConfig', '-s', 'space', '-k', 'key')
    m.saw('twice', 'deleteKvConfig', '-s', 'space', '-k', 'key')

    m.saw('', 'wipeWritePerm', '-b', BROKER)
    m.saw('without write permission', 'topicRoute', '-t', 'orders')
    m.saw('', 'addWritePerm', '-b', BROKER)
    m.saw('with write permission', 'topicRoute', '-t', 'orders')
    m.saw('unknown', 'wipeWritePerm', '-b', 'nowhere')
    m.saw('unknown', 'addWritePerm', '-b', 'nowhere')

    m.both('', 'haStatus', marks=((r'(?<=MaxOffset)\s+\d+', ' <offset>'),))
    m.saw('without a place', 'haStatus', lines=lambda out: out[:1])
    for command in ('cleanExpiredCQ', 'cleanUnusedTopic', 'deleteExpiredCommitLog'):
        m.both('', command)
        m.saw('everywhere', command)

    place = os.path.join(s.work, 'export')
    os.makedirs(place, exist_ok=True)
    marks = ((re.escape(place), '<place>'), *numbers, (r'"(cpuNum|totalMemKBytes)":".*"', r'"\1":"<value>"'))
    m.saw('', 'exportConfigs', '-c', CLUSTER, '-f', place, marks=marks, file=f'{place}/configs.json',
          file_lines=lambda out: sorted(line.rstrip(',') for line in out if 'messageDelayLevel' not in line))
    m.saw('of a cluster', 'exportMetadata', '-c', CLUSTER, '-f', place, marks=marks, file=f'{place}/metadata.json')
    m.saw('topics of a broker', 'exportMetadata', '-b', broker, '-t', '-f', place, marks=marks, file=f'{place}/topic.json')
    m.saw('groups of a broker', 'exportMetadata', '-b', broker, '-g', '-f', place, marks=marks, file=f'{place}/subscriptionGroup.json')
    m.saw('', 'exportMetrics', '-c', CLUSTER, '-f', place, marks=marks, file=f'{place}/metrics.json')
    started = m.run('startMonitoring', ms=5000)
    s.saw('startMonitoring', started)
    s.wait(lambda: s.consumers('__MONITOR_CONSUMER'), 'the monitor listens')
