"""Projections' declarations as the JSON file in the functions' zip, and back, with nothing lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import ConfigurationError
from cqrsctl.projection.declaration import declaration_of, projection_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.projection.definition import Projection

FILE_NAME = "declarations.json"


def to_json(projections: Sequence[Projection]) -> str:
    """The file's text: the same for the same projections."""
    return json.dumps([_content(projection) for projection in projections], indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> tuple[Projection, ...]:
    """The projections that `to_json` wrote. Raises ConfigurationError if the text is something else."""
    try:
        return tuple(projection_of(content["name"], json.dumps(content)) for content in json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{FILE_NAME} in the function's zip is not what `cqrsctl function package` writes: {error!r}.",
            hint="Make a new zip: `cqrsctl function package`, or `cqrsctl function deploy`.",
        ) from error


def _content(projection: Projection) -> dict[str, Any]:
    return {"name": projection.name, **json.loads(declaration_of(projection))}
