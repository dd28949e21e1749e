"""One server following another by GTID: what is told to a server, and what it tells.

A GTID is domain-server-number. All servers write what they replicate into their own binlogs, so that each can be
followed from any position that it knows.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.local.client import administration, error_line, run
from cqrsctl.local.mariadb import REPLICATION_USER, USER, client_program
from cqrsctl.local.ports import LOOPBACK

if TYPE_CHECKING:
    from cqrsctl.local.mariadb import MariaDbInstance

# Positions go through a variable: a server that sets one from another in one statement waits for itself.
_FOLLOW = """\
STOP SLAVE;
SET @position = @@GLOBAL.gtid_current_pos;
SET GLOBAL gtid_slave_pos = @position;
CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, MASTER_USER = '{user}', MASTER_PASSWORD = '{password}',
    MASTER_CONNECT_RETRY = 1, MASTER_SSL = 0, MASTER_SSL_VERIFY_SERVER_CERT = 0, MASTER_USE_GTID = slave_pos;
START SLAVE;
"""
# A server that was the writer goes on after its own last write, one that never was after the last that it replicated:
# that is what gtid_current_pos tells.

_PROMOTE = """\
STOP SLAVE;
RESET SLAVE ALL;
SET GLOBAL read_only = 0;
"""

# Setting read_only waits for running statements and commits; what is not committed then is refused.
_FREEZE = """\
SET SESSION lock_wait_timeout = {seconds};
SET GLOBAL read_only = 1;
KILL USER {user};
"""

# The binlog of a seeded server is empty. It has to know where it begins, or nobody could follow it from there.
_BEGIN_BINLOG = """\
RESET MASTER;
SET @position = @@GLOBAL.gtid_slave_pos;
SET GLOBAL gtid_binlog_state = @position;
"""

_DUMP = (
    "--all-databases",
    "--ignore-database=mysql",
    "--ignore-database=sys",
    "--single-transaction",
    "--master-data=1",
    "--gtid",
    "--routines",
    "--events",
    "--hex-blob",
)


class CopyFailed(CqrsctlError):
    """A copy came to nothing, perhaps because a table was changed meanwhile: another try may succeed."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a server tells of its following. `error` is why it has stopped on its own, empty where it has not."""

    port: int
    connected: bool
    applying: bool
    lag_seconds: float | None
    error: str

    @property
    def following(self) -> bool:
        return self.connected and self.applying and not self.error


def check_installed() -> None:
    """Raises CqrsctlError where the programs that seed and direct a reader are not installed."""
    for name in ("mariadb", "mariadb-dump"):
        client_program(name)


def require_port(instance: MariaDbInstance) -> int:
    """Where a server can be followed. Raises CqrsctlError where it does not run."""
    service = instance.service()
    if service is None:
        raise CqrsctlError(f"{instance.name} does not run.", hint="Start it with: cqrsctl local up", code="stack_down")
    return service.port


def status(instance: MariaDbInstance, patience_seconds: float = 60) -> Status | None:
    """How a server follows; None where it follows nobody."""
    rows = run(instance, "SHOW SLAVE STATUS;", patience_seconds)
    if not rows:
        return None
    found = rows[0]
    receiving, applying = found["Slave_IO_Running"], found["Slave_SQL_Running"]
    errors = [
        f"{found[f'Last_{part}_Error']} ({found[f'Last_{part}_Errno']})"
        for part, running in (("IO", receiving), ("SQL", applying))
        if running == "No" and found[f"Last_{part}_Errno"] != "0"
    ]
    lag = found["Seconds_Behind_Master"]
    return Status(
        port=int(found["Master_Port"]),
        # The log's name comes with the first that it is sent: only then has the other accepted its position.
        connected=receiving == "Yes" and bool(found["Master_Log_File"]),
        applying=applying == "Yes",
        lag_seconds=None if lag == "NULL" or receiving != "Yes" or applying != "Yes" else float(lag),
        error="; ".join(errors),
    )


def position(instance: MariaDbInstance) -> str:
    """The last transaction in the server's binlog."""
    return run(instance, "SELECT @@GLOBAL.gtid_binlog_pos AS position;")[0]["position"]


def forbid_writing(instance: MariaDbInstance) -> None:
    run(instance, "SET GLOBAL read_only = 1;")


def follow(instance: MariaDbInstance, port: int) -> None:
    """Make a server follow the one on that port; nothing changes where it does."""
    now = status(instance)
    if now and now.port == port and now.following:
        return
    password = instance.state.replication_password()
    run(instance, _FOLLOW.format(host=LOOPBACK, port=port, user=REPLICATION_USER, password=password))


def promote(instance: MariaDbInstance) -> None:
    """Make a server a writer: it follows nobody any more, and takes writes."""
    run(instance, _PROMOTE)


def freeze(instance: MariaDbInstance, patience_seconds: float) -> str:
    """Make a writer refuse writes and end its clients' connections. The last transaction that it has committed."""
    seconds = max(1, round(patience_seconds))
    try:
        run(instance, _FREEZE.format(seconds=seconds, user=USER), patience_seconds + 10)
    except CqrsctlError as error:
        raise CqrsctlError(
            f"{instance.name} could not be made read-only within {seconds} s. {error.message}",
            hint="A long statement or LOCK TABLES may hold it up. Try again when that has ended.",
        ) from error
    return position(instance)


def settle(instance: MariaDbInstance, target: str, patience_seconds: float) -> tuple[Status | None, bool]:
    """Wait until a server follows and has come to a position. How it follows then, and whether it has come there.

    Ends early where it has stopped on its own.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        slice_seconds = max(0.0, min(0.5, deadline - time.monotonic()))
        reached = run(instance, f"SELECT MASTER_GTID_WAIT('{target}', {slice_seconds:.3f}) AS result;")[0]["result"]
        now = status(instance)
        done = reached == "0" and now is not None and now.following
        if done or now is None or now.error or time.monotonic() >= deadline:
            return now, done
        time.sleep(0.02)


def copy(source: MariaDbInstance, target: MariaDbInstance) -> None:
    """Bring all databases to an empty server, which then can follow from where the source was when this began.

    The source goes on taking writes. Raises CopyFailed.
    """
    with tempfile.TemporaryFile() as said:
        dump = subprocess.Popen(
            administration(client_program("mariadb-dump"), *_DUMP),
            cwd=source.data,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        with dump:
            try:
                load = subprocess.run(
                    administration(client_program("mariadb"), "--init-command=SET sql_log_bin = 0"),
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
    run(target, _BEGIN_BINLOG)
