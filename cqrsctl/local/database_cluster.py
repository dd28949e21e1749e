"""The embedded stack's database: a writer, and readers that follow it.

Who the writer is stands in a file (roster.py). A failover writes the new name there once the new writer has all that
the old one committed and the old one takes no writes any more; all else follows from the file, as often as is needed.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from cqrsctl.errors import CqrsctlError
from cqrsctl.local import database_server, engines, replication, roster
from cqrsctl.local.ports import ensure
from cqrsctl.local.seeding import seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cqrsctl.local.database_server import ServerInstance
    from cqrsctl.local.roster import Roster
    from cqrsctl.local.state import Service, StackState

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
PROJECTOR = "projector"
"""The projector in the background: not started with the stack, but ended with it."""
_OTHERS = {"emulator", PROJECTOR}
_RESERVED = _OTHERS | engines.NAMES
_AT_ONCE = 8
_PATIENCE_SECONDS = 30.0
_ASKING_SECONDS = 5.0
_SETTLING_SECONDS = 5.0
"""So long `up` watches a reader that is behind: a mistake shows at once, and the rest may take its time."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server of the cluster as it is now: `crashed` is one that ended on its own."""

    name: str
    role: Literal["writer", "reader"]
    state: Literal["running", "stopped", "crashed"]
    service: Service | None


def servers(state: StackState) -> list[LocalServer]:
    """The writer, then the readers by name. Asks no server."""
    known = roster.load(state)
    services = state.services()
    return [
        LocalServer(
            name, "writer" if name == known.writer else "reader", state_of(services.get(name)), services.get(name)
        )
        for name in (known.writer, *known.readers)
    ]


def lag_seconds(state: StackState, name: str) -> float | None:
    """How far a reader is behind by its own report: 0.0 is caught up, None does not follow, or is not running."""
    known = roster.load(state)
    if name not in known.servers or not (instance := known.instance(state, name)).service():
        return None
    try:
        status = replication.status(instance, _ASKING_SECONDS)
    except CqrsctlError:
        return None  # it has just ended, or hangs: in either case it does not follow
    return status.lag_seconds if status else None


def add_reader(state: StackState, name: str, note: Callable[[str], None]) -> LocalServer:
    """Make a reader from a copy of the writer, which takes writes meanwhile; wait until it has caught up.

    Raises CqrsctlError if the name is taken or no name. Where it was cut short it starts over.
    """
    if not _NAME.fullmatch(name):
        raise CqrsctlError(
            f"{name!r} is no name for a reader.",
            hint="It begins with a letter and has letters, digits and hyphens, 63 at most.",
        )
    replication.check_installed(engines.of(state))
    with state.locked():
        known = roster.load(state)
        unfinished = known.seeding.keys() - {name}
        taken = {other.lower() for other in known.servers.keys() | unfinished}
        if name.lower() in _RESERVED | taken:
            raise CqrsctlError(f"The name {name!r} is taken.", hint="See: cqrsctl local status")
        replication.require_port(known.instance(state, known.writer))
        _sweep(state, known)
        obey(state)
        try:
            seed(state, [name], note)
        except BaseException:
            _drop(state, name)
            raise
        return next(server for server in servers(state) if server.name == name)


def remove_reader(state: StackState, name: str) -> None:
    """End a reader and remove its data. Raises CqrsctlError for the writer, and if there is no such reader."""
    with state.locked():
        known = roster.load(state)
        if name == known.writer:
            raise CqrsctlError(
                f"{name} is the writer.", hint="Make another the writer first: cqrsctl aurora failover --to NAME"
            )
        _require_known(known, name, {**known.servers, **known.seeding})
        _drop(state, name, with_logs=True)


def failover(
    state: StackState, to: str, note: Callable[[str], None], patience_seconds: float = _PATIENCE_SECONDS
) -> None:
    """Make a reader the writer, as planned: no write that was acknowledged is lost.

    Raises CqrsctlError if the reader does not catch up in time; the old writer then takes writes again. A failover
    that was cut short is finished by the next one, and by `up`.
    """
    with state.locked():
        known = roster.load(state)
        _require_known(known, to, known.servers)
        old, new = known.instance(state, known.writer), known.instance(state, to)
        replication.require_port(old)
        replication.require_port(new)
        obey(state)
        if to == known.writer:
            note(f"{to} is the writer.")
            return
        _catch_up(new, old, replication.position(old), patience_seconds)
        note(f"{old.name} takes no more writes …")
        try:
            _catch_up(new, old, replication.freeze(old, patience_seconds), patience_seconds)
            roster.save(state, known.led_by(to))
        except BaseException:
            obey(state)  # what the file says by now: the old writer continues, or the new one begins
            raise
        obey(state)
        note(f"{to} is the writer.")
        for name in _unable(state, _SETTLING_SECONDS, note):
            note(f"Seed {name} again with: cqrsctl local up")


def remove_all(state: StackState) -> None:
    """End all servers and remove their data. `up` then makes a new writer, which is empty."""
    with state.locked():
        known = roster.load(state)
        # The first server goes first: it would be the writer again, with its old data, once the file is gone.
        database_server.remove(database_server.ServerInstance(state, engines.of(state).name, 0), with_logs=True)
        roster.path(state).unlink(missing_ok=True)
        for name in known.servers.keys() | known.seeding.keys():
            database_server.remove(database_server.ServerInstance(state, name, 0), with_logs=True)
        _sweep(state, roster.load(state))


