"""Serving what a player plays: HTTP/1.1 as far as botocore speaks it, in a process of its own, on loopback.

It is a process of its own so that what it costs is not the measured command's; it shares the machine's cores with it
all the same, so bodies are rendered beforehand and only cut out and sent.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Player(Protocol):
    """Knows the answers."""

    def answer(self, operation: str, parameters: dict[str, Any]) -> bytes:
        """The body of an answer."""


class _Connection(asyncio.Protocol):
    def __init__(self, player: Player) -> None:
        self._player = player
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            headers = dict(
                line.split(": ", 1) for line in self._received[:end].decode().lower().split("\r\n")[1:] if ": " in line
            )
            size = int(headers.get("content-length", 0))
            if len(self._received) < end + 4 + size:
                return
            operation = self._received[:end].decode().partition("X-Amz-Target: ")[2].split("\r\n")[0].rpartition(".")[2]
            status, body = "404 Not Found", b"{}"  # other services: there are no functions here
            if operation:
                status = "200 OK"
                body = self._player.answer(operation, json.loads(self._received[end + 4 : end + 4 + size]))
            del self._received[: end + 4 + size]
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self._transport.write(head.encode() + body)


async def serve(player: Player) -> None:
    """Serve until this process is ended, or whoever started it is gone; the port is the first line of the output."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(player), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def playing(script: str, *arguments: int) -> Iterator[str]:
    """The endpoint URL of a player that a script serves, once all its bodies are rendered."""
    command = [sys.executable, script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()
