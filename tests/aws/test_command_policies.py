"""The policies that `cqrsctl permissions` prints, judged by IAM's rules: every call of the commands is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cqrsctl.config import Flags, load
from cqrsctl.diagnosis.doctor.policy import PURPOSES, policy
from cqrsctl.functions.parts import Place
from cqrsctl.wiring import Wiring
from tests.aws.authorizations import NOT_IN_TURN, World, action_of
from tests.aws.commands import ACCOUNT, REGION, Run, run_all
from tests.aws.policy_judge import Decision, Request, decide, facts, faults, refused
from tests.unit.diagnosis.test_policy import asked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # one run of all commands serves all tests
PLACE = Place("aws", REGION, ACCOUNT)


@pytest.fixture(scope="module")
def run(stack_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("commands")
    names = {"CQRSCTL_STATE_DIR": str(stack_home), "CQRSCTL_DATABASE_NAME": "cqrs_permissions"}
    return run_all(Wiring(load(Flags(), names, folder)).database, folder)


def requests(run: Run, environment: str, word: str) -> Iterator[Request]:
    """What IAM decides on while the commands of this word run; the table and the secret have a key of their own."""
    world = World(PLACE, keys=dict.fromkeys(("dynamodb", "secretsmanager"), run.key))
    for call in run.calls[environment, word]:
        if action_of(call) not in _REPORTED:
            yield from world.of(call)


_REPORTED = {"iam:SimulatePrincipalPolicy"}
"""What may be refused: `doctor` then reports what it could not look at."""
_FINDINGS = 1
"""How `doctor` ends: this account's pipeline is not perfect."""


def test_every_command_does_its_work(run: Run) -> None:
    failed = {line: code for line, code in run.ended.items() if code}

    assert failed == {line: _FINDINGS for line in run.ended if line.endswith(" doctor")}
    assert {word for _, word in run.calls} == PURPOSES.keys()


def test_every_call_that_is_in_the_code_was_made(run: Run) -> None:
    made = {action_of(call) for calls in run.calls.values() for call in calls}

    assert asked() - made == set()


@pytest.mark.parametrize("word", PURPOSES)
def test_a_command_s_policy_allows_every_call_that_it_makes(run: Run, word: str) -> None:
    of_word = [environment for environment, other in run.calls if other == word]

    assert of_word
    for environment in of_word:
        document = policy(run.environments[environment], [word], PLACE)
        assert refused(document, requests(run, environment, word)) == [], environment


@pytest.mark.parametrize("word", PURPOSES)
def test_a_command_s_policy_is_of_actions_resources_and_keys_that_aws_has(run: Run, word: str) -> None:
    for environment in run.environments.values():
        for account in (ACCOUNT, "*"):
            assert list(faults(policy(environment, [word], Place("aws", REGION, account)))) == []


def test_everything_that_aws_may_do_in_turn_is_judged_or_ruled_out(run: Run) -> None:
    world, unknown = World(PLACE), set()
    for call in (call for calls in run.calls.values() for call in calls):
        action = action_of(call)
        judged = {each.action for each in world.in_turn(call)} | NOT_IN_TURN.get(action, {}).keys()
        unknown |= {f"{each} by {action}" for each in facts(action).dependent - judged}

    assert unknown == set()


def test_a_token_opens_the_database_for_one_user(run: Run) -> None:
    document = policy(run.environments["tokens"], ["query"], PLACE)
    user = PLACE.arn("rds-db", "dbuser:cluster-ABC/projector")

    assert decide(document, Request("rds-db:connect", user)) is Decision.ALLOWED
    assert decide(document, Request("rds-db:connect", f"{user}2")) is Decision.REFUSED


OTHERS = [
    ("project", Request("dynamodb:Scan", PLACE.arn("dynamodb", "table/Products2"))),
    ("project", Request("dynamodb:PutItem", PLACE.arn("dynamodb", "table/Products"))),
    ("project", Request("lambda:InvokeFunction", PLACE.arn("lambda", "function:ProductHandlerFunction"))),
    ("project", Request("kms:Decrypt", PLACE.arn("kms", "key/1"))),
    ("project", Request("kms:Decrypt", PLACE.arn("kms", "key/1"), {"kms:ViaService": ("s3.eu-west-1.amazonaws.com",)})),
    ("verify", Request("secretsmanager:GetSecretValue", PLACE.arn("secretsmanager", "secret:other-AbCdEf"))),
    ("product", Request("lambda:InvokeFunction", PLACE.arn("lambda", "function:ProductHandlerFunction"))),
    ("function", Request("lambda:InvokeFunction", PLACE.arn("lambda", "function:ProductHandlerFunction"))),
    ("product", Request("dynamodb:DeleteTable", PLACE.arn("dynamodb", "table/Products"))),
    ("table", Request("iam:CreateServiceLinkedRole", "*", {"iam:AWSServiceName": ("rds.amazonaws.com",)})),
    ("aurora", Request("rds:DeleteDBCluster", PLACE.arn("rds", "cluster:products2"))),
    ("aurora", Request("iam:CreateServiceLinkedRole", "*", {"iam:AWSServiceName": ("ecs.amazonaws.com",)})),
    ("function", Request("secretsmanager:DeleteSecret", PLACE.arn("secretsmanager", "secret:login-AbCdEf"))),
    ("function", Request("lambda:DeleteFunction", PLACE.arn("lambda", "function:Other"))),
    ("function", Request("iam:DeleteRole", PLACE.arn("iam", "role/Other", regional=False))),
    (
        "function",
        Request("iam:PassRole", PLACE.role("ProductHandlerFunction"), {"iam:PassedToService": ("ec2.amazonaws.com",)}),
    ),
    ("doctor", Request("dynamodb:PutItem", PLACE.arn("dynamodb", "table/Products"))),
]


@pytest.mark.parametrize(("word", "request_"), OTHERS, ids=lambda each: getattr(each, "action", each))
def test_a_command_s_policy_allows_nothing_else(run: Run, word: str, request_: Request) -> None:
    assert decide(policy(run.environments["prod"], [word], PLACE), request_) is Decision.REFUSED
