"""Administration that clients and tests need: topics, groups, settings, statistics, queries, reset."""
import json
import time

from harness import wire
from harness.scenario import raw
from harness.summaries import count, parsed, stored, texts


def create(c, topic, **more):
    return c.ask(wire.UPDATE_TOPIC, dict(dict(topic=topic, defaultTopic='TBW102', readQueueNums=4, writeQueueNums=4, perm=6,
                                              topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False), **more))


@raw
def topics_are_made_changed_and_deleted(s):
    c, topic = s.connect(), s.name('t')

    def route():
        with wire.Connection(s.target.namesrv) as n:
            answer = n.ask(wire.ROUTE, dict(topic=topic))
            return answer.json()['queueDatas'][0] if answer.code == 0 else None

    s.saw('create', create(c, topic))
    s.wait(route, 'the topic is routed')
    s.saw('route', route())
    s.saw('more queues', create(c, topic, readQueueNums=6, writeQueueNums=5))
    s.wait(lambda: route()['readQueueNums'] == 6, 'the change is routed')
    s.saw('changed route', route())
    s.saw('the same again', create(c, topic, readQueueNums=6, writeQueueNums=5))
    s.saw('other perm', create(c, topic, perm=4))
    s.wait(lambda: route()['perm'] == 4, 'the perm is routed')
    s.saw('delete', c.ask(wire.DELETE_TOPIC, dict(topic=topic)))
    s.saw('delete twice', c.ask(wire.DELETE_TOPIC, dict(topic=topic)))
    s.wait(lambda: not s.routed(topic) or s.ask(wire.PULL, wire.pull_header(topic, 0)).code == 17, 'the topic is gone')
    s.saw('pull after', c.ask(wire.PULL, wire.pull_header(topic, 0)))
    for label, more in (('no queues', dict(readQueueNums=0, writeQueueNums=0)), ('bad name', dict(topic='a b')),
                        ('name of 128', dict(topic='t' * 128)), ('system name', dict(topic='TBW102')),
                        ('empty name', dict(topic='')), ('unknown attribute', dict(topic=s.name('x'), attributes='+nonsense=1')),
                        ('message type attribute', dict(topic=s.name('y'), attributes='+message.type=NORMAL')),
                        ('unknown filter type', dict(topic=s.name('z'), topicFilterType='WHAT')),
                        ('order', dict(topic=s.name('o'), order=True)), ('retry topic', dict(topic='%RETRY%' + s.name('g'))),
                        ('perm 8', dict(topic=s.name('p8'), perm=8))):
        s.saw(label, create(c, **dict(dict(topic=s.name('v')), **more)))
    for name in ('', 'TBW102', 'SELF_TEST_TOPIC', s.name('never')):
        s.saw(f'delete {name or "nothing"}', c.ask(wire.DELETE_TOPIC, dict(topic=name)))


@raw
def a_deleted_topic_starts_anew(s):
    c, topic = s.connect(), s.topic(queues=1)
    s.send_raw(topic, 5)
    c.ask(wire.UPDATE_GROUP, body=dict(groupName=s.name('g')))
    c.ask(wire.UPDATE_OFFSET, dict(consumerGroup=s.name('g'), topic=topic, queueId=0, commitOffset=5))
    assert c.ask(wire.DELETE_TOPIC, dict(topic=topic)).code == 0
    s.wait(lambda: c.ask(wire.PULL, wire.pull_header(topic, 0)).code == 17, 'the topic is gone')
    create(c, topic, readQueueNums=1, writeQueueNums=1)
    s.saw('max offset', c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=0)))
    s.saw('consumer offset', c.ask(wire.QUERY_OFFSET, dict(consumerGroup=s.name('g'), topic=topic, queueId=0, setZeroIfNotFound=False)))
    s.saw('send', c.ask(wire.SEND, wire.send_header(topic), b'new'))
    s.wait(lambda: c.ask(wire.PULL, wire.pull_header(topic, 0)).code == 0, 'the message is there')
    s.saw('pull', c.ask(wire.PULL, wire.pull_header(topic, 0)), texts)


