"""The policy that `cqrsctl permissions` prints holds what the code asks of AWS, and no more than the commands need."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import cqrsctl
from cqrsctl.config import Environment, Flags, load
from cqrsctl.diagnosis.doctor.needs import ACTIONS
from cqrsctl.diagnosis.doctor.policy import PURPOSES, policy
from cqrsctl.functions.parts import Place

PLACE = Place("aws", "eu-west-1", "123456789012")
_PACKAGE = Path(cqrsctl.__file__).parent
_CALLED_OTHERWISE = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
}
_NEEDS_NONE = {"sts:GetCallerIdentity", "iam:SimulatePrincipalPolicy"}
"""The first needs no permission; without the second `doctor` says what it could not look at."""
_EMBEDDED = {"rds:DeleteDBClusterSnapshot", "rds:DescribeDBClusterSnapshots"}
"""Asked of the embedded stack only."""


def environment(tmp_path: Path, database: str = 'cluster = "products"') -> Environment:
    (tmp_path / "cqrsctl.toml").write_text(f"[environments.prod]\n[environments.prod.database]\n{database}\n")
    return load(Flags(env="prod"), {}, tmp_path)


def allowed(document: dict[str, Any]) -> set[str]:
    return {name for statement in document["Statement"] for name in statement["Action"]}


def asked() -> set[str]:
    """What the code asks of AWS, as IAM calls it: each ApiCall with its service and operation."""
    found: set[str] = set()
    for path in _PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="ApiCall"), args=[service, ast.Constant(value=str(operation)), *_]):
                    literal = service.value if isinstance(service, ast.Constant) else names.get(ast.unparse(service))
                    assert isinstance(literal, str), ast.unparse(node)
                    name = f"{literal.removesuffix('streams')}:{operation}"
                    found.add(_CALLED_OTHERWISE.get(name, name))
    return found - _NEEDS_NONE - _EMBEDDED


def test_all_that_the_code_asks_of_aws_is_in_the_table() -> None:
    calls = asked()
    assert len(calls) > 60
    assert calls <= {action.name for action in ACTIONS}


def test_all_commands_together_need_all_of_the_table(tmp_path: Path) -> None:
    found = allowed(policy(environment(tmp_path), list(PURPOSES), PLACE))
    assert found == {action.name for action in ACTIONS} | {"secretsmanager:GetSecretValue"}


def test_who_projects_reads_and_changes_nothing(tmp_path: Path) -> None:
    document = policy(environment(tmp_path), ["project", "verify"], PLACE)
    assert allowed(document) == {
        "dynamodb:DescribeTable",
        "dynamodb:DescribeStream",
        "dynamodb:GetShardIterator",
        "dynamodb:GetRecords",
        "dynamodb:Scan",
        "dynamodb:BatchGetItem",
        "rds:DescribeDBClusters",
        "rds:DescribeDBInstances",
        "lambda:GetFunction",
        "lambda:ListTags",
        "lambda:ListEventSourceMappings",
        "secretsmanager:GetSecretValue",
        "kms:Decrypt",
    }
    of_table = [each for each in document["Statement"] if "dynamodb:Scan" in each["Action"]]
    assert [each["Resource"] for each in of_table] == [["arn:aws:dynamodb:eu-west-1:123456789012:table/Products"]]


def test_who_looks_at_costs_reads_and_changes_nothing(tmp_path: Path) -> None:
    found = allowed(policy(environment(tmp_path), ["cost"], PLACE))

    assert {"pricing:GetProducts", "cloudwatch:GetMetricData", "secretsmanager:DescribeSecret"} <= found
    assert not [name for name in found if not re.match(r"[\w-]+:(Get|BatchGet|Describe|List|Scan|Decrypt)", name)]


def test_every_command_may_look_at_the_table(tmp_path: Path) -> None:
    for command in PURPOSES:
        assert "dynamodb:DescribeTable" in allowed(policy(environment(tmp_path), [command], PLACE)), command


def test_a_login_by_iam_needs_no_secret_and_a_server_elsewhere_no_cluster(tmp_path: Path) -> None:
    by_token = policy(environment(tmp_path, 'cluster = "products"\niam_auth = true\nuser = "app"'), ["query"], PLACE)
    (connect,) = [each for each in by_token["Statement"] if each["Action"] == ["rds-db:connect"]]
    assert connect["Resource"] == ["arn:aws:rds-db:eu-west-1:123456789012:dbuser:*/app"]
    assert "secretsmanager:GetSecretValue" not in allowed(by_token)

    elsewhere = allowed(policy(environment(tmp_path, 'host = "db.example"\nsecret = "mine"'), ["doctor"], PLACE))
    assert not {name for name in elsewhere if name.startswith("rds:Describe")} - {"rds:DescribeDBSubnetGroups"}
    assert "secretsmanager:GetSecretValue" in elsewhere


def test_roles_are_passed_to_lambda_only_and_those_of_services_are_made_for_rds(tmp_path: Path) -> None:
    document = policy(environment(tmp_path), ["function", "aurora"], PLACE)
    conditional = {each["Action"][0]: each["Condition"] for each in document["Statement"] if "Condition" in each}
    assert conditional["iam:PassRole"] == {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    assert "iam:CreateServiceLinkedRole" in conditional
    (passed,) = [each for each in document["Statement"] if each["Action"] == ["iam:PassRole"]]
    assert passed["Resource"] == [PLACE.role("ProductHandlerFunction"), PLACE.role("ProductCommandFunction")]
