"""The functions' commands on the embedded stack, whose endpoint keeps functions but runs none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cqrsctl

if TYPE_CHECKING:
    from collections.abc import Iterator

PUT = ("product", "put", "7", "--name", "Lamp", "--price", "19.90")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cqrsctl]:
    """A stack with the functions deployed, for tests that leave them as they are."""
    home = tmp_path_factory.mktemp("functions")
    cqrsctl = Cqrsctl(home, {"CQRSCTL_STATE_DIR": str(home / "state")})
    cqrsctl.ok("local", "up")
    cqrsctl.ok("table", "create")
    cqrsctl.ok("function", "deploy")
    yield cqrsctl
    cqrsctl.ok("local", "down", "--wipe", "--yes")


@pytest.fixture
def own(cqrsctl: Cqrsctl) -> Iterator[Cqrsctl]:
    """A table of the test's own, whose functions are removed afterwards: a stack has one pair of them."""
    cqrsctl.ok("table", "create")
    yield cqrsctl
    cqrsctl.ok("function", "delete", "--yes", "--logs")


def changes(cqrsctl: Cqrsctl, *arguments: str) -> dict[str, str]:
    parts = cqrsctl.ok("function", "deploy", *arguments, "-o", "json").json()
    return {part["part"]: part["change"] for part in parts}


def test_a_second_deployment_changes_nothing(own: Cqrsctl) -> None:
    first, second = changes(own), changes(own)

    assert list(first) == list(second)
    assert first["function ProductHandlerFunction"] == "created"
    assert first["function ProductCommandFunction"] == "created"
    assert set(second.values()) == {"unchanged"}


def test_records_stay_in_the_embedded_stream_while_a_function_is_mapped_to_it(own: Cqrsctl) -> None:
    own.ok("function", "deploy")

    own.ok(*PUT)
    own.ok("product", "put", "8", "--name", "Desk", "--price", "3")
    own.ok("project", "--once")

    assert [row["ProductId"] for row in own.ok("query", "list", "-o", "json").json()] == [7, 8]


def test_a_paused_projector_is_resumed(own: Cqrsctl) -> None:
    own.ok("function", "deploy")

    paused = own.ok("function", "pause", "-o", "json")
    again = own.ok("function", "pause")
    resumed = own.ok("function", "resume", "-o", "json")

    assert [each["state"] for each in paused.json()] == ["Disabled"]
    assert "paused already" in again.err
    assert [each["state"] for each in resumed.json()] == ["Enabled"]


def test_a_deletion_asks_and_leaves_the_table(own: Cqrsctl) -> None:
    own.ok("function", "deploy")
    own.ok(*PUT)

    refused = own("function", "delete")
    planned = own.ok("function", "delete", "--dry-run", "-o", "json").json()
    deleted = own.ok("function", "delete", "--yes", "-o", "json").json()

    assert refused.code == 2
    assert "This deletes mapping of ProductHandlerFunction, function ProductHandlerFunction" in refused.err
    assert "DeleteFunction" in [call["operation"] for call in planned]
    assert {part["change"] for part in deleted} == {"deleted"}
    assert deleted[0]["part"] == "mapping of ProductHandlerFunction"
    assert own.ok("product", "get", "7", "-o", "json").json()["Name"] == "Lamp"
    assert own("function", "status").code == 4
    assert "There is nothing to delete." in own.ok("function", "delete", "--yes").err


