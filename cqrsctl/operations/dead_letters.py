"""Dead letters: tried again, or discarded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError, UsageError, ValueRejected
from cqrsctl.projection.batch import Batch
from cqrsctl.projection.definition import Misfit
from cqrsctl.projection.rows import row_of
from cqrsctl.read_model import dead_letters
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import apply_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.dead_letters import KeptLetter
    from cqrsctl.wiring import Wiring


class Outcome(StrEnum):
    """What became of a dead letter that was tried again."""

    APPLIED = "applied"
    STALE = "stale"
    """The row has a newer change already; the letter is not needed any more."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Retried:
    """A dead letter that was tried again. `error` says why it was refused."""

    number: int
    outcome: Outcome
    error: str | None = None


def listing(wiring: Wiring) -> Iterator[KeptLetter]:
    """All letters, the oldest first. Raises DatabaseError."""
    with connect(wiring.database) as connection:
        yield from dead_letters.listing(connection)


def show(wiring: Wiring, number: int) -> KeptLetter:
    """One letter. Raises CqrsctlError where there is none of that number."""
    with connect(wiring.database) as connection:
        return _require(connection, number)


def retry(wiring: Wiring, numbers: Sequence[int] | None) -> Iterator[Retried]:
    """Apply letters by the projections as they are declared now, each in a transaction; None: all of them.

    The guard decides, as for any change: a letter never overwrites what is newer. What is refused again stays.
    """
    projections = {projection.name: projection for projection in wiring.environment.projections}
    with connect(wiring.database) as connection:
        for number in _chosen(connection, numbers):
            letter = dead_letters.find(connection, number, for_update=True)
            if letter is None:  # another one retried or discarded it meanwhile
                connection.rollback()
                continue
            yield _retried(connection, letter, projections.get(letter.projection))


def discard(wiring: Wiring, numbers: Sequence[int]) -> list[int]:
    """Remove letters for good; the numbers of those removed. Raises CqrsctlError where one is not there."""
    with connect(wiring.database) as connection:
        removed = [number for number in _chosen(connection, numbers) if dead_letters.remove(connection, number)]
        connection.commit()
        return removed


def _retried(connection: Connection, letter: KeptLetter, projection: Projection | None) -> Retried:
    if projection is None:
        raise UsageError(
            f"Dead letter {letter.number} is of projection {letter.projection}, which is not declared.",
            hint="Declare it, or discard the letter: cqrsctl dead-letter discard.",
        )
    try:
        row = row_of(projection, letter.change)
        applied = apply_rows(connection, [projection], Batch({projection.name: [row]}, (), 1))
    except (Misfit, ValueRejected) as refusal:
        error = refusal.reason if isinstance(refusal, ValueRejected) else str(refusal)
        connection.rollback()
        dead_letters.failed_again(connection, letter.number, error)
        connection.commit()
        return Retried(letter.number, Outcome.REFUSED, error)
    dead_letters.remove(connection, letter.number)
    connection.commit()
    return Retried(letter.number, Outcome.APPLIED if applied.rows else Outcome.STALE)


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
