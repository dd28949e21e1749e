"""Free loopback ports, and services that are to listen on them."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cqrsctl.local.state import Service, StackState

LOOPBACK = "127.0.0.1"


def listener(preferred: int | None = None) -> socket.socket:
    """A listening socket on the preferred port, or if that is taken, on any free one."""
    for port in (preferred, 0):
        if port is None:
            continue
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            sock.close()
            if port == 0:
                raise
        else:
            sock.listen(128)
            return sock
    raise AssertionError("port 0 is always free")


def free_port(preferred: int | None = None) -> int:
    """A port that is free now. Another process may take it before it is used."""
    with listener(preferred) as sock:
        return int(sock.getsockname()[1])


def wait_until(
    answers: Callable[[], bool], service: Service, log: Path, begin: int, patience_seconds: float = 60
) -> None:
    """Wait until a service answers, whose own log begins at a byte of the file. Raises CqrsctlError if it ends first
    or takes too long."""
    deadline = time.monotonic() + patience_seconds
    while not answers():
        if service.process() is None:
            raise CqrsctlError(f"{service.name} ended while it started: {cause(log, begin)}", hint=f"Read {log}.")
        if time.monotonic() > deadline:
            raise CqrsctlError(f"{service.name} did not answer within {patience_seconds:.0f} s.", hint=f"Read {log}.")
        time.sleep(0.02)


def ensure(
    state: StackState,
    name: str,
    start: Callable[[int | None], Service],
    answers: Callable[[Service], bool],
    loss: str,
    note: Callable[[str], None],
) -> None:
    """Start a service unless it answers. One that crashed is named, with what is lost by it, and started again."""
    before = state.services().get(name)
    if before:
        process = before.process()
        if process and answers(before):
            return
        how = "does not answer" if process else "had ended on its own"
        note(f"{name} (pid {before.pid}) {how}; {loss}. It is started again.")
        before.stop()
    note(f"Starting {name} …")
    start(before.port if before else None)


def length(file: Path) -> int:
    """The bytes of a file so far, which may not be there yet."""
    return file.stat().st_size if file.exists() else 0


def cause(log: Path, begin: int = 0) -> str:
    """The line of a log, from a byte on, that names why a program failed, as far as that can be seen.

    A database server's first error is the cause of the others, the last line of a Python trace is the error. A script
    begins with what is wrong and ends with advice.
    """
    content = log.read_bytes()[begin:].decode(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    of_server = [line for line in lines if "[ERROR]" in line]
    of_program = [line for line in lines if "ERROR" in line or "Error" in line]
    return next(iter([*of_server[:1], *of_program[-1:], *lines[:1]]), "it wrote nothing")
