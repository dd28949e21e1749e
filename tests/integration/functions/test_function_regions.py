"""Functions of one account in several regions, and those that an earlier version deployed, against moto."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cqrsctl.functions import function, policies
from cqrsctl.functions.deploy import Options
from cqrsctl.functions.parts import COMMAND, PROJECTOR
from cqrsctl.pipeline.function_operations import Which
from tests.functions_world import (
    ACCOUNT,
    POLICY,
    TAG_LIST,
    ZIP,
    Operated,
    changes,
    deploy_all,
    moto_for,
    with_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMER = f"{PROJECTOR}Role"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with moto_for(monkeypatch):
        yield


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
