"""Filters by SQL expressions over properties: requests by hand, and what consumers of the client libraries get."""
from harness import wire
from harness.scenario import JAVA, raw, sdk
from harness.summaries import texts
from harness.wire import SUBSCRIPTION, SUSPEND

ON = {'enablePropertyFilter': 'true'}


def send_values(s, topic, values, queue=0):
    """One message for each value of property `a`; odd ones have `b`, too."""
    c = s.connect()
    for value in values:
        props = {'a': str(value), **({'b': 'odd'} if value % 2 else {})}
        s.send_raw(topic, 1, queue=queue, prefix=f'v{value}-', connection=c, props=props)


def value_of(text):
    return int(text.split('-')[0][1:])


@raw(settings=ON)
def pulls_by_sql(s):
    topic, c = s.topic(queues=1), s.connect()
    send_values(s, topic, range(10))
    pull = lambda sub, offset=0, **more: c.ask(wire.PULL, wire.pull_header(  # noqa: E731
        topic, offset, sub=sub, expressionType='SQL92', **more))
    for expression in ('a > 6', "b = 'odd' AND a < 4", 'a IS NULL', 'b IS NULL', "a IN ('3', '5')", 'a BETWEEN 2 AND 3', "b NOT CONTAINS 'd'",
                       'b > 5', 'NOT b', "a = 2 OR b ENDSWITH 'dd'", "TAGS = 'x'", 'a=1 -- comment'):
        s.saw(expression, pull(expression), texts)
    s.saw('three at most', pull('a >= 2', max_nums=3), texts)
    s.saw('from 5', pull('a <> 6', 5), texts)
    s.saw('beyond the end', pull('a > 6', 10))
    s.saw('no expression', pull(''))
    s.saw('an expression that is not one', pull('a >'))
    s.saw('another type', c.ask(wire.PULL, wire.pull_header(topic, 0, sub='a > 5', expressionType='XYZ')), texts)
    other = s.connect()
    waiting = other.start(wire.PULL, wire.pull_header(
        topic, 10, sub='a = 12', expressionType='SQL92', flags=SUBSCRIPTION | SUSPEND, suspend=20000))
    send_values(s, topic, (10, 11, 12))
    s.saw('parked, not by what it does not select', other.answer(waiting, 30), texts)


@raw(settings=ON)
def groups_by_sql(s):
    topic, c, group = s.topic(queues=1), s.connect(), s.name('g')
    send_values(s, topic, range(10))
    beat = lambda sub, version: c.ask(wire.HEARTBEAT, body=wire.heartbeat('c1', [dict(  # noqa: E731
        group=group, subs={topic: sub}, version=version)]))
    pull = lambda version: c.ask(wire.PULL, wire.pull_header(topic, 0, group=group, flags=0, subVersion=version, sub=None))  # noqa: E731
    s.saw('heartbeat', beat('SQL92:a > 6', 5))
    s.saw('its version', pull(5), texts)
    s.saw('an older one', pull(4), texts)
    s.saw('a newer one', pull(6))
    s.saw('changed', beat('SQL92:a > 7', 6))
    s.saw('pulled', pull(6), texts)
    s.saw('an older heartbeat', beat('SQL92:a > 1', 3))
    s.saw('pulled as before', pull(6), texts)
    s.saw('a wrong one', beat('SQL92:a >', 7))
    s.saw('refused', pull(7))
    s.saw('right again', beat('SQL92:a = 5', 8))
    s.saw('pulled again', pull(8), texts)
    s.saw('by tags', beat('*', 9))
    s.saw('all', pull(9), texts)


@raw(settings=ON)
def checks_of_a_clients_sql(s):
    c = s.connect()
    check = lambda expression, kind='SQL92': c.ask(wire.CHECK_CLIENT, body=dict(clientId='a', group=s.name('g'), subscriptionData=dict(  # noqa: E731
        topic=s.name('t'), subString=expression, expressionType=kind, classFilterMode=False, tagsSet=[], codeSet=[], subVersion=1)))
    for expression in ('a > 5', "a = 'it''s'", 'a = 1 rubbish', '', 'a >', "a > 'x'", 'a BETWEEN 3 AND 1', 'a # 1', '5'):
        s.saw(f'[{expression}]', check(expression))
    s.saw('another type', check('a', 'XYZ'))


@raw(settings={'enablePropertyFilter': 'false'})
def sql_can_be_forbidden(s):
    topic, c = s.topic(queues=1), s.connect()
    s.send_raw(topic, 1)
    s.saw('pull', c.ask(wire.PULL, wire.pull_header(topic, 0, sub='a > 5', expressionType='SQL92')))
    s.saw('check', c.ask(wire.CHECK_CLIENT, body=dict(clientId='a', group=s.name('g'), subscriptionData=dict(
        topic=topic, subString='a > 5', expressionType='SQL92', classFilterMode=False, tagsSet=[], codeSet=[], subVersion=1))))


@sdk(*JAVA, 'go', settings=ON)
def consumers_by_sql_get_what_they_select(s):
    """Messages that were there before and messages that come while the consumer waits."""
    topic = s.topic(queues=2)
    send_values(s, topic, range(40), queue=0)
    consumer = s.push('c', {topic: "SQL92:a BETWEEN 10 AND 15 OR (b = 'odd' AND a > 50)"}, start='FIRST_OFFSET')
    wanted = list(range(10, 16))
    assert sorted(value_of(text) for text in consumer.texts(len(wanted))) == wanted
    send_values(s, topic, range(45, 61), queue=1)
    wanted += [51, 53, 55, 57, 59]
    assert sorted(value_of(text) for text in consumer.texts(len(wanted))) == wanted


@sdk(*JAVA, settings=ON)
def an_expression_that_is_not_one_stops_the_start(s):
    topic = s.topic(queues=1)
    try:
        s.push('c', {topic: 'SQL92:a > '}, start='FIRST_OFFSET')
    except Exception as error:  # noqa: BLE001
        assert s.target.kind == 'apache' or 'at character 5' in str(error), error
    else:
        raise AssertionError('the consumer started')
