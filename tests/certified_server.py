"""A database server with a certificate for the names that a test needs."""

from __future__ import annotations

import getpass
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pymysql
import pytest

from cqrsctl.local import database_server, engines, roster
from cqrsctl.local.engines import MARIADB
from cqrsctl.local.state import StackState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trustme


def administer(home: Path, *statements: str) -> None:
    """Run statements as the server's administrator, over its socket."""
    state = StackState(home)
    socket = state.directory / "data" / engines.of(state).socket
    with pymysql.connect(unix_socket=str(socket), user=getpass.getuser()) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def certified(home: Path, authority: trustme.CA, *names: str) -> Iterator[tuple[int, str]]:
    """The port and the password of a MariaDB server whose certificate has these names; its bundle is in `ca.pem`."""
    leaf = authority.issue_cert(*names)
    leaf.private_key_pem.write_to_path(home / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(home / "certificate.pem")
    authority.cert_pem.write_to_path(home / "ca.pem")
    state = StackState(home)
    with pytest.MonkeyPatch.context() as patch:
        files = {"cert": "certificate", "key": "key", "ca": "ca"}
        options = [f"--ssl-{option}={home / name}.pem" for option, name in files.items()]
        patch.setattr(database_server, "_SETTINGS", (*database_server._SETTINGS, *options))
        service = database_server.start(roster.load(state).instance(state, MARIADB.name))
    try:
        yield service.port, state.password()
    finally:
        service.stop()
