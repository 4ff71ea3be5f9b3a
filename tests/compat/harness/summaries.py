"""What of an answer's body counts in a recording."""


def own_unique_key(value):
    """A unique key the broker made: hex of address, process, class loader, time and counter; its length depends on the address."""
    return len(value) in (32, 56) and all(c in '0123456789ABCDEF' for c in value)


def stored(answer):
    """The messages of a body, without what changes from run to run; sizes stay, so that the layout is compared."""
    out = []
    for m in answer.messages():
        body = m['body'].decode('utf-8', 'backslashreplace')
        if own_unique_key(m['props'].get('UNIQ_KEY', '')):
            m['size'] -= len(m['props']['UNIQ_KEY'])
            m['props']['UNIQ_KEY'] = '<made by the broker>'
        out.append(dict(topic=m['topic'], queue=m['queue'], offset=m['offset'], flag=m['flag'], sys_flag=m['sys_flag'], size=m['size'],
                        magic=m['magic'], crc_ok=m['crc_ok'], reconsumed=m['reconsumed'], prepared=m['prepared'],
                        body=body if len(body) < 60 else f'{body[:40]}... ({len(body)})',
                        props={k: v if len(v) < 60 else f'{v[:40]}... ({len(v)})' for k, v in m['props'].items()}))
    return out


def texts(answer):
    return [m['body'].decode() for m in answer.messages()]


def count(answer):
    return len(answer.messages())


def parsed(answer):
    return answer.json()


def shape(answer):
    """JSON with the values replaced by their kinds: which fields there are."""
    def kind(value):
        if isinstance(value, dict):
            return {k: kind(v) for k, v in value.items()}
        if isinstance(value, list):
            return [kind(value[0])] if value else []
        return type(value).__name__
    return kind(answer.json())
