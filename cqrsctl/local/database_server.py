"""One private database server of the embedded stack, reached over loopback and a socket only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.account import account
from cqrsctl.errors import CqrsctlError
from cqrsctl.local import engines
from cqrsctl.local.engines import MYSQL
from cqrsctl.local.ports import LOOPBACK, cause, free_port, length, wait_until
from cqrsctl.local.state import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cqrsctl.local.engines import Engine
    from cqrsctl.local.state import Service, StackState

FOLDER = "servers"
USER = "cqrsctl"
REPLICATION_USER = "cqrsctl_replica"
DATABASE = "cqrs"

# Distributions put the server outside an ordinary user's PATH; Homebrew keeps its own prefix.
_SERVER_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin", "/usr/local/bin")
_TRIES_FOR_A_PORT = 5

_SETTINGS = (
    f"--bind-address={LOOPBACK}",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=64M",
    "--character-set-server=utf8mb4",
    "--log-bin=binlog",
    "--log-bin-trust-function-creators",  # or only root may make triggers
    "--max-binlog-size=64M",
    "--binlog-expire-logs-seconds=86400",
    "--relay-log=relay",
)

# Accounts are each server's own; the database is the writer's, from which readers have it.
# Underscore and percent in a granted name are wildcards: a stack may hold several read models.
_DATABASE = f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n"
_GRANTS = """\
GRANT ALL ON `{database}%`.* TO {user}@'127.0.0.1';
GRANT ALL ON `{database}%`.* TO {user}@'localhost';
GRANT REPLICATION SLAVE ON *.* TO {replica}@'127.0.0.1';
"""


@dataclass(frozen=True, slots=True)
class ServerInstance:
    """A server of a stack: its name, and the number by which replication knows it."""

    state: StackState
    name: str
    server_id: int

    @property
    def engine(self) -> Engine:
        return engines.of(self.state)

    @property
    def folder(self) -> Path:
        return self.state.directory if self.name in engines.NAMES else self.state.directory / FOLDER / self.name

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def service(self) -> Service | None:
        """Its process, if one runs."""
        service = self.state.services().get(self.name)
        return service if service and service.process() else None


def server_program(engine: Engine) -> str:
    """The path of the server. Raises CqrsctlError with this system's install command if there is none."""
    found = _program(engine, engine.server, engine.server_packages)
    if engine is MYSQL and "MariaDB" in _version(found):
        raise CqrsctlError(
            f"{found} is MariaDB's server under its old name, not MySQL's.",
            hint="Put MySQL's mysqld before it on the PATH, or use MariaDB: cqrsctl local up --database mariadb",
            code="database_missing",
        )
    return found


def client_program(engine: Engine, name: str) -> str:
    """The path of the client or the dump program. Raises CqrsctlError as above."""
    return _program(engine, name, engine.client_packages)


def start(instance: ServerInstance, preferred_port: int | None = None, *, read_only: bool = False) -> Service:
    """Start the server, at first making its data folder, and wait until it greets."""
    state, engine = instance.state, instance.engine
    server = server_program(engine)
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
        f"--socket={engine.socket}",
        f"--pid-file={engine.pid_file}",
        *_SETTINGS,
        *engine.settings,
    ]
    log = state.log(instance.name)
    (instance.data / f"{engine.socket}.lock").unlink(missing_ok=True)  # a killed MySQL leaves it
    try:
        for _ in range(_TRIES_FOR_A_PORT):
            port = free_port(preferred_port)
            begin = length(log)
            service = state.launch(instance.name, [*command, f"--port={port}"], port)
            try:
                wait_until(lambda service=service: _is_up(instance, service), service, log, begin)  # type: ignore[misc]
            except CqrsctlError:
                if "Address already in use" not in log.read_text(errors="replace")[begin:]:
                    raise
                preferred_port = None
            else:
                return service
    finally:
        accounts.unlink()
    raise CqrsctlError(f"{engine.server} found no free port in {_TRIES_FOR_A_PORT} tries.", hint="Try again.")


