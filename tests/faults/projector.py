"""`cqrsctl project` as a process that can be watched, signalled and killed."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conftest import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Cqrsctl


@dataclass(frozen=True)
class Projector:
    """A projector's process. It writes to files: a pipe that nobody empties would hold it up one day."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def name(self) -> str:
        """How the heartbeat names it."""
        return f"process {self.process.pid}"

    def remarks(self) -> str:
        return self.err.read_text()

    def hiccups(self) -> int:
        """How often it said that it tries again."""
        return self.remarks().count("Trying again.")

    def assert_running(self) -> None:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.remarks()}"

    def kill(self) -> None:
        """Kill it while it runs."""
        self.assert_running()
        self.process.kill()
        assert self.process.wait(20) == -signal.SIGKILL

    def stop(self, number: signal.Signals = signal.SIGTERM) -> dict[str, Any]:
        """Ask it to stop; its report."""
        self.assert_running()
        self.process.send_signal(number)
        return self.report()

    def report(self) -> dict[str, Any]:
        """What it reports once it has stopped as it was asked to."""
        assert self.process.wait(20) == 130, self.remarks()
        assert "Traceback" not in self.remarks()
        assert "applied " in self.remarks()
        report: dict[str, Any] = json.loads(self.out.read_text())
        assert f"applied {report['changes']} changes" in self.remarks()
        return report


@contextmanager
def projecting(
    cqrsctl: Cqrsctl, name: str = "projector", command: Sequence[object] = (COMMAND,)
) -> Iterator[Projector]:
    """A projector that follows the stream, and is gone afterwards, however it ends."""
    out, err = (cqrsctl.directory / f"{name}.{kind}" for kind in ("out", "err"))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [*map(str, command), "project", "-o", "json"],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=cqrsctl.environment(),
            cwd=cqrsctl.directory,
        )
    try:
        yield Projector(process, out, err)
    finally:
        process.kill()
        process.wait(20)
