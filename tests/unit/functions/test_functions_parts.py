"""The parts of a deployment one by one, with answers written down: many pages, things missing, things spoilt."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cqrsctl.aws import ApiCall
from cqrsctl.errors import AwsError
from cqrsctl.functions import logs, mapping, metrics, queue, roles, secret
from cqrsctl.functions.parts import MANAGED_BY, PROJECTOR, TAG_LIST, shown
from cqrsctl.functions.secret import Secret
from tests.paginated import Paginated

STREAM = "arn:aws:dynamodb:eu-west-1:123456789012:table/Products/stream/2026-01-01T00:00:00.000"
OLD = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
THERE = "5f2ad6b4-8d9f-4a3b-a61c-93bb4cf9d10a"


class Written(Paginated):
    """A client whose operations give the answers that are written down, one after the other."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**parameters: Any) -> Any:
            self.asked.append((operation, dict(parameters)))
            answer = self.answers[operation].pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Operation")


def test_a_roles_policies_are_read_to_the_last_page() -> None:
    client = Written(
        get_role=[{"Role": {"AssumeRolePolicyDocument": {}, "Tags": TAG_LIST}}],
        list_attached_role_policies=[
            {"AttachedPolicies": [{"PolicyName": "a"}], "IsTruncated": True, "Marker": "m"},
            {"AttachedPolicies": [{"PolicyName": "b"}], "IsTruncated": False},
        ],
        list_role_policies=[{"PolicyNames": ["cqrsctl", "c"], "IsTruncated": False}],
        get_role_policy=[{"PolicyDocument": {"Statement": []}}],
    )

    found = roles.find(client, "role")

    assert found is not None
    assert found.foreign == ("a", "b", "c")
    assert found.policy == {"Statement": []}
    assert found.tags == MANAGED_BY
    assert ("list_attached_role_policies", {"RoleName": "role", "Marker": "m"}) in client.asked


@pytest.mark.parametrize("find", [roles.find, secret.find, queue.find, logs.find])
def test_a_refusal_is_no_absence(find: Any) -> None:
    operations = ("get_role", "describe_secret", "get_queue_url", "describe_log_groups")

    with pytest.raises(AwsError, match="access denied"):
        find(Written(**{operation: [refusal("AccessDenied")] for operation in operations}), "name")


def test_log_groups_that_only_begin_alike_are_others_and_pages_are_read_to_the_last() -> None:
    name = f"/aws/lambda/{PROJECTOR}"
    pages = [
        {"logGroups": [{"logGroupName": f"{name}-old", "retentionInDays": 1}], "nextToken": "t"},
        {"logGroups": [{"logGroupName": name}]},
    ]

    found = logs.find(Written(describe_log_groups=pages), name)

    assert found == logs.LogGroup(name, None)
    assert logs.part(PROJECTOR, found).change == "updated: retention for ever → 30 days"


def test_mappings_are_read_to_the_last_page_and_those_that_go_count_no_more() -> None:
    client = Written(
        list_event_source_mappings=[
            {"EventSourceMappings": [{"UUID": "1", "State": "Deleting", "EventSourceArn": STREAM}], "NextMarker": "m"},
            {"EventSourceMappings": [{"UUID": "2", "State": "Enabled", "EventSourceArn": STREAM}]},
        ]
    )

    assert [each.uuid for each in mapping.of_function(client, PROJECTOR)] == ["2"]
    assert client.asked[1][1] == {"FunctionName": PROJECTOR, "Marker": "m"}


def test_a_mapping_that_was_made_by_hand_gets_our_settings_and_keeps_its_size() -> None:
    there = mapping.Mapping.of({"UUID": THERE, "State": "Enabled", "EventSourceArn": STREAM, "BatchSize": 100})
    old = mapping.Mapping.of({"UUID": OLD, "State": "Enabled", "EventSourceArn": STREAM.replace("2026", "2025")})

    part = mapping.MappingSpec(PROJECTOR, STREAM, "arn:aws:s3:::failed").part([old, there])

    update, delete = part.calls
    assert update.parameters == {
        "UUID": THERE,
        "MaximumBatchingWindowInSeconds": 1,
        "ParallelizationFactor": 1,
        "BisectBatchOnFunctionError": True,
        "MaximumRecordAgeInSeconds": 86400,
        "MaximumRetryAttempts": 1000,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::failed"}},
    }
    assert (delete.operation, delete.parameters) == ("DeleteEventSourceMapping", {"UUID": OLD})
    assert "DestinationConfig None → arn:aws:s3:::failed" in part.change
    assert "streams 1 other removed" in part.change


def test_the_numbers_of_many_pages_are_one() -> None:
    pages = [
        {"MetricDataResults": [{"Id": "errors", "Values": [1.0]}], "NextToken": "t"},
        {"MetricDataResults": [{"Id": "errors", "Values": [2.0]}, {"Id": "iterator_age_ms", "Values": [5.0, 9.0]}]},
    ]

    found = metrics.last_hour(Written(get_metric_data=pages), PROJECTOR, datetime(2026, 1, 1, tzinfo=UTC))

    assert (found["errors"], found["iterator_age_ms"], found["throttles"]) == (3.0, 9.0, None)