def greets(port: int) -> bool:
    """Whether a server greets on the port. The first packet of the protocol is the server's (version 10)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            return connection.recv(5)[4:5] == b"\x0a"
    except OSError:
        return False


def remove(instance: ServerInstance, *, with_logs: bool = False) -> None:
    """End the server and remove all that it keeps."""
    service = instance.state.services().get(instance.name)
    if service:
        service.stop()
        instance.state.forget(instance.name)
    folder = instance.folder
    for own in [folder / name for name in ("data", "data.new", "tmp")] if instance.name in engines.NAMES else [folder]:
        if own.exists():
            shutil.rmtree(own)
    if with_logs:
        for log in (instance.name, _install_log(instance)):
            instance.state.log(log).unlink(missing_ok=True)


def client_folder(state: StackState) -> Path:
    """The folder whose my.cnf brings the client program to the writer (as MYSQL_HOME)."""
    return state.directory / "client"


def client_file(state: StackState) -> Path:
    return client_folder(state) / "my.cnf"


def write_client_file(state: StackState, port: int) -> None:
    """Write the my.cnf of client_folder, readable by its owner only: it holds the password."""
    client_folder(state).mkdir(mode=0o700, exist_ok=True)
    write_private(
        client_file(state),
        f"[client]\nhost={LOOPBACK}\nport={port}\nuser={USER}\npassword={state.password()}\n"
        # MariaDB's client reads all three groups, MySQL's not the second: the server of this stack has no certificate.
        f"[client-mariadb]\nskip-ssl\n[mysql]\ndatabase={DATABASE}\n",
    )


def _is_up(instance: ServerInstance, service: Service) -> bool:
    """Whether this server greets, and not another one that took the port first."""
    try:
        own = (instance.data / instance.engine.pid_file).read_text().strip() == str(service.pid)
    except FileNotFoundError:
        return False
    return own and greets(service.port)


def _write_accounts(instance: ServerInstance, *, read_only: bool) -> Path:
    state = instance.state
    accounts = (instance.engine.accounts + _GRANTS).format(
        database=DATABASE,
        user=USER,
        password=state.password(),
        replica=REPLICATION_USER,
        replica_password=state.replication_password(),
    )
    path = instance.folder / "accounts.sql"
    write_private(path, accounts if read_only else _DATABASE + accounts)
    return path


def _make_data(instance: ServerInstance) -> None:
    """Make the system tables in a folder beside, so that half of them is never taken for all of them."""
    unfinished = instance.folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    log = instance.state.log(_install_log(instance))
    environment: Mapping[str, str] = {**os.environ, "TMPDIR": str(_temporary(instance))}
    engine = instance.engine
    with log.open("wb") as output:
        done = subprocess.run(
            [_program(engine, engine.installer, engine.server_packages), *engine.install(account(), unfinished)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        raise CqrsctlError(f"{engine.installer} failed: {cause(log)}", hint=f"Read {log}.")
    unfinished.chmod(0o700)
    unfinished.rename(instance.data)


def _install_log(instance: ServerInstance) -> str:
    return f"{instance.name}.install"  # no name of a server has a dot


def _temporary(instance: ServerInstance) -> Path:
    """A folder of its own for temporary tables: a server that starts removes all it finds, also another's."""
    folder = instance.folder / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def _version(server: str) -> str:
    return subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout


def _program(engine: Engine, name: str, packages: Mapping[str, str]) -> str:
    search = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SERVER_FOLDERS))
    found = shutil.which(name, path=search)
    if found is None:
        command = next((line for tool, line in packages.items() if shutil.which(tool)), None)
        otherwise = f"Install {engine.title} {engine.least_version} or later (with {name})."
        raise CqrsctlError(
            f"{engine.title} is not installed: {name} was not found.",
            hint=f"Install it with: {command}" if command else otherwise,
            code="database_missing",
        )
    return found
