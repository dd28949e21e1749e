"""Options that choose a view, and by its columns rows and their order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from cqrsctl.cli.completion import column_names, projection_names
from cqrsctl.errors import UsageError
from cqrsctl.read_model.conditions import Comparison, condition
from cqrsctl.settings_file import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cqrsctl.projection.definition import Column, Projection
    from cqrsctl.read_model.conditions import Condition

PRODUCT = "product"
"""The projection that is queried if none is named, and that options of products are for."""

ProjectionOption = Annotated[
    str | None,
    typer.Option(
        "--projection",
        metavar="NAME",
        help="Whose view to query.  [default: product, or the only one]",
        autocompletion=projection_names,
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="A=V",
        help="Only rows like this: A=V, A!=V, A<V, A<=V, A>V, A>=V; A= for no value. May be repeated.",
        autocompletion=column_names,
    ),
]

_COMPARED = re.compile(r"([^=<>!]+)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)


def chosen_projection(projections: Sequence[Projection], name: str | None) -> Projection:
    """The projection of a name. Raises UsageError if there is none, or if none is named and the choice is not clear."""
    known = {projection.name: projection for projection in projections}
    if name is None and len(projections) == 1:
        return projections[0]
    found = known.get(name or PRODUCT)
    if found is None:
        declared = f"Declared are {', '.join(known)}."
        if name is None:
            raise UsageError("Which projection's view? Name it with --projection.", hint=declared)
        raise UsageError(f"There is no projection {name!r}.", hint=_hint(name, known, declared))
    return found


def column_of(projection: Projection, name: str, option: str) -> Column:
    """The view's column of a name. Raises UsageError, which begins with the option, if there is none."""
    column = projection.column(name)
    if column is None:
        names = [each.name for each in projection.columns]
        raise UsageError(
            f"{option}: view {projection.view} has no column {name!r}.",
            hint=_hint(name, names, f"It has {', '.join(names)}."),
        )
    return column


def conditions(projection: Projection, typed: Iterable[str]) -> list[Condition]:
    """The conditions of --where. Raises UsageError."""
    return [
        condition(column_of(projection, name, "--where"), comparison, value)
        for name, comparison, value in map(compared, typed)
    ]


def compared(typed: str) -> tuple[str, Comparison, str]:
    """A name, how it is compared, and the value to compare with. Raises UsageError."""
    parts = _COMPARED.fullmatch(typed)
    if parts is None:
        raise UsageError(
            f"--where: {typed!r} does not compare a name with a value.", hint="Write it as --where 'Price<=20'."
        )
    return parts[1].strip(), Comparison(parts[2]), parts[3]


def _hint(name: str, known: Iterable[str], all_of_them: str) -> str:
    close = did_you_mean(name, known)
    return f"{close} {all_of_them}" if close else all_of_them
