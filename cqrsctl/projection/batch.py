"""Pages become one transaction's work. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cqrsctl.change import Page, Position, ShardState
from cqrsctl.errors import CqrsctlError
from cqrsctl.projection.definition import Misfit
from cqrsctl.projection.rows import Row, newest_per_key, row_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cqrsctl.change import ChangeRecord
    from cqrsctl.projection.definition import Projection


class BadRecord(CqrsctlError):
    """A record that does not fit the projection's columns."""

    code = "bad_record"

    def __init__(self, projection: Projection, change: ChangeRecord, misfit: Misfit) -> None:
        super().__init__(
            f"{change} does not fit projection {projection.name}. {misfit}. "
            "What stands before it in its shard was applied, nothing after it.",
            hint="Declare a column that holds the value, then make the read model anew.",
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction applies: each projection's rows in key order, and the shards' new positions.

    `changes` counts the change records behind the rows. `bad` is the first record that did not fit; neither it
    nor what follows it in its shard is in the batch.
    """

    rows: Mapping[str, Sequence[Row]]
    positions: Sequence[Position]
    changes: int
    bad: BadRecord | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a transaction did: rows written, and rows whose guard found the same or a newer version."""

    rows: int
    stale: int


def batch_of(pages: Iterable[Page], projections: Sequence[Projection]) -> Batch:
    """One batch of pages, at most one a shard, keeping the newest change of each key."""
    rows: dict[str, list[Row]] = {projection.name: [] for projection in projections}
    positions: list[Position] = []
    changes = 0
    bad: BadRecord | None = None
    for page in pages:
        good = 0
        try:
            for change in page.changes:
                made = [(projection.name, _row(projection, change)) for projection in projections]
                for name, row in made:
                    rows[name].append(row)
                good += 1
        except BadRecord as error:
            bad = bad or error
        changes += good
        positions += _position_after(page, good)
    newest = {name: newest_per_key(made) for name, made in rows.items()}
    return Batch(newest, positions, changes, bad)


def _row(projection: Projection, change: ChangeRecord) -> Row:
    try:
        return row_of(projection, change)
    except Misfit as misfit:
        raise BadRecord(projection, change, misfit) from misfit


def _position_after(page: Page, good: int) -> list[Position]:
    if good == len(page.changes):
        return [page.position]
    if good == 0:
        return []
    last = page.changes[good - 1]
    return [
        replace(
            page.position,
            sequence_number=last.sequence_number,
            record_time=last.created_at,
            state=ShardState.OPEN,
        )
    ]