@raw
def topic_configurations_are_listed(s):
    c, topic = s.connect(), s.topic(queues=3)
    answer = c.ask(wire.ALL_TOPICS, dict(topicSeq=0))
    table = answer.json()['topicConfigTable']
    s.saw('one topic', table[topic])
    s.saw('system topics', {t: table.get(t) for t in ('TBW102', 'SELF_TEST_TOPIC', 'BenchmarkTest', 'DefaultCluster', 'broker-a',
                                                     'OFFSET_MOVED_EVENT', 'SCHEDULE_TOPIC_XXXX', 'RMQ_SYS_TRANS_HALF_TOPIC')})
    s.saw('fields', sorted(answer.json()))
    old = c.ask(wire.ALL_TOPICS, {})
    s.saw('without header fields', dict(code=old.code, same=old.code == 0 and topic in old.json()['topicConfigTable']))


@raw
def groups_are_made_changed_and_deleted(s):
    c, group, topic = s.connect(), s.name('g'), s.topic(queues=1)

    def config():
        answer = c.ask(wire.ALL_GROUPS, dict(groupSeq=0))
        return answer.json()['subscriptionGroupTable'].get(group)

    s.saw('before', config())
    s.saw('create', c.ask(wire.UPDATE_GROUP, body=dict(groupName=group, retryMaxTimes=3)))
    s.saw('made', config())
    s.saw('change', c.ask(wire.UPDATE_GROUP, body=dict(groupName=group, consumeEnable=False)))
    s.saw('changed', config())
    c.ask(wire.UPDATE_GROUP, body=dict(groupName=group))
    c.ask(wire.UPDATE_OFFSET, dict(consumerGroup=group, topic=topic, queueId=0, commitOffset=3))
    s.saw('delete', c.ask(wire.DELETE_GROUP, dict(groupName=group, cleanOffset=False)))
    s.saw('deleted', config())
    s.saw('offset stays', s.committed(group, topic))
    c.ask(wire.UPDATE_GROUP, body=dict(groupName=group))
    s.saw('delete with offsets', c.ask(wire.DELETE_GROUP, dict(groupName=group, cleanOffset=True)))
    s.saw('offset is gone', s.committed(group, topic))
    s.saw('delete what is not there', c.ask(wire.DELETE_GROUP, dict(groupName=s.name('never'))))
    s.saw('bad name', c.ask(wire.UPDATE_GROUP, body=dict(groupName='a b')))
    s.saw('name of 300', c.ask(wire.UPDATE_GROUP, body=dict(groupName='g' * 300)))
    s.saw('no body', c.ask(wire.UPDATE_GROUP))
    auto = s.name('auto')
    c.ask(wire.PULL, wire.pull_header(topic, 0, group=auto))
    s.saw('made by a pull', c.ask(wire.ALL_GROUPS, dict(groupSeq=0)).json()['subscriptionGroupTable'].get(auto))
    s.saw('fields', sorted(c.ask(wire.ALL_GROUPS, dict(groupSeq=0)).json()))


@raw(settings={})
def settings_are_read_and_changed(s):
    c = s.connect()

    def setting(key):
        lines = dict(l.split('=', 1) for l in c.ask(wire.GET_CONFIG).body.decode().splitlines() if '=' in l and l[:1] != '#')
        return lines.get(key)

    answer = c.ask(wire.GET_CONFIG)
    s.saw('26', dict(code=answer.code, ext=sorted(answer.ext), remark=answer.remark))
    for key in ('brokerName', 'brokerClusterName', 'brokerId', 'autoCreateTopicEnable', 'maxMessageSize', 'defaultTopicQueueNums',
                'fileReservedTime', 'deleteWhen', 'flushDiskType', 'brokerRole', 'brokerPermission', 'autoCreateSubscriptionGroup'):
        s.saw(f'key {key}', setting(key))
    s.saw('change', c.ask(wire.UPDATE_CONFIG, body=b'autoCreateTopicEnable=false\n'))
    s.saw('changed', setting('autoCreateTopicEnable'))
    s.saw('it counts', c.ask(wire.SEND, wire.send_header(s.name('nowhere')), b'x'))
    s.saw('permission', c.ask(wire.UPDATE_CONFIG, body=b'brokerPermission=4\n'))
    s.saw('permission counts', c.ask(wire.SEND, wire.send_header('SELF_TEST_TOPIC'), b'x'))
    s.saw('unknown key', c.ask(wire.UPDATE_CONFIG, body=b'noSuchKey=1\n'))
    s.saw('forbidden key', c.ask(wire.UPDATE_CONFIG, body=b'brokerConfigPath=/tmp/x\n'))
    s.saw('not a number', c.ask(wire.UPDATE_CONFIG, body=b'maxMessageSize=many\n'))
    s.saw('no body', c.ask(wire.UPDATE_CONFIG))


