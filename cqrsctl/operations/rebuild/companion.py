"""The projector that a rebuild runs beside itself, as long as nobody else projects."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cqrsctl.errors import Busy
from cqrsctl.operations import project
from cqrsctl.stream.reader import Beginning
from cqrsctl.wiring import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.projector import Summary
    from cqrsctl.projection.recovery import OnError
    from cqrsctl.wiring import Wiring

_LOOK_SECONDS = 1.0


class Companion:
    """Projects in a thread of its own; where another projector holds the lock, it stands by until that one ends."""

    def __init__(
        self, wiring: Wiring, projection: Projection, on_error: OnError, notice: Callable[[str], None]
    ) -> None:
        self.projects = False
        """Whether it projected itself, or only stood by."""
        self._clock = SystemClock()
        self._notice = notice
        self._run = project.Run(wiring, (projection,), self._clock, self._progress, notice, on_error)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="projector", daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Project until the block is left."""
        self._thread.start()
        try:
            yield
        finally:
            self._clock.stop.set()
            self._thread.join()

    def check(self) -> None:
        """Raises what ended the projector."""
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        told = False
        while not self._clock.stop.is_set():
            try:
                project.from_stream(self._run, once=False, beginning=Beginning.HORIZON, dry_run=False)
            except Busy as busy:
                if not told:
                    self._notice(f"{busy} It writes the new table too.")
                    told = True
                self._clock.sleep(_LOOK_SECONDS)
            except BaseException as error:  # noqa: BLE001 -- handed to the rebuild, which raises it
                self._failure = error
                return

    def _progress(self, _: Summary) -> None:
        self.projects = True
