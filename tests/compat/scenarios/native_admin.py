"""`apogeemq admin` against either broker: what it does and prints is the same, whoever answers."""
import json
import os
import subprocess

from harness.scenario import raw, sdk
from harness.targets import apogee_binary


class Admin:
    """Runs verbs against a target; results are the JSON documents they print."""

    def __init__(self, s):
        self.s = s

    def run(self, verb, *flags):
        command = [apogee_binary(), 'admin', verb, '-n', self.s.target.namesrv, '--output', 'json', *map(str, flags)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

    def all(self, verb, *flags):
        done = self.run(verb, *flags)
        assert done.returncode == 0, f'{verb} {flags}: {done.stdout}{done.stderr}'
        return [json.loads(line) for line in done.stdout.splitlines()]

    def one(self, verb, *flags):
        documents = self.all(verb, *flags)
        assert len(documents) == 1, documents
        return documents[0]

    def change(self, verb, *flags):
        """A change of which every step succeeded."""
        return [change['step'] for change in self.one(verb, *flags)['changes']]

    def refused(self, verb, *flags):
        done = self.run(verb, *flags)
        assert done.returncode == 1, f'{verb} {flags}: {done.returncode} {done.stdout}{done.stderr}'
        return done.stderr + done.stdout

    def after(self, condition, why):
        return self.s.wait(condition, why)

    def eventually(self, verb, *flags):
        """The document a verb prints as soon as it succeeds: the Java broker's indexes follow its log a little later."""
        def look():
            done = self.run(verb, *flags)
            return json.loads(done.stdout.splitlines()[0]) if done.returncode == 0 and done.stdout else None
        return self.s.wait(look, f'{verb} {flags}')


@raw(deadline=120)
def the_native_admin_makes_and_deletes_topics(s):
    admin, topic = Admin(s), s.name('t')
    admin.change('updateTopic', '-c', 'DefaultCluster', '-t', topic, '-r', 2, '-w', 2, '-a', '+message.type=FIFO')
    s.wait(lambda: s.routed(topic), 'the topic is routed')
    assert topic in admin.one('topicList')['topics']
    assert admin.one('topicClusterList', '-t', topic) == {'clusters': ['DefaultCluster']}
    route = admin.one('topicRoute', '-t', topic)
    assert route['brokerDatas'][0]['brokerAddrs'] == {'0': s.target.broker}, route
    assert (route['queueDatas'][0]['writeQueueNums'], route['queueDatas'][0]['perm']) == (2, 6), route
    assert [q['maxOffset'] for q in admin.one('topicStatus', '-t', topic)['queues']] == [0, 0]
    assert len(admin.one('allocateMQ', '-t', topic, '-i', 'a,b')['result']['a']) == 1

    admin.change('updateTopicPerm', '-b', s.target.broker, '-t', topic, '-p', 4)
    s.wait(lambda: admin.one('topicRoute', '-t', topic)['queueDatas'][0]['perm'] == 4, 'the topic is read-only')
    file = os.path.join(s.work, 'topics.json')
    with open(file, 'w') as f:
        json.dump([dict(topicName=topic, readQueueNums=3, writeQueueNums=3, perm=6)], f)
    admin.change('updateTopicList', '-b', s.target.broker, '-f', file)
    s.wait(lambda: len(admin.one('topicStatus', '-t', topic)['queues']) == 3, 'the topic has three queues')

    ordered = s.name('ordered')
    admin.change('updateTopic', '-b', s.target.broker, '-t', ordered, '-w', 2, '-o', 'true')
    assert admin.one('updateOrderConf', '-t', ordered, '-m', 'get')['orderConf'] == 'broker-a:2'
    admin.change('updateOrderConf', '-t', ordered, '-m', 'delete')
    admin.refused('updateOrderConf', '-t', ordered, '-m', 'get')

    assert admin.change('deleteTopic', '-c', 'DefaultCluster', '-t', topic) == [f'delete topic {topic}', f'delete route of topic {topic}']
    s.wait(lambda: not s.routed(topic), 'the topic is gone')
    assert 'unknown' in admin.refused('topicStatus', '-t', topic) or topic in admin.refused('topicStatus', '-t', topic)
    assert 'DefaultCluster' in admin.refused('updateTopic', '-c', 'Nowhere', '-t', topic)
    assert 'illegal' in admin.refused('updateTopic', '-b', s.target.broker, '-t', 'no good')


@raw(deadline=120)
def the_native_admin_finds_messages(s):
    admin, topic = Admin(s), s.topic('t', queues=2)
    send = lambda body, *more: admin.one('sendMessage', '-t', topic, '-p', body, '-b', 'broker-a', '-i', 0, *more)  # noqa: E731
    sent = [send('first', '-k', 'k1 k2', '-c', 'A'), send('second', '-k', 'k2', '-c', 'B')]
    assert [m['queueOffset'] for m in sent] == [0, 1] and sent[0]['status'] == 'SEND_OK'
    s.visible(topic, 0, 2)

    key, offset_id = sent[0]['msgId'], sent[0]['offsetMsgId']
    for found in [admin.one('queryMsgById', '-t', topic, '-i', offset_id), admin.eventually('queryMsgById', '-t', topic, '-i', key),
                  admin.eventually('queryMsgByUniqueKey', '-t', topic, '-i', key),
                  admin.one('queryMsgByOffset', '-t', topic, '-b', 'broker-a', '-i', 0, '-o', 0)]:
        assert (found['body'], found['tags'], found['keys'], found['msgId']) == ('first', 'A', 'k1 k2', key), found
        assert found['offsetMsgId'] == offset_id and found['tracks'] == [], found
    s.wait(lambda: len(admin.eventually('queryMsgByKey', '-t', topic, '-k', 'k2')['messages']) == 2, 'both are found by key')
    admin.refused('queryMsgByKey', '-t', topic, '-k', 'k3')
    assert 'from 0 on, below 2' in admin.refused('queryMsgByOffset', '-t', topic, '-b', 'broker-a', '-i', 0, '-o', 7)

    assert [m['body'] for m in admin.all('printMsg', '-t', topic)] == ['first', 'second']
    assert [m['body'] for m in admin.all('printMsg', '-t', topic, '-s', 'B')] == ['second']
    counted = admin.one('printMsgByQueue', '-t', topic, '-a', 'broker-a', '-i', 0, '-f', 'true')
    assert (counted['messages'], counted['tags']) == (2, {'A': 1, 'B': 1}), counted
    assert [m['body'] for m in admin.all('consumeMessage', '-t', topic, '-c', 1)] == ['first']
    entries = admin.one('queryCq', '-t', topic, '-q', 0, '-i', 0)
    assert (entries['maxQueueIndex'], len(entries['queueData'])) == (2, 2), entries

    traced = send('traced', '-m', 'true')
    trace = admin.eventually('queryMsgTraceById', '-i', traced['msgId'])
    assert (trace['steps'][0]['kind'], trace['steps'][0]['success'], trace['steps'][0]['topic']) == ('Pub', True, topic), trace
    again = admin.one('queryMsgById', '-t', topic, '-i', offset_id, '-s', 'true')
    assert again['msgId'] == key, again
    trips = admin.one('checkMsgSendRT', '-t', topic, '-a', 4)
    assert (trips['succeeded'], trips['failed']) == (4, 0), trips
    assert admin.one('sendMsgStatus', '-b', 'broker-a', '-c', 2)['succeeded'] == 2
    assert admin.one('clusterRT', '-a', 2, '--rounds', 1)['brokers'][0]['succeeded'] == 2


@sdk('java-5.5.0', deadline=150)
def the_native_admin_follows_a_consumer(s):
    admin, topic = Admin(s), s.topic('t', queues=2)
    consumer = s.push('c', topic)
    group = consumer.group
    producer = s.producer()
    for i in range(4):
        assert producer.send(topic, f'm{i}')['status'] == 'SEND_OK'
    assert sorted(consumer.texts(4)) == [f'm{i}' for i in range(4)]

    members = admin.eventually('consumerConnection', '-g', group)
    client = members['connectionSet'][0]
    assert (client['language'], members['subscriptionTable'][topic]['subString']) == ('JAVA', '*'), members
    status = admin.one('consumerStatus', '-g', group)
    mine = [q for q in status['clients'][0]['queues'] if q['topic'] == topic]
    assert (status['sameSubscription'], len(mine)) == (True, 2), status
    assert admin.one('consumerStatus', '-g', group, '-i', client['clientId'])['clients'][0]['properties']['PROP_CONSUME_TYPE'] == 'CONSUME_PASSIVELY'
    sending = admin.one('producerConnection', '-g', s.name('pg'), '-t', topic)
    assert sending['connectionSet'][0]['language'] == 'JAVA', sending
    assert s.name('pg') in admin.one('producer', '-b', s.target.broker)['data']

    def consumed():
        progress = admin.one('consumerProgress', '-g', group, '-t', topic, '-s', 'true')
        done = progress['diffTotal'] == 0 and sum(q['consumerOffset'] for q in progress['queues']) == 4
        return progress if done else None
    progress = s.wait(consumed, 'all is consumed and committed')
    assert {q['client'] for q in progress['queues']} == {client['clientId'].split('@')[0]}, progress
    assert any(g['group'] == group and g['members'] == 1 for g in admin.one('consumerProgress')['groups'])
    message = admin.one('queryMsgByOffset', '-t', topic, '-b', 'broker-a', '-i', progress['queues'][0]['queueId'], '-o', 0)
    assert message['tracks'] == [dict(consumerGroup=group, state='CONSUMED')], message
    pushed = admin.one('queryMsgById', '-t', topic, '-i', message['offsetMsgId'], '-g', group, '-d', client['clientId'])
    assert pushed['consumeResult'] == 'CR_SUCCESS', pushed
    assert any(row['topic'] == topic and row['group'] == group for row in admin.one('statsAll', '-t', topic)['topics'])
    seen = admin.one('startMonitoring', '--rounds', 1)  # of all groups, those of scenarios beside this one too
    assert [w for w in seen['warnings'] if group in w] == [], seen
    assert any(u['consumerGroup'] == group and u['topic'] == topic and u['total'] == 0 for u in seen['undone']), seen

    before = len(consumer.texts(5))
    moved = admin.one('resetOffsetByTime', '-g', group, '-t', topic, '-s', 0)
    assert [q['offset'] for q in moved['queues']] == [0, 0] and moved['runningConsumers'], moved
    s.wait(lambda: len(consumer.texts(before + 4)) >= before + 4, 'all is consumed once more')


@raw(deadline=120)
def the_native_admin_makes_groups_and_moves_them(s):
    admin, topic, group = Admin(s), s.topic('t', queues=1), s.name('g')
    s.send_raw(topic, 3)
    admin.refused('getConsumerConfig', '-g', group)
    admin.refused('getConsumerConfig', '-g', group)
    admin.change('updateSubGroup', '-c', 'DefaultCluster', '-g', group, '-r', 3)
    config = admin.one('getConsumerConfig', '-g', group)['brokers'][0]
    assert (config['broker'], config['config']['retryMaxTimes']) == ('broker-a', 3), config
    file = os.path.join(s.work, 'groups.json')
    with open(file, 'w') as f:
        json.dump([dict(groupName=s.name('listed'), retryMaxTimes=1)], f)
    admin.change('updateSubGroupList', '-b', s.target.broker, '-f', file)
    assert admin.one('getConsumerConfig', '-g', s.name('listed'))['brokers'][0]['config']['retryMaxTimes'] == 1

    moved = admin.one('resetOffsetByTime', '-g', group, '-t', topic, '-s', 0, '-b', s.target.broker, '-q', 0, '-o', 2)
    assert moved['queues'][0]['offset'] == 2, moved
    queue = admin.one('consumerProgress', '-g', group, '-t', topic)['queues'][0]
    assert (queue['consumerOffset'], queue['diff']) == (2, 1), queue
    admin.change('updateSubGroup', '-b', s.target.broker, '-g', s.name('copy'))
    admin.change('cloneGroupOffset', '-s', group, '-d', s.name('copy'), '-t', topic)
    s.wait(lambda: s.committed(s.name('copy'), topic) == 2, 'the copy has the offset')
    assert any(row['group'] == group and row['diff'] == 1 for row in admin.one('brokerConsumeStats', '-b', s.target.broker)['queues'])
    admin.one('skipAccumulatedMessage', '-g', group, '-t', topic)
    s.wait(lambda: admin.one('consumerProgress', '-g', group, '-t', topic)['diffTotal'] == 0, 'nothing is left')
    admin.change('deleteSubGroup', '-b', s.target.broker, '-g', group, '-r', 'true')
    admin.refused('getConsumerConfig', '-g', group)


@raw(deadline=120)
def the_native_admin_looks_at_servers(s):
    own = s.own_target()
    s.target, admin = own, Admin(s)
    row = admin.one('clusterList')['brokers'][0]
    assert (row['cluster'], row['name'], row['id'], row['address']) == ('DefaultCluster', 'broker-a', 0, own.broker), row
    assert row['active'] and row['version'].startswith('V5_'), row
    assert 'putTps' in admin.one('brokerStatus', '-b', own.broker)['servers'][0]['table']
    admin.change('updateBrokerConfig', '-c', 'DefaultCluster', '-k', 'fileReservedTime', '-v', 71)
    assert admin.one('getBrokerConfig', '-c', 'DefaultCluster')['servers'][0]['table']['fileReservedTime'] == '71'
    for verb in ['cleanExpiredCQ', 'cleanUnusedTopic', 'deleteExpiredCommitLog']:
        assert len(admin.change(verb)) == 1
    s.topic('t', target=own)
    wiped = admin.change('wipeWritePerm', '-b', 'broker-a')
    assert wiped[0].startswith('forbid writing to broker broker-a: '), wiped
    admin.change('addWritePerm', '-b', 'broker-a')
    admin.change('updateKvConfig', '-s', 'n', '-k', 'k', '-v', 'v')
    admin.change('deleteKvConfig', '-s', 'n', '-k', 'k')
    assert admin.one('getNamesrvConfig')['servers'][0]['table']['listenPort'] == str(own.namesrv_port)
    admin.change('updateNamesrvConfig', '-k', 'orderMessageEnable', '-v', 'true')
    assert admin.one('getNamesrvConfig')['servers'][0]['table']['orderMessageEnable'] == 'true'
    exported = lambda *call: json.load(open(admin.one(*call, '-f', os.path.join(own.work, 'export'))['path']))  # noqa: E731
    assert exported('exportConfigs', '-c', 'DefaultCluster')['clusterScale'] == dict(masterBrokerSize=1, namesrvSize=1, slaveBrokerSize=0)
    assert s.name('t') in exported('exportMetadata', '-c', 'DefaultCluster')['topicConfigTable']
    assert 'broker-a' in exported('exportMetrics', '-c', 'DefaultCluster')['evaluateReport']
