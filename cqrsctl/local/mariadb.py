"""One private MariaDB server of the embedded stack, reached over loopback and a socket only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.account import account
from cqrsctl.errors import CqrsctlError
from cqrsctl.local.ports import LOOPBACK, free_port, last_line, wait_until
from cqrsctl.local.state import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cqrsctl.local.state import Service, StackState

NAME = "mariadb"
"""The first server's name. Its files lie in the stack's own folder, those of others in one for each."""
FOLDER = "servers"
USER = "cqrsctl"
REPLICATION_USER = "cqrsctl_replica"
DATABASE = "cqrs"

# Distributions put the server outside an ordinary user's PATH; Homebrew keeps its own prefix.
_SERVER_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin", "/usr/local/bin")
_SERVER_PACKAGES = {
    "apt-get": "sudo apt-get install mariadb-server-core mariadb-client-core",
    "dnf": "sudo dnf install mariadb-server",
    "brew": "brew install mariadb",
}
_CLIENT_PACKAGES = {
    "apt-get": "sudo apt-get install mariadb-client",
    "dnf": "sudo dnf install mariadb",
    "brew": "brew install mariadb",
}
_TRIES_FOR_A_PORT = 5

_LOG_FILE_SIZE = "--innodb-log-file-size=64M"  # from the start: the first start would have to resize the file
_SETTINGS = (
    f"--bind-address={LOOPBACK}",
    "--skip-name-resolve",
    "--socket=mariadb.sock",  # in the data folder: a long path would not fit a socket's address
    "--pid-file=mariadb.pid",
    "--innodb-buffer-pool-size=64M",
    _LOG_FILE_SIZE,
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_unicode_520_ci",
    "--log-bin=binlog",
    "--log-slave-updates",
    "--binlog-format=ROW",
    "--log-bin-trust-function-creators",  # or only root may make triggers
    "--gtid-strict-mode",
    "--max-binlog-size=64M",
    "--binlog-expire-logs-seconds=86400",
    "--loose-slave-connections-needed-for-purge=0",  # from 11.4: a writer without readers would keep all
    "--relay-log=relay",
    "--skip-slave-start",  # whom it follows is told to it when it runs
)

# Accounts are each server's own; the database is the writer's, from which readers have it.
# Underscore and percent in a granted name are wildcards: a stack may hold several read models.
_DATABASE = f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n"
_ACCOUNTS = """\
SET sql_log_bin = 0;
CREATE OR REPLACE USER {user}@'127.0.0.1' IDENTIFIED BY '{password}';
CREATE OR REPLACE USER {user}@'localhost' IDENTIFIED BY '{password}';
GRANT ALL ON `{database}%`.* TO {user}@'127.0.0.1';
GRANT ALL ON `{database}%`.* TO {user}@'localhost';
CREATE OR REPLACE USER {replica}@'127.0.0.1' IDENTIFIED BY '{replica_password}';
GRANT REPLICATION SLAVE ON *.* TO {replica}@'127.0.0.1';
"""


@dataclass(frozen=True, slots=True)
class MariaDbInstance:
    """A server of a stack: its name, and the number by which replication knows it."""

    state: StackState
    name: str
    server_id: int

    @property
    def folder(self) -> Path:
        return self.state.directory if self.name == NAME else self.state.directory / FOLDER / self.name

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def service(self) -> Service | None:
        """Its process, if one runs."""
        service = self.state.services().get(self.name)
        return service if service and service.process() else None


def server_program() -> str:
    """The path of mariadbd. Raises CqrsctlError with this system's install command where there is none."""
    return _program("mariadbd", _SERVER_PACKAGES)


def client_program(name: str) -> str:
    """The path of `mariadb` or `mariadb-dump`. Raises CqrsctlError as above."""
    return _program(name, _CLIENT_PACKAGES)


