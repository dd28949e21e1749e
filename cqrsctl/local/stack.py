"""The embedded stack as a whole: up, down, and what runs of it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.local import database_cluster, database_server, emulator, engines, replication
from cqrsctl.local.database_cluster import PROJECTOR
from cqrsctl.local.journal import JournalDamaged, counted
from cqrsctl.local.ports import LOOPBACK, ensure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cqrsctl.local.state import Service, StackState

_OWN_FILES = (
    "data",
    "data.new",
    "tmp",
    "client",
    "servers",
    "demo-files",
    "*.log",
    emulator.JOURNAL,
    "stack.json",
    "cluster.json",
    "database.engine",
    "database.password",
    "replication.password",
    "accounts.sql",
    *(f"{name}.new" for name in ("stack", "cluster", "accounts", "database", "replication", "tables")),
)


@dataclass(frozen=True, slots=True)
class StackPart:
    """A part of the stack as it is now: `running`, `stopped`, or `crashed` (it ended on its own).

    A projector in the background that is no longer running has `ended`: it may have been stopped in order.
    """

    name: str
    role: str
    state: str
    service: Service | None

    @property
    def address(self) -> str | None:
        if self.service is None or not self.service.port or self.state != "running":
            return None
        scheme = "http://" if self.name == emulator.NAME else ""
        return f"{scheme}{LOOPBACK}:{self.service.port}"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a stack has: its tables (None if they cannot be read), the items in them, and the bytes of all files."""

    tables: int | None
    items: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that runs: how to reach it. The writer is its name and port; readers that run are ports by name."""

    endpoint_url: str
    writer: tuple[str, int]
    readers: dict[str, int]
    database_password: str = field(repr=False)


def up(
    state: StackState, note: Callable[[str], None], readers: int = 0, database: str | None = None
) -> list[StackPart]:
    """Start what is not running, and add readers up to a number; more stay. `database`: the engine of a new stack.

    Two at once make one stack; a part that crashed is named and started again. Raises UsageError if the stack has
    another engine.
    """
    emulator.check_installed()
    engine = engines.chosen(state, database)
    database_server.server_program(engine)
    if database_cluster.needs_seeding(state, readers):
        replication.check_installed(engine)
    with state.locked():
        engines.keep(state, engines.chosen(state, database))
        before = state.services()
        try:
            with ThreadPoolExecutor(1) as beside:
                endpoint = beside.submit(
                    ensure,
                    state,
                    emulator.NAME,
                    lambda port: emulator.start(state, port),
                    emulator.answers,
                    "its tables are kept",
                    note,
                )
                database_cluster.up(state, note, readers)
                endpoint.result()
        except BaseException:
            _stop(state, [name for name, service in state.services().items() if before.get(name) != service])
            raise
        return parts(state)


def down(state: StackState, *, wipe: bool) -> list[Service]:
    """End the processes that the stack started, and only those. `wipe` removes the data too."""
    if not state.directory.exists():
        return []
    with state.locked():
        ended = [service for service in state.services().values() if service.process()]
        _stop(state, list(state.services()))
        if wipe:
            _wipe(state.directory)
        return ended


def parts(state: StackState) -> list[StackPart]:
    """Every part of the stack with its state: the emulator, the writer, the readers by name, and the projector."""
    services = state.services()
    service = services.get(emulator.NAME)
    servers = [
        StackPart(server.name, server.role, server.state, server.service) for server in database_cluster.servers(state)
    ]
    found = [StackPart(emulator.NAME, "", database_cluster.state_of(service), service), *servers]
    if projector := services.get(PROJECTOR):
        found.append(StackPart(PROJECTOR, "", "running" if projector.process() else "ended", projector))
    return found


def running(state: StackState) -> Running:
    """How to reach the stack. Raises CqrsctlError if it, its emulator or its writer is not running."""
    endpoint, writer, *others = parts(state)
    dead = [part.name for part in (endpoint, writer) if part.state != "running"]
    if dead or endpoint.service is None or writer.service is None:
        what = "is not running" if len(dead) == 2 else f"is broken: {dead[0]} has ended"
        raise CqrsctlError(
            f"The embedded stack {state.directory.name!r} {what}.",
            hint="Start it with: cqrsctl local up",
            code="stack_down",
        )
    return Running(
        endpoint_url=emulator.endpoint_url(endpoint.service),
        writer=(writer.name, writer.service.port),
        readers={part.name: part.service.port for part in others if part.service and part.address},
        database_password=state.password(),
    )


def endpoint_url(state: StackState) -> str:
    """The emulator's address, also if the writer has ended. Raises as `running` if the emulator is not running."""
    endpoint = parts(state)[0]
    if endpoint.state != "running" or endpoint.service is None:
        return running(state).endpoint_url
    return emulator.endpoint_url(endpoint.service)


def _stop(state: StackState, names: list[str]) -> None:
    """End processes, all at once, as each may take its time; the projector first, which needs the others to the end."""
    services = [service for name, service in state.services().items() if name in names]
    for service in services:
        if service.name == PROJECTOR:
            service.stop()
    for service in services:
        service.ask_to_stop()
    for service in services:
        service.stop()
        state.forget(service.name)


def contents(state: StackState) -> Contents:
    """What `down` removes if it is to wipe."""
    total, items = 0, 0
    tables = None
    with suppress(JournalDamaged):  # it can still be removed
        tables, items = counted(state.directory / emulator.JOURNAL)
    for path in (file for made in _made(state.directory) for file in (made, *made.rglob("*"))):
        with suppress(FileNotFoundError):  # a running server removes files of its own
            total += path.lstat().st_size if path.is_file() else 0
    return Contents(tables, items, total)


def _made(directory: Path) -> list[Path]:
    return [found for pattern in _OWN_FILES for found in directory.glob(pattern)]


def _wipe(directory: Path) -> None:
    """Remove what the stack made, and nothing else. The lock stays: another command may be waiting for it."""
    for path in _made(directory):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
