"""AWS's refusals in our own words, with the right exit code."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    ProfileNotFound,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

from cqrsctl.aws import ApiCall, aws_errors, error_code, require_valid_bodies
from cqrsctl.config import Flags, load
from cqrsctl.errors import AwsError, ConfigurationError, CqrsctlError, TransientAwsError
from cqrsctl.wire import keep_raw_bodies
from cqrsctl.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refused(code: str, status: int = 400, message: str = "because") -> ClientError:
    content: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(content, "DescribeTable")


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (refused("UnrecognizedClientException"), ConfigurationError, "credentials"),
        (refused("ExpiredTokenException"), ConfigurationError, "credentials"),
        (refused("AccessDeniedException"), AwsError, "access_denied"),
        (refused("ProvisionedThroughputExceededException"), TransientAwsError, "aws_unavailable"),
        (refused("InternalServerError", 500), TransientAwsError, "aws_unavailable"),
        (refused("500", 500, "<!doctype html>\n<h1>no</h1>"), TransientAwsError, "aws_unavailable"),
        (refused("ResourceInUseException"), AwsError, "resource_in_use"),
        (NoCredentialsError(), ConfigurationError, "credentials"),
        (NoRegionError(), ConfigurationError, "configuration"),
        (ProfileNotFound(profile="x"), ConfigurationError, "configuration"),
        (UnauthorizedSSOTokenError(), ConfigurationError, "configuration"),
        (EndpointConnectionError(endpoint_url="http://x"), TransientAwsError, "aws_unavailable"),
        (ReadTimeoutError(endpoint_url="http://x"), TransientAwsError, "aws_unavailable"),
        (ResponseParserError("<!doctype html>"), TransientAwsError, "unexpected_answer"),
        (ParamValidationError(report="x"), AwsError, "aws"),
    ],
)
def test_each_error_becomes_one_of_ours(raised: Exception, kind: type[CqrsctlError], code: str) -> None:
    with pytest.raises(kind) as caught, aws_errors("dynamodb DescribeTable"):
        raise raised

    assert caught.value.code == code
    assert "<" not in caught.value.message


def test_the_aws_code_behind_an_error_is_known() -> None:
    with pytest.raises(AwsError) as caught, aws_errors("x"):
        raise refused("ResourceNotFoundException")

    assert error_code(caught.value) == "ResourceNotFoundException"
    assert error_code(AwsError("x")) == ""
    assert error_code(None) == ""


def test_a_call_is_made_by_its_api_name() -> None:
    class Client:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            return lambda **parameters: (name, parameters)

    call = ApiCall("dynamodb", "DescribeContinuousBackups", {"TableName": "t"})

    assert call.make(Client()) == ("describe_continuous_backups", {"TableName": "t"})


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("Throttling", 400),  # RDS, IAM, CloudWatch, Application Auto Scaling
        ("TooManyRequestsException", 400),
        ("RequestLimitExceeded", 400),
        ("SlowDown", 400),
        ("ThrottledException", 400),
        ("RequestThrottled", 400),
        ("PriorRequestNotComplete", 400),
        ("EC2ThrottledException", 400),
        ("TransactionInProgressException", 400),
        ("RequestTimeout", 400),
        ("", 429),
        ("", 408),
        ("", 503),
    ],
)
def test_what_may_pass_is_known_by_botocores_own_list_and_by_its_status(code: str, status: int) -> None:
    refusal = ClientError(
        {"Error": {"Code": code, "Message": "not now"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "DescribeTable"
    )
    with pytest.raises(TransientAwsError), aws_errors("dynamodb DescribeTable"):
        raise refusal


class Raw(io.BytesIO):
    """A response's body as botocore reads it."""

    def stream(self, **_: Any) -> Any:
        yield self.read()