def start(instance: MariaDbInstance, preferred_port: int | None = None, *, read_only: bool = False) -> Service:
    """Start the server, at first making its data folder, and wait until it greets."""
    server = server_program()
    state = instance.state
    instance.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not instance.data.exists():
        _make_data(instance)
    accounts = _write_accounts(instance, read_only=read_only)
    command = [
        server,
        "--no-defaults",
        f"--user={account()}",
        f"--datadir={instance.data}",
        f"--tmpdir={_temporary(instance)}",
        f"--init-file={accounts}",
        f"--server-id={instance.server_id}",
        f"--read-only={int(read_only)}",
        *_SETTINGS,
    ]
    log = state.log(instance.name)
    try:
        for _ in range(_TRIES_FOR_A_PORT):
            port = free_port(preferred_port)
            begin = log.stat().st_size if log.exists() else 0
            service = state.launch(instance.name, [*command, f"--port={port}"], port)
            try:
                wait_until(lambda service=service: _is_up(instance, service), service, log)  # type: ignore[misc]
            except CqrsctlError:
                if "Address already in use" not in log.read_text(errors="replace")[begin:]:
                    raise
                preferred_port = None
            else:
                return service
    finally:
        accounts.unlink()
    raise CqrsctlError(f"mariadbd found no free port in {_TRIES_FOR_A_PORT} tries.", hint="Try again.")


def greets(port: int) -> bool:
    """Whether a server greets on the port. The first packet of the protocol is the server's (version 10)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            return connection.recv(5)[4:5] == b"\x0a"
    except OSError:
        return False


def remove(instance: MariaDbInstance, *, with_logs: bool = False) -> None:
    """End the server and remove all that it keeps."""
    service = instance.state.services().get(instance.name)
    if service:
        service.stop()
        instance.state.forget(instance.name)
    folder = instance.folder
    for own in [folder / name for name in ("data", "data.new", "tmp")] if instance.name == NAME else [folder]:
        if own.exists():
            shutil.rmtree(own)
    if with_logs:
        for log in (instance.name, _install_log(instance)):
            instance.state.log(log).unlink(missing_ok=True)


def client_folder(state: StackState) -> Path:
    """The folder whose my.cnf brings the mariadb client to the writer (as MYSQL_HOME)."""
    return state.directory / "client"


def write_client_file(state: StackState, port: int) -> None:
    """Write the my.cnf of client_folder, readable by its owner only: it holds the password."""
    client_folder(state).mkdir(mode=0o700, exist_ok=True)
    write_private(
        client_folder(state) / "my.cnf",
        f"[client]\nhost={LOOPBACK}\nport={port}\nuser={USER}\npassword={state.password()}\n"
        f"[mariadb]\ndatabase={DATABASE}\n",
    )


def _is_up(instance: MariaDbInstance, service: Service) -> bool:
    """Whether this server greets, and not another one that took the port first."""
    try:
        own = (instance.data / "mariadb.pid").read_text().strip() == str(service.pid)
    except FileNotFoundError:
        return False
    return own and greets(service.port)


def _write_accounts(instance: MariaDbInstance, *, read_only: bool) -> Path:
    state = instance.state
    accounts = _ACCOUNTS.format(
        database=DATABASE,
        user=USER,
        password=state.password(),
        replica=REPLICATION_USER,
        replica_password=state.replication_password(),
    )
    path = instance.folder / "accounts.sql"
    write_private(path, accounts if read_only else _DATABASE + accounts)
    return path


def _make_data(instance: MariaDbInstance) -> None:
    """Make the system tables in a folder beside, so that half of them is never taken for all of them."""
    unfinished = instance.folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    log = instance.state.log(_install_log(instance))
    environment: Mapping[str, str] = {**os.environ, "TMPDIR": str(_temporary(instance))}
    with log.open("wb") as output:
        done = subprocess.run(
            [
                _program("mariadb-install-db", _SERVER_PACKAGES),
                "--no-defaults",
                f"--user={account()}",
                f"--datadir={unfinished}",
                _LOG_FILE_SIZE,
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={account()}",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        raise CqrsctlError(f"mariadb-install-db failed: {last_line(log)}", hint=f"Read {log}.")
    unfinished.rename(instance.data)


def _install_log(instance: MariaDbInstance) -> str:
    return f"{instance.name}.install"  # no name of a server has a dot


def _temporary(instance: MariaDbInstance) -> Path:
    """A folder of its own for temporary tables: a server that starts removes all it finds, also another's."""
    folder = instance.folder / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def _program(name: str, packages: Mapping[str, str]) -> str:
    search = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SERVER_FOLDERS))
    found = shutil.which(name, path=search)
    if found is None:
        command = next((line for tool, line in packages.items() if shutil.which(tool)), None)
        raise CqrsctlError(
            f"MariaDB is not installed: {name} was not found.",
            hint=f"Install it with: {command}" if command else f"Install MariaDB 10.6 or later (with {name}).",
            code="mariadb_missing",
        )
    return found
