"""Telling what is in flight from drift: keys that differ are looked at again and again, until it is clear.

A projector that is at work applies a change within the patience. So it is drift if neither the row nor the item
changes for so long. A row that gets new versions is being written, whole, by a projector: it is in flight, even if
its item changes so often that the two never agree. And if only the item changes, longer than any projector that
runs would take, nothing applies it: drift.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeAlias

from cqrsctl.pipeline.verify.comparison import difference, expected
from cqrsctl.pipeline.verify.sides import LOOKED_AT_ONCE, chunks
from cqrsctl.projection.fitting import Misfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cqrsctl.change import Item
    from cqrsctl.clock import Clock
    from cqrsctl.pipeline.verify.comparison import Difference, Key
    from cqrsctl.pipeline.verify.sides import Seen, Sides
    from cqrsctl.projection.definition import Projection

Drift: TypeAlias = "list[tuple[Key, Difference]]"

MOST = 5_000
"""The most differing keys that are kept and waited for together."""
PATIENCE_SECONDS = 5.0
_PATIENCE_WITH_MOVING = 6
"""By how much the patience is longer with keys one side of which keeps changing."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0


class _Verdict(Enum):
    """What a look at a suspect shows."""

    WAIT = auto()
    IN_FLIGHT = auto()
    DRIFT = auto()


@dataclass(slots=True)
class _Watched:
    """A key that differs: since when, and for how long each side has stayed as it is. Only hashes are kept of them."""

    began_at: float
    row: int
    item: int
    row_since: float
    item_since: float

    def judge(self, row: int, item: int, now: float, patience: float) -> _Verdict:
        """What it means that the two, which still differ, are like this now."""
        if row != self.row:
            self.row, self.row_since = row, now
        if item != self.item:
            self.item, self.item_since = item, now
        row_stayed, item_stayed = now - self.row_since, now - self.item_since
        longest = patience * _PATIENCE_WITH_MOVING
        if min(row_stayed, item_stayed) >= patience or row_stayed >= longest:
            return _Verdict.DRIFT
        if now - self.began_at >= longest and row_stayed < patience:
            return _Verdict.IN_FLIGHT
        return _Verdict.WAIT


@dataclass(slots=True)
class Suspects:
    """The keys that differed at first sight, each to be judged."""

    sides: Sides
    clock: Clock
    patience_seconds: float = PATIENCE_SECONDS
    in_flight: int = field(default=0, init=False)
    """The number that turned out to be only that."""
    _waiting: dict[Key, _Watched | None] = field(default_factory=dict, init=False)

    def add(self, keys: Iterable[Key]) -> Iterator[Drift]:
        """Take in keys; the drift among those that were there, if they became too many."""
        for key in keys:
            if len(self._waiting) >= MOST:
                yield from self.settle()
            self._waiting.setdefault(key, None)

    def settle(self) -> Iterator[Drift]:
        """Look at all of them until each is judged; the drift, some at a time. Raises AwsError, DatabaseError."""
        pause = _FIRST_PAUSE_SECONDS
        while self._waiting:
            yield from self._look()
            if self._waiting:
                self.clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _look(self) -> Iterator[Drift]:
        for keys in chunks(list(self._waiting), LOOKED_AT_ONCE):
            drift: Drift = []
            (table,) = self.sides.active().active
            for key, seen in self.sides.look(keys, table).items():
                found = difference(self.sides.projection, seen.item, seen.row)
                verdict = self._judged(key, seen) if found else _Verdict.IN_FLIGHT
                if verdict is not _Verdict.WAIT:
                    del self._waiting[key]
                if verdict is _Verdict.IN_FLIGHT:
                    self.in_flight += 1
                elif found and verdict is _Verdict.DRIFT:
                    drift.append((key, found))
            if drift:
                yield drift

    def _judged(self, key: Key, seen: Seen) -> _Verdict:
        row = hash(repr((seen.stored, seen.row)))
        item = hash(repr(_shown(self.sides.projection, seen.item)))
        now = self.clock.monotonic()
        watched = self._waiting[key]
        if watched is None:
            watched = self._waiting[key] = _Watched(now, row, item, now, now)
        return watched.judge(row, item, now, self.patience_seconds)


def _shown(projection: Projection, item: Item | None) -> dict[str, Any] | str | None:
    """What the view is to show of an item, or why it cannot."""
    try:
        return expected(projection, item)
    except Misfit as misfit:
        return str(misfit)
