"""Roles of functions whose table, or whose destination of failed batches, has a KMS key of its own, against moto."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.functions.deploy import Options
from cqrsctl.functions.parts import COMMAND, PROJECTOR
from cqrsctl.pipeline.function_operations import Which
from cqrsctl.write_model.table import TableSpec
from tests.functions_world import (
    ACCOUNT,
    QUEUE,
    ZIP,
    Operated,
    changes,
    operated,
    writes,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("aws")


def key_of(found: Operated) -> str:
    arn: str = found.wiring.client("kms").create_key()["KeyMetadata"]["Arn"]
    return arn


def statements(found: Operated, function: str) -> dict[str, dict[str, Any]]:
    name = f"{function}Role-eu-west-1"
    policy = found.client("iam").get_role_policy(RoleName=name, PolicyName="cqrsctl")["PolicyDocument"]
    return {each["Sid"]: each for each in policy["Statement"]}


def used(key: str, sid: str, service: str, *operations: str) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [f"kms:{operation}" for operation in operations],
        "Resource": key,
        "Condition": {"StringEquals": {"kms:ViaService": [f"{service}.eu-west-1.amazonaws.com"]}},
    }


def test_both_functions_use_the_tables_key_through_dynamodb_only(tmp_path: Path) -> None:
    functions = operated(tmp_path)
    key = key_of(functions)
    TableSpec("Products", kms_key=key).create_call().make(functions.client("dynamodb"))

    functions.deploy(Which.ALL, Options(), ZIP, wait=True)

    assert statements(functions, PROJECTOR)["UseTable"] == used(key, "UseTable", "dynamodb", "Decrypt")
    assert statements(functions, COMMAND)["UseTable"] == used(key, "UseTable", "dynamodb", "Decrypt")
    assert set(changes(functions.deploy(Which.ALL, Options(), ZIP, wait=True)).values()) == {"unchanged"}


def test_the_projector_uses_the_key_of_the_queue_or_topic_for_failures_through_its_service_only(
    functions: Operated,
) -> None:
    key = key_of(functions)
    functions.wiring.client("sqs").create_queue(QueueName="failed", Attributes={"KmsMasterKeyId": key})
    topic = functions.wiring.client("sns").create_topic(Name="failed", Attributes={"KmsMasterKeyId": key})["TopicArn"]

    for destination in (f"arn:aws:sqs:eu-west-1:{ACCOUNT}:failed", topic):
        functions.deploy(Which.PROJECTOR, Options(on_failure=destination), ZIP, wait=True)

        service = destination.split(":")[2]
        expected = used(key, "EncryptFailures", service, "Decrypt", "GenerateDataKey")
        assert statements(functions, PROJECTOR)["EncryptFailures"] == expected


def encrypted_bucket(found: Operated, **by_default: str) -> str:
    """The ARN of a bucket whose objects are encrypted in this way."""
    s3 = found.wiring.client("s3")
    s3.create_bucket(Bucket="failed", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    rules = [{"ApplyServerSideEncryptionByDefault": by_default}]
    s3.put_bucket_encryption(Bucket="failed", ServerSideEncryptionConfiguration={"Rules": rules})
    return "arn:aws:s3:::failed"


def test_the_projector_writes_with_the_key_of_the_bucket_for_failures_through_s3_only(functions: Operated) -> None:
    key = key_of(functions)
    bucket = encrypted_bucket(functions, SSEAlgorithm="aws:kms", KMSMasterKeyID=key)

    functions.deploy(Which.PROJECTOR, Options(on_failure=bucket), ZIP, wait=True)

    found = statements(functions, PROJECTOR)["EncryptFailures"]
    assert found == used(key, "EncryptFailures", "s3", "GenerateDataKey")


@pytest.mark.parametrize(
    "by_default",
    [
        {"SSEAlgorithm": "AES256"},
        {"SSEAlgorithm": "aws:kms"},
        {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/aws/s3"},
    ],
)
def test_a_bucket_with_keys_of_aws_needs_no_permission_for_them(
    functions: Operated, by_default: dict[str, str]
) -> None:
    bucket = encrypted_bucket(functions, **by_default)

    functions.deploy(Which.PROJECTOR, Options(on_failure=bucket), ZIP, wait=True)

    assert "EncryptFailures" not in statements(functions, PROJECTOR)


@pytest.mark.parametrize(
    "destination",
    [
        "arn:aws:s3:::gone",
        f"arn:aws:sqs:eu-west-1:{ACCOUNT}:gone",
        f"arn:aws:sns:eu-west-1:{ACCOUNT}:gone",
        f"arn:aws:sqs:eu-west-1:{ACCOUNT}:managed",
    ],
)
def test_without_a_key_of_its_own_nothing_is_allowed_for_a_destination(functions: Operated, destination: str) -> None:
    functions.wiring.client("sqs").create_queue(QueueName="managed", Attributes={"KmsMasterKeyId": "alias/aws/sqs"})

    functions.deploy(Which.PROJECTOR, Options(on_failure=destination), ZIP, wait=True)

    assert not {"EncryptFailures", "UseTable"} & statements(functions, PROJECTOR).keys()


@pytest.mark.parametrize(
    ("destination", "look"),
    [
        (f"arn:aws:sns:eu-west-1:{ACCOUNT}:theirs", "get_topic_attributes"),
        ("arn:aws:s3:::theirs", "get_bucket_encryption"),
    ],
)
def test_a_destination_that_may_not_be_looked_at_is_said(functions: Operated, destination: str, look: str) -> None:
    functions.client(destination.split(":")[2]).refuse(look)

    parts = functions.deploy(Which.PROJECTOR, Options(on_failure=destination), ZIP, wait=True)

    (note,) = [part.note for part in parts if part.note]
    assert note.startswith(f"Whether {destination} has a KMS key is unknown")


def test_a_queue_that_somebody_gave_a_key_keeps_it(deployed: Operated) -> None:
    key, name = key_of(deployed), QUEUE.rpartition(":")[2]
    sqs = deployed.client("sqs")._client
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": key, "SqsManagedSseEnabled": "false"})

    found = changes(deployed.deploy(Which.PROJECTOR, Options(), ZIP, wait=True))

    assert found[f"queue {name}"] == "unchanged"
    assert "set_queue_attributes" not in writes(deployed)
    assert statements(deployed, PROJECTOR)["EncryptFailures"]["Resource"] == key
