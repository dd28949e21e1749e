"""What each function may do, statement by statement."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.loaders import create_loader

from cqrsctl.errors import AwsError, UsageError
from cqrsctl.functions import policies, roles
from cqrsctl.functions.parts import COMMAND, MANAGED_BY, PROJECTOR, Place, role_name
from cqrsctl.functions.queue import require_destination
from cqrsctl.functions.roles import Role, RoleSpec

TABLE = "arn:aws:dynamodb:eu-west-1:123456789012:table/Products"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:ProductHandlerFunction-failures"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!cluster-1-AbCdEf"
PLACE = Place.of(TABLE)
PARTITIONS = create_loader().load_data("partitions")["partitions"]
READ = {"Sid": "ReadLogin", "Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": SECRET}
LOG = {
    "Sid": "WriteLogs",
    "Effect": "Allow",
    "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
    "Resource": "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/ProductHandlerFunction:*",
}


def policy(
    login: list[policies.Statement] | None = None, destination: str = QUEUE, groups: tuple[str, ...] = ()
) -> policies.Document:
    return roles.projector_policy(PLACE, PROJECTOR, TABLE, login or [], destination, security_groups=groups)


def test_lambda_alone_may_take_a_role() -> None:
    assert policies.trust() == {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }


def test_the_command_function_may_put_products_and_write_its_log() -> None:
    assert roles.command_policy(PLACE, COMMAND, TABLE) == {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "PutItems", "Effect": "Allow", "Action": ["dynamodb:PutItem"], "Resource": TABLE},
            {**LOG, "Resource": "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/ProductCommandFunction:*"},
        ],
    }


def test_the_projector_may_read_its_stream_its_secret_write_its_log_and_tell_its_queue() -> None:
    found = policy(roles.secret_statements(PLACE, SECRET, None))

    assert found["Version"] == "2012-10-17"
    assert found["Statement"] == [
        {
            "Sid": "ReadStream",
            "Effect": "Allow",
            "Action": ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
            "Resource": f"{TABLE}/stream/*",
        },
        {"Sid": "FindStream", "Effect": "Allow", "Action": ["dynamodb:ListStreams"], "Resource": "*"},
        READ,
        LOG,
        {"Sid": "ReportFailures", "Effect": "Allow", "Action": ["sqs:SendMessage"], "Resource": QUEUE},
    ]


def test_in_a_vpc_lambda_may_make_network_interfaces_and_the_functions_code_may_not() -> None:
    make, keep, look, denied = policy(groups=("sg-1", "sg-2"))["Statement"][-4:]

    place = "arn:aws:ec2:eu-west-1:123456789012"
    assert make["Resource"] == [
        f"{place}:network-interface/*",
        f"{place}:subnet/*",
        f"{place}:security-group/sg-1",
        f"{place}:security-group/sg-2",
    ]
    assert (keep["Resource"], look["Resource"]) == ([f"{place}:network-interface/*", f"{place}:*/*"], "*")
    assert {*denied["Action"]} == {*make["Action"], *keep["Action"], *look["Action"]}
    code = "arn:aws:lambda:eu-west-1:123456789012:function:ProductHandlerFunction"
    assert denied["Condition"] == {"ArnEquals": {"lambda:SourceFunctionArn": code}}


def test_a_topic_and_a_bucket_are_destinations_with_actions_of_their_own() -> None:
    topic = "arn:aws:sns:eu-west-1:123456789012:failed"
    bucket = "arn:aws:s3:::failed-batches"

    assert policy(destination=topic)["Statement"][-1] == {
        "Sid": "ReportFailures",
        "Effect": "Allow",
        "Action": ["sns:Publish"],
        "Resource": topic,
    }
    assert policy(destination=bucket)["Statement"][-2:] == [
        {"Sid": "FindBucket", "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": bucket},
        {"Sid": "ReportFailures", "Effect": "Allow", "Action": ["s3:PutObject"], "Resource": f"{bucket}/*"},
    ]


@pytest.mark.parametrize(
    ("key", "resource", "condition"),
    [
        ("arn:aws:kms:eu-west-1:123456789012:key/1b2c", "arn:aws:kms:eu-west-1:123456789012:key/1b2c", {}),
        ("1b2c", "arn:aws:kms:eu-west-1:123456789012:key/1b2c", {}),
        (
            "alias/shop",
            "arn:aws:kms:eu-west-1:123456789012:key/*",
            {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/shop"}},
        ),
        (
            "arn:aws:kms:eu-west-1:123456789012:alias/shop",
            "arn:aws:kms:eu-west-1:123456789012:key/*",
            {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/shop"}},
        ),
    ],
)
def test_a_secret_with_a_key_of_its_own_is_decrypted_through_secrets_manager_only(
    key: str, resource: str, condition: dict[str, object]
) -> None:
    read, decrypt = roles.secret_statements(PLACE, SECRET, key)

    assert read == READ
    assert decrypt == {
        "Sid": "DecryptLogin",
        "Effect": "Allow",
        "Action": ["kms:Decrypt"],
        "Resource": resource,
        "Condition": {"StringEquals": {"kms:ViaService": ["secretsmanager.eu-west-1.amazonaws.com"]}, **condition},
    }


def test_a_token_is_for_one_user_of_one_cluster() -> None:
    assert roles.token_statements(PLACE, "cluster-ABC", "cqrsctl") == [
        {
            "Sid": "LogIn",
            "Effect": "Allow",
            "Action": ["rds-db:connect"],
            "Resource": "arn:aws:rds-db:eu-west-1:123456789012:dbuser:cluster-ABC/cqrsctl",
        }
    ]


def test_arns_keep_the_partition_of_the_table() -> None:
    place = Place.of(TABLE.replace("arn:aws:", "arn:aws-cn:").replace("eu-west-1", "cn-north-1"))

    assert place.role(COMMAND) == "arn:aws-cn:iam::123456789012:role/ProductCommandFunctionRole-cn-north-1"
    assert place.queue(PROJECTOR) == "arn:aws-cn:sqs:cn-north-1:123456789012:ProductHandlerFunction-failures"


@pytest.mark.parametrize("function", [COMMAND, PROJECTOR])
def test_a_role_has_another_name_in_each_region_and_iam_takes_it_in_all_of_them(function: str) -> None:
    session = boto3.Session()
    regions = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("lambda", partition)
    ]
    names = {role_name(function, region) for region in regions}

    assert len(names) == len(set(regions))
    assert max(map(len, names)) <= 64


@pytest.mark.parametrize("partition", PARTITIONS, ids=lambda each: each["id"])
def test_a_key_is_used_through_a_service_by_its_name_in_each_partition(partition: dict[str, Any]) -> None:
    names = Place(partition["id"], "here-1", "123456789012").service_names("sqs")

    domain = partition["outputs"]["dnsSuffix"]
    assert names == [f"sqs.here-1.{each}" for each in dict.fromkeys(("amazonaws.com", domain))]


SPEC = RoleSpec(PROJECTOR, PLACE.region, policy())


def role(**changed: object) -> Role:
    there: dict[str, object] = {
        "name": SPEC.name,
        "trust": policies.trust(),
        "policy": policy(),
        "foreign": (),
        "tags": MANAGED_BY,
        **changed,
    }
    return Role(**there)  # type: ignore[arg-type]


def test_a_role_as_it_shall_be_is_left_alone() -> None:
    found = roles.part(SPEC, role())

    assert (found.change, found.calls, found.note) == ("unchanged", (), "")


def test_a_role_that_differs_gets_its_trust_and_its_policy_back() -> None:
    found = roles.part(SPEC, role(trust={}, policy=None))

    assert [call.operation for call in found.calls] == ["UpdateAssumeRolePolicy", "PutRolePolicy"]
    assert found.change == "updated: trust, policy"


def test_policies_of_somebody_else_are_named_and_stay() -> None:
    found = roles.part(SPEC, role(foreign=("AdministratorAccess",)))

    assert found.calls == ()
    assert "other policies too, which stay: AdministratorAccess" in found.note
    calls, remark = roles.delete_calls(role(foreign=("AdministratorAccess",)))
    assert [call.operation for call in calls] == ["DeleteRolePolicy"]
    assert "is kept" in remark


def test_a_role_that_is_not_ours_is_refused() -> None:
    for act in (lambda found: roles.part(SPEC, found), roles.delete_calls):
        with pytest.raises(AwsError, match="not cqrsctl's") as caught:
            act(role(tags={"managed-by": "terraform"}))
        assert caught.value.code == "not_ours"


@pytest.mark.parametrize(
    "arn",
    [QUEUE, "arn:aws:sns:eu-west-1:123456789012:failed", "arn:aws:s3:::failed-batches", "arn:aws-cn:s3:::failed"],
)
def test_queues_topics_and_buckets_are_destinations(arn: str) -> None:
    assert require_destination(arn) == arn


@pytest.mark.parametrize(
    "arn",
    ["", "failed", f"{QUEUE}.fifo", "arn:aws:lambda:eu-west-1:123456789012:function:f", "arn:aws:s3:::b/prefix"],
)
def test_anything_else_is_no_destination(arn: str) -> None:
    with pytest.raises(UsageError, match="is not the ARN of an SQS queue"):
        require_destination(arn)
