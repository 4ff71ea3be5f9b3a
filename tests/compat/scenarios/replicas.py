"""A master and its slave, each of either broker: what the master has is on the slave, and read there when the master is gone."""
import os

from harness import targets, wire
from harness.scenario import raw

from .directories import SETTINGS, Contents, check


@raw(ours=True, deadline=240)
def our_slave_follows_a_master_of_apache(s):
    follows(s, 'apache', 'apogee')


@raw(ours=True, deadline=240)
def a_slave_of_apache_follows_our_master(s):
    follows(s, 'apogee', 'apache')


@raw(ours=True, deadline=240)
def our_slave_follows_our_master(s):
    follows(s, 'apogee', 'apogee', brokerRole='SYNC_MASTER', inSyncReplicas=2, slaveTimeout=60_000)


def follows(s, master_kind, slave_kind, **of_master):
    names = own(s, 'apogee', {}, 'names', roles='namesrv')
    master = own(s, master_kind, {**SETTINGS, **of_master}, 'master', roles='broker', namesrv=names.namesrv)
    of_slave = dict(brokerRole='SLAVE', brokerId=1, slaveReadEnable='true')
    slave = own(s, slave_kind, {**SETTINGS, **of_slave}, 'slave', roles='broker', namesrv=names.namesrv)
    names.start()
    master.start()
    s.wait(lambda: is_registered(names, master), 'the master is registered', 30)
    contents = Contents(s.name('t'))
    if of_master:
        # Every send waits for it.
        slave.start()
    with wire.Connection(master.broker, timeout=60) as c:
        contents.add(s, c, 0)
        if not of_master:
            slave.start()
        contents.add(s, c, 1)
        s.wait(lambda: is_copied(c), 'the slave has all of it', 60)
    with wire.Connection(slave.broker, timeout=60) as c:
        refused = c.ask(wire.SEND, wire.send_header(contents.topic), b'to a slave')
        assert refused.code == 2 and 'REJECTREQUEST' in refused.remark, refused
        if slave_kind == 'apogee':
            s.wait(lambda: has_tables(contents, c), 'the slave has the tables', 60)
            master.stop()
            contents.are_there(s, c)
        else:
            # It asks for the tables when it has run for a minute, and serves no pull before.
            master.stop()
            messages_are_there(s, contents, c)
    slave.stop()
    logs = [log_of(target) for target in (master, slave)]
    assert logs[0] == logs[1], 'the logs differ'
    check(master)
    check(slave)


def own(s, kind, settings, name, **more):
    target = targets.KINDS[kind](os.path.join(s.work, f'{name}'), settings, **more)
    s.own_targets.append(target)
    return target


def is_registered(names, broker):
    with wire.Connection(names.namesrv) as c:
        answer = c.ask(wire.CLUSTER_INFO)
        return answer.code == 0 and broker.broker in answer.body.decode()


def is_copied(c):
    slaves = c.ask(wire.HA_STATUS).json()['haConnectionInfo']
    return [slave['diff'] for slave in slaves] == [0] and slaves[0]['inSync']


def has_tables(contents, c):
    """Whether the slave has what it asks for every few seconds."""
    groups = c.ask(wire.ALL_GROUPS).json()['subscriptionGroupTable']
    topics = c.ask(wire.ALL_TOPICS).json()['topicConfigTable']
    if not (contents.groups.keys() <= groups.keys() and contents.perms.keys() <= topics.keys()):
        return False
    return all(c.ask(wire.QUERY_OFFSET, dict(consumerGroup=group, topic=contents.topic, queueId=queue)).ext.get('offset') == str(offset)
               for (group, queue), offset in contents.offsets.items())


def messages_are_there(s, contents, c):
    """Whether the slave's queues and its index have the messages."""
    contents.all_are_visible(s, c)
    for texts in contents.sent:
        for text in (texts[0], texts[len(texts) // 2], texts[-1]):
            found = c.ask(wire.QUERY_MESSAGE, dict(topic=contents.topic, key=f'k{text}', maxNum=8, beginTimestamp=0, endTimestamp=1 << 62))
            assert [m['body'].decode() for m in found.messages()] == [text], (text, found)


def log_of(target):
    """The files of the log by their names."""
    directory = os.path.join(target.work, target.directory, 'commitlog')
    return {name: open(os.path.join(directory, name), 'rb').read() for name in os.listdir(directory)}
