"""The remoting protocol as a test needs it: frames built field by field (also wrong ones), and every answer read back.

Deliberately not a client: nothing is retried, checked or hidden. Standard library only.
"""
import itertools
import json
import socket
import struct
import threading
import time
import zlib

# Request codes by Apache's names, those the scenarios use.
SEND, PULL, QUERY_MESSAGE, QUERY_OFFSET, UPDATE_OFFSET = 10, 11, 12, 14, 15
UPDATE_TOPIC, ALL_TOPICS, UPDATE_CONFIG, GET_CONFIG, RUNTIME_INFO = 17, 21, 25, 26, 28
SEARCH_OFFSET, MAX_OFFSET, MIN_OFFSET, EARLIEST_TIME, VIEW_MESSAGE = 29, 30, 31, 32, 33
HEARTBEAT, UNREGISTER, SEND_BACK, END_TRANSACTION, CONSUMER_LIST = 34, 35, 36, 37, 38
IDS_CHANGED, LOCK, UNLOCK, CHECK_CLIENT = 40, 41, 42, 46
ROUTE, CLUSTER_INFO = 105, 106
UPDATE_GROUP, ALL_GROUPS, TOPIC_STATS, CONSUMER_CONNECTION, PRODUCER_CONNECTION = 200, 201, 202, 203, 204
ALL_TOPICS_NAMESRV, DELETE_GROUP, CONSUME_STATS = 206, 207, 208
DELETE_TOPIC, DELETE_TOPIC_NAMESRV, RESET_IN_CLIENT, RESET_OFFSET = 215, 216, 220, 222
SEND_V2, VIEW_STATS, SEND_BATCH, LITE_PULL = 310, 315, 320, 361
SEND_REPLY, SEND_REPLY_V2, PUSH_REPLY = 324, 325, 326
SET_REQUEST_MODE, ALL_REQUEST_MODES, HA_STATUS = 401, 402, 907
CONTROLLER_METADATA, SYNC_STATE_DATA = 1005, 1006
QUERY_ASSIGNMENT = 400
POP, ACK, PEEK, CHANGE_INVISIBLE, NOTIFICATION, POLLING_INFO, BATCH_ACK = 200050, 200051, 200052, 200053, 200054, 200055, 200151

VERSION_4_9_3, VERSION_4_9_8, VERSION_5_5 = 399, 409, 513
COMMIT, SUSPEND, SUBSCRIPTION, CLASS_FILTER, LITE = 1, 2, 4, 8, 16

V2_NAMES = dict(a='producerGroup', b='topic', c='defaultTopic', d='defaultTopicQueueNums', e='queueId', f='sysFlag',
                g='bornTimestamp', h='flag', i='properties', j='reconsumeTimes', k='unitMode', l='maxReconsumeTimes',
                m='batch', n='brokerName')
TO_V2 = {long: short for short, long in V2_NAMES.items()}

_opaque = itertools.count(1)


