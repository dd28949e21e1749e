"""Tailing a stream: which changes are shown, and what changed in each."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from cqrsctl.change import value_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from cqrsctl.change import ChangeRecord, Event, Value
    from cqrsctl.stream.reader import StreamReader


@dataclass(frozen=True, slots=True)
class Selection:
    """Which changes to show. Empty sets mean all."""

    events: frozenset[Event] = frozenset()
    ids: frozenset[Decimal] = frozenset()
    from_sequence: int = 0
    since: datetime | None = None
    where: tuple[tuple[str, str], ...] = ()
    """Attributes (dotted paths), each with its value as text, that the item has after the change or had before it."""

    def shows(self, change: ChangeRecord) -> bool:
        return (
            (not self.events or change.event in self.events)
            and (not self.ids or any(value in self.ids for value in change.keys.values()))
            and change.sequence_number >= self.from_sequence
            and (self.since is None or change.created_at >= self.since)
            and all(
                any(is_written(value_at(image, path), text) for image in (change.new_image, change.old_image))
                for path, text in self.where
            )
        )


def is_written(value: Value, text: str) -> bool:
    """Whether a text, number or boolean is what a text says: 1.50 is 1.5."""
    match value:
        case bool():
            return text == str(value).lower()
        case Decimal():
            try:
                return Decimal(text) == value
            except InvalidOperation:
                return False
        case _:
            return value == text


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a tail has read: the number of changes, the time of the last one, and whether that is all for now."""

    changes: int
    at: datetime | None
    caught_up: bool


def tail(
    reader: StreamReader,
    selection: Selection,
    *,
    follow: bool,
    limit: int | None,
    progress: Callable[[Reading], None] = lambda _: None,
) -> Iterator[tuple[str, ChangeRecord]]:
    """The selected changes, each with its shard's id, until the limit, or without `follow` until caught up."""
    shown = read = 0
    at: datetime | None = None
    while True:
        pages = reader.take()
        changes = [change for page in pages for change in page.changes]
        read, at = read + len(changes), changes[-1].created_at if changes else at
        progress(Reading(read, at, reader.caught_up and not pages))
        for page in pages:
            for change in filter(selection.shows, page.changes):
                yield page.shard_id, change
                shown += 1
                if shown == limit:
                    return
        if not follow and reader.caught_up and not pages:
            return


def differences(change: ChangeRecord) -> list[tuple[str, Value, Value]]:
    """Each attribute that changed, with its old and new value; an absent attribute counts as None."""
    old, new = change.old_image or {}, change.new_image or {}
    names = [*old, *(name for name in new if name not in old)]
    return [
        (name, old.get(name), new.get(name))
        for name in names
        if name not in change.keys and (name in old, old.get(name)) != (name in new, new.get(name))
    ]
