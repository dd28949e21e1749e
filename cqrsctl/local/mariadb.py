"""The embedded stack's database: one private MariaDB server, reached over loopback and a socket only."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.local.ports import LOOPBACK, free_port, last_line, wait_until
from cqrsctl.local.state import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from cqrsctl.local.state import Service, State

NAME = "mariadb"
USER = "cqrsctl"
DATABASE = "cqrs"

# Distributions put the server outside an ordinary user's PATH; Homebrew keeps its own prefix.
_SERVER_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin", "/usr/local/bin")
_INSTALL_COMMANDS = (
    ("apt-get", "sudo apt-get install mariadb-server-core mariadb-client-core"),
    ("dnf", "sudo dnf install mariadb-server"),
    ("brew", "brew install mariadb"),
)
_TRIES_FOR_A_PORT = 5

_SETTINGS = (
    f"--bind-address={LOOPBACK}",
    "--skip-name-resolve",
    "--socket=mariadb.sock",  # in the data folder: a long path would not fit a socket's address
    "--pid-file=mariadb.pid",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=64M",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_unicode_520_ci",
)

# Underscore and percent in a granted name are wildcards: a stack may hold several read models.
_ACCOUNTS = """\
CREATE DATABASE IF NOT EXISTS {database};
CREATE OR REPLACE USER {user}@'127.0.0.1' IDENTIFIED BY '{password}';
CREATE OR REPLACE USER {user}@'localhost' IDENTIFIED BY '{password}';
GRANT ALL ON `{database}%`.* TO {user}@'127.0.0.1';
GRANT ALL ON `{database}%`.* TO {user}@'localhost';
"""


def server_program() -> str:
    """The path of mariadbd. Raises CqrsctlError with this system's install command where there is none."""
    return _program("mariadbd")


def start(state: State, preferred_port: int | None = None) -> Service:
    """Start the server, at first making its data folder, and wait until it greets."""
    server = server_program()
    data = state.directory / "data"
    if not data.exists():
        _make_data(state, data)
    write_private(
        state.directory / "accounts.sql",
        _ACCOUNTS.format(database=DATABASE, user=USER, password=state.password()),
    )
    for _ in range(_TRIES_FOR_A_PORT):
        port = free_port(preferred_port)
        log = state.log(NAME)
        begin = log.stat().st_size if log.exists() else 0
        command = [
            server,
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={data}",
            f"--tmpdir={_temporary(state)}",
            f"--port={port}",
            f"--init-file={state.directory / 'accounts.sql'}",
            *_SETTINGS,
        ]
        service = state.launch(NAME, command, port)
        try:
            wait_until(lambda port=port: greets(port), service, log)  # type: ignore[misc]
        except CqrsctlError:
            if "Address already in use" not in log.read_text(errors="replace")[begin:]:
                raise
            preferred_port = None
        else:
            (state.directory / "accounts.sql").unlink()
            write_client_file(state, port)
            return service
    raise CqrsctlError(f"mariadbd found no free port in {_TRIES_FOR_A_PORT} tries.", hint="Try again.")


def greets(port: int) -> bool:
    """Whether a server greets on the port. The first packet of the protocol is the server's (version 10)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            return connection.recv(5)[4:5] == b"\x0a"
    except OSError:
        return False


def client_folder(state: State) -> Path:
    """The folder whose my.cnf brings the mariadb client to this server (as MYSQL_HOME)."""
    return state.directory / "client"


def write_client_file(state: State, port: int) -> None:
    """Write the my.cnf of client_folder, readable by its owner only: it holds the password."""
    client_folder(state).mkdir(mode=0o700, exist_ok=True)
    write_private(
        client_folder(state) / "my.cnf",
        f"[client]\nhost={LOOPBACK}\nport={port}\nuser={USER}\npassword={state.password()}\n"
        f"[mariadb]\ndatabase={DATABASE}\n",
    )


def _make_data(state: State, data: Path) -> None:
    """Make the system tables in a folder beside, so that half of them is never taken for all of them."""
    unfinished = state.directory / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    log = state.log("mariadb-install")
    with log.open("wb") as output:
        done = subprocess.run(
            [
                _program("mariadb-install-db"),
                "--no-defaults",
                f"--user={getpass.getuser()}",
                f"--datadir={unfinished}",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={getpass.getuser()}",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            env={**os.environ, "TMPDIR": str(_temporary(state))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        raise CqrsctlError(f"mariadb-install-db failed: {last_line(log)}", hint=f"Read {log}.")
    unfinished.rename(data)


def _temporary(state: State) -> Path:
    """A folder of its own for temporary tables: a server that starts removes all it finds, also another's."""
    folder = state.directory / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def _program(name: str) -> str:
    search = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SERVER_FOLDERS))
    found = shutil.which(name, path=search)
    if found is None:
        command = next((line for tool, line in _INSTALL_COMMANDS if shutil.which(tool)), None)
        raise CqrsctlError(
            f"MariaDB is not installed: {name} was not found.",
            hint=f"Install it with: {command}" if command else "Install MariaDB 10.6 or later (its server).",
            code="mariadb_missing",
        )
    return found
