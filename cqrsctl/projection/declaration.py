"""Projections as JSON text, and back: kept beside the tables that were made from them, and in the functions' zip."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cqrsctl.projection.definition import Column, ColumnType, Projection
from cqrsctl.projection.fitting import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.change import Value


def declaration_of(projection: Projection) -> str:
    """The declaration: the same text for the same view, columns and conditions."""
    columns = [
        {
            "name": column.name,
            "type": str(column.type),
            "attribute": column.attribute,
            "key": column.key,
            "required": column.required,
            "default": _described(column),
            "index": column.index,
        }
        for column in projection.columns
    ]
    content: dict[str, Any] = {"view": projection.view, "columns": columns}
    if projection.where:
        content["where"] = {
            path: int(value) if isinstance(value, Decimal) else value for path, value in projection.where
        }
    return json.dumps(content, sort_keys=True)


def projection_of(name: str, declaration: str) -> Projection:
    """The projection that has a declaration. Raises ValueError, KeyError or TypeError if the text is none."""
    content = json.loads(declaration)
    return Projection(
        name, content["view"], tuple(map(_column, content["columns"])), conditions(content.get("where", {}))
    )


def conditions(declared: Mapping[str, bool | int | str]) -> tuple[tuple[str, Value], ...]:
    """A projection's conditions as they are declared; numbers become those of DynamoDB."""
    return tuple(
        (path, Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value)
        for path, value in sorted(declared.items())
    )


def _column(content: Mapping[str, Any]) -> Column:
    kind = ColumnType.parse(content["type"])
    return Column(
        name=content["name"],
        type=kind,
        attribute=content["attribute"],
        key=content["key"],
        required=content["required"],
        default=_default(kind, content["default"]),
        index=content["index"],
    )


def _described(column: Column) -> str | list[str] | None:
    """A default as text; in a list if the column's type does not show whether the text was a number."""
    if column.default is None:
        return None
    untold = column.type.kind in {Kind.JSON, Kind.DATETIME} and not isinstance(column.default, str)
    return [str(column.default)] if untold else str(column.default)


def _default(kind: ColumnType, described: str | list[str] | None) -> Value:
    match described:
        case None:
            return None
        case ["True" | "False" as text]:
            return text == "True"
        case [text]:
            return Decimal(text)
        case str() if kind.kind is Kind.BOOLEAN:
            return described == "True"
        case _:
            return kind.default(str(described))
