"""TLS to the read model's database: a server that is verified, or none."""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
import trustme

from cqrsctl.errors import ConfigurationError, TransientDatabaseError
from cqrsctl.local import database_server
from cqrsctl.local.ports import LOOPBACK, listener
from cqrsctl.read_model import connection as connections
from cqrsctl.read_model.connection import Endpoint, Login, connect, is_loopback
from tests.certified_server import certified
from tests.fake_database import SSL_REQUEST_BYTES, Fake, greeting, rest_of, serving, without_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Cqrsctl

DOMAIN = ".cqrsctl.test"
HOST = f"db{DOMAIN}"
ALIAS = f"alias{DOMAIN}"
"""A name of the server that its certificate does not have."""

SECRET = "hidden-word"


@dataclass(frozen=True)
class Server:
    """A MariaDB server with a certificate for HOST."""

    port: int
    password: str
    right: Path
    wrong: Path
    several: Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="The right authority")


@pytest.fixture(scope="module")
def server(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("tls")
    others = [trustme.CA(organization_name=f"Authority {number}").cert_pem.bytes() for number in range(3)]
    right, wrong, several = (home / f"{name}.pem" for name in ("ca", "wrong", "several"))
    wrong.write_bytes(others[0])
    several.write_bytes(b"".join([*others[:2], authority.cert_pem.bytes(), others[2]]))
    with certified(home, authority, HOST) as (port, password):
        yield Server(port, password, right, wrong, several)


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of DOMAIN are this machine's; no name server is asked."""
    resolve = socket.getaddrinfo

    def here(host: str, *arguments: Any, **options: Any) -> Any:
        return resolve(LOOPBACK if host.endswith(DOMAIN) else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", here)


NAMES_FOR_A_COMMAND = f"""\
import socket

resolve = socket.getaddrinfo


def here(host, *arguments, **options):
    return resolve({LOOPBACK!r} if str(host).endswith({DOMAIN!r}) else host, *arguments, **options)


socket.getaddrinfo = here
"""


def endpoint(
    port: int, host: str = HOST, ca_bundle: Path | None = None, password: str | Callable[[], str] = SECRET
) -> Endpoint:
    def ask() -> str:
        return password if isinstance(password, str) else password()

    return Endpoint(
        host=host,
        port=port,
        database=database_server.DATABASE,
        login=lambda: Login(database_server.USER, ask()),
        ca_bundle=ca_bundle,
    )


def refusal(target: Endpoint) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        connect(target)
    assert caught.value.code == "tls"
    return caught.value


def session(target: Endpoint) -> dict[str, str]:
    """What the server says of a connection's encryption."""
    with connect(target) as connection:
        rows = connection.query("SHOW SESSION STATUS LIKE 'Ssl_%%'")
    return {row["Variable_name"]: row["Value"] for row in rows}


# --- a real server -----------------------------------------------------------------------------------------------


def test_a_server_that_the_bundle_vouches_for_is_spoken_to_in_tls(server: Server) -> None:
    for bundle in (server.right, server.several):
        found = session(endpoint(server.port, ca_bundle=bundle, password=server.password))
        assert found["Ssl_cipher"]
        assert found["Ssl_version"] in {"TLSv1.2", "TLSv1.3"}


def test_a_tunnel_is_connected_to_and_the_server_behind_it_verified(server: Server) -> None:
    through = endpoint(3306, ca_bundle=server.right, password=server.password)
    through = replace(through, host=HOST, through=(LOOPBACK, server.port))

    assert session(through)["Ssl_cipher"]
    assert f"certificate is not valid for '{ALIAS}'." in refusal(replace(through, host=ALIAS)).message


def test_a_server_that_wants_tls_is_not_one_that_refuses_the_login() -> None:
    error = pymysql.err.OperationalError(3159, "Connections using insecure transport are prohibited")
    with pytest.raises(ConfigurationError) as caught, connections.database_errors(endpoint(1, LOOPBACK)):
        raise error
    assert "database.connect_host" in (caught.value.hint or "")


def test_loopback_needs_no_bundle_and_no_tls(server: Server) -> None:
    assert session(endpoint(server.port, LOOPBACK, password=server.password))["Ssl_cipher"] == ""


def test_a_server_of_another_authority_is_refused(server: Server) -> None:
    error = refusal(endpoint(server.port, ca_bundle=server.wrong))

    assert f"{HOST}:{server.port}/" in error.message
    assert "the server's certificate is not trusted: " in error.message
    assert "database.ca_bundle" in (error.hint or "")


@pytest.mark.parametrize("host", [ALIAS, "0.0.0.0"])  # noqa: S104 -- as a client's address, this machine's
def test_a_server_of_another_name_is_refused(server: Server, host: str) -> None:
    error = refusal(endpoint(server.port, host, server.right))

    assert f"certificate is not valid for '{host}'." in error.message
    assert "database.host" in (error.hint or "")


def test_tls_older_than_1_2_is_not_spoken_and_every_python_is_as_strict(server: Server) -> None:
    context = connections._tls(endpoint(1, ca_bundle=server.right))["ssl"]

    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_the_login_has_a_time_out_of_its_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement may take longer than a login."""
    monkeypatch.setattr(connections, "_LOGIN_SECONDS", 0.5)

    with connect(endpoint(server.port, ca_bundle=server.right, password=server.password)) as connection:
        assert connection.query("SELECT SLEEP(1) AS slept") == [{"slept": 0}]


# --- servers that only a test has ----------------------------------------------------------------------------------


def certificate(authority: trustme.CA, begins_in_days: int = -1, ends_in_days: int = 1) -> ssl.SSLContext:
    """What a server needs that has a certificate for HOST."""
    now = datetime.now(UTC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(
        HOST, not_before=now + timedelta(begins_in_days), not_after=now + timedelta(ends_in_days)
    ).configure_cert(context)
    return context


def test_a_token_in_clear_text_goes_through_tls_only(authority: trustme.CA, server: Server) -> None:
    """As the servers of RDS ask for it where IAM authentication is on."""
    token = f"{HOST}:3306/?Action=connect&DBUser={database_server.USER}&X-Amz-Security-Token={'x' * 1500}"
    fake = Fake(greeting(tls=True), certificate(authority))

    with fake.running() as port, connect(endpoint(port, ca_bundle=server.right, password=token)):
        pass

    assert fake.inside[1] == token.encode() + b"\0"
    assert len(fake.outside) == SSL_REQUEST_BYTES


@pytest.mark.parametrize(
    ("begins_in_days", "ends_in_days", "reason"),
    [(-2, -1, "certificate has expired"), (1, 2, "certificate is not yet valid")],
)
def test_a_certificate_out_of_its_time_is_refused(
    authority: trustme.CA, server: Server, begins_in_days: int, ends_in_days: int, reason: str
) -> None:
    fake = Fake(greeting(tls=True), certificate(authority, begins_in_days, ends_in_days))

    with fake.running() as port:
        error = refusal(endpoint(port, ca_bundle=server.right))

    assert f"not trusted: {reason}." in error.message
    assert "Renew" in (error.hint or "")
    assert fake.inside == []


def test_a_password_may_hold_any_letter(server: Server) -> None:
    with connect(endpoint(server.port, LOOPBACK, password=server.password)) as connection:
        connection.execute("SET PASSWORD = PASSWORD('pässwörd €')")

    try:
        with connect(endpoint(server.port, LOOPBACK, password="pässwörd €")) as connection:
            assert connection.query("SELECT 1 AS one") == [{"one": 1}]
    finally:
        with connect(endpoint(server.port, LOOPBACK, password="pässwörd €")) as connection:
            connection.execute(f"SET PASSWORD = PASSWORD('{server.password}')")


def test_an_impostor_gets_neither_user_nor_password(server: Server) -> None:
    fake = Fake(greeting(tls=True), certificate(trustme.CA()))

    with fake.running() as port:
        refusal(endpoint(port, ca_bundle=server.right))

    assert fake.inside == []
    assert len(fake.outside) == SSL_REQUEST_BYTES


def test_a_server_without_tls_is_refused_and_is_sent_nothing(server: Server) -> None:
    with socket.create_connection((LOOPBACK, server.port)) as real:
        greetings = [greeting(tls=False), without_tls(real.recv(1024))]
    for plain in greetings:
        fake = Fake(plain)
        with fake.running() as port:
            error = refusal(endpoint(port, ca_bundle=server.right))
        assert "offers no TLS" in error.message
        assert fake.outside == b""


@pytest.mark.parametrize("first", [b"", greeting(tls=True)], ids=["from the start", "after its greeting"])
def test_a_server_that_falls_silent_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    monkeypatch.setattr(connections, "_LOGIN_SECONDS", 0.2)

    def speak(client: socket.socket) -> None:
        client.sendall(first)
        rest_of(client)

    begin = time.monotonic()
    with serving(speak) as port, pytest.raises(TransientDatabaseError, match="timed out"):
        connect(endpoint(port, ca_bundle=server.right))

    assert time.monotonic() - begin < 5


# --- before anything is connected --------------------------------------------------------------------------------


@contextmanager
def nobody_comes() -> Iterator[Callable[..., Endpoint]]:
    """Makes endpoints; fails where one was connected to, or asked for its password."""

    def never() -> str:
        raise AssertionError("asked for the password")

    with listener() as listening:
        yield partial(endpoint, listening.getsockname()[1], password=never)
        assert select.select([listening], [], [], 0) == ([], [], [])


@pytest.mark.parametrize("host", [HOST, "0.0.0.0", "localhost.cqrsctl.test", "127.0.0.1.cqrsctl.test"])  # noqa: S104
def test_without_a_bundle_nothing_but_loopback_is_connected_to(host: str) -> None:
    with nobody_comes() as make:
        error = refusal(make(host=host))

    assert host in error.message
    assert "database.ca_bundle" in (error.hint or "")


def unusable(directory: Path, kind: str) -> Path:
    path = directory / "bundle.pem"
    if kind == "directory":
        path.mkdir()
    elif kind == "unreadable":
        path.symlink_to(path)  # also for root
    elif kind != "missing":
        path.write_text({"empty": "", "text": "hello\n", "broken": BROKEN_CERTIFICATE}[kind])
    return path


BROKEN_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "No such file or directory"),
        ("directory", "Is a directory"),
        ("unreadable", "Too many levels of symbolic links"),
        ("empty", "it holds no certificates"),
        ("text", "it holds no certificates"),
        ("broken", "it holds no certificates"),
    ],
)
def test_a_bundle_that_cannot_be_used_is_told_before_anything_is_connected(
    tmp_path: Path, kind: str, reason: str
) -> None:
    path = unusable(tmp_path, kind)

    with nobody_comes() as make:
        error = refusal(make(ca_bundle=path))

    assert f"database.ca_bundle: {path} cannot be used: {reason}" in error.message


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("example.com", False),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("127.1", False),  # resolvers understand it; that it needs a bundle is the safe side
        ("2130706433", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_only_this_machines_own_name_and_addresses_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# --- the installed command ---------------------------------------------------------------------------------------


@pytest.fixture
def abroad(cqrsctl: Cqrsctl, server: Server) -> Cqrsctl:
    """The command with its read model on the server, by the name of a machine elsewhere."""
    names = cqrsctl.directory / "names"
    names.mkdir()
    (names / "sitecustomize.py").write_text(NAMES_FOR_A_COMMAND)
    cqrsctl.variables |= {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(names), os.environ.get("PYTHONPATH")))),
        "CQRSCTL_DATABASE_HOST": HOST,
        "CQRSCTL_DATABASE_PORT": str(server.port),
        "CQRSCTL_DATABASE_PASSWORD": server.password,
        "CQRSCTL_DATABASE_CA_BUNDLE": str(server.right),
    }
    return cqrsctl


def test_a_pipeline_runs_over_tls_and_shows_no_password(abroad: Cqrsctl, server: Server) -> None:
    abroad.ok("table", "create")
    abroad.ok("product", "put", "1", "--name", "Lamp", "--price", "19.90")

    projected = abroad.ok("-vv", "project", "--once")
    counted = abroad.ok("-vv", "query", "count", "-o", "json")

    assert counted.json() == {"count": 1}
    assert f"connecting to {HOST}:{server.port}/" in projected.err
    assert server.password not in projected.out + projected.err + counted.out + counted.err


def test_a_command_refuses_a_server_that_it_cannot_trust_at_once(abroad: Cqrsctl, server: Server) -> None:
    abroad.ok("table", "create")
    garbage = abroad.directory / "garbage.pem"
    garbage.write_text("hello\n")
    for bundle, text in ((server.wrong, "not trusted"), (garbage, "holds no certificates")):
        variables = {"CQRSCTL_DATABASE_CA_BUNDLE": str(bundle)}
        for arguments in (["query", "count"], ["project", "--once"]):
            plain = abroad(*arguments, "-o", "json", variables=variables, timeout=20)
            told = abroad("-vv", *arguments, variables=variables, timeout=20)
            assert (plain.code, told.code) == (3, 3)
            assert '"code": "tls"' in plain.err
            assert "Traceback" not in plain.err
            assert text in plain.err
            assert text in told.err
            assert server.password not in plain.err + told.err
