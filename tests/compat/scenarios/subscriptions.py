"""Heartbeats, both versions, and what the broker makes of them: 34, 35, 38, 40, 46, 203, 204."""
from harness import wire
from harness.scenario import raw
from harness.summaries import parsed


def members(s, group):
    return sorted(s.consumers(group))


@raw
def a_heartbeat_registers_producers_and_consumers(s):
    topic, c, group = s.topic(queues=1), s.connect(), s.name('g')
    s.saw('unknown group, 38', c.ask(wire.CONSUMER_LIST, dict(consumerGroup=group)))
    s.saw('unknown group, 203', c.ask(wire.CONSUMER_CONNECTION, dict(consumerGroup=group)))
    s.saw('unknown group, 204', c.ask(wire.PRODUCER_CONNECTION, dict(producerGroup=s.name('pg'))))
    s.saw('heartbeat', c.ask(wire.HEARTBEAT, body=wire.heartbeat(
        'client-1', [dict(group=group, subs={topic: 'a || b'}, from_='CONSUME_FROM_FIRST_OFFSET')], [s.name('pg')]), language='GO'))
    s.saw('38', c.ask(wire.CONSUMER_LIST, dict(consumerGroup=group)), parsed)
    s.saw('203', c.ask(wire.CONSUMER_CONNECTION, dict(consumerGroup=group)), parsed)
    s.saw('204', c.ask(wire.PRODUCER_CONNECTION, dict(producerGroup=s.name('pg'))), parsed)
    s.saw('the same again', c.ask(wire.HEARTBEAT, body=wire.heartbeat(
        'client-1', [dict(group=group, subs={topic: 'a || b'}, from_='CONSUME_FROM_FIRST_OFFSET')], [s.name('pg')])))
    assert s.routed('%RETRY%' + group) or s.wait(lambda: s.routed('%RETRY%' + group), 'the retry topic is there')
    s.saw('unregister', c.ask(wire.UNREGISTER, dict(clientID='client-1', consumerGroup=group, producerGroup=s.name('pg'))))
    s.saw('38 after', c.ask(wire.CONSUMER_LIST, dict(consumerGroup=group)))
    s.saw('203 after', c.ask(wire.CONSUMER_CONNECTION, dict(consumerGroup=group)))
    s.saw('204 after', c.ask(wire.PRODUCER_CONNECTION, dict(producerGroup=s.name('pg'))))
    s.saw('unregister twice', c.ask(wire.UNREGISTER, dict(clientID='client-1', consumerGroup=group)))
    s.saw('unregister nothing', c.ask(wire.UNREGISTER, dict(clientID='client-1')))
    s.saw('a broken heartbeat', c.ask(wire.HEARTBEAT, body=b'{not json'))
    s.saw('a heartbeat of nothing', c.ask(wire.HEARTBEAT, body={'clientID': 'x', 'producerDataSet': [], 'consumerDataSet': []}))


@raw
def members_of_a_group_are_told_of_changes(s):
    topic, group = s.topic(queues=1), s.name('g')
    a, b = s.connect(), s.connect()
    beat = lambda c, client, **more: c.ask(wire.HEARTBEAT, body=wire.heartbeat(client, [dict(dict(group=group, subs={topic: '*'}), **more)]))  # noqa: E731
    beat(a, 'a')
    s.wait(lambda: members(s, group) == ['a'], 'a is known')
    before = len(a.wait_pushed(wire.IDS_CHANGED, 1, 3))
    beat(b, 'b')
    told = a.wait_pushed(wire.IDS_CHANGED, before + 1, 10)
    assert len(told) > before, 'a was not told that b came'
    s.saw('the notification', dict(code=told[-1].code, flag=told[-1].flag, ext=told[-1].ext, body=len(told[-1].body)))
    assert members(s, group) == ['a', 'b']
    count = len(told)
    b.ask(wire.UNREGISTER, dict(clientID='b', consumerGroup=group))
    told = a.wait_pushed(wire.IDS_CHANGED, count + 1, 10)
    assert len(told) > count, 'a was not told that b left'
    beat(b, 'b')
    count = len(a.wait_pushed(wire.IDS_CHANGED, len(told) + 1, 10))
    b.close()
    told = a.wait_pushed(wire.IDS_CHANGED, count + 1, 15)
    assert len(told) > count, 'a was not told that the connection of b is gone'
    s.wait(lambda: members(s, group) == ['a'], 'b is gone')
    count = len(told)
    a.ask(wire.HEARTBEAT, body=wire.heartbeat('a', [dict(group=group, subs={topic: 'x'}, version=2)]))
    told = a.wait_pushed(wire.IDS_CHANGED, count + 1, 10)
    s.saw('told of its own changed subscription', len(told) > count)


