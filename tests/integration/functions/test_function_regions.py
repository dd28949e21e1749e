"""Functions of one account in several regions, and those that an earlier version deployed, against moto."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.functions import function, mapping, policies, queue, roles
from cqrsctl.functions import secret as secrets
from cqrsctl.functions.deploy import Options
from cqrsctl.functions.logs import find as find_log_group
from cqrsctl.functions.parts import COMMAND, PROJECTOR, log_group, queue_name
from cqrsctl.pipeline.function_operations import Which
from cqrsctl.write_model.table import TableSpec
from tests.functions_world import (
    ACCOUNT,
    OTHER_ZIP,
    POLICY,
    SETTINGS,
    TAG_LIST,
    ZIP,
    Operated,
    changes,
    deploy_all,
    operated,
    with_table,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("aws")
FORMER = f"{PROJECTOR}Role"


@pytest.fixture
def deployed_earlier(tmp_path: Path) -> Operated:
    """Functions of which the projector has the role that an earlier version made for every region."""
    found = deploy_all(with_table(tmp_path))
    iam = found.client("iam")._client
    trust = json.dumps(policies.trust())
    role = iam.create_role(RoleName=FORMER, AssumeRolePolicyDocument=trust, Tags=TAG_LIST)["Role"]["Arn"]
    iam.put_role_policy(RoleName=FORMER, PolicyName="cqrsctl", PolicyDocument=POLICY)
    found.client("lambda")._client.update_function_configuration(FunctionName=PROJECTOR, Role=role)
    return found


def test_a_function_of_an_earlier_version_moves_to_the_role_of_its_region(deployed_earlier: Operated) -> None:
    parts = deployed_earlier.deploy(Which.ALL, Options(), ZIP, wait=True)

    role = f"arn:aws:iam::{ACCOUNT}:role/ProductHandlerFunctionRole-eu-west-1"
    assert changes(parts)["function ProductHandlerFunction"] == "updated: role"
    assert deployed_earlier.client("lambda").made("update_function_configuration") == [
        {"FunctionName": PROJECTOR, "Role": role}
    ]
    assert function.describe(deployed_earlier.client("lambda"), PROJECTOR).role == role
    (note,) = [part.note for part in parts if part.note]
    assert note.startswith("Role ProductHandlerFunctionRole, which an earlier version made, is kept")
    assert deployed_earlier.client("iam").get_role_policy(RoleName=FORMER, PolicyName="cqrsctl")
    again = deployed_earlier.deploy(Which.ALL, Options(), ZIP, wait=True)
    assert set(changes(again).values()) == {"unchanged"}
    assert not any(part.note for part in again)


def test_a_deletion_keeps_the_role_of_an_earlier_version_and_says_so(deployed_earlier: Operated) -> None:
    deployed_earlier.remove(deployed_earlier.removals(with_logs=False))

    assert any(note.startswith("Role ProductHandlerFunctionRole, which an") for note in deployed_earlier.notes)
    kept = deployed_earlier.client("iam")._client.list_roles()["Roles"]
    assert [role["RoleName"] for role in kept] == [FORMER]
    assert function.find(deployed_earlier.client("lambda"), COMMAND) is None


def in_region(folder: Path, region: str) -> Operated:
    """The same environment's functions in one region, deployed, with a table of that region."""
    found = operated(folder, SETTINGS.replace("eu-west-1", region))
    TableSpec("Products", deletion_protection=False).create_call().make(found.client("dynamodb"))
    return deploy_all(found)


def all_parts(found: Operated) -> dict[str, Any]:
    """Everything that a deployment consists of, as AWS describes it; what a function calls its role is followed."""
    there = {name: function.find(found.client("lambda"), name) for name in (COMMAND, PROJECTOR)}
    return {
        "functions": there,
        "roles": {
            each.role: roles.find(found.client("iam"), each.role.rpartition("/")[2]) for each in there.values() if each
        },
        "mappings": mapping.of_function(found.client("lambda"), PROJECTOR) if there[PROJECTOR] else [],
        "queue": queue.find(found.client("sqs"), queue_name(PROJECTOR)),
        "secret": secrets.find(found.client("secretsmanager"), "cqrsctl/prod/database", content=True),
        "log groups": [find_log_group(found.client("logs"), log_group(name)) for name in there],
    }


def test_two_regions_of_one_account_have_nothing_in_common(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one = in_region(tmp_path / "one", "eu-west-1")
    before = all_parts(one)
    assert all(before["roles"].values())

    other = in_region(tmp_path / "other", "us-east-1")
    assert all_parts(one) == before
    options = Options(memory_mb=512, batch_size=50, on_failure="arn:aws:s3:::failed-batches")
    other.deploy(Which.ALL, options, OTHER_ZIP, wait=True)
    assert all_parts(one) == before
    other.remove(other.removals(with_logs=True))

    assert all_parts(one) == before
    assert {role["Arn"] for role in one.client("iam")._client.list_roles()["Roles"]} == set(before["roles"])
    left = all_parts(other)
    assert (left["mappings"], left["queue"], left["log groups"]) == ([], None, [None, None])
    assert set(changes(one.deploy(Which.ALL, Options(), ZIP, wait=True)).values()) == {"unchanged"}
