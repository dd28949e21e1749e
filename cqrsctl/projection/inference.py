"""A first declaration of a projection, from a table's key and some of its items. Pure: standard library only."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from cqrsctl.projection.definition import Column, ColumnType, Projection
from cqrsctl.projection.fitting import Misfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cqrsctl.change import Item, Value

_NUMBERS = ("bigint", "decimal(18,4)", "decimal(38,10)", "decimal(65,30)", "double")
_TEXT_LENGTHS = (255, 1_000, 4_000, 16_000)
_BINARY_LENGTHS = (255, 4_000, 16_000)
_KEY_NUMBERS = _NUMBERS[:-1]
_KEY_TEXT_LENGTHS = (255, 768)
_KEY_BINARY_LENGTHS = (255, 1_024)
"""So long that two of them fit into the 3,072 bytes that InnoDB indexes of a key."""
_MOST_COLUMNS = 200
_ROW_BYTES = 60_000
"""MySQL's limit is 65,535 bytes a row, without text and json (MySQL Reference Manual, "Limits on Table Column Count
and Row Size"); numbers and lengths take some of it."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """A projection, and the attributes that it leaves out with the reason for each."""

    projection: Projection
    left_out: dict[str, str]


def inferred(table: str, key: Sequence[tuple[str, str]], items: Iterable[Item]) -> Inferred:
    """A projection whose columns hold every value of the items.

    `key` is the table's key: each attribute's name with its type (`S`, `N` or `B`). Only keys are required, since
    other items may lack what these have. Raises Misfit if no column holds the values of a key.
    """
    values: dict[str, list[Value]] = {name: [] for name, _ in key}
    for item in items:
        for attribute, value in item.items():
            if value is not None:
                values.setdefault(attribute, []).append(value)
    types, kinds, left_out = {}, dict(key), {}
    for attribute, seen in values.items():
        if attribute in kinds:
            types[attribute] = _type_of_key(attribute, kinds[attribute], seen)
            continue
        try:
            types[attribute] = _type_of(seen)
        except Misfit as misfit:
            left_out[attribute] = str(misfit)
    by_count = Counter({attribute: len(values[attribute]) for attribute in types if attribute not in kinds})
    for attribute, _ in by_count.most_common()[_MOST_COLUMNS:]:
        left_out[attribute] = f"more than {_MOST_COLUMNS} attributes"
        del types[attribute]
    for attribute in [name for name in types if "." in name]:
        left_out[attribute] = "a column cannot name an attribute with a dot"
        del types[attribute]
    _shorten(types, kept=set(kinds))
    columns: dict[str, Column] = {}
    for attribute, column_type in types.items():
        name = _column_name(attribute, columns)
        columns[name.lower()] = Column(name, column_type, attribute, key=attribute in kinds)
    name = re.sub(r"[^a-z0-9_]", "_", table.lower()).lstrip("_0123456789")[:40] or "items"
    return Inferred(Projection(name, _view_name(table, name), tuple(columns.values())), left_out)


def _type_of(values: Sequence[Value]) -> ColumnType:
    """The narrowest type that holds the values, with room for longer texts. Raises Misfit if none does."""
    kinds = {type(value) for value in values}
    candidates = ["json"]
    if kinds == {bool}:
        candidates = ["boolean"]
    elif kinds == {Decimal}:
        candidates = [*_NUMBERS]
    elif kinds == {str}:
        candidates = [*_roomy("varchar", _TEXT_LENGTHS, values), "text"]
    elif kinds == {bytes}:
        candidates = [*_roomy("varbinary", _BINARY_LENGTHS, values), "json"]
    return _first_fitting(candidates, values)


def _type_of_key(attribute: str, kind: str, values: Sequence[Value]) -> ColumnType:
    """Raises Misfit, naming the key, if no key column holds the values."""
    candidates = {
        "N": _KEY_NUMBERS,
        "S": _roomy("varchar", _KEY_TEXT_LENGTHS, values),
        "B": _roomy("varbinary", _KEY_BINARY_LENGTHS, values),
    }
    try:
        return _first_fitting(candidates[kind], values)
    except Misfit as misfit:
        raise Misfit(f"{attribute}: {misfit}") from None


def _roomy(kind: str, lengths: Sequence[int], values: Sequence[Value]) -> list[str]:
    """The types that have room for values twice as long as these, and the longest."""
    longest = max((len(value) for value in values if isinstance(value, str | bytes)), default=0)
    return [f"{kind}({length})" for length in lengths if 2 * longest <= length or length == lengths[-1]]


def _first_fitting(candidates: Sequence[str], values: Sequence[Value]) -> ColumnType:
    """The first type that holds all values. Raises Misfit with what is wrong about the last."""
    for candidate in candidates:
        column_type = ColumnType.parse(candidate)
        try:
            for value in values:
                column_type.fit(value)
        except Misfit:
            if candidate == candidates[-1]:
                raise
        else:
            return column_type
    raise AssertionError("there are candidates")


def _shorten(types: dict[str, ColumnType], kept: set[str]) -> None:
    """Make texts of the longest columns until a row is within MySQL's limit."""
    while sum(each.bytes for each in types.values()) > _ROW_BYTES:
        widest = max((name for name in types if name not in kept), key=lambda name: types[name].bytes)
        types[widest] = ColumnType.parse("text" if types[widest].kind == "varchar" else "json")


def _column_name(attribute: str, taken: dict[str, Column]) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", attribute)[:44]
    if not name[:1].isalpha():
        name = f"a_{name.lstrip('_')}"[:44]
    number = 2
    unique = name
    while unique.lower() in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


def _view_name(table: str, name: str) -> str:
    view = re.sub(r"[^A-Za-z0-9_]", "_", table)[:44].lstrip("_0123456789") or "Items"
    return f"View_{view}"[:48] if view.lower().startswith(("cqrs_", f"{name}_v")) else view
