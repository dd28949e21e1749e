"""The embedded stack as a whole: up, down, and what runs of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.local import emulator, mariadb
from cqrsctl.local.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cqrsctl.local.state import Service, State

SERVICES = (emulator.NAME, mariadb.NAME)

_OWN_FILES = (
    "data",
    "data.new",
    "tmp",
    "client",
    "demo-files",
    "*.log",
    "stack.json",
    "database.password",
    "accounts.sql",
)

_LOST = {
    emulator.NAME: "its tables were in its memory and are gone",
    mariadb.NAME: "its data is kept",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the stack as it is now: `running`, `stopped`, or `crashed` (it ended on its own)."""

    name: str
    state: str
    service: Service | None

    @property
    def address(self) -> str | None:
        if self.service is None or self.state != "running":
            return None
        scheme = "http://" if self.name == emulator.NAME else ""
        return f"{scheme}{LOOPBACK}:{self.service.port}"


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that runs: how to reach it."""

    endpoint_url: str
    database_port: int
    database_password: str


def up(state: State, note: Callable[[str], None]) -> list[Part]:
    """Start what does not run. Two at once make one stack; a part that crashed is named and started anew."""
    emulator.check_installed()
    mariadb.server_program()
    with state.locked():
        known = state.services()
        begun: list[str] = []
        try:
            for name, start in ((emulator.NAME, emulator.start), (mariadb.NAME, mariadb.start)):
                before = known.get(name)
                if before and before.process() and _answers(before):
                    continue
                if before:
                    _end_crashed(before, note)
                note(f"Starting {name} …")
                begun.append(name)
                start(state, before.port if before else None)
        except BaseException:
            _stop(state, begun)
            raise
        return parts(state)


def down(state: State, *, wipe: bool) -> list[Service]:
    """End the processes that the stack started, and only those. `wipe` removes the data too."""
    if not state.directory.exists():
        return []
    with state.locked():
        ended = [service for service in state.services().values() if service.process()]
        _stop(state, list(state.services()))
        if wipe:
            _wipe(state.directory)
        return ended


def parts(state: State) -> list[Part]:
    """Every part of the stack with its state."""
    known = state.services()
    return [Part(name, _state_of(known.get(name)), known.get(name)) for name in SERVICES]


def running(state: State) -> Running:
    """How to reach the stack. Raises CqrsctlError where it does not run, or not all of it."""
    known = state.services()
    dead = [name for name in SERVICES if name not in known or known[name].process() is None]
    if dead:
        what = "does not run" if len(dead) == len(SERVICES) else f"is broken: {dead[0]} has ended"
        environment = state.directory.name
        chosen = "" if environment == "local" else f" -e {environment}"
        raise CqrsctlError(
            f"The embedded stack {environment!r} {what}.",
            hint=f"Start it with: cqrsctl{chosen} local up",
            code="stack_down",
        )
    return Running(
        endpoint_url=emulator.endpoint_url(known[emulator.NAME]),
        database_port=known[mariadb.NAME].port,
        database_password=state.password(),
    )


def _answers(service: Service) -> bool:
    return emulator.answers(service) if service.name == emulator.NAME else mariadb.greets(service.port)


def _state_of(service: Service | None) -> str:
    if service is None:
        return "stopped"
    return "running" if service.process() else "crashed"


def _end_crashed(service: Service, note: Callable[[str], None]) -> None:
    how = "does not answer" if service.process() else "had ended on its own"
    note(f"{service.name} (pid {service.pid}) {how}; {_LOST[service.name]}. It is started anew.")
    service.stop()


def _stop(state: State, names: list[str]) -> None:
    for name in names:
        service = state.services().get(name)
        if service:
            service.stop()
            state.forget(name)


def _wipe(directory: Path) -> None:
    """Remove what the stack made, and nothing else. The lock stays: another command may be waiting for it."""
    for path in [found for pattern in _OWN_FILES for found in directory.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