@raw
def runtime_information(s):
    table = s.ask(wire.RUNTIME_INFO).json()['table']
    # Exporters of RocketMQ 4 read the key as it was misspelt; Apache's broker of today has the right one only.
    if table.pop('getTransferedTps', None) is None:
        assert s.target.kind == 'apache', table
    s.saw('keys', sorted(k for k in table if not k.startswith(('commitLogDiskRatio_', 'scheduleMessageOffset', 'apogee'))))
    for key in ('putTps', 'getTotalTps', 'getFoundTps', 'getTransferredTps'):
        assert len(table[key].split()) <= 3 and all(float(n) >= 0 for n in table[key].split()), table[key]
    s.saw('active', table['brokerActive'])


@raw
def statistics_of_topics_and_groups(s):
    topic, group, c = s.topic(queues=2), s.name('g'), s.connect()
    s.saw('202 empty', c.ask(wire.TOPIC_STATS, dict(topic=topic)), parsed)
    s.send_raw(topic, 5)
    s.saw('202', c.ask(wire.TOPIC_STATS, dict(topic=topic)), parsed)
    s.saw('202 of an unknown topic', c.ask(wire.TOPIC_STATS, dict(topic=s.name('nowhere'))))
    s.saw('208 of an unknown group', c.ask(wire.CONSUME_STATS, dict(consumerGroup=s.name('nobody'))), parsed)
    c.ask(wire.HEARTBEAT, body=wire.heartbeat('a', [dict(group=group, subs={topic: '*'})]))
    c.ask(wire.UPDATE_OFFSET, dict(consumerGroup=group, topic=topic, queueId=0, commitOffset=3))
    without_tps = lambda a: {k: v for k, v in a.json().items() if k != 'consumeTps'}  # noqa: E731
    s.saw('208 of one topic', c.ask(wire.CONSUME_STATS, dict(consumerGroup=group, topic=topic)), without_tps)
    s.saw('208', c.ask(wire.CONSUME_STATS, dict(consumerGroup=group)), without_tps)
    s.saw('208 of a topic it does not read', c.ask(wire.CONSUME_STATS, dict(consumerGroup=group, topic=s.topic('other'))), without_tps)
    time_in = json.dumps(c.ask(wire.CONSUME_STATS, dict(consumerGroup=group, topic=topic)).json())
    assert '"lastTimestamp"' in time_in


@raw
def messages_are_found_by_keys(s):
    topic, c = s.topic(queues=2), s.connect()
    begin = int(time.time() * 1000) - 1000
    for i in range(5):
        s.send_raw(topic, 1, queue=i % 2, prefix=f'm{i}-', props=dict(KEYS=f'all only{i}', UNIQ_KEY=f'UNIQUE{i}'), connection=c)
    query = lambda key, **more: c.ask(wire.QUERY_MESSAGE, dict(dict(topic=topic, key=key, maxNum=32, beginTimestamp=begin,  # noqa: E731
                                                                    endTimestamp=begin + 3600_000), **more))
    s.wait(lambda: query('only4').code == 0, 'the index has the last message')
    s.saw('by the common key', query('all'), stored)
    s.saw('at most two', query('all', maxNum=2), texts)
    s.saw('at most zero', query('all', maxNum=0), lambda a: count(a) if a.body else 0)
    s.saw('by its own key', query('only2'), texts)
    s.saw('by the unique key', query('UNIQUE3', _UNIQUE_KEY_QUERY=True), texts)
    s.saw('by the unique key as a key', query('UNIQUE3'), texts)
    s.saw('unknown key', query('nothing'))
    s.saw('both keys at once', query('all only2'))
    s.saw('unknown topic', query('all', topic=s.name('nowhere')))
    s.saw('before', query('all', beginTimestamp=0, endTimestamp=begin - 3600_000))
    s.saw('without a time', query('all', beginTimestamp=None))
    s.saw('33 not there', c.ask(wire.VIEW_MESSAGE, dict(offset=1 << 50)))
    s.saw('33 negative', c.ask(wire.VIEW_MESSAGE, dict(offset=-5)))
    log = c.ask(wire.PULL, wire.pull_header(topic, 0)).messages()[0]['log']
    s.saw('33 in the middle', c.ask(wire.VIEW_MESSAGE, dict(offset=log + 3)))


