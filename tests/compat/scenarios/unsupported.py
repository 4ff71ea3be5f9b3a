"""What ApogeeMQ does not have yet: a clear refusal that names the feature, and never a wrong success.

The Java broker serves these, so nothing is recorded; deviations.json needs no entry.
"""

from harness import wire
from harness.scenario import raw


def refused(s, answer, *words):
    if s.target.kind == 'apogee':
        assert answer.code == 3, answer
        assert answer.remark and any(w in answer.remark.lower() for w in words), answer


@raw
def features_that_are_not_there_say_so(s):
    topic, c = s.topic(queues=1), s.connect()
    refused(s, c.ask(3001, dict(username='x'), {}), 'acl', 'auth', 'access')
