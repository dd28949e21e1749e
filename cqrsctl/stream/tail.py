"""Tailing a stream: which changes are shown, and what changed in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from decimal import Decimal

    from cqrsctl.change import ChangeRecord, Event, Value
    from cqrsctl.stream.reader import StreamReader


@dataclass(frozen=True, slots=True)
class Selection:
    """Which changes to show. Empty sets mean all."""

    events: frozenset[Event] = frozenset()
    ids: frozenset[Decimal] = frozenset()
    from_sequence: int = 0
    since: datetime | None = None

    def shows(self, change: ChangeRecord) -> bool:
        return (
            (not self.events or change.event in self.events)
            and (not self.ids or any(value in self.ids for value in change.keys.values()))
            and change.sequence_number >= self.from_sequence
            and (self.since is None or change.created_at >= self.since)
        )


def tail(
    reader: StreamReader, selection: Selection, *, follow: bool, limit: int | None
) -> Iterator[tuple[str, ChangeRecord]]:
    """The selected changes, each with its shard's id, until the limit, or without `follow` until caught up."""
    shown = 0
    while True:
        pages = reader.take()
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
