"""The cluster's commands on an embedded stack of their own, with real replicas."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.local import client, roster
from cqrsctl.local.state import StackState
from tests.cli.test_completion import completed
from tests.conftest import Cqrsctl
from tests.faults.projector import projecting
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRODUCTS = 1_000


def own_stack(home: Path) -> Iterator[Cqrsctl]:
    cqrsctl = Cqrsctl(home, {"CQRSCTL_STATE_DIR": str(home / "state")})
    cqrsctl.ok("local", "up")
    yield cqrsctl
    cqrsctl.ok("local", "down", "--wipe", "--yes")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Cqrsctl]:
    """A stack of the test's own, which has no readers yet."""
    yield from own_stack(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cqrsctl]:
    """A stack for tests that leave its servers as they are."""
    yield from own_stack(tmp_path_factory.mktemp("cluster"))


def administer(cqrsctl: Cqrsctl, server: str, statement: str) -> None:
    """Run a statement on a server of the stack as its administrator."""
    state = StackState(cqrsctl.directory / "state" / "local")
    client.run(roster.load(state).instance(state, server), statement)


def answered(cqrsctl: Cqrsctl, *arguments: str) -> str:
    """Who answered a query, as `-v` tells."""
    told = cqrsctl.ok("query", *arguments, "-v").err
    (line,) = [line for line in told.splitlines() if " answers (" in line]
    return line.split()[0]


def assert_answered_by(cqrsctl: Cqrsctl, servers: set[str], *arguments: str) -> None:
    """Each of these servers answers sooner or later, and none else."""
    seen: set[str] = set()

    def all_seen() -> bool:
        seen.add(answered(cqrsctl, *arguments))
        assert seen <= servers
        return seen == servers

    wait_for(all_seen, f"answered by {servers}")


def planned(cqrsctl: Cqrsctl, *arguments: str) -> list[str]:
    """The operations that a command would call."""
    calls = cqrsctl.ok("aurora", *arguments, "--dry-run", "-o", "json").json()
    return [call["operation"] for call in calls]


def members(cqrsctl: Cqrsctl) -> dict[str, str]:
    status = cqrsctl.ok("aurora", "status", "-o", "json").json()
    return {member["name"]: member["role"] for member in status["members"]}


def test_readers_serve_queries_and_one_of_them_takes_over_while_products_are_written(fresh: Cqrsctl) -> None:
    fresh.ok("table", "create")
    fresh.ok("aurora", "add-reader", "r1", "--yes")
    fresh.ok("aurora", "add-reader", "r2", "--yes")
    fresh.ok("product", "put", "1", "--name", "Lamp", "--price", "19.90")
    fresh.ok("project", "--once")

    assert planned(fresh, "failover", "--to", "r2") == ["FailoverDBCluster"]
    assert planned(fresh, "remove-reader", "r1") == ["DeleteDBInstance"]
    assert members(fresh) == {"mariadb": "writer", "r1": "reader", "r2": "reader"}
    assert_answered_by(fresh, {"r1", "r2"}, "list")
    assert answered(fresh, "list", "--from", "writer") == "mariadb"

    administer(fresh, "r1", "STOP SLAVE")
    wait_for(lambda: lags(fresh)["r1"] > 1, "r1 is behind")
    wait_for(lambda: "r1" in fresh("query", "get", "1", "--max-staleness", "1s", "-v").err, "r1 was looked at")
    assert {answered(fresh, "get", "1", "--max-staleness", "1s") for _ in range(5)} <= {"r2", "mariadb"}
    assert lags(fresh)["r1"] > 1
    assert lags(fresh)["r2"] <= 1
    behind = fresh("lag", "--max", "1s")
    assert behind.code == 8
    assert "Reader r1 is behind" in behind.err
    assert "r2 is behind" not in behind.err
    administer(fresh, "r1", "START SLAVE")

    (fresh.directory / "products.csv").write_text(
        fresh.ok("product", "sample", "--count", str(PRODUCTS), "-o", "csv").out
    )
    with projecting(fresh) as projector:
        assert_that_writes_are_waited_for(fresh)
        importing = fresh.start("product", "import", "products.csv")
        outcome = fresh.ok("aurora", "failover", "--to", "r2", "--yes", "-o", "json").json()
        importing.communicate(timeout=100)
        assert importing.returncode == 0
        wait_for(
            lambda: fresh.ok("query", "count", "--from", "writer").out.strip() == str(PRODUCTS), "all products arrived"
        )
        projector.assert_running()

    assert (outcome["before"], outcome["writer"]) == ("mariadb", "r2")
    assert 0 <= outcome["refused_seconds"] < 30  # it may be over between two probes
    assert members(fresh) == {"r2": "writer", "mariadb": "reader", "r1": "reader"}
    assert "drift: 0" in fresh.ok("verify").out + fresh.ok("verify").err
    assert_answered_by(fresh, {"mariadb", "r1"}, "count", "--max-staleness", "30s")


