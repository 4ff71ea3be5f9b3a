"""Clients over TLS: beside plain ones, with certificates of both ends, and while certificates are exchanged."""
import hashlib
import os
import subprocess

from harness import wire
from harness.drivers import DriverError
from harness.scenario import JAVA, sdk


def openssl(*args):
    done = subprocess.run(['openssl', *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f'openssl {" ".join(args)}: {done.stdout}'


class Authority:
    """A certificate authority with its files in a directory of its own."""

    def __init__(self, s, name):
        self.directory = os.path.join(s.work, f'{name}')
        os.makedirs(self.directory)
        self.file, self.key = self.path('ca.pem'), self.path('ca.key')
        openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', f'/CN={name}', '-days', '10', '-keyout', self.key, '-out', self.file)

    def path(self, name):
        return os.path.join(self.directory, name)

    def issue(self, name, cert=None, key=None, password=None):
        """Files of a certificate and its key; the key is encrypted if there is a password."""
        cert, key, request = cert or self.path(f'{name}.pem'), key or self.path(f'{name}.key'), self.path(f'{name}.csr')
        plain = self.path(f'{name}.plain')
        openssl('req', '-new', '-newkey', 'rsa:2048', '-nodes', '-subj', f'/CN={name}', '-keyout', plain, '-out', request)
        if password:
            openssl('pkcs8', '-topk8', '-v1', 'PBE-SHA1-3DES', '-in', plain, '-out', key, '-passout', f'pass:{password}')
        else:
            os.replace(plain, key)
        # With an extension it is of version 3, as certificates must be here.
        with open(self.path('extensions'), 'w') as file:
            file.write('basicConstraints=CA:FALSE\n')
        openssl('x509', '-req', '-in', request, '-CA', self.file, '-CAkey', self.key, '-CAcreateserial', '-days', '10', '-out', cert,
                '-extfile', self.path('extensions'))
        return cert, key


def server(authority, **more):
    """Settings of a server with a certificate of this authority, and an encrypted key."""
    cert, key = authority.issue('server', password='apogee')
    return {'tls.test.mode.enable': 'false', 'tls.server.certPath': cert, 'tls.server.keyPath': key, 'tls.server.keyPassword': 'apogee', **more}


def trusting(authority, **more):
    """System properties of a client that checks who signed the server's certificate."""
    return {'tls.test.mode.enable': 'false', 'tls.client.authServer': 'true', 'tls.client.trustCertPath': authority.file, **more}


def sends(s, target, topic, driver, h):
    """Whether a producer of this driver gets a message through."""
    try:
        producer = s.producer(f'{h}-{len(s.handles)}', driver=driver, target=target, tls=True, timeout_ms=5000, retries=0)
        return producer.send(topic, h)['status'] == 'SEND_OK'
    except DriverError:
        return False


@sdk(*JAVA)
def plain_and_encrypted_clients_share_ports_and_topics(s):
    topic = s.topic(queues=2)
    encrypted = s.push('encrypted', topic, group=s.name('ge'), tls=True)
    plain = s.push('plain', topic, group=s.name('gp'))
    expected = set()
    for tls in (True, False):
        producer = s.producer(f'producer-{tls}', group=s.name(f'pg-{tls}'), tls=tls)
        big = f'{tls}' * 200_000
        assert producer.send(topic, big)['status'] == 'SEND_OK'
        assert {r['status'] for r in producer.send_many(topic, 100, prefix=f'{tls}-')} == {'SEND_OK'}
        expected |= {hashlib.sha256(big.encode()).hexdigest(), *(f'{tls}-{n}' for n in range(100))}
    for consumer in (encrypted, plain):
        def arrived():
            return {message.get('text', message.get('sha256')) for message in consumer.received()}
        s.wait(lambda: len(arrived()) >= len(expected), 'everything arrives')
        assert arrived() == expected


@sdk(*JAVA, deadline=240)
def certificates_of_both_ends_are_checked(s):
    own, other = Authority(s, 'own'), Authority(s, 'other')
    required = {'tls.server.need.client.auth': 'require', 'tls.server.authClient': 'true', 'tls.server.trustCertPath': own.file}
    target = s.own_target(server(own, **required))
    topic = s.topic(queues=1, target=target)

    def process(trusted, signer=None):
        shown = {}
        if signer:
            cert, key = signer.issue(f'client-of-{os.path.basename(signer.directory)}')
            shown = {'tls.client.certPath': cert, 'tls.client.keyPath': key}
        return s.process(trusting(trusted, **shown))
    good = process(own, own)
    consumer = s.push('c', topic, driver=good, target=target, tls=True)
    assert sends(s, target, topic, good, 'good')
    assert consumer.texts(1) == ['good']
    assert not sends(s, target, topic, process(own), 'nothing-shown'), 'a client without a certificate was served'
    assert not sends(s, target, topic, process(own, other), 'other-shown'), 'a client with a certificate of another authority was served'
    assert not sends(s, target, topic, process(other, own), 'other-trusted'), 'a client accepted a server of another authority'
    assert consumer.texts(1) == ['good']


@sdk('java-5.5.0', deadline=240)
def certificates_are_exchanged_under_load(s):
    first, second = Authority(s, 'first'), Authority(s, 'second')
    settings = server(first)
    target = s.own_target(settings)
    topic = s.topic(queues=1, target=target)
    old = s.producer('old', driver=s.process(trusting(first)), target=target, tls=True, retries=0)
    assert old.send(topic, 'before')['status'] == 'SEND_OK'
    second.issue('server', settings['tls.server.certPath'], settings['tls.server.keyPath'], 'apogee')
    new = s.process(trusting(second))
    counts = []

    def exchanged():
        # Without retries: a connection that is dropped fails a send.
        counts.append({r['status'] for r in old.send_many(topic, 200)})
        return sends(s, target, topic, new, f'new-{len(counts)}')
    s.wait(exchanged, 'new connections get the new certificate', 120)
    counts.append({r['status'] for r in old.send_many(topic, 200)})
    assert all(statuses == {'SEND_OK'} for statuses in counts), counts


@sdk('java-5.5.0', deadline=120)
def enforcing_serves_encrypted_clients_only(s):
    # The broker reaches the name server over TLS in this mode.
    target = s.own_target({'tls.server.mode': 'enforcing'}, plain=False)
    topic = s.name('t')
    s.wait(lambda: sends(s, target, topic, s.driver, 'encrypted'), 'an encrypted client is served')
    for address in (target.namesrv, target.broker):
        with wire.Connection(address) as plain:
            plain.send_bytes(wire.encode(wire.CLUSTER_INFO))
            assert plain.wait_closed(), 'a plain connection is served'
