"""`cqrsctl project` as a process that can be watched, signalled and killed."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conftest import COMMAND
from tests.faults.command import Command, running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tests.conftest import Cqrsctl


@dataclass(frozen=True)
class Projector(Command):
    """A projector's process."""

    @property
    def name(self) -> str:
        """How the heartbeat names it."""
        return f"process {self.process.pid}"

    def hiccups(self) -> int:
        """How often it said that it tries again."""
        return self.remarks().count("Trying again.")

    def kill(self) -> None:
        """Kill it while it runs."""
        self.assert_running()
        self.process.kill()
        assert self.process.wait(20) == -signal.SIGKILL

    def stop(self, number: signal.Signals = signal.SIGTERM) -> dict[str, Any]:
        """Ask it to stop; its report."""
        self.assert_running()
        self.process.send_signal(number)
        return self.report(number)

    def report(self, number: signal.Signals) -> dict[str, Any]:
        """What it reports once it has stopped because of a signal; SIGTERM is its regular end."""
        assert self.process.wait(20) == (0 if number is signal.SIGTERM else 130), self.remarks()
        assert "Stopping…" in self.remarks()
        assert "Resume with the same command" in self.remarks()
        assert "Traceback" not in self.remarks()
        assert "applied " in self.remarks()
        report: dict[str, Any] = json.loads(self.out.read_text())
        assert f"applied {report['changes']} changes" in self.remarks()
        return report


def projecting(
    cqrsctl: Cqrsctl, name: str = "projector", command: Sequence[object] = (COMMAND,)
) -> AbstractContextManager[Projector]:
    """A projector that follows the stream, and is gone afterwards, however it ends."""
    return running(Projector, cqrsctl, [*command, "project", "-o", "json"], name)