def test_the_cluster_s_readers_are_completed(fresh: Cqrsctl) -> None:
    fresh.ok("aurora", "add-reader", "reports", "--yes")

    assert completed(fresh, "cqrsctl aurora failover --to re") == ["reports"]
    assert completed(fresh, "cqrsctl aurora remove-reader rep") == ["reports"]


def assert_that_writes_are_waited_for(cqrsctl: Cqrsctl) -> None:
    """On every reader: while one of them stands still, a write is not shown."""
    tray = ("product", "put", "2", "--name", "Tray", "--wait", "readers", "--price")

    assert "readers show the write after " in cqrsctl.ok(*tray, "9").err
    for reader in ("r1", "r2"):
        assert rows_on(cqrsctl, reader, "Price = 9") == 1
    administer(cqrsctl, "r1", "STOP SLAVE")
    late = cqrsctl(*tray, "10", "--timeout", "1s")
    assert late.code == 8
    assert "after 1 s r1 shows product 2 as it was before; the writer shows the write." in late.err
    administer(cqrsctl, "r1", "START SLAVE")
    cqrsctl.ok("product", "delete", "2", "--wait", "readers")
    assert rows_on(cqrsctl, "r1", "ProductId = 2") == 0


def rows_on(cqrsctl: Cqrsctl, server: str, condition: str) -> int:
    """How many rows a server's view has."""
    state = StackState(cqrsctl.directory / "state" / "local")
    found = client.run(roster.load(state).instance(state, server), f"SELECT * FROM cqrs.Product WHERE {condition}")
    return len(found)


def status(cqrsctl: Cqrsctl) -> Any:
    return cqrsctl.ok("aurora", "status", "-o", "json").json()


def lags(cqrsctl: Cqrsctl) -> dict[str, float]:
    """How far each server is behind, in seconds."""
    return {member["name"]: member["lag_seconds"] for member in status(cqrsctl)["members"]}


def test_autoscaling_is_set_shown_changed_and_removed(shared: Cqrsctl) -> None:
    def shown() -> list[tuple[str, float, int, int]]:
        policies = shared.ok("aurora", "autoscale", "show", "-o", "json").json()
        return [(found["metric"], found["target"], found["minimum"], found["maximum"]) for found in policies]

    setting = ("aurora", "autoscale", "set")
    shared.ok(*setting, "--metric", "cpu", "--target", "60", "--min", "0", "--max", "5")
    shared.ok(*setting, "--metric", "connections", "--target", "500")
    assert shown() == [("connections", 500.0, 0, 5), ("cpu", 60.0, 0, 5)]

    changed = shared.ok(*setting, "--metric", "cpu", "--target", "70", "--max", "6")
    again = shared.ok(*setting, "--metric", "cpu", "--target", "70", "--max", "6")
    assert shown() == [("connections", 500.0, 0, 6), ("cpu", 70.0, 0, 6)]
    assert "is set" in changed.err
    assert "unchanged" in again.err

    assert planned(shared, "autoscale", "off") == ["DeleteScalingPolicy"] * 2 + ["DeregisterScalableTarget"]
    shared.ok("aurora", "autoscale", "off", "--yes")
    assert shown() == []
    assert "off already" in shared.ok("aurora", "autoscale", "off", "--yes").err


