"""Locks of rows, of definitions and by name, as they are held until a transaction or a connection ends."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tests.simulation.mysql.sessions import Session

Key: TypeAlias = "tuple[Any, ...]"


class Locks:
    """Shared and exclusive locks."""

    def __init__(self) -> None:
        self._exclusive: dict[Key, Session] = {}
        self._shared: defaultdict[Key, set[Session]] = defaultdict(set)

    def take(self, session: Session, key: Key, *, exclusive: bool) -> set[Session]:
        """Take a lock, or have the sessions that are in the way."""
        holder = self._exclusive.get(key)
        if holder is session:
            return set()
        if holder is not None:
            return {holder}
        if exclusive and (others := self._shared.get(key, set()) - {session}):
            return others
        if exclusive:
            self._exclusive[key] = session
        else:
            self._shared[key].add(session)
        session.locks.append(key)
        return set()

    def in_the_way(self, session: Session, table: str, prefix: Key, *, exclusive: bool) -> set[Session]:
        """The other sessions with locks of a table's rows whose primary key begins so."""
        begin, end = (table, 0), len(prefix)
        found = {
            holder
            for key, holder in self._exclusive.items()
            if holder is not session and key[:2] == begin and key[2][:end] == prefix
        }
        if exclusive:
            for key, holders in self._shared.items():
                if key[:2] == begin and key[2][:end] == prefix:
                    found |= holders - {session}
        return found

    def release(self, session: Session) -> None:
        """Give up all that a session holds."""
        for key in session.locks:
            if self._exclusive.get(key) is session:
                del self._exclusive[key]
            if key in self._shared:
                self._shared[key].discard(session)
                if not self._shared[key]:
                    del self._shared[key]
        session.locks.clear()


class NamedLocks:
    """Advisory locks: GET_LOCK and its like. They go with the connection."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Session, int]] = {}

    def get(self, session: Session, name: str) -> int:
        holder, times = self._held.get(name.lower(), (session, 0))
        if holder is not session:
            return 0
        self._held[name.lower()] = session, times + 1
        return 1

    def release(self, session: Session, name: str) -> int | None:
        if name.lower() not in self._held:
            return None
        holder, times = self._held[name.lower()]
        if holder is not session:
            return 0
        if times > 1:
            self._held[name.lower()] = session, times - 1
        else:
            del self._held[name.lower()]
        return 1

    def holder(self, name: str) -> int | None:
        """The number of the connection that holds a lock."""
        found = self._held.get(name.lower())
        return found and found[0].number

    def release_all(self, session: Session) -> None:
        for name in [name for name, (holder, _) in self._held.items() if holder is session]:
            del self._held[name]
