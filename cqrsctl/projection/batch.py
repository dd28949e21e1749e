"""Pages become one transaction's work. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cqrsctl.change import Page, ShardState
from cqrsctl.projection.fitting import Misfit
from cqrsctl.projection.rows import Row, left_out, newest_per_key, row_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cqrsctl.change import ChangeRecord, Position
    from cqrsctl.projection.definition import Projection


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A change that a projection cannot take, and why. `building`: only the table that a rebuild fills cannot."""

    projection: str
    shard_id: str
    change: ChangeRecord
    error: str
    building: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction applies: each projection's rows in key order, dead letters, the shards' new positions.

    `changes` counts the change records behind the rows and letters, `building` are rows of tables being built.
    """

    rows: Mapping[str, Sequence[Row]]
    positions: Sequence[Position]
    changes: int
    letters: Sequence[DeadLetter] = ()
    building: Mapping[str, Sequence[Row]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a transaction did: rows written, and rows whose guard found the same or a newer version."""

    rows: int
    stale: int


def batch_of(pages: Sequence[Page], projections: Sequence[Projection], building: Sequence[Projection] = ()) -> Batch:
    """One batch of pages, at most one a shard: the newest change of each key, and those that do not fit as letters.

    `building`: projections as the tables that rebuilds fill were declared. Such a table shows no item as it was before
    a change that it cannot take: it will take the place of one that may have shown the change.
    """
    rows: dict[str, Sequence[Row]] = {}
    letters: list[DeadLetter] = []
    for projection in projections:
        rows[projection.name], unfit = _mapped(pages, projection)
        letters += unfit
    built: dict[str, Sequence[Row]] = {}
    for projection in building:
        if projection in projections:
            built[projection.name] = rows[projection.name]
            continue
        fitting, unfit = _mapped(pages, projection)
        instead = [row for letter in unfit if (row := left_out(projection, letter.change)) is not None]
        built[projection.name] = newest_per_key([*fitting, *instead])
        letters += [replace(letter, building=True) for letter in unfit if not _among(letters, letter)]
    positions = [page.position for page in pages if page.position]
    return Batch(rows, positions, sum(len(page.changes) for page in pages), letters, built)


def with_letter(batch: Batch, letter: DeadLetter) -> Batch:
    """The batch of one change without its row of the table that refused it, and with the letter that is instead."""
    letters = batch.letters if _among(batch.letters, letter) else [*batch.letters, letter]
    if letter.building:
        refused = batch.building[letter.projection]
        instead = [row.left_out() for row in refused if not row.deleted]
        return replace(batch, building={**batch.building, letter.projection: instead}, letters=letters)
    return replace(batch, rows={**batch.rows, letter.projection: ()}, letters=letters)


def cut(page: Page, count: int) -> tuple[Page, Page]:
    """A page in two: its first changes, and the rest. The first part has one change at least.

    What the page's position promises of the whole page, the position in between does not: whoever stops there may come
    back when the rest has left the stream.
    """
    last = page.changes[count - 1]
    between = page.position and replace(
        page.position,
        sequence_number=last.sequence_number,
        record_time=last.created_at,
        read_through=last.created_at if last.is_dated else None,
        state=ShardState.OPEN,
    )
    return Page(page.changes[:count], between), Page(page.changes[count:], page.position)


def _mapped(pages: Sequence[Page], projection: Projection) -> tuple[list[Row], list[DeadLetter]]:
    made: list[Row] = []
    letters: list[DeadLetter] = []
    for page in pages:
        try:
            made += rows_of(projection, page.changes)
        except Misfit:
            fitting, unfit = _sorted_out(projection, page)
            made += fitting
            letters += unfit
    return newest_per_key(made), letters


def _among(letters: Iterable[DeadLetter], letter: DeadLetter) -> bool:
    """Whether there is a letter of that change and projection already."""
    return any(known.projection == letter.projection and known.change is letter.change for known in letters)


def _sorted_out(projection: Projection, page: Page) -> tuple[list[Row], list[DeadLetter]]:
    fitting, unfit = [], []
    for change in page.changes:
        try:
            fitting.append(row_of(projection, change))
        except Misfit as misfit:
            unfit.append(DeadLetter(projection.name, page.shard_id, change, str(misfit)))
    return fitting, unfit
