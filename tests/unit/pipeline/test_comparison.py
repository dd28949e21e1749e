"""Whether an item and its row hold the same: by type and value."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.pipeline.verify.comparison import Difference, DriftKind, difference
from cqrsctl.projection.definition import Column, ColumnType, Projection
from cqrsctl.read_model.query import typed

if TYPE_CHECKING:
    from cqrsctl.change import Value

WIDE = Projection(
    "wide",
    "Wide",
    (
        Column("Id", ColumnType.parse("bigint"), "Id", key=True),
        Column("Data", ColumnType.parse("json"), "Data"),
    ),
)


@pytest.mark.parametrize(
    ("value", "stored", "equal"),
    [
        (True, "true", True),
        (Decimal(1), "1", True),
        (True, "1", False),
        (Decimal(0), "false", False),
        ({"Shown": True}, '{"Shown": true}', True),
        ({"Shown": True}, '{"Shown": 1}', False),
        ({"Shown": Decimal(1)}, '{"Shown": true}', False),
        ([Decimal(0), [False]], "[0, [false]]", True),
        ([Decimal(0), [False]], "[0, [0]]", False),
        ([True], "[true, true]", False),
        ({"A": True}, '{"A": true, "B": 1}', False),
        (Decimal("2.0"), "2", True),
        (Decimal("1e3"), "1000.0", True),  # MySQL may write a number in another way
    ],
)
def test_true_is_not_the_number_1_in_json(value: Value, stored: str, equal: bool) -> None:
    row = typed(WIDE, {"Id": 1, "Data": stored})
    found = difference(WIDE, {"Id": Decimal(1), "Data": value}, row)
    assert found == (None if equal else Difference(DriftKind.STALE, ("Data",)))
