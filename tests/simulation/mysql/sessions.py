"""Sessions and their transactions: what each has changed, and the locks that it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tests.simulation.mysql.catalog import Table
    from tests.simulation.mysql.database import Database
    from tests.simulation.mysql.locks import Key

Row: TypeAlias = "tuple[Any, ...]"
_FOREVER_SECONDS = 86_400.0
"""MariaDB's lock_wait_timeout; MySQL's is a year."""


@dataclass(slots=True, eq=False)
class Session:
    """A connection as the server sees it. `changes` are those of its transaction: table, row before, row after."""

    number: int
    database: Database | None = None
    is_open: bool = True
    read_only: bool = False
    row_wait_seconds: float = 50.0
    definition_wait_seconds: float = _FOREVER_SECONDS
    changes: list[tuple[Table, Row | None, Row | None]] = field(default_factory=list)
    locks: list[Key] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """Tables and views that its transaction has used: nobody can change their definitions until it ends."""
    waits_for: set[Session] = field(default_factory=set)

    def is_waited_for_by(self, others: set[Session]) -> bool:
        """Whether one of these sessions waits for this one, at last: a deadlock."""
        looked_at: set[Session] = set()
        ahead = list(others)
        while ahead:
            other = ahead.pop()
            if other is self:
                return True
            if other not in looked_at:
                looked_at.add(other)
                ahead += other.waits_for
        return False
