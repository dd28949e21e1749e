"""Whether an item and its row say the same. Pure: verification and waiting for one's own write ask it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from cqrsctl.codec import encode_key
from cqrsctl.projection.definition import is_same
from cqrsctl.projection.fitting import Kind, Misfit
from cqrsctl.read_model import query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.change import Item
    from cqrsctl.projection.definition import Projection

Key: TypeAlias = tuple[Any, ...]
"""A row's key: the values of its key columns."""


class DriftKind(StrEnum):
    """How a row differs from its item."""

    MISSING = "missing"
    STALE = "stale"
    ORPHAN = "orphan"
    MISFIT = "misfit"


@dataclass(frozen=True, slots=True)
class Difference:
    """How they differ; the columns of a stale row that do, or that of a misfit with the reason."""

    kind: DriftKind
    columns: tuple[str, ...] = ()
    reason: str = ""


def expected(projection: Projection, item: Item | None) -> dict[str, Any] | None:
    """What the view is to show of an item; None if there is none, or the view leaves it out. Raises Misfit."""
    if item is None or not projection.includes(item):
        return None
    return query.typed(projection, {column.name: column.of(item) for column in projection.columns})


def difference(projection: Projection, item: Item | None, row: Mapping[str, Any] | None) -> Difference | None:
    """How a row of the view differs from its item, None if it does not."""
    try:
        asked = expected(projection, item)
    except Misfit as misfit:
        return misfitting(misfit)
    if asked is None:
        return None if row is None else Difference(DriftKind.ORPHAN)
    if row is None:
        return Difference(DriftKind.MISSING)
    different = tuple([name for name, value in asked.items() if not is_same(value, row[name])])
    return Difference(DriftKind.STALE, different) if different else None


def misfitting(misfit: Misfit) -> Difference:
    """The difference that an item makes which does not fit its columns."""
    return Difference(DriftKind.MISFIT, (str(misfit).partition(":")[0],), str(misfit))


def key_of(projection: Projection, item: Item) -> Key:
    """The key of an item's row. Raises Misfit."""
    return tuple([column.of(item) for column in projection.keys])


def item_key(projection: Projection, key: Key) -> dict[str, dict[str, Any]]:
    """The key of a row's item, as boto3 takes it."""
    return encode_key(
        {
            column.attribute: Decimal(part) if column.type.kind is Kind.BIGINT else part
            for column, part in zip(projection.keys, key, strict=True)
        }
    )
