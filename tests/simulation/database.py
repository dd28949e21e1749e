"""The real read model in a simulated world: its transactions fail, and its projectors die, as the plan says."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import Busy, StreamGap, TransientDatabaseError
from cqrsctl.projection.batch import Batch
from cqrsctl.projection.rows import Row
from cqrsctl.read_model import dead_letters, schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import MySqlSink, prepare
from cqrsctl.read_model.writing import TableWriter
from tests.simulation.clock import BEGINNING
from tests.simulation.processes import Killed
from tests.simulation.stream import Product
from tests.simulation.world import PRODUCT, Crashes
from tests.waiting import wait_for

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection

    from cqrsctl.change import Followers, Position
    from cqrsctl.projection.batch import Applied
    from cqrsctl.projection.tables import Tables
    from cqrsctl.read_model.connection import Endpoint


class DatabaseSink:
    """MySqlSink, and the same looks into it that MemorySink gives."""

    def __init__(
        self, endpoint: Endpoint, rng: random.Random, stream_arn: Callable[[], str], monotonic: Callable[[], float]
    ) -> None:
        self.crashes = Crashes()
        self.stale = 0
        self.commits = 0
        self.backwards: list[str] = []
        self._endpoint = endpoint
        self._rng = rng
        self._stream_arn = stream_arn
        self._monotonic = monotonic
        self._sink: MySqlSink | None = None
        self._versions: dict[int, int] = {}
        self._snapshot_of: str | None = None
        prepare(endpoint, [PRODUCT])
        self._eye = connect(endpoint)

    @property
    def products(self) -> dict[int, Product]:
        return {
            row["ProductId"]: Product(row["Name"], Decimal(row["Price"]), bool(row["OutOfStock"]))
            for row in self._look("SELECT * FROM Product")
        }

    @property
    def letters(self) -> list[tuple[str, int]]:
        found = [letter.change for letter in dead_letters.listing(self._eye)]
        self._eye.commit()
        return [(change.stream_arn, int(change.sequence_number)) for change in found]

    def knows(self, stream_arn: str) -> bool:
        return stream_arn == self._snapshot_of or self.has_positions(stream_arn)

    def has_positions(self, stream_arn: str) -> bool:
        return any(row["stream"] == stream_arn for row in self._look("SELECT DISTINCT stream FROM cqrs_checkpoint"))

    def open(self) -> Followers:
        self.close()
        if self._rng.random() < self.crashes.at_open:
            raise TransientDatabaseError("simulated: no connection")
        arn = self._stream_arn()
        if self._snapshot_of not in {None, arn}:
            raise StreamGap(f"made from a snapshot of another table than that of {arn}")
        self._sink = MySqlSink(lambda: self._endpoint, [PRODUCT], arn, self._monotonic)
        opened: list[Followers] = []
        wait_for(lambda: self._opens(opened), "the server gave up the connection that was cut")
        return opened[0]

    def tables(self) -> Tables:
        return self._opened.tables()

    def apply(self, batch: Batch) -> Applied:
        sink = self._opened
        connection = sink._connection
        commit, chance = connection.commit, self._rng.random()

        def failing_commit() -> None:
            if chance < self.crashes.before_commit:
                self._fail()
            commit()
            if chance < self.crashes.before_commit + self.crashes.after_commit:
                self._fail()

        connection.commit = failing_commit  # type: ignore[method-assign]
        try:
            applied = sink.apply(batch)
        finally:
            connection.commit = commit  # type: ignore[method-assign]
            self._watch()
        self.commits += 1
        self.stale += applied.stale
        return applied

    def beat(self) -> None:
        self._opened.beat()

    def mark_gap(self, position: Position, followers: Collection[str]) -> None:
        self._opened.mark_gap(position, followers)

    def close(self) -> None:
        if self._sink:
            self._sink.close()

    def shut(self) -> None:
        """Let go of the database for good."""
        self.close()
        self._eye.close()

    def remake(self, snapshot: dict[int, Product]) -> None:
        self.close()
        schema.drop(self._eye, [PRODUCT])
        prepare(self._endpoint, [PRODUCT])
        rows = [
            Row((key,), (item.name, item.price, item.out_of_stock), 0, deleted=False, changed_at=BEGINNING)
            for key, item in sorted(snapshot.items())
        ]
        TableWriter(self._eye, [PRODUCT]).apply(Batch({PRODUCT.name: rows}, (), 0))
        self._snapshot_of = self._stream_arn()
        self._versions = {}

    @property
    def _opened(self) -> MySqlSink:
        assert self._sink is not None
        return self._sink

    def _opens(self, opened: list[Followers]) -> bool:
        try:
            opened.append(self._opened.open())
        except Busy:
            return False
        return True

    def _watch(self) -> None:
        """Look at every row's version: none may ever be smaller than before."""
        for row in self._look("SELECT ProductId, _version FROM product_v1"):
            key, version = row["ProductId"], int(row["_version"])
            if version < self._versions.get(key, 0):
                self.backwards.append(f"{key}: {version} came after {self._versions[key]}")
            self._versions[key] = version

    def _look(self, sql: str) -> list[dict[str, Any]]:
        rows = self._eye.query(sql)
        self._eye.commit()
        return rows

    def _fail(self) -> None:
        total = self.crashes.before_commit + self.crashes.after_commit
        if self._rng.random() * total < self.crashes.killed:
            raise Killed
        raise TransientDatabaseError("simulated: the connection was lost")
