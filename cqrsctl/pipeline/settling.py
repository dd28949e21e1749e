"""Dead letters: tried again, or discarded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cqrsctl import retries
from cqrsctl.change import Page
from cqrsctl.errors import CqrsctlError, TablesChanged, TransactionConflict, ValueRejected
from cqrsctl.projection.batch import Applied
from cqrsctl.projection.recovery import Applier, OnError
from cqrsctl.read_model import dead_letters
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.dead_letters import Settled
from cqrsctl.read_model.sink import prepare
from cqrsctl.read_model.writing import TableWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cqrsctl.projection.batch import Batch
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.tables import Tables
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.dead_letters import KeptLetter
    from cqrsctl.wiring import Wiring


class LetterOutcome(StrEnum):
    """What became of a dead letter that was tried again."""

    APPLIED = "applied"
    STALE = "stale"
    """The row has a newer change already; the letter is not needed any more."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Retried:
    """A dead letter that was tried again.

    `error` says why it was refused: by the table behind the view, or, if it was applied, by one that is being built.
    """

    number: int
    outcome: LetterOutcome
    error: str | None = None


def listing(wiring: Wiring) -> Iterator[KeptLetter]:
    """All letters, the oldest first. Raises DatabaseError."""
    with connect(wiring.database) as connection:
        yield from dead_letters.listing(connection)


def show(wiring: Wiring, number: int) -> KeptLetter:
    """One letter. Raises CqrsctlError if there is none of that number."""
    with connect(wiring.database) as connection:
        return _require(connection, number)


def retry(wiring: Wiring, numbers: Sequence[int] | None) -> Iterator[Retried]:
    """Apply letters by the projections as they are declared now, each in a transaction; None: all of them.

    The guard decides, as for any change: a letter never overwrites what is newer. What is refused again stays.
    Raises DatabaseError, also if the tables were made from another declaration.
    """
    prepare(wiring.database, wiring.environment.projections)
    projections = {projection.name: projection for projection in wiring.environment.projections}
    with connect(wiring.database) as connection:
        for number in _chosen(connection, numbers):
            if (retried := _retried(connection, number, projections)) is not None:
                yield retried


def discard(wiring: Wiring, numbers: Sequence[int]) -> list[int]:
    """Remove letters for good; the numbers of those removed. Raises CqrsctlError if one is not there."""
    with connect(wiring.database) as connection:
        chosen = _chosen(connection, numbers)
        removed = [number for number in chosen if dead_letters.settle(connection, number, Settled.DISCARDED)]
        dead_letters.forget_settled(connection)
        connection.commit()
        return removed


@dataclass(slots=True)
class _LetterSink:
    """One dead letter: what applies it ends it in the same transaction, or remembers why it was refused again.

    `retried` is None if somebody else ended it meanwhile.
    """

    number: int
    writer: TableWriter
    retried: Retried | None = None

    def tables(self) -> Tables:
        return self.writer.tables()

    def apply(self, batch: Batch) -> Applied:
        connection = self.writer.connection
        try:
            if dead_letters.find(connection, self.number, for_update=True) is None:
                connection.rollback()
                return Applied(0, 0)
            applied = self.writer.apply_rows(batch, again=True)
            self.retried = self._settle(batch, applied)
            connection.commit()
        except (ValueRejected, TransactionConflict, TablesChanged):
            connection.rollback()
            raise
        return applied

    def _settle(self, batch: Batch, applied: Applied) -> Retried:
        outcome = LetterOutcome.APPLIED if applied.rows else LetterOutcome.STALE
        if not batch.letters:
            dead_letters.settle(self.writer.connection, self.number, Settled.RETRIED)
            return Retried(self.number, outcome)
        (letter,) = batch.letters
        dead_letters.failed_again(self.writer.connection, self.number, letter.error)
        return Retried(self.number, outcome if letter.building else LetterOutcome.REFUSED, letter.error)


def _retried(connection: Connection, number: int, projections: Mapping[str, Projection]) -> Retried | None:
    """Try one letter; None if another one retried or discarded it meanwhile."""
    letter = dead_letters.find(connection, number)
    connection.commit()
    if letter is None:
        return None
    projection = projections.get(letter.projection)
    if projection is None:
        error = f"projection {letter.projection} is not declared"
        dead_letters.failed_again(connection, number, error)
        connection.commit()
        return Retried(number, LetterOutcome.REFUSED, error)
    sink = _LetterSink(number, TableWriter(connection, [projection]))
    again = retries.of_transactions(time.sleep)
    Applier(sink, OnError.DEAD_LETTER, lambda *_: None, again).apply([Page((letter.change,))])
    return sink.retried


def _chosen(connection: Connection, numbers: Sequence[int] | None) -> list[int]:
    if numbers is None:
        return dead_letters.numbers(connection)
    return [_require(connection, number).number for number in dict.fromkeys(numbers)]


def _require(connection: Connection, number: int) -> KeptLetter:
    letter = dead_letters.find(connection, number)
    connection.commit()
    if letter is None:
        raise CqrsctlError(
            f"There is no dead letter {number}.", hint="See them with: cqrsctl dead-letter list", code="not_found"
        )
    return letter