def answering(service: str, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    """A boto3 client of a service whose every response has this body."""
    session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    client = session.client(service, config=Config(retries={"mode": "standard", "total_max_attempts": 1}))

    def respond(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, status, headers or {}, Raw(body))

    client.meta.events.register("before-send", respond)
    return require_valid_bodies(client)


PUT = ApiCall("dynamodb", "PutItem", {"TableName": "t", "Item": {"Id": {"N": "1"}}})
DESCRIBE = ApiCall("dynamodb", "DescribeTable", {"TableName": "t"})
GET = ApiCall("dynamodb", "GetItem", {"TableName": "t", "Key": {"Id": {"N": "1"}}})


@pytest.mark.parametrize("call", [PUT, DESCRIBE, GET])
@pytest.mark.parametrize(
    "body", [b"<html>Sign in to the network</html>", b"", b'{"Table": {', b"[]", b"null", b'{"a": "\xff"}']
)
def test_a_success_whose_body_is_not_json_is_not_taken_for_one(call: ApiCall, body: bytes) -> None:
    """botocore makes an empty response of it, so a put that never happened looked done."""
    with pytest.raises(TransientAwsError, match=r"the response is not valid: is this endpoint AWS\?"):
        call.make(answering("dynamodb", body))


def test_valid_bodies_and_those_that_are_meant_to_be_empty_are_taken() -> None:
    assert "Attributes" not in PUT.make(answering("dynamodb", b"{}"))
    assert GET.make(answering("dynamodb", b'{"Item": {"Id": {"N": "1"}}}'))["Item"] == {"Id": {"N": "1"}}
    retention = ApiCall("logs", "PutRetentionPolicy", {"logGroupName": "g", "retentionInDays": 1})
    for body in (b"", b"null", b"{}"):
        retention.make(answering("logs", body))
    deletion = ApiCall("lambda", "DeleteFunction", {"FunctionName": "f"})
    deletion.make(answering("lambda", b"", 204))
    invocation = ApiCall("lambda", "Invoke", {"FunctionName": "f"})
    assert invocation.make(answering("lambda", b"plain"))["Payload"].read() == b"plain"


def test_bodies_that_are_kept_raw_are_left_to_their_decoder() -> None:
    """Only that they came whole is looked at: decoding them twice would take long."""
    scan = ApiCall("dynamodb", "Scan", {"TableName": "t"})
    assert scan.make(keep_raw_bodies(answering("dynamodb", b"<html>")))["Body"] == b"<html>"
    with pytest.raises(TransientAwsError, match="not valid"):
        scan.make(keep_raw_bodies(answering("dynamodb", b"{}", headers={"x-amz-crc32": "1"})))


@pytest.mark.parametrize("service", ["rds", "iam"])
def test_a_page_that_is_xml_is_no_success_either(service: str) -> None:
    call = {
        "rds": ApiCall("rds", "DescribeDBClusters", {}),
        "iam": ApiCall("iam", "DeleteRole", {"RoleName": "r"}),
    }[service]
    with pytest.raises(TransientAwsError, match="not valid"):
        call.make(answering(service, b"<html><body>Sign in</body></html>"))


@pytest.mark.parametrize("service", ["dynamodb", "rds"])
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
@pytest.mark.parametrize("body", [b"<html><body>later</body></html>", b"<html><br>later", b"", b"{}"])
def test_a_status_that_passes_is_transient_whatever_the_body(service: str, status: int, body: bytes) -> None:
    call = DESCRIBE if service == "dynamodb" else ApiCall("rds", "DescribeDBClusters", {})
    with pytest.raises(TransientAwsError):
        call.make(answering(service, body, status))


def test_a_member_that_is_missing_is_told_with_the_operation() -> None:
    answer = DESCRIBE.make(answering("dynamodb", b"{}"))
    with pytest.raises(TransientAwsError, match="dynamodb DescribeTable: Table is missing: the response is not valid"):
        answer["Table"]
    assert answer.get("Table") is None


def test_refusals_stay_what_they_are_though_their_body_is_not_json() -> None:
    with pytest.raises(TransientAwsError, match="503"):
        DESCRIBE.make(answering("dynamodb", b"<html>later</html>", 503))


def test_every_client_of_a_command_requires_valid_bodies(tmp_path: Path) -> None:
    """Those of the functions do not: they reach AWS only, through whichever boto3 the runtime has."""
    client = Wiring(load(Flags(endpoint_url="http://127.0.0.1:1"), {}, tmp_path)).client("dynamodb")
    client.meta.events.register("before-send", lambda request, **_: AWSResponse(request.url, 200, {}, Raw(b"<html>")))
    with pytest.raises(TransientAwsError, match="not valid"):
        DESCRIBE.make(client)
