"""A database server that only a test has: it speaks the protocol so far as a test needs it, with one client."""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any

from pymysql.constants import CLIENT

from cqrsctl.local.ports import listener

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

SSL_REQUEST_BYTES = 36
"""The client's packet that begins TLS; all else that it sends is to come inside."""
_QUIT = b"\x01"
_OK = b"\0\0\0\2\0\0\0"


def _packet(sequence: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


def greeting(*, tls: bool) -> bytes:
    """A server's first packet."""
    capabilities = CLIENT.CAPABILITIES | CLIENT.CONNECT_WITH_DB | (CLIENT.SSL if tls else 0)
    return _packet(
        0,
        b"\x0a8.0.39\0"
        + struct.pack("<I8sx", 1, b"nonce-of")
        + struct.pack("<HBHHB10x", capabilities & 0xFFFF, 45, 2, capabilities >> 16, 21)
        + b"twenty-bytes\0mysql_native_password\0",
    )


def without_tls(real: bytes) -> bytes:
    """A server's greeting as somebody on the way may change it: the server seems to have no TLS."""
    place = real.index(b"\0", 5) + 1 + 4 + 8 + 1
    (capabilities,) = struct.unpack_from("<H", real, place)
    assert capabilities & CLIENT.SSL
    return real[:place] + struct.pack("<H", capabilities & ~CLIENT.SSL) + real[place + 2 :]


@dataclass
class Fake:
    """A server that speaks with one client, and keeps all that it got, by whether that came inside TLS."""

    greeting: bytes
    tls: ssl.SSLContext | None = None
    outside: bytes = b""
    inside: list[bytes] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[int]:
        """Its port. The client is gone when this ends."""
        with serving(self._speak) as port:
            yield port

    def _speak(self, client: socket.socket) -> None:
        client.sendall(self.greeting)
        if self.tls is None:
            self.outside = rest_of(client)
            return
        self.outside = client.recv(SSL_REQUEST_BYTES, socket.MSG_WAITALL)
        try:
            channel = self.tls.wrap_socket(client, server_side=True)
        except OSError:
            return  # the client does not trust the certificate
        with channel, channel.makefile("rb") as stream:
            self._receive(stream)
            channel.sendall(_packet(3, b"\xfemysql_clear_password\0"))
            self._receive(stream)
            channel.sendall(_packet(5, _OK))
            while self._receive(stream) != _QUIT:
                channel.sendall(_packet(1, _OK))

    def _receive(self, stream: Any) -> bytes:
        payload: bytes = stream.read(int.from_bytes(stream.read(4)[:3], "little"))
        assert payload, "the client went without a word"
        self.inside.append(payload)
        return payload


@contextmanager
def serving(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which `speak` is called with the one client that comes."""
    with listener() as listening:
        listening.settimeout(30)

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.settimeout(30)
                speak(client)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join()


def rest_of(client: socket.socket) -> bytes:
    """All that a client says until it goes."""
    with client.makefile("rb") as stream:
        return stream.read()
