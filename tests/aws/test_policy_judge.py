"""The judge of policies itself: what IAM's rules are, and that it finds what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.aws.policy_judge import Decision, Request, Unjudged, arn_matches, decide, facts, faults

TABLE = "arn:aws:dynamodb:eu-west-1:123456789012:table/Products"
READ = Request("dynamodb:GetItem", TABLE)


def statement(**changed: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": ["dynamodb:GetItem"], "Resource": TABLE, **changed}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def test_a_denial_wins_and_what_nothing_allows_is_refused() -> None:
    assert decide(policy(statement()), READ) is Decision.ALLOWED
    assert decide(policy(statement(), statement(Effect="Deny")), READ) is Decision.DENIED
    assert decide(policy(statement(Effect="Deny"), statement()), READ) is Decision.DENIED
    assert decide(policy(statement(Action=["dynamodb:PutItem"])), READ) is Decision.REFUSED
    assert decide(policy(), READ) is Decision.REFUSED


@pytest.mark.parametrize(
    ("pattern", "arn", "matches"),
    [
        ("*", TABLE, True),
        (f"{TABLE}/stream/*", f"{TABLE}/stream/2024", True),
        (f"{TABLE}*", f"{TABLE}2", True),
        (TABLE, f"{TABLE}2", False),
        ("arn:aws:dynamodb:*:123456789012:table/Products", TABLE, True),
        ("arn:aws:dynamodb:*:table/Products", TABLE, False),
        ("arn:aws:s*:::failed/x", "arn:aws:s3:::failed/x", False),
        ("arn:aws:s3:::fail*/x", "arn:aws:s3:::failed/x", True),
        ("arn:aws:ec2:r:1:*/*", "arn:aws:ec2:r:1:subnet/a", False),
        ("arn:aws:secretsmanager:r:1:secret:a-??????", "arn:aws:secretsmanager:r:1:secret:a-AbCdEf", True),
        ("arn:aws:secretsmanager:r:1:secret:a-??????", "arn:aws:secretsmanager:r:1:secret:a-b-AbCdEf", False),
        ("arn:aws:logs:r:1:log-group:a:*", "arn:aws:logs:r:1:log-group:a:log-stream:b", True),
        ("*", "*", True),
        ("arn:aws:ec2:r:1:*/*", "*", False),
    ],
)
def test_a_wildcard_in_an_arn_stands_for_characters_of_its_part(pattern: str, arn: str, matches: bool) -> None:
    assert arn_matches(pattern, arn) is matches


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"kms:ViaService": ["a", "b"]}}, {"kms:ViaService": ("b",)}, True),
        ({"StringEquals": {"kms:ViaService": ["a"]}}, {"kms:ViaService": ("A",)}, False),
        ({"StringEquals": {"kms:ViaService": ["a"]}}, {}, False),
        ({"StringEquals": {"kms:ViaService": "a"}, "ArnEquals": {"k": "arn:*"}}, {"kms:ViaService": ("a",)}, False),
        ({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "x"}}, {"kms:ResourceAliases": ("y", "x")}, True),
        ({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "x"}}, {"kms:ResourceAliases": ()}, False),
        ({"ArnEquals": {"k": "arn:aws:lambda:r:1:function:f"}}, {"k": ("arn:aws:lambda:r:1:function:f",)}, True),
        ({"ArnEquals": {"k": "arn:aws:lambda:r:1:function:f"}}, {"k": ("arn:aws:lambda:r:1:function:g",)}, False),
    ],
)
def test_a_condition_holds_if_all_its_keys_are_given_as_it_wants(
    condition: dict[str, Any], context: dict[str, tuple[str, ...]], holds: bool
) -> None:
    found = decide(policy(statement(Condition=condition)), Request(READ.action, TABLE, context))

    assert (found is Decision.ALLOWED) is holds


@pytest.mark.parametrize(
    "odd",
    [
        {"Condition": {"StringLike": {"kms:ViaService": "a"}}},
        {"Condition": {"StringEquals": {"kms:ViaService": "a"}}},
        {"NotAction": ["dynamodb:GetItem"]},
        {"Effect": "allow"},
    ],
)
def test_what_the_judge_does_not_know_it_does_not_pass_over(odd: dict[str, Any]) -> None:
    with pytest.raises(Unjudged):
        decide(policy(statement(**odd)), Request(READ.action, TABLE, {"kms:ViaService": ("a", "b")}))


def test_the_facts_are_those_of_aws() -> None:
    found = facts("rds:CreateDBCluster")

    assert {"cluster", "subgrp", "cluster-pg", "og"} <= found.required
    assert {"kms:DescribeKey", "secretsmanager:CreateSecret", "rds:AddTagsToResource"} <= found.dependent
    assert "rds:ManageMasterUserPassword" in found.keys
    with pytest.raises(Unjudged, match="no action dynamodb:GetItems"):
        facts("dynamodb:GetItems")


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"Resource": f"{TABLE}/stream/2024"}, "is on none of"),
        ({"Resource": f"{TABLE}/stream/*"}, "is on none of"),
        ({"Resource": [TABLE, "arn:aws:sqs:eu-west-1:123456789012:failed"]}, "is a resource of none of"),
        ({"Action": ["dynamodb:ListStreams"]}, "is on none of"),
        ({"Condition": {"StringEquals": {"kms:ViaService": "a"}}}, "has no key kms:ViaService"),
    ],
)
def test_a_resource_or_a_key_of_another_action_is_a_fault(wrong: dict[str, Any], fault: str) -> None:
    assert list(faults(policy(statement()))) == []
    assert any(fault in found for found in faults(policy(statement(**wrong))))