@raw
def messages_are_found_by_their_tag(s):
    topic, c = s.topic(queues=2), s.connect()
    begin = int(time.time() * 1000) - 1000
    for i in range(4):
        s.send_raw(topic, 1, queue=i % 2, prefix=f'm{i}-', tags='red' if i % 2 else 'blue', props=dict(KEYS='red'), connection=c)
    query = lambda key, **more: c.ask(wire.QUERY_MESSAGE, dict(dict(topic=topic, key=key, maxNum=32, beginTimestamp=begin,  # noqa: E731
                                                                    endTimestamp=begin + 3600_000), **more))
    s.wait(lambda: query('red').code == 0 and len(query('red').messages()) == 4, 'the index has the last message')
    s.saw('by tag', query('red', indexType='T'), texts)
    s.saw('by the other tag', query('blue', indexType='T'), texts)
    s.saw('as a key', query('red', indexType='K'), texts)
    s.saw('at most one', query('red', indexType='T', maxNum=1), texts)
    s.saw('unknown tag', query('green', indexType='T'))
    s.saw('a tag as a unique key', query('red', indexType='T', _UNIQUE_KEY_QUERY=True), texts)
    s.saw('unknown index type', query('red', indexType='X'), texts)


@raw
def request_modes_are_set_and_listed(s):
    topic, group, c = s.topic(queues=1), s.name('g'), s.connect()
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
    mode = lambda **more: c.ask(wire.SET_REQUEST_MODE, body=dict(  # noqa: E731
        dict(topic=topic, consumerGroup=group, mode='PULL', popShareQueueNum=0), **more))
    s.saw('pull', mode())
    s.saw('shared by two', mode(popShareQueueNum=2))
    s.saw('unknown topic', mode(topic=s.name('nowhere')))
    s.saw('unknown group', mode(consumerGroup=s.name('nobody')))
    s.saw('retry topic', mode(topic='%RETRY%' + group))
    answer = c.ask(wire.ALL_REQUEST_MODES)
    s.saw('listed', dict(code=answer.code, modes=answer.json()['messageRequestModeMap'].get(topic)))


@raw
def a_master_without_copies_tells_so(s):
    answer = s.ask(wire.HA_STATUS)
    s.saw('907', dict(code=answer.code, body=dict(answer.json(), masterCommitLogMaxOffset='<offset>')))
    assert answer.json()['masterCommitLogMaxOffset'] >= 0


@raw
def counters_have_apaches_names_and_keys(s):
    topic, group, c = s.topic(queues=2), s.name('g'), s.connect()
    c.ask(wire.HEARTBEAT, body=wire.heartbeat('a', [dict(group=group, subs={topic: '*'})], [s.name('p')]))
    s.send_raw(topic, 3, queue=1)
    assert c.ask(wire.PULL, wire.pull_header(topic, 0, queue=1, group=group)).code == 0
    view = lambda name, key: c.ask(wire.VIEW_STATS, dict(statsName=name, statsKey=key))  # noqa: E731
    minute = lambda name, key: view(name, key).json()['statsMinute']['sum']  # noqa: E731
    s.wait(lambda: view('TOPIC_PUT_NUMS', topic).code == 0 and minute('TOPIC_PUT_NUMS', topic) == 3
           and minute('GROUP_GET_NUMS', f'{topic}@{group}') == 3, 'the counters have a sample')
    keys = {'TOPIC_PUT_NUMS': topic, 'TOPIC_PUT_SIZE': topic, 'TOPIC_PUT_LATENCY': f'1@{topic}', 'GROUP_GET_NUMS': f'{topic}@{group}',
            'GROUP_GET_SIZE': f'{topic}@{group}', 'GROUP_GET_LATENCY': f'1@{topic}@{group}', 'BROKER_PUT_NUMS': 'DefaultCluster',
            'BROKER_GET_NUMS': 'DefaultCluster', 'BROKER_PUT_NUMS_WITHOUT_SYSTEM_TOPIC': 'DefaultCluster',
            'BROKER_GET_NUMS_WITHOUT_SYSTEM_TOPIC': 'DefaultCluster', 'CONSUMER_REGISTER_TIME': 'DefaultCluster',
            'PRODUCER_REGISTER_TIME': 'DefaultCluster', 'CHANNEL_ACTIVITY': 'CONNECT'}
    s.saw('counted', {name: view(name, key).code for name, key in keys.items()})
    s.saw('fields', {span: sorted(values) for span, values in view('TOPIC_PUT_NUMS', topic).json().items()})
    s.saw('the other queue', [view('TOPIC_PUT_LATENCY', f'0@{topic}').code, view('GROUP_GET_LATENCY', f'0@{topic}@{group}').code])
    s.saw('by the wrong key', [view(name, f'0@{topic}').code for name in ('TOPIC_PUT_NUMS', 'GROUP_GET_NUMS', 'QUEUE_PUT_NUMS')])
    s.saw('unknown name', view('NO_SUCH_NAME', topic))