def text_of(value):
    """An ext field's text, as Java writes it."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    return str(value)


def encode(code, ext=None, body=b'', opaque=None, flag=0, remark=None, language='OTHER', version=VERSION_4_9_8, binary=False):
    """One frame. `binary` chooses the ROCKETMQ header instead of JSON."""
    opaque = next(_opaque) if opaque is None else opaque
    ext = {k: text_of(v) for k, v in (ext or {}).items() if v is not None}
    if binary:
        languages = dict(JAVA=0, CPP=1, PYTHON=3, OTHER=7, GO=9, RUST=12, NODE_JS=13)
        note = (remark or '').encode()
        fields = b''
        for k, v in ext.items():
            k, v = k.encode(), v.encode()
            fields += struct.pack('>h', len(k)) + k + struct.pack('>i', len(v)) + v
        header = struct.pack('>hbhiii', code, languages[language], version, opaque, flag, len(note)) + note
        header += struct.pack('>i', len(fields)) + fields
    else:
        head = dict(code=code, language=language, version=version, opaque=opaque, flag=flag, serializeTypeCurrentRPC='JSON')
        if remark is not None:
            head['remark'] = remark
        if ext:
            head['extFields'] = ext
        header = json.dumps(head, ensure_ascii=False).encode()
    return frame(header, body, 1 if binary else 0)


def frame(header, body=b'', kind=0, header_len=None, total=None):
    """Header and body with their lengths in front; the lengths may lie."""
    header_len = len(header) if header_len is None else header_len
    total = 4 + len(header) + len(body) if total is None else total
    return struct.pack('>iI', total, (kind << 24) | header_len) + header + body


class Answer:
    """A decoded frame, request or response."""

    def __init__(self, raw):
        mark = struct.unpack('>I', raw[:4])[0]
        self.binary, length = bool(mark >> 24), mark & 0xFFFFFF
        header, self.body = raw[4:4 + length], raw[4 + length:]
        if self.binary:
            self.code, self.language, self.version, self.opaque, self.flag, note = struct.unpack('>hbhiii', header[:17])
            at = 17
            self.remark = header[at:at + note].decode() if note > 0 else None
            at += max(note, 0)
            fields_len = struct.unpack('>i', header[at:at + 4])[0]
            at, end, self.ext = at + 4, at + 4 + fields_len, {}
            while at < end:
                k = struct.unpack('>h', header[at:at + 2])[0]
                key = header[at + 2:at + 2 + k].decode()
                at += 2 + k
                v = struct.unpack('>i', header[at:at + 4])[0]
                self.ext[key] = header[at + 4:at + 4 + v].decode()
                at += 4 + v
        else:
            head = json.loads(header)
            self.code, self.opaque, self.flag = head.get('code', 0), head['opaque'], head.get('flag', 0)
            self.language, self.version = head.get('language'), head.get('version')
            self.remark, self.ext = head.get('remark'), head.get('extFields') or {}

    @property
    def is_response(self):
        return bool(self.flag & 1)

    def json(self):
        return lenient_json(self.body.decode()) if self.body else None

    def messages(self):
        return messages(self.body)

    def __repr__(self):
        return f'<{self.code} {self.remark!r} {self.ext} body {len(self.body)}>'


class Closed(Exception):
    """The other side closed the connection."""


class Connection:
    """One TCP connection. A thread reads; `ask` waits for its own answer, `pushed` collects what the broker sends by itself."""

    def __init__(self, address, timeout=10, local=None):
        host, port = address.rsplit(':', 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(None)
        self.timeout = timeout
        self.local = '%s:%d' % self.socket.getsockname()[:2]
        self.answers, self.arrived, self.pushed = {}, [], []
        self.closed = None
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self):
        try:
            while True:
                length = struct.unpack('>i', self._exactly(4))[0]
                raw = self._exactly(length) if 4 < length <= 64 << 20 else b''
                try:
                    answer = Answer(raw)
                except Exception as why:
                    raise ValueError(f'not a frame, of length {length}: {raw[:200]!r} ({why})') from why
                with self.changed:
                    if answer.is_response:
                        self.answers[answer.opaque] = answer
                        self.arrived.append(answer.opaque)
                    else:
                        self.pushed.append(answer)
                    self.changed.notify_all()
        except Exception as why:  # noqa: BLE001 - every end of the stream ends the reader
            with self.changed:
                self.closed = why
                self.changed.notify_all()

    def _exactly(self, n):
        parts = []
        while n:
            part = self.socket.recv(min(n, 1 << 20))
            if not part:
                raise Closed('closed')
            parts.append(part)
            n -= len(part)
        return b''.join(parts)

    def send_bytes(self, data):
        self.socket.sendall(data)

    def start(self, code, ext=None, body=b'', **more):
        """Sends and returns the opaque, to be given to `answer`."""
        opaque = more.pop('opaque', None) or next(_opaque)
        self.send_bytes(encode(code, ext, body, opaque=opaque, **more))
        return opaque

    def answer(self, opaque, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        with self.changed:
            while opaque not in self.answers:
                if self.closed:
                    raise Closed(f'connection ended before the answer: {self.closed}')
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError('no answer')
                self.changed.wait(left)
            return self.answers.pop(opaque)

    def ask(self, code, ext=None, body=b'', timeout=None, **more):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        return self.answer(self.start(code, ext, body, **more), timeout)

    def oneway(self, code, ext=None, body=b''):
        self.start(code, ext, body, flag=2)

    def wait_closed(self, timeout=10):
        with self.changed:
            return self.changed.wait_for(lambda: self.closed is not None, timeout)

    def wait_pushed(self, code, count=1, timeout=10):
        """Requests of the broker with this code, once there are `count`."""
        found = lambda: [p for p in self.pushed if p.code == code]  # noqa: E731
        with self.changed:
            self.changed.wait_for(lambda: len(found()) >= count or self.closed, timeout)
            return found()

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


# ---- messages -----------------------------------------------------------------------------------------------------------

def properties(text):
    """`name 0x01 value 0x02 ...` to a dict, and a dict to that text."""
    if isinstance(text, dict):
        return ''.join(f'{k}\x01{v}\x02' for k, v in text.items())
    out = {}
    for item in text.split('\x02'):
        name, mark, value = item.partition('\x01')
        if mark:
            out[name] = value
    return out


def messages(body):
    """The stored messages of a pull, view or query answer."""
    out, at = [], 0
    while at < len(body):
        size, magic, crc, queue, flag, offset, log, sys_flag, born = struct.unpack('>iIiiiqqiq', body[at:at + 48])
        end, p = at + size, at + 48
        host, p = _address(body, p, sys_flag & 0x10)
        stored = struct.unpack('>q', body[p:p + 8])[0]
        store_host, p = _address(body, p + 8, sys_flag & 0x20)
        reconsumed, prepared, n = struct.unpack('>iqi', body[p:p + 16])
        p += 16
        content = body[p:p + n]
        p += n
        if magic == 0xDAA320AB:
            n = struct.unpack('>h', body[p:p + 2])[0]
            p += 2
        else:
            n = body[p]
            p += 1
        topic = body[p:p + n].decode()
        p += n
        n = struct.unpack('>h', body[p:p + 2])[0]
        props = properties(body[p + 2:p + 2 + n].decode())
        if p + 2 + n != end:
            raise ValueError(f'message at {at} of size {size} ends at {p + 2 + n}, not {end}')
        out.append(dict(size=size, magic=magic, crc=crc, crc_ok=crc == zlib.crc32(content) & 0x7FFFFFFF, queue=queue, flag=flag,
                        offset=offset, log=log, sys_flag=sys_flag, born=born, born_host=host, stored=stored,
                        store_host=store_host, reconsumed=reconsumed, prepared=prepared, body=content, topic=topic, props=props))
        at = end
    return out


def _address(body, at, v6):
    n = 16 if v6 else 4
    host = socket.inet_ntop(socket.AF_INET6 if v6 else socket.AF_INET, body[at:at + n])
    return f'{host}:{struct.unpack(">i", body[at + n:at + n + 4])[0]}', at + n + 4


def batch_body(items):
    """The body of 320: items are (body, properties dict) or (body, properties, flag)."""
    out = b''
    for body, props, *flag in items:
        text = properties(props).encode()
        out += struct.pack('>iiiii', 22 + len(body) + len(text), 0, 0, flag[0] if flag else 0, len(body)) + body
        out += struct.pack('>h', len(text)) + text
    return out


def send_header(topic, queue=0, group='raw-producer', props=None, **more):
    """Header fields of 10 by their long names."""
    ext = dict(producerGroup=group, topic=topic, defaultTopic='TBW102', defaultTopicQueueNums=4, queueId=queue, sysFlag=0,
               bornTimestamp=int(time.time() * 1000), flag=0, properties=properties(props or {}), reconsumeTimes=0,
               unitMode=False, maxReconsumeTimes=None, batch=False)
    ext.update(more)
    return {k: v for k, v in ext.items() if v is not None}


def v2(ext):
    return {TO_V2.get(k, k): v for k, v in ext.items()}


def pull_header(topic, offset, group='raw-group', queue=0, max_nums=32, flags=SUBSCRIPTION, sub='*', suspend=0, **more):
    ext = dict(consumerGroup=group, topic=topic, queueId=queue, queueOffset=offset, maxMsgNums=max_nums, sysFlag=flags,
               commitOffset=0, suspendTimeoutMillis=suspend, subscription=sub, subVersion=0, expressionType='TAG')
    ext.update(more)
    return {k: v for k, v in ext.items() if v is not None}


def heartbeat(client, consumers=(), producers=(), **more):
    """HeartbeatData. A consumer is dict(group=, subs={topic: expression}, model=, from_=, type=, version=)."""
    def subscription(topic, expression, version):
        if expression.startswith('SQL92:'):
            return dict(classFilterMode=False, topic=topic, subString=expression[6:], tagsSet=[], codeSet=[], subVersion=version,
                        expressionType='SQL92')
        tags = [] if expression in ('*', '') else [t.strip() for t in expression.split('||')]
        return dict(classFilterMode=False, topic=topic, subString=expression, tagsSet=tags, codeSet=[java_hash(t) for t in tags],
                    subVersion=version, expressionType='TAG')
    data = dict(clientID=client, producerDataSet=[dict(groupName=g) for g in producers], consumerDataSet=[
        dict(groupName=c['group'], consumeType=c.get('type', 'CONSUME_PASSIVELY'), messageModel=c.get('model', 'CLUSTERING'),
             consumeFromWhere=c.get('from_', 'CONSUME_FROM_LAST_OFFSET'), unitMode=False,
             subscriptionDataSet=[subscription(t, e, c.get('version', 1)) for t, e in c.get('subs', {}).items()])
        for c in consumers])
    data.update(more)
    return data


def java_hash(text):
    h = 0
    for unit in struct.unpack('>%dH' % len(text), text.encode('utf-16-be')) if text.isascii() else _utf16(text):
        h = (31 * h + unit) & 0xFFFFFFFF
    return h - (1 << 32) if h >> 31 else h


def _utf16(text):
    raw = text.encode('utf-16-be')
    return struct.unpack('>%dH' % (len(raw) // 2), raw)


# ---- JSON as fastjson writes it: unquoted integer keys, and objects as keys -------------------------------------------------

def lenient_json(text):
    """Like json.loads; an object used as a key becomes its compact sorted JSON text."""
    value, at = _value(text, _blank(text, 0))
    if _blank(text, at) != len(text):
        raise ValueError(f'JSON goes on at {at}: {text[at:at + 40]!r}')
    return value


def _blank(text, at):
    while at < len(text) and text[at] in ' \t\r\n':
        at += 1
    return at


_scan = json.JSONDecoder().raw_decode


def _value(text, at):
    if text[at] == '{':
        out, at = {}, _blank(text, at + 1)
        while text[at] != '}':
            key, at = _value(text, at)
            if not isinstance(key, str):
                key = json.dumps(key, sort_keys=True, separators=(',', ':'))
            at = _blank(text, at)
            if text[at] != ':':
                raise ValueError(f'JSON: no colon at {at}: {text[at:at + 40]!r}')
            out[key], at = _value(text, _blank(text, at + 1))
            at = _blank(text, at)
            if text[at] == ',':
                at = _blank(text, at + 1)
        return out, at + 1
    if text[at] == '[':
        out, at = [], _blank(text, at + 1)
        while text[at] != ']':
            item, at = _value(text, at)
            out.append(item)
            at = _blank(text, at)
            if text[at] == ',':
                at = _blank(text, at + 1)
        return out, at + 1
    return _scan(text, at)
