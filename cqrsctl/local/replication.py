"""One server following another by GTID: the statements for it, and the server's status.

The statements are the engine's. All servers write what they replicate into their own binlogs, so that each can be
followed from any position that it knows.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.local.client import administration, error_line, run
from cqrsctl.local.database_server import REPLICATION_USER, USER, client_program
from cqrsctl.local.ports import LOOPBACK

if TYPE_CHECKING:
    from cqrsctl.local.database_server import ServerInstance
    from cqrsctl.local.engines import Engine

# Setting read_only waits for running statements and commits; what is not committed then is refused.
_FREEZE = """\
SET SESSION lock_wait_timeout = {seconds};
SET GLOBAL read_only = 1;
"""
_OWN_DATABASES = frozenset({"mysql", "sys", "information_schema", "performance_schema"})


class CopyFailed(CqrsctlError):
    """A copy came to nothing, perhaps because a table was changed meanwhile: another try may succeed."""


@dataclass(frozen=True, slots=True)
class Status:
    """A replica's own report of its replication. `error`: why it stopped by itself; empty if it did not."""

    port: int
    connected: bool
    applying: bool
    lag_seconds: float | None
    error: str

    @property
    def following(self) -> bool:
        return self.connected and self.applying and not self.error


def check_installed(engine: Engine) -> None:
    """Raises CqrsctlError if the programs that seed and direct a reader are not installed."""
    for name in (engine.client, engine.dump):
        client_program(engine, name)


def require_port(instance: ServerInstance) -> int:
    """Where a server can be followed. Raises CqrsctlError if it is not running."""
    service = instance.service()
    if service is None:
        raise CqrsctlError(
            f"{instance.name} is not running.", hint="Start it with: cqrsctl local up", code="stack_down"
        )
    return service.port


def status(instance: ServerInstance, patience_seconds: float = 60) -> Status | None:
    """How a server follows; None if it follows nobody."""
    rows = run(instance, instance.engine.status, patience_seconds)
    if not rows:
        return None
    found, (follower, leader) = rows[0], instance.engine.words
    receiving, applying = found[f"{follower}_IO_Running"], found[f"{follower}_SQL_Running"]
    errors = [
        f"{found[f'Last_{part}_Error']} ({found[f'Last_{part}_Errno']})"
        for part, running in (("IO", receiving), ("SQL", applying))
        if running == "No" and found[f"Last_{part}_Errno"] != "0"
    ]
    lag = found[f"Seconds_Behind_{leader}"]
    return Status(
        port=int(found[f"{leader}_Port"]),
        # The log's name comes with the first that it is sent: only then has the other accepted its position.
        connected=receiving == "Yes" and bool(found[f"{leader}_Log_File"]),
        applying=applying == "Yes",
        lag_seconds=None if lag == "NULL" or receiving != "Yes" or applying != "Yes" else float(lag),
        error="; ".join(errors),
    )


def position(instance: ServerInstance) -> str:
    """The last transaction in the server's binlog."""
    return run(instance, instance.engine.position)[0]["position"]


def has_diverged(instance: ServerInstance, writer: ServerInstance) -> bool:
    """Whether a reader has changes that the writer never had. An engine that refuses to follow then says so itself."""
    if not (contains := instance.engine.contains):
        return False
    own = position(instance)
    return run(writer, contains.format(position=own))[0]["result"] == "0"


def forbid_writing(instance: ServerInstance) -> None:
    run(instance, "SET GLOBAL read_only = 1;")


def follow(instance: ServerInstance, port: int) -> None:
    """Make a server follow the one on that port; nothing changes if it does."""
    now = status(instance)
    if now and now.port == port and now.following:
        return
    password = instance.state.replication_password()
    run(instance, instance.engine.follow.format(host=LOOPBACK, port=port, user=REPLICATION_USER, password=password))


def promote(instance: ServerInstance) -> None:
    """Make a server a writer: it follows nobody any more, and takes writes."""
    run(instance, instance.engine.promote)


def freeze(instance: ServerInstance, patience_seconds: float) -> str:
    """Make a writer refuse writes and end its clients' connections. The last transaction that it has committed."""
    seconds = max(1, round(patience_seconds))
    try:
        run(instance, _FREEZE.format(seconds=seconds), patience_seconds + 10)
    except CqrsctlError as error:
        raise CqrsctlError(
            f"{instance.name} could not be made read-only within {seconds} s. {error.message}",
            hint="A long statement or LOCK TABLES may hold it up. Try again when that has ended.",
        ) from error
    for connection in run(instance, "SHOW PROCESSLIST;"):
        if connection["User"] == USER:
            with suppress(CqrsctlError):  # it may have ended by itself
                run(instance, f"KILL {connection['Id']};")
    return position(instance)


def settle(instance: ServerInstance, target: str, patience_seconds: float) -> tuple[Status | None, bool]:
    """Wait until a server follows and has come to a position. How it follows then, and whether it has come there.

    Ends early if it has stopped on its own.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        slice_seconds = max(0.001, min(0.5, deadline - time.monotonic()))  # 0 would be without end
        reached = run(instance, instance.engine.reached.format(position=target, seconds=slice_seconds))[0]["result"]
        now = status(instance)
        done = reached == "0" and now is not None and now.following
        if done or now is None or now.error or time.monotonic() >= deadline:
            return now, done
        time.sleep(0.02)


def copy(source: ServerInstance, target: ServerInstance) -> None:
    """Bring all databases to an empty server, which then can follow from where the source was when this began.

    The source takes writes meanwhile. Raises CopyFailed.
    """
    engine, before = source.engine, _databases(source)
    with tempfile.TemporaryFile() as said:
        dump = subprocess.Popen(
            administration(engine, engine.dump, *engine.dumped(before)),
            cwd=source.data,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        with dump:
            try:
                load = subprocess.run(
                    administration(engine, engine.client, "--init-command=SET sql_log_bin = 0"),
                    cwd=target.data,
                    stdin=dump.stdout,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    check=False,
                )
            except BaseException:
                dump.kill()
                raise
        said.seek(0)
        if load.returncode or dump.returncode:
            reason = error_line(said.read().decode(errors="replace"))
            raise CopyFailed(f"{target.name} could not be seeded from {source.name}: {reason}", hint="Try again.")
    if _databases(source) != before:
        raise CopyFailed(f"{target.name} could not be seeded: the list of databases changed.", hint="Try again.")
    if engine.after_load:
        run(target, engine.after_load)


def _databases(instance: ServerInstance) -> list[str]:
    names = [row["Database"] for row in run(instance, "SHOW DATABASES;")]
    return [name for name in names if name not in _OWN_DATABASES]
