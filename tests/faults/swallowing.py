"""A network that swallows what is sent: a proxy on loopback that stops forwarding, and closes nothing."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 65_536


class Proxy:
    """Forwards what it gets until it is told to swallow it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._swallows = threading.Event()
        self._swallow_from = b""
        self.swallowed = threading.Event()
        """Set once something was swallowed: then somebody waits for an answer."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def swallow(self, request: bytes = b"") -> None:
        """Forward nothing from the next request on that has this text in its first piece."""
        self._swallow_from = request
        self._swallows.set()

    def close(self) -> None:
        for each in (self._listening, *self._sockets):
            with suppress(OSError):  # it has ended already
                each.shutdown(socket.SHUT_RDWR)  # a thread that waits at a socket would keep it open
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return  # the test is over
            server = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [client, server]
            threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        try:
            while piece := source.recv(_PIECE_BYTES):
                if self._swallows.is_set() and is_request and self._swallow_from in piece:
                    self.swallowed.set()
                if not self.swallowed.is_set():
                    sink.sendall(piece)
            if not self.swallowed.is_set():
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # one of the two ends has closed


@contextmanager
def proxied(address: str) -> Iterator[Proxy]:
    """A proxy before a server on this machine, whose address or URL ends with the port."""
    with closing(Proxy(int(address.rpartition(":")[2]))) as proxy:
        yield proxy


@contextmanager
def deaf() -> Iterator[int]:
    """The port of a server that takes no more connections, and refuses none: the system drops what asks for one."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = listening.getsockname()[1]
        with suppress(TimeoutError):
            while True:  # until its queue is full
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.5))
        yield port