DRY_RUNS = [
    (("create",), []),
    (("add-reader", "r9", "--tier", "3"), ["CreateDBInstance"]),
    (("add-reader", "--count", "3"), ["CreateDBInstance"] * 3),
    (
        ("autoscale", "set", "--metric", "cpu", "--target", "60", "--min", "1", "--max", "5"),
        ["CreateDBInstance", "RegisterScalableTarget", "PutScalingPolicy"],
    ),
    (("delete",), ["DeleteDBInstance", "DeleteDBCluster"]),
]


@pytest.mark.parametrize(("arguments", "operations"), DRY_RUNS, ids=[" ".join(call) for call, _ in DRY_RUNS])
def test_a_dry_run_prints_its_calls_and_makes_none(
    shared: Cqrsctl, arguments: tuple[str, ...], operations: list[str]
) -> None:
    before = status(shared)

    assert planned(shared, *arguments) == operations
    assert status(shared) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("failover",), 4, "has no reader that could become the writer"),
        (("failover", "--to", "mariadb"), 4, "is the writer already"),
        (("remove-reader", "mariadb"), 4, "is the writer of cluster"),
        (("remove-reader", "nobody"), 4, "has no reader 'nobody'"),
        (("add-reader", "1st"), 2, "is not a reader's name"),
        (("add-reader", "mariadb"), 4, "is the cluster's writer"),
        (("add-reader", "r1", "--count", "2"), 2, "goes with one reader only"),
        (("add-reader", "r1", "--instance-class", "large"), 2, "is not an instance class"),
        (("add-reader", "--count", "16"), 2, "--count"),
        (("autoscale", "set", "--metric", "cpu", "--target", "60"), 2, "give --min and --max"),
        (("autoscale", "set", "--metric", "cpu", "--target", "60", "--min", "5", "--max", "1"), 2, "is above --max"),
        (("autoscale", "set", "--metric", "cpu", "--target", "60", "--min", "0", "--max", "16"), 2, "0 to 15"),
        (("autoscale", "set", "--metric", "disk", "--target", "60"), 2, "disk"),
        (("create", "--serverless", "16"), 2, "range of Aurora capacity units"),
        (("create", "--serverless", "1-2", "--instance-class", "db.r6g.large"), 2, "exclude one another"),
        (("create", "--tag", "team"), 2, "KEY=VALUE"),
        (("delete",), 2, "was not confirmed"),
        (("delete", "--final-snapshot", "last", "--yes"), 2, "keeps no snapshots"),
        (("cost", "--storage-gb", "-1"), 2, "--storage-gb"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_plainly(
    shared: Cqrsctl, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = shared("aurora", *arguments)

    assert (result.code, result.out) == (code, "")
    assert message in " ".join(result.err.split())
    assert "Traceback" not in result.err


@pytest.mark.parametrize("command", [("cost",), ("aurora", "cost")])
def test_an_embedded_environment_costs_nothing(shared: Cqrsctl, command: tuple[str, ...]) -> None:
    shown = shared.ok(*command, "--budget", "0")
    found = shared.ok(*command, "-o", "json").json()

    assert shown.out == "now: $0.00 a month\n"
    assert "An embedded environment costs nothing" in shown.err
    assert (found["now"]["lines"], found["now"]["total_high"], found["with_reader"]) == ([], "0.00", None)


def test_an_environment_without_a_cluster_says_where_to_name_it(tmp_path: Path) -> None:
    (tmp_path / "cqrsctl.toml").write_text("[environments.prod]\nregion = 'eu-west-1'\n")

    result = Cqrsctl(tmp_path)("-e", "prod", "aurora", "status")

    assert result.code == 3
    assert "names no Aurora cluster" in result.err
    assert "CQRSCTL_DATABASE_CLUSTER" in result.err


@pytest.fixture
def prod(shared: Cqrsctl, tmp_path: Path) -> Cqrsctl:
    """An environment as in AWS, on the stack's endpoint; its cluster is `products`."""
    exported = shared.ok("local", "env").out
    (url,) = set(re.findall(r"^export AWS_ENDPOINT_URL='?([^'\n]+)", exported, re.MULTILINE))
    (tmp_path / "cqrsctl.toml").write_text(
        f"[environments.prod]\nregion = 'us-east-1'\nendpoint_url = '{url}'\ndatabase.cluster = 'products'\n"
    )
    return Cqrsctl(tmp_path, {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"})


def test_a_costly_creation_in_aws_looks_first_and_shows_its_price_and_asks_only_if_something_is_missing(
    prod: Cqrsctl,
) -> None:
    prod = Cqrsctl(prod.directory, {**prod.variables, "CQRSCTL_DATABASE_CLUSTER": "stock"})
    create = ("-e", "prod", "aurora", "create")
    asked = prod(*create)
    planned = prod.ok(*create, "--iam-auth", "--dry-run", "-o", "json").json()
    prod.ok(*create, "--yes", "--no-wait")
    again = prod.ok(*create, "--no-wait")
    nothing = prod.ok(*create, "--dry-run")
    differing = [prod(*create, "--iam-auth", *more) for more in ([], ["--dry-run"])]

    assert asked.code == 2
    assert "Cost: $190.20 a month; storage, I/O and backups are charged by use." in asked.err
    assert "This creates cluster stock with a writer of class db.r6g.large." in asked.err
    assert [call["parameters"]["DBClusterIdentifier"] for call in planned] == ["stock", "stock"]
    assert planned[0]["parameters"]["EnableIAMDatabaseAuthentication"] is True
    assert again.err == "Cluster stock already exists; nothing to do.\n"
    assert (nothing.out, nothing.err) == ("", "Nothing to do.\n")
    assert {result.code for result in differing} == {4}
    assert {"IAM authentication: asked on, is off" in result.err for result in differing} == {True}
    assert "Cost" not in differing[0].err


def test_readers_in_aws_show_what_they_cost_before_they_are_added(prod: Cqrsctl) -> None:
    prod.ok("-e", "prod", "aurora", "create", "--yes", "--no-wait")

    asked = prod("-e", "prod", "aurora", "add-reader", "--count", "2")

    assert asked.code == 2
    assert "Each costs $189.80 a month, without the I/O that it causes. Prices: table in cqrsctl" in asked.err
    assert "This adds 2 readers to cluster products." in asked.err


@pytest.mark.parametrize("arguments", [(), ("--final-snapshot", "last", "--no-final-snapshot")])
def test_a_deletion_in_aws_wants_to_know_what_becomes_of_the_data(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "cqrsctl.toml").write_text("[environments.prod]\nregion = 'eu-west-1'\ndatabase.cluster = 'products'\n")

    refused = Cqrsctl(tmp_path)("-e", "prod", "aurora", "delete", "--yes", *arguments)

    assert refused.code == 2
    assert "--no-final-snapshot" in refused.err


def test_a_deleted_cluster_is_gone_with_its_data_and_can_be_made_anew(fresh: Cqrsctl) -> None:
    fresh.ok("read-model", "init")
    fresh.ok("aurora", "add-reader", "--yes")
    assert "local-reader-1" in members(fresh)

    fresh.ok("aurora", "delete", "--yes")

    assert fresh("query", "count").code != 0
    fresh.ok("aurora", "create")
    assert members(fresh) == {"mariadb": "writer"}
    assert "read_model_missing" in fresh("query", "count", "-o", "json").err


def test_readers_come_back_with_the_stack_and_the_api_knows_them_again(fresh: Cqrsctl) -> None:
    fresh.ok("local", "up", "--readers", "1")
    fresh.ok("local", "down")

    fresh.ok("local", "up")

    assert members(fresh) == {"mariadb": "writer", "local-reader-1": "reader"}
    fresh.ok("aurora", "remove-reader", "local-reader-1")
    assert members(fresh) == {"mariadb": "writer"}
    assert "local-reader-1" not in fresh.ok("local", "status").out
