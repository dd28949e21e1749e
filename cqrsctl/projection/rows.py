"""Changes become rows. Pure: the local projector, the Lambda function and the tests run this same code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.change import Event
from cqrsctl.projection.definition import Misfit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cqrsctl.change import ChangeRecord, Item
    from cqrsctl.projection.definition import Projection, SqlValue


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the physical table. A tombstone (`deleted`) keeps only its key and version."""

    key: tuple[Any, ...]
    values: tuple[SqlValue, ...]
    version: int
    deleted: bool
    changed_at: datetime


def row_of(projection: Projection, change: ChangeRecord) -> Row:
    """The row that a change leaves behind. Raises Misfit where the item does not fit the columns exactly."""
    if projection.key_attributes != change.keys.keys():
        raise Misfit(
            f"the table's key is {', '.join(sorted(change.keys))}, "
            f"but projection {projection.name} has the key {', '.join(sorted(projection.key_attributes))}"
        )
    deleted = change.event is Event.REMOVE
    values: tuple[SqlValue, ...]
    if deleted:
        values = (None,) * len(projection.values)
    else:
        image = _new_image(change)
        values = tuple(column.of(image) for column in projection.values)
    return Row(
        key=tuple(column.of(change.keys) for column in projection.keys),
        values=values,
        version=change.version,
        deleted=deleted,
        changed_at=change.created_at,
    )


def newest_per_key(rows: Iterable[Row]) -> list[Row]:
    """Keep the newest row of each key, in key order: two writers then lock rows in the same order."""
    newest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        known = newest.get(row.key)
        if known is None or row.version > known.version:
            newest[row.key] = row
    return [newest[key] for key in sorted(newest)]


def _new_image(change: ChangeRecord) -> Item:
    if change.new_image is None:
        raise Misfit("the record has no new image; the stream's view type must include new images")
    return change.new_image