@raw
def offsets_are_reset(s):
    topic, group, c = s.topic(queues=2), s.name('g'), s.connect()
    s.send_raw(topic, 10)
    s.send_raw(topic, 4, queue=1)
    half = c.ask(wire.PULL, wire.pull_header(topic, 5)).messages()[0]['stored']
    reset = lambda **more: c.ask(wire.RESET_OFFSET, dict(dict(group=group, topic=topic, timestamp=0, isForce=True), **more))  # noqa: E731
    def offsets(answer):
        table = answer.json()['offsetTable'] if answer.body else {}
        return {json.loads(k)['queueId']: v for k, v in table.items()}
    s.saw('unknown group', reset(group=s.name('nobody')), lambda a: bool(a.body))
    s.saw('unknown topic', reset(topic=s.name('nowhere')))
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=group)).code == 0
    for q in (0, 1):
        c.ask(wire.UPDATE_OFFSET, dict(consumerGroup=group, topic=topic, queueId=q, commitOffset=4))
    s.saw('offline, to the start', reset(), offsets)
    s.saw('offline, committed', [s.committed(group, topic, q) for q in (0, 1)])
    s.saw('offline, to the end', reset(timestamp=-1), offsets)
    s.saw('offline, committed at the end', [s.committed(group, topic, q) for q in (0, 1)])
    s.saw('to a future time', reset(timestamp=int(time.time() * 1000) + 10**6), offsets)
    s.saw('one queue to an offset', reset(queueId=0, offset=7), offsets)
    s.saw('one queue, committed', [s.committed(group, topic, q) for q in (0, 1)])
    s.saw('a queue out of range', reset(queueId=9, offset=1))
    s.saw('an offset out of range', reset(queueId=0, offset=99))
    s.saw('not forced, to the end', reset(timestamp=-1, isForce=False), offsets)
    s.saw('not forced, to the start', reset(timestamp=0, isForce=False), offsets)
    answer = reset(timestamp=half)
    assert offsets(answer)[0] <= 5, answer.body


@raw
def a_pending_reset_wins_over_commits_and_pulls(s):
    topic, group, c = s.topic(queues=1), s.name('g'), s.connect()
    s.send_raw(topic, 10)
    c.ask(wire.HEARTBEAT, body=wire.heartbeat('a', [dict(group=group, subs={topic: '*'})]))
    commit = lambda n: c.ask(wire.UPDATE_OFFSET, dict(consumerGroup=group, topic=topic, queueId=0, commitOffset=n))  # noqa: E731
    commit(10)
    answer = c.ask(wire.RESET_OFFSET, dict(group=group, topic=topic, timestamp=0, isForce=True, queueId=-1))
    s.saw('reset', dict(code=answer.code, body=sorted(answer.json()['offsetTable'].values())))
    pushed = c.wait_pushed(wire.RESET_IN_CLIENT, 1, 3)
    s.saw('pushed to the client', [dict(ext={k: v for k, v in p.ext.items() if k != 'timestamp'}, flag=p.flag,
                                        body=sorted(p.json()['offsetTable'].values()) if p.body else None) for p in pushed])
    s.saw('a commit of the old offset', commit(9))
    s.saw('asked', c.ask(wire.QUERY_OFFSET, dict(consumerGroup=group, topic=topic, queueId=0)))
    s.saw('a pull at the old offset', c.ask(wire.PULL, wire.pull_header(topic, 9, group=group)), lambda a: texts(a) if a.body else [])
    s.saw('a pull at the new offset', c.ask(wire.PULL, wire.pull_header(topic, 0, group=group)), count)
    s.saw('a commit afterwards', commit(2))
    s.saw('asked afterwards', c.ask(wire.QUERY_OFFSET, dict(consumerGroup=group, topic=topic, queueId=0)))
