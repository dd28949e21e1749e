"""The template of `stream tail --format`: text with {names} of a change's values."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING

from cqrsctl.change import value_at
from cqrsctl.cli import render
from cqrsctl.errors import UsageError

if TYPE_CHECKING:
    from cqrsctl.change import ChangeRecord, Value

_OLD = "old."


class Template:
    """Text with names in braces; doubled braces stand for braces."""

    def __init__(self, text: str) -> None:
        """Raises UsageError if a brace or a name is missing, or a name has more to it than dots."""
        try:
            self._parts = [
                (literal, name) for literal, name, spec, kind in Formatter().parse(text) if _plain(spec, kind)
            ]
        except ValueError as error:
            raise UsageError(
                f"--format: {text!r} cannot be read: {error}.",
                hint="Write names as {Price}, and a brace itself twice: {{ or }}.",
            ) from error
        if any(name == "" for _, name in self._parts):
            raise UsageError("--format: {} names nothing.", hint="Put a name between the braces, as {Price}.")

    def filled(self, change: ChangeRecord, shard_id: str) -> str:
        """The text with a change's values; nothing stands for an attribute that the item lacks."""
        return "".join(
            literal + (render.printable(render.cell(_value(change, shard_id, name))) if name else "")
            for literal, name in self._parts
        )


def _plain(spec: str | None, kind: str | None) -> bool:
    if spec or kind:
        raise ValueError("a name stands alone between its braces")
    return True


def _value(change: ChangeRecord, shard_id: str, name: str) -> Value:
    match name:
        case "time":
            return render.rfc3339(change.created_at)
        case "event":
            return str(change.event)
        case "shard_id":
            return shard_id
        case "sequence_number":
            return str(change.sequence_number)
    if name.startswith(_OLD):
        return value_at(change.old_image, name.removeprefix(_OLD))
    value = value_at(change.new_image if change.new_image is not None else change.old_image, name)
    return value_at(change.keys, name) if value is None else value