def test_a_dry_run_prints_every_call_without_secrets_and_makes_none(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")

    result = cqrsctl.ok("function", "deploy", "--dry-run", "-o", "json")

    planned = {call["operation"]: call["parameters"] for call in result.json()}
    # An earlier test's secret may wait for its deletion; then it is had back.
    secret = planned.pop("CreateSecret", None) or planned.pop("PutSecretValue")
    planned.pop("RestoreSecret", None)
    assert secret["SecretString"] == "***"
    assert list(planned) == [
        "CreateLogGroup",
        "PutRetentionPolicy",
        "CreateQueue",
        "CreateRole",
        "PutRolePolicy",
        "CreateFunction",
        "CreateEventSourceMapping",
    ]
    assert "bytes, SHA-256 " in planned["CreateFunction"]["Code"]["ZipFile"]
    password = Path(cqrsctl.variables["CQRSCTL_STATE_DIR"]) / "local" / "database.password"
    assert password.read_text() not in result.out
    assert "No function" in cqrsctl("function", "status").err


def test_a_package_is_written_twice_alike_and_its_hash_is_told(cqrsctl: Cqrsctl) -> None:
    told = [cqrsctl.ok("function", "package", "--out", name, "-o", "json").json() for name in ("a.zip", "b.zip")]

    content = (cqrsctl.directory / "a.zip").read_bytes()
    assert content == (cqrsctl.directory / "b.zip").read_bytes()
    assert told[0] == {"path": "a.zip", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert told[1]["sha256"] == told[0]["sha256"]


def test_status_tells_the_functions_and_the_mapping(shared: Cqrsctl) -> None:
    result = shared.ok("function", "status", "-o", "json")

    found = result.json()
    assert [(each["name"], each["state"], each["code"]) for each in found["functions"]] == [
        ("ProductCommandFunction", "Active", "current"),
        ("ProductHandlerFunction", "Active", "current"),
    ]
    assert [each["errors"] for each in found["functions"]] == [None, None]
    (mapping,) = found["mappings"]
    assert (mapping["state"], mapping["batch_size"], mapping["on_failure_depth"]) == ("Enabled", 1000, 0)
    assert "runs no functions, so there are no numbers" in result.err
    shown = shared.ok("function", "status").out
    assert "python3.13" in shown
    assert "The last hour" in shown


def test_a_function_that_is_not_run_cannot_be_invoked(shared: Cqrsctl) -> None:
    result = shared("function", "invoke", "command", "--payload", "{}", "-o", "json")

    assert result.code == 4
    assert json.loads(result.err)["error"]["code"] == "function_not_run"


def test_a_command_is_planned_as_it_would_be_sent(shared: Cqrsctl) -> None:
    (shared.directory / "lamp.json").write_text('{"ProductId": 7}')

    for payload in ("@lamp.json", "-"):
        planned = shared.ok(
            "function", "invoke", "command", "--payload", payload, "--dry-run", "-o", "json", stdin='{"ProductId": 7}'
        )
        (call,) = planned.json()
        assert call["parameters"] == {"FunctionName": "ProductCommandFunction", "Payload": '{"ProductId": 7}'}


def test_the_log_of_a_function_that_never_ran_is_empty(shared: Cqrsctl) -> None:
    assert shared.ok("function", "logs").out == ""
    assert shared.ok("function", "logs", "command", "--since", "2h", "-o", "json").json() == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("deploy", "everything"), 2, "everything"),
        (("deploy", "--memory", "100"), 2, "--memory"),
        (("deploy", "--timeout", "16m"), 2, "is not one of 1 to 900 seconds"),
        (("deploy", "--timeout", "0.5"), 2, "is not one of 1 to 900 seconds"),
        (("deploy", "--batch-size", "10001"), 2, "--batch-size"),
        (("deploy", "--parallelization", "0"), 2, "--parallelization"),
        (("deploy", "--on-failure", "here"), 2, "is not the ARN of an SQS queue"),
        (("deploy", "--subnet", "subnet-1"), 2, "Give both --subnet and --security-group"),
        (("deploy", "command", "--batch-size", "10"), 2, "are the projector's"),
        (("invoke", "command", "--payload", "{"), 2, "The payload is not JSON"),
        (("invoke", "command", "--payload", "@missing.json"), 2, "cannot be read"),
        (("invoke", "projector", "--payload", "{}"), 2, "projector"),
        (("invoke", "command"), 2, "--payload"),
        (("logs", "--since", "soon"), 2, "is not a duration"),
        (("package", "--out", "missing/a.zip"), 1, "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_plainly(
    shared: Cqrsctl, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = shared("function", *arguments)

    assert (result.code, result.out) == (code, "")
    assert message in " ".join(result.err.split())
    assert "Traceback" not in result.err
