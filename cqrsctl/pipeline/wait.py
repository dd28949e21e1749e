"""Waiting for one's own write: until the view shows what the item is now, on the writer or on every reader."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.codec import decode_item
from cqrsctl.errors import CqrsctlError, TooSlow, TransientDatabaseError
from cqrsctl.pipeline.verify.comparison import expected, key_of
from cqrsctl.pipeline.verify.sides import require_declared
from cqrsctl.projection.fitting import Misfit
from cqrsctl.read_model import query
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.write_model import products
from cqrsctl.write_model.table import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.clock import Clock
    from cqrsctl.pipeline.verify.comparison import Key
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection, Endpoint
    from cqrsctl.wiring import Wiring

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.25


class Where(StrEnum):
    """Which servers are to show a write."""

    WRITER = "writer"
    READERS = "readers"


@dataclass(frozen=True, slots=True)
class Shown:
    """How long it took until a write was shown, by this number of readers; by the writer if there are none."""

    seconds: float
    readers: int


@dataclass(frozen=True, slots=True)
class _View:
    """A product's row in a view, as it is to be."""

    projection: Projection
    key: Key
    row: dict[str, Any] | None

    def lack(self, shown: dict[str, Any] | None) -> str:
        """How what is shown differs, as the end of a sentence; empty if it does not."""
        if shown == self.row:
            return ""
        if shown is None:
            return "does not show product {} yet"
        return "still shows product {}" if self.row is None else "shows product {} as it was before"


@dataclass(slots=True)
class _Server:
    """A server that is asked repeatedly; if it does not answer, the next question makes a new connection."""

    endpoint: Endpoint
    failure: str = field(default="", init=False)
    lack: str = field(default="", init=False)
    """What it showed last instead of the write."""
    _connection: Connection | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.endpoint.name or str(self.endpoint)

    def shows(self, views: list[_View]) -> bool:
        """Whether every view has the row as it is to be."""
        try:
            if self._connection is None:
                self._connection = connect(self.endpoint)
            lacks = [view.lack(self._row(self._connection, view)) for view in views]
            self._connection.commit()
        except (TransientDatabaseError, ReadModelMissing) as error:  # a reader may not have the view yet
            self.close()
            self.failure = error.message
            return False
        self.failure = ""
        self.lack = next(filter(None, lacks), "")
        return not self.lack

    def _row(self, connection: Connection, view: _View) -> dict[str, Any] | None:
        return query.rows_by_key(connection, view.projection, [view.key]).get(view.key)

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


@dataclass(slots=True)
class Waiting:
    """Waits until one product, which was just written, is shown."""

    wiring: Wiring
    product_id: int
    clock: Clock
    timeout_seconds: float
    notice: Callable[[str], None]

    def until_shown(self, where: Where) -> Shown:
        """Wait until every projection's view shows the item as it is.

        With READERS every reader is to show it; the writer if there is none. Raises TooSlow, which names the servers
        that are behind, ReadModelMissing, and CqrsctlError if the item fits no row, so that no view will ever show it.
        """
        begun = self.clock.monotonic()
        topology = self.wiring.servers.now()
        with connect(topology.writer) as connection:
            for projection in self.wiring.environment.projections:
                require_declared(connection, projection)
        if where is Where.READERS and not topology.readers:
            self.notice("There are no readers: waiting for the writer.")
        with ExitStack() as stack:
            writer, *readers = [_Server(endpoint) for endpoint in (topology.writer, *topology.readers)]
            for server in (writer, *readers):
                stack.callback(server.close)
            readers = readers if where is Where.READERS else []
            behind = readers or [writer]
            pause = _FIRST_PAUSE_SECONDS
            while True:
                views = self._views()
                behind = [server for server in behind if not server.shows(views)]
                waited = self.clock.monotonic() - begun
                if not behind:
                    return Shown(waited, len(readers))
                if waited >= self.timeout_seconds:
                    raise self._too_slow(writer, behind, views)
                self.clock.sleep(min(pause, self.timeout_seconds - waited))
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)

    def _views(self) -> list[_View]:
        """What the views are to show now. Raises CqrsctlError if they cannot."""
        read = products.get(self.wiring.dynamodb, self.wiring.environment.table, self.product_id)
        item = None if read is None else decode_item(read)
        views = []
        for projection in self.wiring.environment.projections:
            try:
                key = key_of(projection, {KEY: Decimal(self.product_id)})
                views.append(_View(projection, key, expected(projection, item)))
            except Misfit as misfit:
                raise CqrsctlError(
                    f"Product {self.product_id} is written, but does not fit projection {projection.name}, and its "
                    f"view {projection.view} will never show it. {misfit}.",
                    hint="Put it as it fits, or declare columns that hold it, and `cqrsctl rebuild`.",
                    code="bad_item",
                ) from misfit
        return views

    def _too_slow(self, writer: _Server, behind: list[_Server], views: list[_View]) -> TooSlow:
        after = f"The write is done and stays. But after {self.timeout_seconds:g} s"
        if behind != [writer] and writer.shows(views):
            late = " and ".join(f"{server.name} {self._lack(server)}" for server in behind)
            return TooSlow(
                f"{after} {late}; the writer shows the write.",
                hint="See how far the readers are behind: `cqrsctl aurora status`.",
            )
        if writer.failure:
            return TooSlow(f"{after} the writer {self._lack(writer)}.", hint="See: cqrsctl aurora status")
        return TooSlow(
            f"{after} the projector has not applied it: the writer {self._lack(writer)}.",
            hint="Is a projector running? Follow the stream with `cqrsctl project`, or see `cqrsctl function status`.",
        )

    def _lack(self, server: _Server) -> str:
        return f"does not answer ({server.failure})" if server.failure else server.lack.format(self.product_id)