def up(state: StackState, note: Callable[[str], None], readers: int) -> None:
    """Start stopped servers, make all obey, copy the writer again to those that cannot follow, and add readers.

    The caller holds the state's lock.
    """
    known = roster.load(state)
    _sweep(state, known)
    unable = _start(state, known, note)
    if roster.path(state).exists():
        obey(state)
        unable += _unable(state, _SETTLING_SECONDS, note)
    else:
        _write_client_file(state)
    missing = readers - len(known.readers) - len(known.seeding)
    wanted = [*unable, *known.seeding, *_new_names(state, known, missing)]
    if wanted:
        replication.check_installed(engines.of(state))
        seed(state, wanted, note)


def needs_seeding(state: StackState, readers: int) -> bool:
    """Whether there are fewer readers than that."""
    return readers > len(roster.load(state).readers)


def obey(state: StackState) -> None:
    """Make all servers that run do what the file says; it may be done at any time, and again.

    The others are read-only before the writer takes writes: two never do.
    """
    known = roster.load(state)
    readers = [i for i in (known.instance(state, name) for name in known.readers) if i.service()]
    writer = known.instance(state, known.writer)
    _each(replication.forbid_writing, readers)
    if writer.service():
        replication.promote(writer)
        _write_client_file(state)
        _each(partial(replication.follow, port=replication.require_port(writer)), readers)


def state_of(service: Service | None) -> Literal["running", "stopped", "crashed"]:
    """What became of a process that was started, or not."""
    if service is None:
        return "stopped"
    return "running" if service.process() else "crashed"


def _start(state: StackState, known: Roster, note: Callable[[str], None]) -> list[str]:
    """Start all that are not running, at once. Returns the readers that do not start."""

    def start(name: str) -> str | None:
        instance = known.instance(state, name)
        is_writer = name == known.writer
        if not is_writer and not instance.data.exists():
            note(f"{name} has no data.")
            return name
        try:
            ensure(
                state,
                name,
                lambda port: database_server.start(instance, port, read_only=not is_writer),
                lambda service: database_server.greets(service.port),
                "its data is kept",
                note,
            )
        except CqrsctlError as error:
            if is_writer:
                raise
            note(error.message)
            return name
        return None

    return [name for name in _each(start, [known.writer, *known.readers]) if name]


def _unable(state: StackState, patience_seconds: float, note: Callable[[str], None]) -> list[str]:
    """The readers that run but cannot follow, each with a note."""
    known = roster.load(state)
    writer = known.instance(state, known.writer)
    target = replication.position(writer)

    def check(name: str) -> str | None:
        instance = known.instance(state, name)
        if not instance.service():
            return None
        status, _ = replication.settle(instance, target, patience_seconds)
        error = status.error if status else "it follows nobody"
        if not error and replication.has_diverged(instance, writer):
            error = "it has changes of its own"
        if not error:
            return None
        note(f"{name} cannot follow {known.writer}: {error}")
        return name

    return [name for name in _each(check, known.readers) if name]


def _catch_up(new: ServerInstance, old: ServerInstance, target: str, patience_seconds: float) -> None:
    status, reached = replication.settle(new, target, patience_seconds)
    if reached:
        return
    why = f": {status.error}" if status and status.error else f" within {patience_seconds:g} s."
    raise CqrsctlError(
        f"{new.name} did not catch up{why} {old.name} remains the writer, and takes writes.",
        hint="See how far it is with: cqrsctl local status; if one cannot follow, seed it again with: cqrsctl local up",
        code="failover_too_slow",
    )


def _drop(state: StackState, name: str, *, with_logs: bool = False) -> None:
    """Remove a server. The file comes first: half a server is never taken for one."""
    known = roster.load(state)
    roster.save(state, known.without(name))
    database_server.remove(database_server.ServerInstance(state, name, 0), with_logs=with_logs)


def _sweep(state: StackState, known: Roster) -> None:
    """Remove what is left of servers that were half made, or half removed."""
    folder = state.directory / database_server.FOLDER
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if (state.directory / "data").exists():
        found.add(engines.of(state).name)
    for name in (found | state.services().keys()) - known.servers.keys() - _OTHERS:
        database_server.remove(database_server.ServerInstance(state, name, 0))


def _new_names(state: StackState, known: Roster, count: int) -> list[str]:
    """The lowest free names, made from the stack's."""
    stem = re.sub(r"[^A-Za-z0-9]", "-", state.directory.name)[:40]
    if not stem[:1].isalpha():
        stem = f"stack-{stem}"
    taken = {name.lower() for name in (*known.servers, *known.seeding)}
    free = (name for n in range(1, count + len(taken) + 1) if (name := f"{stem}-reader-{n}").lower() not in taken)
    return [name for name, _ in zip(free, range(count), strict=False)]


def _require_known(known: Roster, name: str, among: Iterable[str]) -> None:
    if name not in among:
        names = ", ".join(known.readers) or "none"
        raise CqrsctlError(f"There is no reader {name!r}; there are: {names}.", hint="See: cqrsctl local status")


def _each(function: Callable[[_Item], _Answer], items: Sequence[_Item]) -> list[_Answer]:
    """What a function gives for each item, all asked at once."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, items))


def _write_client_file(state: StackState) -> None:
    known = roster.load(state)
    service = known.instance(state, known.writer).service()
    if service:
        database_server.write_client_file(state, service.port)
