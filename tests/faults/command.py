"""A command of cqrsctl as a process that can be watched, signalled and killed."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Cqrsctl


@dataclass(frozen=True)
class Command:
    """Its process. It writes to files: a pipe that nobody empties would hold it up one day."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def remarks(self) -> str:
        return self.err.read_text()

    def is_running(self) -> bool:
        return self.process.poll() is None

    def assert_running(self) -> None:
        assert self.is_running(), f"it ended with {self.process.returncode}: {self.remarks()}"


AnyCommand = TypeVar("AnyCommand", bound=Command)


@contextmanager
def running(kind: type[AnyCommand], cqrsctl: Cqrsctl, command: Sequence[object], name: str) -> Iterator[AnyCommand]:
    """A command that is gone afterwards, however it ends."""
    out, err = (cqrsctl.directory / f"{name}.{stream}" for stream in ("out", "err"))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=cqrsctl.environment(),
            cwd=cqrsctl.directory,
        )
    try:
        yield kind(process, out, err)
    finally:
        process.kill()
        process.wait(20)
