"""What becomes of a record that does not fit: the projector stops before it, or sets it aside as a dead letter.

A value may be refused by the declared column, when the change is mapped, or by the database itself (a constraint or
a trigger of one's own). The database names no record, so it is found by halving; its neighbours are applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from cqrsctl.errors import CqrsctlError, TablesChanged, ValueRejected
from cqrsctl.projection.batch import Applied, Batch, DeadLetter, batch_of, cut, with_letter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqrsctl.change import Page
    from cqrsctl.projection.tables import Tables


class OnError(StrEnum):
    """What to do with a record that does not fit."""

    STOP = "stop"
    DEAD_LETTER = "dead-letter"


class BadRecord(CqrsctlError):
    """A record that does not fit the projection's columns."""

    code = "bad_record"

    def __init__(self, letter: DeadLetter) -> None:
        super().__init__(
            f"{letter.change} does not fit projection {letter.projection}. {letter.error}. The projector stops before "
            "it.",
            hint="Set such records aside with --on-error dead-letter, or declare a column that holds the value, then "
            "`cqrsctl rebuild`.",
        )


class BatchSink(Protocol):
    """Where batches go."""

    def tables(self) -> Tables:
        """The tables that changes become rows of, as the sink last saw them."""

    def apply(self, batch: Batch) -> Applied:
        """Apply a batch in one transaction, all of it or nothing.

        Raises ValueRejected, TransactionConflict and TablesChanged, after which the sink can still be used.
        """


def _once(apply: Callable[[Batch], Applied], batch: Batch) -> Applied:
    return apply(batch)


@dataclass(slots=True)
class Applier:
    """Applies pages in as many transactions as they need: whoever brings changes, brings them here.

    What only a table that is being built cannot take never stops the projector: the view is served by another one.
    `again` runs a transaction again that conflicted with another one. `in_doubt` is the batch whose transaction was
    the last one, if it did not come to its end: it may be committed all the same.
    """

    sink: BatchSink
    on_error: OnError
    count: Callable[[Batch, Applied], None]
    again: Callable[[Callable[[Batch], Applied], Batch], Applied] = _once
    in_doubt: Batch | None = field(default=None, init=False)

    def apply(self, pages: Sequence[Page]) -> None:
        """Apply pages, at most one a shard.

        Raises BadRecord if one does not fit and errors stop the projector: then everything before it in its
        shard was applied. Raises what the sink raises.
        """
        while True:
            tables = self.sink.tables()
            batch = batch_of(
                pages, [table.projection for table in tables.active], [table.projection for table in tables.building]
            )
            try:
                return self._apply(pages, batch)
            except TablesChanged:
                continue

    def _apply(self, pages: Sequence[Page], batch: Batch) -> None:
        stopping = [letter for letter in batch.letters if not letter.building] if self.on_error is OnError.STOP else []
        if stopping:
            self.apply(_before(pages, stopping))
            raise BadRecord(min(stopping, key=lambda letter: letter.change.sequence_number))
        try:
            self._commit(batch)
        except ValueRejected as rejection:
            self._divide(pages, batch, rejection)

    def _divide(self, pages: Sequence[Page], batch: Batch, rejection: ValueRejected) -> None:
        """Apply halves of what was refused as a whole, down to the record that is to blame."""
        changing = [page for page in pages if page.changes]
        if len(changing) > 1:
            half = len(pages) // 2
            self.apply(pages[:half])
            self.apply(pages[half:])
        elif len(changing[0].changes) > 1:
            others = [page for page in pages if not page.changes]
            first, rest = cut(changing[0], len(changing[0].changes) // 2)
            self.apply([*others, first])
            self.apply([rest])
        else:
            self._set_aside(changing[0], batch, rejection)

    def _set_aside(self, page: Page, batch: Batch, rejection: ValueRejected) -> None:
        """Commit a batch of one change without the table that refused it; another one may refuse it too."""
        letter = DeadLetter(rejection.projection, page.shard_id, page.changes[0], rejection.reason, rejection.building)
        if self.on_error is OnError.STOP and not letter.building:
            raise BadRecord(letter)
        without = with_letter(batch, letter)
        try:
            self._commit(without)
        except ValueRejected as another:
            self._set_aside(page, without, another)

    def _commit(self, batch: Batch) -> None:
        self.in_doubt = batch
        applied = self.again(self.sink.apply, batch)
        self.in_doubt = None
        self.count(batch, applied)


def _before(pages: Sequence[Page], letters: Sequence[DeadLetter]) -> list[Page]:
    """The pages as far as every projection can take them."""
    bad = {(letter.shard_id, letter.change.sequence_number) for letter in letters}
    kept = []
    for page in pages:
        fitting = next(
            (number for number, change in enumerate(page.changes) if (page.shard_id, change.sequence_number) in bad),
            None,
        )
        if fitting is None:
            kept.append(page)
        elif fitting:
            kept.append(cut(page, fitting)[0])
    return kept
