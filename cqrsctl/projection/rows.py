"""Changes become rows. Pure: the local projector, the Lambda function and the tests run this same code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cqrsctl.change import Event
from cqrsctl.projection.fitting import Misfit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cqrsctl.change import ChangeRecord, Item
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.fitting import SqlValue


class Row(NamedTuple):
    """A row of the physical table. A tombstone (`deleted`: there is no item, or the view leaves it out) keeps only
    its key and version.

    A named tuple, as ChangeRecord is: they are made by the hundred thousand.
    """

    key: tuple[Any, ...]
    values: tuple[SqlValue, ...]
    version: int
    deleted: bool
    changed_at: datetime

    def left_out(self) -> Row:
        """What stands in a table that cannot take this row: a tombstone, and not what the item was before."""
        return self._replace(values=(None,) * len(self.values), deleted=True)


def row_of(projection: Projection, change: ChangeRecord) -> Row:
    """The row that a change leaves behind. Raises Misfit if the item does not fit the columns exactly."""
    return rows_of(projection, (change,))[0]


def rows_of(projection: Projection, changes: Iterable[ChangeRecord]) -> list[Row]:
    """The rows that changes leave behind. Raises Misfit if one of them does not fit."""
    keys, values, key_attributes = projection.keys, projection.values, projection.key_attributes
    nothing: tuple[SqlValue, ...] = (None,) * len(values)
    rows = []
    for change in changes:
        if key_attributes != change.keys.keys():
            raise Misfit(
                f"the table's key is {', '.join(sorted(change.keys))}, "
                f"but projection {projection.name} has the key {', '.join(sorted(projection.key_attributes))}"
            )
        image = change.new_image
        if image is None and change.event is not Event.REMOVE:
            raise Misfit("the record has no new image; the stream's view type must include new images")
        shown = image if change.event is not Event.REMOVE and projection.includes(image or {}) else None
        rows.append(
            Row(
                tuple([column.of(change.keys) for column in keys]),
                nothing if shown is None else tuple([column.of(shown) for column in values]),
                change.version,
                shown is None,
                change.created_at,
            )
        )
    return rows


def left_out(projection: Projection, change: ChangeRecord) -> Row | None:
    """What stands in a table for a change that does not fit its columns; None if not even the key does."""
    try:
        key = tuple([column.of(change.keys) for column in projection.keys])
    except Misfit:
        return None
    return Row(
        key, (None,) * len(projection.values), change.version, deleted=False, changed_at=change.created_at
    ).left_out()


def snapshot_rows(
    projection: Projection, items: Iterable[Item], read_at: datetime
) -> tuple[list[Row], list[tuple[Item, str]]]:
    """The rows of items as they are, older than any change (version 0); and the items that do not fit, with why not.

    An item that the view leaves out has no row.
    """
    keys, values = projection.keys, projection.values
    rows: list[Row] = []
    unfit: list[tuple[Item, str]] = []
    for item in items:
        if not projection.includes(item):
            continue
        try:
            key = tuple([column.of(item) for column in keys])
            rows.append(Row(key, tuple([column.of(item) for column in values]), 0, False, read_at))
        except Misfit as misfit:
            unfit.append((item, str(misfit)))
    return rows, unfit


def newest_per_key(rows: Iterable[Row]) -> list[Row]:
    """Keep the newest row of each key, in key order: two writers then lock rows in the same order."""
    newest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        known = newest.get(row.key)
        if known is None or row.version > known.version:
            newest[row.key] = row
    return [newest[key] for key in sorted(newest)]