@raw
def a_group_that_does_not_want_notifications_gets_none(s):
    topic, group = s.topic(queues=1), s.name('g')
    assert s.ask(wire.UPDATE_GROUP, body=dict(groupName=group, notifyConsumerIdsChangedEnable=False)).code == 0
    a, b = s.connect(), s.connect()
    for c, name in ((a, 'a'), (b, 'b')):
        c.ask(wire.HEARTBEAT, body=wire.heartbeat(name, [dict(group=group, subs={topic: '*'})]))
    s.wait(lambda: members(s, group) == ['a', 'b'], 'both are known')
    assert not a.wait_pushed(wire.IDS_CHANGED, 1, 1)


@raw
def a_second_connection_of_one_client_replaces_the_first(s):
    topic, group = s.topic(queues=1), s.name('g')
    a, b = s.connect(), s.connect()
    beat = lambda c: c.ask(wire.HEARTBEAT, body=wire.heartbeat('same', [dict(group=group, subs={topic: '*'})]))  # noqa: E731
    beat(a)
    beat(b)
    s.saw('38', members(s, group))
    a.close()
    s.wait(lambda: len(s.ask(wire.CONSUMER_CONNECTION, dict(consumerGroup=group)).json()['connectionSet']) == 1, 'one connection is left')
    s.saw('38 after the first is closed', members(s, group))


@raw
def subscriptions_change_by_version(s):
    topic, other, c, group = s.topic(queues=1), s.topic('other', queues=1), s.connect(), s.name('g')
    beat = lambda version, subs: c.ask(wire.HEARTBEAT, body=wire.heartbeat('a', [dict(group=group, subs=subs, version=version)]))  # noqa: E731
    def table():
        got = c.ask(wire.CONSUMER_CONNECTION, dict(consumerGroup=group)).json()['subscriptionTable']
        return {t: (d['subString'], sorted(d['tagsSet'])) for t, d in got.items()}
    beat(10, {topic: 'a'})
    s.saw('first', table())
    beat(20, {topic: 'b'})
    s.saw('newer', table())
    beat(15, {topic: 'c'})
    s.saw('older', table())
    beat(30, {topic: 'b', other: '*'})
    s.saw('one more topic', table())
    beat(40, {other: '*'})
    s.saw('one less topic', table())


@raw
def heartbeat_version_two_by_fingerprint(s):
    topic, c, group = s.topic(queues=1), s.connect(), s.name('g')
    full = wire.heartbeat('a', [dict(group=group, subs={topic: 'a'})], heartbeatFingerprint=1234, isWithoutSub=False, withoutSub=False)
    short = wire.heartbeat('a', [dict(group=group, subs={})], heartbeatFingerprint=1234, isWithoutSub=True, withoutSub=True)
    s.saw('full', c.ask(wire.HEARTBEAT, body=full))
    s.saw('only the fingerprint', c.ask(wire.HEARTBEAT, body=short))
    table = c.ask(wire.CONSUMER_CONNECTION, dict(consumerGroup=group)).json()['subscriptionTable']
    s.saw('the subscription is kept', {t: d['subString'] for t, d in table.items()})
    s.saw('another fingerprint', c.ask(wire.HEARTBEAT, body=dict(short, heartbeatFingerprint=99)))
    s.saw('again', c.ask(wire.HEARTBEAT, body=dict(short, heartbeatFingerprint=99)))
    s.saw('full again', c.ask(wire.HEARTBEAT, body=dict(full, heartbeatFingerprint=99)))
    fresh = s.name('fresh')
    s.saw('fingerprint of an unknown group', c.ask(wire.HEARTBEAT, body=wire.heartbeat(
        'a', [dict(group=fresh, subs={})], heartbeatFingerprint=7, isWithoutSub=True, withoutSub=True)))
    s.saw('its members', members(s, fresh))
    s.saw('version one after two', c.ask(wire.HEARTBEAT, body=wire.heartbeat('a', [dict(group=group, subs={topic: 'a'})])))


@raw
def checks_of_a_clients_subscription(s):
    c = s.connect()
    check = lambda expression, kind: c.ask(wire.CHECK_CLIENT, body=dict(clientId='a', group=s.name('g'), subscriptionData=dict(  # noqa: E731
        topic=s.name('t'), subString=expression, expressionType=kind, classFilterMode=False, tagsSet=[], codeSet=[], subVersion=1)))
    s.saw('tags', check('a || b', 'TAG'))
    s.saw('no body', c.ask(wire.CHECK_CLIENT))