def described(**more: Any) -> dict[str, Any]:
    return {"Name": "cqrsctl/prod/database", "ARN": "arn", "Tags": TAG_LIST, **more}


@pytest.mark.parametrize(
    "value",
    [
        {"SecretString": "not JSON"},
        {"SecretBinary": b"1"},
        {"SecretString": "{}"},
        refusal("ResourceNotFoundException"),
    ],
)
def test_a_secret_without_a_login_gets_one(value: Any) -> None:
    client = Written(describe_secret=[described()], get_secret_value=[value])

    found = secret.find(client, "cqrsctl/prod/database", content=True)

    part = secret.part("cqrsctl/prod/database", "user", "word", found)
    assert part.change == "updated: content"
    (call,) = part.calls
    assert call.operation == "PutSecretValue"
    assert json.loads(call.parameters["SecretString"]) == {"username": "user", "password": "word"}


def test_a_secrets_content_that_may_not_be_read_is_told() -> None:
    client = Written(describe_secret=[described()], get_secret_value=[refusal("AccessDeniedException")])

    with pytest.raises(AwsError, match="access denied"):
        secret.find(client, "cqrsctl/prod/database", content=True)


def test_the_same_login_written_otherwise_is_the_same() -> None:
    found = Secret("name", "arn", None, False, MANAGED_BY, '{"password":"word",  "username":"user"}')

    assert secret.part("name", "user", "word", found).change == "unchanged"


@pytest.mark.parametrize(("key", "kept"), [(None, None), ("alias/aws/secretsmanager", None), ("1b2c", "1b2c")])
def test_awss_own_key_is_no_key_of_the_secrets_own(key: str | None, kept: str | None) -> None:
    answer = described(**({"KmsKeyId": key} if key else {}))

    found = secret.find(Written(describe_secret=[answer]), "name")

    assert found is not None
    assert found.kms_key == kept


def test_a_secret_of_somebody_else_is_neither_changed_nor_deleted() -> None:
    theirs = Secret("name", "arn", None, False, {})

    for act in (lambda: secret.part("name", "user", "word", theirs), lambda: secret.delete_calls(theirs)):
        with pytest.raises(AwsError, match="Secret 'name' exists, but is not cqrsctl's"):
            act()


def test_a_queue_of_somebody_else_is_neither_changed_nor_deleted() -> None:
    theirs = queue.Queue("name", "url", {}, {})

    for act in (lambda: queue.part("name", theirs), lambda: queue.delete_calls(theirs)):
        with pytest.raises(AwsError, match="Queue 'name' exists, but is not cqrsctl's"):
            act()


def test_messages_that_somebody_reads_just_now_are_in_the_queue_too() -> None:
    there = queue.Queue("name", "url", {"ApproximateNumberOfMessagesNotVisible": "2"}, MANAGED_BY)

    assert queue.delete_calls(there) == ([], "Queue name is kept: 2 of its messages report batches that failed.")


def test_a_printed_call_shows_no_secret_and_no_zip() -> None:
    code = {"Code": {"ZipFile": b"zip"}, "FunctionName": "f", "Role": "arn:aws:iam::123456789012:role/r"}

    assert shown(ApiCall("lambda", "CreateFunction", code)).parameters == {
        "Code": {"ZipFile": "3 bytes, SHA-256 4a70fe9aa6436e02c2dea340fbd1e352e4ef2d8ce6ca52ad25d4b95471fc8bf2"},
        "FunctionName": "f",
        "Role": "arn:aws:iam::123456789012:role/r",
    }
    update = shown(ApiCall("lambda", "UpdateFunctionCode", {"FunctionName": "f", "ZipFile": b"zip"}))
    assert update.parameters["ZipFile"].startswith("3 bytes, SHA-256 ")
    put = shown(ApiCall("secretsmanager", "PutSecretValue", {"SecretId": "s", "SecretString": "word"}))
    assert put.parameters == {"SecretId": "s", "SecretString": "***"}


def test_the_mapping_of_the_tables_stream_counts_and_else_that_of_an_earlier_one() -> None:
    earlier, current, other = (
        mapping.Mapping.of(
            {"UUID": uuid, "EventSourceArn": f"arn:aws:dynamodb:eu-west-1:1:table/{table}/stream/{label}"}
        )
        for uuid, table, label in (("a", "Products", "1"), ("b", "Products", "2"), ("c", "Others", "2"))
    )

    assert mapping.serving([other, earlier, current], "Products", current.stream_arn) is current
    assert mapping.serving([other, earlier], "Products", current.stream_arn) is earlier
    assert mapping.serving([other], "Products", current.stream_arn) is None
