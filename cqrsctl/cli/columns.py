"""`--columns`: which columns of records are printed, and in which order; and records without nested values."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import UsageError
from cqrsctl.settings_file import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_chosen: ContextVar[tuple[str, ...]] = ContextVar("chosen columns", default=())


@contextmanager
def choosing(typed: str | None) -> Iterator[None]:
    """Within it the columns `A,B` are chosen, as they were typed. Raises UsageError if a name is empty."""
    names = () if typed is None else tuple(name.strip() for name in typed.split(","))
    if not all(names):
        raise UsageError(f"--columns: {typed!r} has an empty name.", hint="Write it as --columns A,B.")
    token = _chosen.set(names)
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen() -> tuple[str, ...]:
    """The columns that the command is to print; none if there is no choice."""
    return _chosen.get()


def resolved(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The columns of names, which may be typed as a table heads them: HOURS LEFT is hours_left.

    Raises UsageError unless each is a column, or something in one: `old_image.Price`.
    """
    columns = dict.fromkeys(known)
    found = []
    for typed in names:
        name = typed if typed in columns else typed.lower().replace(" ", "_")
        if name not in columns:
            if typed.split(".")[0] not in columns:
                raise UsageError(
                    f"--columns: there is no column {typed!r}.",
                    hint=did_you_mean(typed, columns) or f"Columns: {', '.join(columns)}.",
                )
            name = typed
        found.append(name)
    return found


def picked(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The chosen columns of a record; None for what it does not have."""
    if all(name in record for name in names):
        return {name: record[name] for name in names}
    flat = flattened(record)
    return {name: record.get(name, flat.get(name)) for name in names}


def flattened(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with a column for each value inside of nested ones: `old_image.Price`, `shards.0.state`."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        inner = _inner(value)
        if inner:
            flat |= {f"{name}.{below}": content for below, content in flattened(inner).items()}
        else:
            flat[name] = value if inner is None else None
    return flat


def is_nested(value: Any) -> bool:
    """Whether a value has values inside."""
    return _inner(value) is not None


def _inner(value: Any) -> dict[str, Any] | None:
    """What a value has inside, by name or number; None if it is a plain one."""
    match value:
        case dict():
            return value
        case frozenset():
            return _inner(sorted(value, key=str))
        case list() | tuple():
            return {str(number): content for number, content in enumerate(value)}
        case _:
            return None
