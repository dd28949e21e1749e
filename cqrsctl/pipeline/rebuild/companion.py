"""The projector that a rebuild runs beside itself, as far as nobody else projects."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cqrsctl.clock import SystemClock
from cqrsctl.errors import Busy, StreamGap, TransientDatabaseError
from cqrsctl.pipeline import project
from cqrsctl.read_model import checkpoints, locks, registry
from cqrsctl.read_model.connection import connect
from cqrsctl.stream.reader import Beginning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.projector import Summary
    from cqrsctl.projection.recovery import OnError
    from cqrsctl.wiring import Wiring

_LOOK_SECONDS = 1.0


class Companion:
    """Projects in a thread of its own, all projections that follow the stream together with the one that is rebuilt.

    Those that another projector holds are left to it; if it holds the rebuilt one, this one stands by until it ends.
    A projection with a gap is left out: it needs a rebuild of its own.
    """

    def __init__(
        self,
        wiring: Wiring,
        projection: Projection,
        stream_arn: str,
        on_error: OnError,
        notice: Callable[[str], None],
    ) -> None:
        self.projects = False
        """Whether it projected itself, or only stood by."""
        self._wiring = wiring
        self._projection = projection
        self._stream_arn = stream_arn
        self._on_error = on_error
        self._clock = SystemClock()
        self._notice = notice
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
        try:
            self._project(self._others())
        except BaseException as error:  # noqa: BLE001 -- handed to the rebuild, which raises it
            self._failure = error

    def _project(self, others: dict[str, Projection]) -> None:
        """Project until stopped, with fewer of the others each time that one of them cannot be."""
        noted = False
        candidates = dict(others)
        while not self._clock.stop.is_set():
            try:
                self._follow(candidates)
            except Busy as busy:
                if candidates.pop(busy.projection, None) is not None:
                    continue
                if not noted:
                    self._notice(f"{busy} It writes the new table too.")
                    noted = True
                self._stand_by()
                candidates = dict(others)
            except StreamGap as gap:
                if not gap.followers or self._projection.name in gap.followers:
                    raise
                self._notice(f"{gap} {gap.hint}")
                for name in gap.followers:
                    others.pop(name, None)
                    candidates.pop(name, None)

    def _stand_by(self) -> None:
        """Wait until no projector has the rebuilt projection any more, or the connection to see that is lost."""
        writer = self._wiring.servers.refresh().writer
        lock = locks.of_projector(writer.database, self._projection.name)
        with suppress(TransientDatabaseError), connect(writer) as connection:
            while True:
                self._clock.sleep(_LOOK_SECONDS)
                if self._clock.stop.is_set() or not locks.is_held(connection, lock):
                    return
                connection.commit()

    def _follow(self, others: dict[str, Projection]) -> None:
        run = project.Run(
            self._wiring,
            (self._projection, *others.values()),
            self._clock,
            self._progress,
            self._notice,
            self._on_error,
            loads_items=True,
        )
        project.from_stream(run, once=False, beginning=Beginning.HORIZON, dry_run=False)

    def _others(self) -> dict[str, Projection]:
        """The other projections that follow the stream, as their tables were declared."""
        with connect(self._wiring.servers.refresh().writer) as connection:
            registered = registry.registered(connection)
            return {
                name: projection
                for name, projection in registered.items()
                if name != self._projection.name and checkpoints.has_any(connection, name, self._stream_arn)
            }

    def _progress(self, _: Summary) -> None:
        self.projects = True
