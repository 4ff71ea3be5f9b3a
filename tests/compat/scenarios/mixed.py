"""Our name server and broker with Apache's: they do not notice."""
from harness import wire
from harness.scenario import sdk


def _works(s, target, broker_of):
    topic = s.name('mixed')
    with wire.Connection(broker_of.broker) as c:
        answer = c.ask(wire.UPDATE_TOPIC, dict(topic=topic, defaultTopic='TBW102', readQueueNums=4, writeQueueNums=4, perm=6,
                                               topicFilterType='SINGLE_TAG', topicSysFlag=0, order=False))
        assert answer.code == 0, answer
    s.wait(lambda: s.routed(topic, target), 'the topic is routed')
    consumer = s.push('c', topic, target=target)
    producer = s.producer(target=target)
    assert producer.send(topic, 'hello')['status'] == 'SEND_OK'
    assert consumer.texts(1) == ['hello']
    auto = s.name('mixed-auto')
    assert producer.send(auto, 'auto')['status'] == 'SEND_OK'
    s.wait(lambda: s.routed(auto, target), 'the created topic is routed')
    with wire.Connection(target.namesrv) as c:
        cluster = c.ask(wire.CLUSTER_INFO).json()
    assert cluster['clusterAddrTable'] == {'DefaultCluster': ['broker-a']}, cluster
    broker_of.stop()
    def gone():
        with wire.Connection(target.namesrv) as c:
            return c.ask(wire.ROUTE, dict(topic=topic)).code == 17
    s.wait(gone, 'the route is gone after the broker stopped')


@sdk('java-5.5.0', deadline=240)
def apaches_broker_registers_with_this_name_server(s):
    namesrv = s.own_target(roles='namesrv')
    broker = s.own_target(kind='apache', roles='broker', namesrv=namesrv.namesrv)
    _works(s, namesrv, broker)


@sdk('java-5.5.0', deadline=240)
def this_broker_registers_with_apaches_name_server(s):
    namesrv = s.own_target(kind='apache', roles='namesrv')
    broker = s.own_target(roles='broker', namesrv=namesrv.namesrv)
    _works(s, namesrv, broker)
