"""A signal to a command whose requests are swallowed by the network: it ends in time, and says where it stopped."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.conftest import COMMAND, Cqrsctl
from tests.faults.command import Command, running
from tests.faults.swallowing import deaf, proxied
from tests.pipelines import make_table, projected, put
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.wiring import Wiring
    from tests.faults.swallowing import Proxy

IN_TIME_SECONDS = 2.0
BUSY_SECONDS = 3.0
"""How much longer the end may take on a machine with more to do."""
PRODUCTS = 20_000


@pytest.fixture
def proxy(wiring: Wiring) -> Iterator[Proxy]:
    make_table(wiring)
    with proxied(wiring.dynamodb.meta.endpoint_url) as made:
        yield made


@pytest.fixture
def through(cqrsctl: Cqrsctl, proxy: Proxy) -> Cqrsctl:
    """The command, with the proxy before AWS."""
    return Cqrsctl(cqrsctl.directory, {**cqrsctl.variables, "CQRSCTL_ENDPOINT_URL": proxy.url})


def ended(command: Command, proxy: Proxy, number: signal.Signals, code: int = 130) -> str:
    """Send a signal once a request was swallowed; what the command said by the time that it ended."""
    return ended_after(proxy.swallowed.is_set, command, number, code)


def ended_after(is_waiting: Callable[[], bool], command: Command, number: signal.Signals, code: int = 130) -> str:
    """Send a signal once a command waits for an answer; what it said by the time that it ended with this exit code."""
    wait_for(lambda: is_waiting() or not command.is_running(), "the command waits for an answer")
    command.assert_running()
    sent = time.monotonic()
    command.process.send_signal(number)
    assert command.process.wait(60) == code, command.remarks()
    assert time.monotonic() - sent < IN_TIME_SECONDS + BUSY_SECONDS, command.remarks()
    assert "Stopping…" in command.remarks()
    assert "Traceback" not in command.remarks()
    return command.remarks()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("request_", [b"Streams_20120810.GetRecords", b"DynamoDB_20120810.DescribeTable"])
def test_a_projector_ends_in_time(
    through: Cqrsctl, wiring: Wiring, proxy: Proxy, number: signal.Signals, code: int, request_: bytes
) -> None:
    """The projector reads, or it is still at its first question."""
    put(wiring)
    proxy.swallow(request_)
    with running(Command, through, [COMMAND, "project"], "projector") as command:
        remarks = ended(command, proxy, number, code)

    assert "applied 0 changes to 0 rows, dead-lettered 0, lag unknown" in remarks or "Stopped" in remarks
    assert ("Error:" in remarks) is (code == 130 and "applied" not in remarks)


def test_an_import_ends_in_time_and_says_where_it_stopped(through: Cqrsctl, proxy: Proxy) -> None:
    file = through.directory / "products.csv"
    file.write_text(through.ok("product", "sample", "--count", str(PRODUCTS), "-o", "csv").out)
    proxy.swallow(b"DynamoDB_20120810.BatchWriteItem")
    with running(Command, through, [COMMAND, "product", "import", file], "import") as command:
        remarks = ended(command, proxy, signal.SIGTERM, 143)

    assert "Stopped at line " in remarks
    assert "Resume with: cqrsctl " in remarks
    assert remarks.endswith(f" product import {file} --from-line 2\n")


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (("rebuild", "--all"), b"Streams_20120810.GetRecords"),
        (("verify",), b"DynamoDB_20120810.Scan"),
        (("stream", "tail", "--from", "horizon"), b"Streams_20120810.GetRecords"),
        (("status",), b"Streams_20120810.DescribeStream"),
    ],
)
def test_a_command_ends_in_time(
    through: Cqrsctl, wiring: Wiring, proxy: Proxy, arguments: tuple[str, ...], request_: bytes
) -> None:
    put(wiring)
    projected(wiring)
    proxy.swallow(request_)
    with running(Command, through, [COMMAND, *arguments], "command") as command:
        remarks = ended(command, proxy, signal.SIGINT)

    assert "drift: 0" not in remarks
    assert ("Stopped before the end. product: compared 0 of about" in remarks) is (arguments == ("verify",))


@contextmanager
def before_the_database(cqrsctl: Cqrsctl, wiring: Wiring) -> Iterator[tuple[Cqrsctl, Proxy]]:
    """The command, with a proxy before the database."""
    at = wiring.database
    with proxied(f"{at.host}:{at.port}") as proxy:
        login = {
            "CQRSCTL_DATABASE_HOST": "127.0.0.1",
            "CQRSCTL_DATABASE_PORT": str(proxy.port),
            "CQRSCTL_DATABASE_PASSWORD": at.login().password,
        }
        yield Cqrsctl(cqrsctl.directory, {**cqrsctl.variables, **login}), proxy


@pytest.mark.parametrize(
    ("arguments", "statement"),
    [
        (("project",), b"INSERT INTO `product_v1`"),
        (("project",), b"SET SESSION time_zone"),
        (("rebuild", "--all"), b"LOAD DATA"),
    ],
)
def test_a_command_ends_in_time_though_the_database_does_not_answer_to_a_statement(
    cqrsctl: Cqrsctl, wiring: Wiring, arguments: tuple[str, ...], statement: bytes
) -> None:
    make_table(wiring)
    put(wiring)
    with before_the_database(cqrsctl, wiring) as (command, proxy):
        proxy.swallow(statement)
        with running(Command, command, [COMMAND, *arguments], "command") as running_command:
            ended(running_command, proxy, signal.SIGINT)
    wait_for(lambda: cqrsctl("project", "--once").code == 0, "the server ends the session that was left")
    assert "drift: 0" in cqrsctl.ok("verify").out


@pytest.mark.parametrize("arguments", [("lag",), ("doctor",), ("query", "count")], ids=" ".join)
def test_a_command_ends_in_time_though_the_database_does_not_answer(
    cqrsctl: Cqrsctl, wiring: Wiring, arguments: tuple[str, ...]
) -> None:
    make_table(wiring)
    projected(wiring)
    with before_the_database(cqrsctl, wiring) as (command, proxy):
        proxy.swallow()
        with running(Command, command, [COMMAND, *arguments], "command") as running_command:
            ended(running_command, proxy, signal.SIGINT)


def test_a_projector_ends_in_time_though_the_network_swallows_its_connection_to_the_database(
    cqrsctl: Cqrsctl, wiring: Wiring
) -> None:
    make_table(wiring)
    with deaf() as port:
        login = {
            "CQRSCTL_DATABASE_HOST": "127.0.0.1",
            "CQRSCTL_DATABASE_PORT": str(port),
            "CQRSCTL_DATABASE_PASSWORD": "secret",
        }
        through = Cqrsctl(cqrsctl.directory, {**cqrsctl.variables, **login})
        with running(Command, through, [COMMAND, "-v", "project"], "projector") as command:
            ended_after(lambda: f"connecting to 127.0.0.1:{port}" in command.remarks(), command, signal.SIGINT)
