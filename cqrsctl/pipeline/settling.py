"""Dead letters: tried again, or discarded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError, TablesChanged, TransactionConflict, ValueRejected
from cqrsctl.projection.batch import Applied, Batch
from cqrsctl.projection.definition import Misfit
from cqrsctl.projection.projector import rerunning
from cqrsctl.projection.rows import row_of
from cqrsctl.read_model import dead_letters
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.dead_letters import Settled
from cqrsctl.read_model.sink import prepare
from cqrsctl.read_model.writing import TableWriter, forget_left_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.rows import Row
    from cqrsctl.projection.tables import Table
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
    """A dead letter that was tried again.

    `error` says why it was refused: by the table behind the view, or where it was applied by one that is being built.
    """

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
    Raises DatabaseError, also where the tables were made from another declaration.
    """
    prepare(wiring.database, wiring.environment.projections)
    projections = {projection.name: projection for projection in wiring.environment.projections}
    with connect(wiring.database) as connection:
        for number in _chosen(connection, numbers):
            again = rerunning(time.sleep, lambda: False)
            if (retried := again(_retried, connection, number, projections)) is not None:
                yield retried


def discard(wiring: Wiring, numbers: Sequence[int]) -> list[int]:
    """Remove letters for good; the numbers of those removed. Raises CqrsctlError where one is not there."""
    with connect(wiring.database) as connection:
        chosen = _chosen(connection, numbers)
        removed = [number for number in chosen if dead_letters.settle(connection, number, Settled.DISCARDED)]
        dead_letters.forget_settled(connection)
        connection.commit()
        return removed


def _retried(
    connection: Connection, number: int, projections: Mapping[str, Projection], refused: str | None = None
) -> Retried | None:
    """Try one letter; None where another one retried or discarded it meanwhile.

    `refused`: why a table that is being built is left out. It stops nothing, but the letter stays for it.
    """
    letter = dead_letters.find(connection, number, for_update=True)
    if letter is None:
        connection.rollback()
        return None
    try:
        applied, misfit = _apply(connection, letter, projections, with_building=refused is None)
        refused = refused or misfit
        if refused is None:
            dead_letters.settle(connection, number, Settled.RETRIED)
        else:
            dead_letters.failed_again(connection, number, refused)
        connection.commit()
    except (Misfit, ValueRejected) as refusal:
        error = refusal.reason if isinstance(refusal, ValueRejected) else str(refusal)
        connection.rollback()
        if isinstance(refusal, ValueRejected) and refusal.building:
            return _retried(connection, number, projections, error)
        dead_letters.failed_again(connection, number, error)
        connection.commit()
        return Retried(number, Outcome.REFUSED, error)
    except TransactionConflict:
        connection.rollback()
        raise
    except TablesChanged:
        connection.rollback()
        return _retried(connection, number, projections)
    return Retried(number, Outcome.APPLIED if applied.rows else Outcome.STALE, refused)


def _apply(
    connection: Connection, letter: KeptLetter, projections: Mapping[str, Projection], *, with_building: bool
) -> tuple[Applied, str | None]:
    """Put a letter's row into the tables, within the running transaction; and why one being built cannot take it."""
    projection = projections.get(letter.projection)
    if projection is None:
        raise Misfit(f"projection {letter.projection} is not declared")
    writer = TableWriter(connection, [projection])

    def rows(tables: Iterable[Table]) -> dict[str, list[Row]]:
        return {table.projection.name: [row_of(table.projection, letter.change)] for table in tables}

    tables = writer.tables()
    active, building, misfit = rows(tables.active), {}, None
    try:
        building = rows(tables.building) if with_building else {}
    except Misfit as refusal:
        misfit = str(refusal)
    for table in (*tables.active, *(tables.building if building else ())):
        made = active if table in tables.active else building
        for row in made[table.projection.name]:
            if not row.deleted:
                forget_left_out(connection, table, row)
    return writer.apply_rows(Batch(active, (), 1, building=building)), misfit


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
