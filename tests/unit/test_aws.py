"""AWS's refusals in our own words, with the right exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
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

from cqrsctl.aws import ApiCall, aws_errors, error_code
from cqrsctl.errors import AwsError, ConfigurationError, CqrsctlError, TransientAwsError

if TYPE_CHECKING:
    from collections.abc import Callable


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
        (ResponseParserError("<!doctype html>"), TransientAwsError, "aws_unavailable"),
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

    call = ApiCall("dynamodb", "UpdateContinuousBackups", {"TableName": "t"})

    assert call.make(Client()) == ("update_continuous_backups", {"TableName": "t"})


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
