"""The name server by hand: routes, lists, key-value settings, permissions wiped and given back."""
from harness import wire
from harness.scenario import raw, sdk
from harness.summaries import parsed

PUT_KV, GET_KV, DELETE_KV, WIPE, ADD, LIST_KV, BY_CLUSTER = 100, 101, 102, 205, 327, 219, 224
SYSTEM, UNIT, UNIT_SUB, UNIT_SUB_ONLY, SET, GET = 304, 311, 312, 313, 318, 319


@raw(settings={})
def the_name_server_answers(s):
    topic, n = s.topic(queues=3), s.connect(s.target.namesrv)
    s.saw('route', n.ask(wire.ROUTE, dict(topic=topic)), parsed)
    s.saw('route as standard JSON', n.ask(wire.ROUTE, dict(topic=topic, acceptStandardJsonOnly=True)), lambda a: a.body.decode())
    s.saw('route for an old client', n.ask(wire.ROUTE, dict(topic=topic), version=wire.VERSION_4_9_3), lambda a: a.body.decode())
    s.saw('route for a new client', n.ask(wire.ROUTE, dict(topic=topic), version=wire.VERSION_5_5), lambda a: a.body.decode())
    s.saw('route of an unknown topic', n.ask(wire.ROUTE, dict(topic=s.name('nowhere'))))
    s.saw('cluster', n.ask(wire.CLUSTER_INFO), parsed)
    listed = lambda a: sorted(t for t in (a.json() or {}).get('topicList', []) if not t.startswith('rmq_sys_'))  # noqa: E731
    s.saw('206', n.ask(wire.ALL_TOPICS_NAMESRV), listed)
    s.saw('224', n.ask(BY_CLUSTER, dict(cluster='DefaultCluster')), listed)
    s.saw('224 of an unknown cluster', n.ask(BY_CLUSTER, dict(cluster='nowhere')), listed)
    s.saw('304', n.ask(SYSTEM), listed)
    for code in (UNIT, UNIT_SUB, UNIT_SUB_ONLY):
        s.saw(str(code), n.ask(code), listed)
    key = dict(namespace='space', key='k')
    s.saw('no such key', n.ask(GET_KV, key))
    s.saw('no such namespace', n.ask(LIST_KV, dict(namespace='space')))
    s.saw('put', n.ask(PUT_KV, dict(key, value='värde')))
    s.saw('get', n.ask(GET_KV, key))
    s.saw('list', n.ask(LIST_KV, dict(namespace='space')), parsed)
    s.saw('delete', n.ask(DELETE_KV, key))
    s.saw('deleted', n.ask(GET_KV, key))
    s.saw('delete twice', n.ask(DELETE_KV, key))
    perm = lambda: n.ask(wire.ROUTE, dict(topic=topic)).json()['queueDatas'][0]['perm']  # noqa: E731
    wiped = n.ask(WIPE, dict(brokerName='broker-a'))
    s.saw('wipe', dict(code=wiped.code, some=int(wiped.ext['wipeTopicCount']) > 0))
    s.saw('wiped', perm())
    given = n.ask(ADD, dict(brokerName='broker-a'))
    s.saw('give back', dict(code=given.code, some=int(given.ext['addTopicCount']) > 0))
    s.saw('given back', perm())
    s.saw('wipe an unknown broker', n.ask(WIPE, dict(brokerName='nobody')))
    s.saw('delete a topic', n.ask(wire.DELETE_TOPIC_NAMESRV, dict(topic=topic)))
    s.saw('its route', n.ask(wire.ROUTE, dict(topic=topic)))
    s.saw('order settings of a topic', n.ask(PUT_KV, dict(namespace='ORDER_TOPIC_CONFIG', key='ordered', value='broker-a:4')))
    config = n.ask(GET)
    lines = dict(l.split('=', 1) for l in config.body.decode().splitlines() if '=' in l and l[:1] != '#')
    s.saw('319', dict(code=config.code, port=lines.get('listenPort') == s.target.namesrv.split(':')[1]))
    s.saw('318 of a path', n.ask(SET, body=b'kvConfigPath=/tmp/x\n'))


@sdk('java-5.5.0')
def a_route_names_the_address_the_client_used(s):
    """With no brokerIP1 set: the same broker is 127.0.0.1 to one client and 127.0.0.2 to another."""
    if s.target.kind == 'apache':
        return  # it has one address
    target = s.own_target(bind='0.0.0.0')
    for host in ('127.0.0.1', '127.0.0.2'):
        address = f'{host}:{target.namesrv_port}'
        with wire.Connection(address) as n:
            route = n.ask(wire.ROUTE, dict(topic='TBW102')).json()
        assert route['brokerDatas'][0]['brokerAddrs'] == {'0': f'{host}:{target.broker_port}'}, route
        producer = s.start('producer', f'at-{host}', target=type('At', (), dict(namesrv=address)), group=s.name(f'pg-{host[-1]}'))
        assert producer.send(s.name('t'), f'to {host}')['status'] == 'SEND_OK'
