"""An upgrade of three machines, one after the other, under load: each has a name server with a controller, and a broker of one name.

A master that is stopped hands over, and passes on what clients send to it until they know the new one. So no send fails with the retries that the client has by
default. A send to a queue that the application chose has none: those that are on their way when the role changes may fail.
"""
import os
import time
import types

from harness import targets
from harness.scenario import sdk
from harness.targets import in_sync, master

from .failover import QUEUES, SETTINGS, Deliveries, Sends, is_in_order, until_sent
from .groups import everything
from .replicas import own

NAMES = ('n0', 'n1', 'n2')


@sdk('java-5.5.0', deadline=300, ours=True)
def three_machines_are_upgraded_one_after_the_other(s):
    addresses = {name: f'127.0.0.1:{targets.free_port()}' for name in NAMES}
    machines = [Machine(s, addresses, name) for name in NAMES]
    for machine in machines:
        machine.names.start()
    s.wait(machines[0].names.leader, 'a controller leads', 30)
    for machine in machines:
        machine.start_broker(';'.join(one.names.namesrv for one in machines))
    first = machines[0]
    s.wait(lambda: in_sync(first.names) == [1, 2, 3], 'all are in sync', 60)
    s.wait(lambda: master_of(machines), 'the name servers know the master', 30)
    place = types.SimpleNamespace(broker=master_of(machines).broker.broker, namesrv=first.names.namesrv)
    topic, ordered = (s.topic(name, queues=QUEUES, target=place) for name in ('t', 'o'))
    namesrv = first.broker.namesrv
    consumer = Deliveries(s.driver_client('push', 'consumer', namesrv, group=s.name('g'), subs={topic: '*'}, brief=True))
    in_order = Deliveries(s.driver_client('push', 'in-order', namesrv, group=s.name('og'), subs={ordered: '*'}, orderly=True, brief=True))
    loads = [Sends(s, s.driver_client('producer', name, namesrv, group=s.name(name), timeout_ms=10_000), of, queues=queues)
             for name, of, queues in (('p', topic, 0), ('po', ordered, QUEUES))]
    until_sent(s, loads, 100)
    for machine in machines:
        s.wait(lambda: master_of(machines), 'the name servers know the master', 30)
        was = 'the master' if master_of(machines) is machine else 'a slave'
        moment = time.monotonic()
        failed = [load.failed for load in loads]
        machine.restart()
        s.wait(lambda: in_sync(machine.names) == [1, 2, 3], 'it is in sync again', 60)
        until_sent(s, loads, 50, since=time.monotonic())
        failed = [load.failed - before for load, before in zip(loads, failed)]
        assert failed[0] == 0 and failed[1] <= (3 if was == 'the master' else 0), f'sends failed when {was} was restarted: {failed}'
        gaps = ' and '.join(f'{load.gap(moment):.2f} s' for load in loads)
        s.slow.append(f'{machine.name}, {was}, was restarted: no acknowledged send for {gaps}, sends that failed: {failed}')
    for load, deliveries in zip(loads, (consumer, in_order)):
        sent = load.stop()
        everything(s, sent, lambda: set(deliveries.texts()))
        s.slow.append(f'{load.topic}: {len(sent)} acknowledged and consumed, {len(deliveries.texts()) - len(set(deliveries.texts()))} deliveries again')
    is_in_order(in_order.texts())


class Machine:
    """A name server with a controller, and a broker."""

    def __init__(self, s, addresses, name):
        self.s, self.name, self.addresses = s, name, addresses
        self.names = targets.NamesWithController(os.path.join(s.work, name), addresses, name)
        s.own_targets.append(self.names)

    def start_broker(self, namesrv):
        settings = {**SETTINGS, 'controllerAddr': ';'.join(self.addresses.values())}
        self.broker = own(self.s, 'apogee', settings, f'{self.name}-broker', roles='broker', namesrv=namesrv)
        self.broker.start()

    def restart(self):
        """As a service manager does: SIGTERM, and a start when the process has ended."""
        self.broker.stop()
        self.names.stop()
        self.names.start()
        self.broker.start()


def master_of(machines):
    """The machine of the master, when all name servers know the same one."""
    known = {master(machine.names) for machine in machines}
    return next((machine for machine in machines if known == {machine.broker.broker}), None)
