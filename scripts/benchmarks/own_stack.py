"""A stack that exists for as long as a benchmark runs, however the benchmark ends."""

from __future__ import annotations

import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.local import stack
from cqrsctl.local.state import StackState

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def own_stack() -> Iterator[Path]:
    """The state folder of a running stack, which is ended and removed afterwards, after a signal too."""
    signals = Signals()
    with signals.caught(), tempfile.TemporaryDirectory(prefix="cqrsctl-bench-") as folder:
        state = StackState(Path(folder) / "local")
        try:
            with signals.waiting():
                stack.up(state, lambda _: None)
            with signals.heeded():
                yield Path(folder)
        finally:
            stack.down(state, wipe=True)


class Signals:
    """Signals that ask for an end become SystemExit; those that come while the stack starts or ends wait for it."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._heeded = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._handle) for number in _ENDING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within this, a signal ends the benchmark at once; so does one that came before."""
        self._heeded = True
        try:
            self._end_if_asked()
            yield
        finally:
            self._heeded = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within this, a signal waits. Ctrl-C reaches the programs that are run here, too: they fail because of it."""
        try:
            yield
        except CqrsctlError:
            self._end_if_asked()
            raise

    def _end_if_asked(self) -> None:
        if self._came is not None:
            raise SystemExit(128 + self._came)

    def _handle(self, number: int, _: object) -> None:
        self._came = number
        if self._heeded:
            self._heeded = False  # one is enough: the next would disturb the clearing up
            raise SystemExit(128 + number)
