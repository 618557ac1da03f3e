"""A network between a router and one server that can be cut at a word."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress

_SIZE = 65536


class Proxy:
    """Forwards TCP connections to a server on the loopback, until it is told otherwise.

    :ivar cut_before: when the client sends this, once, it is dropped and the client's side closed
    :ivar half_open: whether the server's side stays open then, as if nobody had told it
    :ivar cut_after: when the client sends this, it is passed on and no answer comes back
    :ivar passed: the pieces that came by, both ways, as they were passed on
    :ivar pause: seconds that each piece of what the client sends takes on its way
    :ivar pause_back: seconds that each piece of an answer takes
    """

    def __init__(self, port):
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut_before = None
        self.cut_after = None
        self.half_open = True
        self.pause = self.pause_back = 0.0
        self.passed = []
        self._sockets = []
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()
        self._ended.set()
        for it in self._sockets:
            # Closing alone would not end what a thread waits on, and leave a transaction open.
            with suppress(OSError):
                it.shutdown(socket.SHUT_RDWR)
            it.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            deaf = threading.Event()
            threading.Thread(
                target=self._to_server, args=(client, server, deaf), daemon=True
            ).start()
            threading.Thread(
                target=self._to_client, args=(client, server, deaf), daemon=True
            ).start()

    def _to_server(self, client, server, deaf):
        with suppress(OSError):  # either side may be gone, which ends the other
            while data := client.recv(_SIZE):
                if self.cut_before is not None and self.cut_before in data:
                    self.cut_before = None
                    deaf.set()
                    client.shutdown(socket.SHUT_RDWR)
                    if not self.half_open:
                        server.shutdown(socket.SHUT_RDWR)
                    return
                cut = self.cut_after is not None and self.cut_after in data
                if cut:
                    deaf.set()
                if self.pause:
                    self._ended.wait(self.pause)
                self.passed.append(data)
                server.sendall(data)
                if cut:
                    client.shutdown(socket.SHUT_RDWR)
                    return
            server.shutdown(socket.SHUT_RDWR)

    def _to_client(self, client, server, deaf):
        with suppress(OSError):
            while data := server.recv(_SIZE):
                if self.pause_back:
                    self._ended.wait(self.pause_back)
                self.passed.append(data)
                if not deaf.is_set():
                    client.sendall(data)
            if not deaf.is_set():
                client.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(port):
    """Give a proxy to a port of the loopback."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
