"""Projections' declarations as the JSON file in the functions' zip, and back, with nothing lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cqrsctl.codec import decode_value, encode_value
from cqrsctl.errors import ConfigurationError
from cqrsctl.projection.definition import Column, ColumnType, Projection

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE_NAME = "declarations.json"


def to_json(projections: Sequence[Projection]) -> str:
    """The file's text: the same for the same projections."""
    return json.dumps([_content(projection) for projection in projections], indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> tuple[Projection, ...]:
    """The projections that `to_json` wrote. Raises ConfigurationError where the text is something else."""
    try:
        return tuple(_projection(content) for content in json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{FILE_NAME} in the function's zip is not what `cqrsctl function package` writes: {error!r}.",
            hint="Make the zip anew: `cqrsctl function package`, or `cqrsctl function deploy`.",
        ) from error


def _content(projection: Projection) -> dict[str, Any]:
    content = {"name": projection.name, **json.loads(projection.declaration())}
    for described, column in zip(content["columns"], projection.columns, strict=True):
        # The declaration tells a default as text, which for some types does not tell whether it was a number.
        described["default"] = encode_value(column.default)
    return content


def _projection(content: dict[str, Any]) -> Projection:
    columns = tuple(
        Column(
            name=column["name"],
            type=ColumnType.parse(column["type"]),
            attribute=column["attribute"],
            key=column["key"],
            required=column["required"],
            default=decode_value(column["default"]),
            index=column["index"],
        )
        for column in content["columns"]
    )
    return Projection(content["name"], content["view"], columns)
