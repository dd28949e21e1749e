"""Who belongs to the cluster of the embedded stack: the file that all servers are made to obey."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.local import engines
from cqrsctl.local.database_server import ServerInstance
from cqrsctl.local.state import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cqrsctl.local.state import StackState


@dataclass(frozen=True, slots=True)
class Roster:
    """The writer's name, and of each server its number in replication; the writer is one of the servers.

    `seeding` are readers to be, whose data is not complete: never taken for readers, and made from the beginning.
    """

    writer: str
    servers: dict[str, int]
    seeding: dict[str, int] = field(default_factory=dict)

    @property
    def readers(self) -> list[str]:
        return sorted(self.servers.keys() - {self.writer})

    def led_by(self, name: str) -> Roster:
        return replace(self, writer=name)

    def with_seeding(self, names: Iterable[str]) -> Roster:
        """These are to be seeded, also if they were readers; a new one gets a number that none has."""
        seeding = dict(self.seeding)
        known = {**self.servers, **self.seeding}
        for name in names:
            seeding[name] = known.setdefault(name, max(known.values()) + 1)
        return replace(self, servers=_without(self.servers, seeding), seeding=seeding)

    def with_seeded(self, name: str) -> Roster:
        return replace(
            self,
            servers={**self.servers, name: self.seeding[name]},
            seeding=_without(self.seeding, [name]),
        )

    def without(self, name: str) -> Roster:
        return replace(self, servers=_without(self.servers, [name]), seeding=_without(self.seeding, [name]))

    def instance(self, state: StackState, name: str) -> ServerInstance:
        return ServerInstance(state, name, self.servers.get(name) or self.seeding[name])


def path(state: StackState) -> Path:
    return state.directory / "cluster.json"


def load(state: StackState) -> Roster:
    """The roster; if there is no file yet, the first server alone."""
    try:
        return Roster(**json.loads(path(state).read_text()))
    except FileNotFoundError:
        first = engines.of(state).name
        return Roster(writer=first, servers={first: 1})
    except (ValueError, TypeError) as error:
        raise CqrsctlError(
            f"{path(state)} is damaged: {error}.", hint="Remove the stack with: cqrsctl local down --wipe"
        ) from error


def save(state: StackState, roster: Roster) -> Roster:
    """Keep a roster, so that it outlives a crash at any point."""
    write_private(path(state), json.dumps(asdict(roster), indent=2), durable=True)
    return roster


def _without(numbers: dict[str, int], names: Iterable[str]) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if name not in set(names)}
