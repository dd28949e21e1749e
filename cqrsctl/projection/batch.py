"""Pages become one transaction's work. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cqrsctl.change import Page, ShardState
from cqrsctl.projection.definition import Misfit
from cqrsctl.projection.rows import Row, newest_per_key, row_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cqrsctl.change import ChangeRecord, Position
    from cqrsctl.projection.definition import Projection


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A change that a projection cannot take, and why."""

    projection: str
    shard_id: str
    change: ChangeRecord
    error: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction applies: each projection's rows in key order, dead letters, the shards' new positions.

    `changes` counts the change records behind the rows and letters.
    """

    rows: Mapping[str, Sequence[Row]]
    positions: Sequence[Position]
    changes: int
    letters: Sequence[DeadLetter] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """What a transaction did: rows written, and rows whose guard found the same or a newer version."""

    rows: int
    stale: int


def batch_of(pages: Sequence[Page], projections: Sequence[Projection]) -> Batch:
    """One batch of pages, at most one a shard: the newest change of each key, and those that do not fit as letters."""
    rows: dict[str, Sequence[Row]] = {}
    letters: list[DeadLetter] = []
    for projection in projections:
        made: list[Row] = []
        for page in pages:
            try:
                made += rows_of(projection, page.changes)
            except Misfit:
                fitting, unfit = _sorted_out(projection, page)
                made += fitting
                letters += unfit
        rows[projection.name] = newest_per_key(made)
    return Batch(rows, [page.position for page in pages], sum(len(page.changes) for page in pages), letters)


def cut(page: Page, count: int) -> tuple[Page, Page]:
    """A page in two: its first changes, and the rest. The first part has one change at least."""
    last = page.changes[count - 1]
    between = replace(
        page.position,
        sequence_number=last.sequence_number,
        record_time=last.created_at,
        state=ShardState.OPEN,
    )
    return Page(page.changes[:count], between), Page(page.changes[count:], page.position)


def _sorted_out(projection: Projection, page: Page) -> tuple[list[Row], list[DeadLetter]]:
    fitting, unfit = [], []
    for change in page.changes:
        try:
            fitting.append(row_of(projection, change))
        except Misfit as misfit:
            unfit.append(DeadLetter(projection.name, page.position.shard_id, change, str(misfit)))
    return fitting, unfit
