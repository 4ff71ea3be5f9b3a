"""What ApogeeMQ does not have yet: a clear refusal that names the feature, and never a wrong success.

The Java broker serves these, so nothing is recorded; deviations.json needs no entry.
"""
import time

from harness import wire
from harness.scenario import raw


def refused(s, answer, *words):
    if s.target.kind == 'apogee':
        assert answer.code == 3, answer
        assert answer.remark and any(w in answer.remark.lower() for w in words), answer


@raw
def features_that_are_not_there_say_so(s):
    topic, c = s.topic(queues=1), s.connect()
    refused(s, c.ask(wire.POP, dict(consumerGroup=s.name('g'), topic=topic, queueId=0, maxMsgNums=1, invisibleTime=60000, pollTime=0,
                                    bornTime=int(time.time() * 1000), initMode=0)), 'pop')
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=s.name('g'))).code == 0
    refused(s, c.ask(wire.SET_REQUEST_MODE, body=dict(topic=topic, consumerGroup=s.name('g'), mode='POP', popShareQueueNum=0)), 'pop')
    refused(s, c.ask(3001, dict(username='x'), {}), 'acl', 'auth', 'access')
