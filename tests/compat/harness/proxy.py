"""A TCP proxy between clients and a target, frame by frame, that loses answers of the broker.

The route that clients get from the name server names the proxy instead of the broker, so a library needs no setting of its own.
"""
import random
import socket
import struct
import threading
import time

from . import targets


class Proxy:
    """Listens on a port of its own. `answer(frame)`: what to do with a frame of the server: the frame to pass on, None to lose it, or CUT to
    lose it and all that follows, and to close the connection a little later."""
    CUT, CLOSED_LATER = object(), 0.01

    def __init__(self, server, answer=lambda frame: frame, request=lambda frame: None):
        self.server, self.answer, self.request = server, answer, request
        self.port = targets.free_port()
        self.listener = socket.create_server(('127.0.0.1', self.port))
        self.address, self.open, self.is_closed = f'127.0.0.1:{self.port}', set(), False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            host, port = self.server.rsplit(':', 1)
            server = socket.create_connection((host, int(port)), 10)
        except OSError:
            client.close()
            return
        pair = (client, server)
        self.open.update(pair)
        for end in pair:
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._pass, args=(client, server, self._seen), daemon=True).start()
        self._pass(server, client, self.answer)

    def _seen(self, frame):
        self.request(frame)
        return frame

    def _pass(self, source, sink, what):
        try:
            while True:
                length = self._exactly(source, 4)
                frame = what(length + self._exactly(source, struct.unpack('>I', length)[0]))
                if frame is self.CUT:
                    time.sleep(self.CLOSED_LATER)  # requests go on to the server
                    return
                if frame is not None:
                    sink.sendall(frame)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                self.open.discard(end)
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()

    @staticmethod
    def _exactly(source, count):
        parts = []
        while count:
            part = source.recv(count)
            if not part:
                raise OSError('closed')
            parts.append(part)
            count -= len(part)
        return b''.join(parts)

    def close(self):
        self.listener.close()
        for end in list(self.open):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def replaced(frame, old, new):
    """The frame with this text of its body replaced."""
    header = struct.unpack('>I', frame[4:8])[0] & 0xFFFFFF
    head, body = frame[8:8 + header], frame[8 + header:].replace(old.encode(), new.encode())
    return struct.pack('>I', 4 + len(head) + len(body)) + frame[4:8] + head + body


class Lossy:
    """A target whose clients lose answers to their sends: `cut` of them with their connection, `dropped` of them alone."""

    def __init__(self, target, cut, dropped, seed=1):
        self.cut, self.dropped, self.random, self.lock = cut, dropped, random.Random(seed), threading.Lock()
        self.sends = 0
        self.broker = Proxy(target.broker, self._answer, self._request)
        self.names = Proxy(target.namesrv, lambda frame: replaced(frame, target.broker, self.broker.address))
        self.namesrv = self.names.address

    def _request(self, frame):
        # Codes 310 and 320, in the first bytes of a JSON header.
        if any(code in frame[:64] for code in (b'"code":310', b'"code":320')):
            with self.lock:
                self.sends += 1

    def _answer(self, frame):
        if b'"queueOffset"' not in frame:
            return frame
        with self.lock:
            at = self.random.random()
        if at < self.cut:
            return Proxy.CUT
        return None if at < self.cut + self.dropped else frame

    def close(self):
        self.broker.close()
        self.names.close()
