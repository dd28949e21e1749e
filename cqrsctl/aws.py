"""What all rooms that speak with AWS share: planned calls, and AWS's refusals in our own words."""

from __future__ import annotations

import json
import logging
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore import xform_name
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError

from cqrsctl.errors import (
    ACCESS_DENIED,
    BAD_CREDENTIALS,
    UNEXPECTED_ANSWER,
    AwsError,
    ConfigurationError,
    CqrsctlError,
    TransientAwsError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_log = logging.getLogger(__name__)

_REFUSED_CREDENTIALS = {
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "InvalidClientTokenId",
    "ExpiredTokenException",
    "ExpiredToken",
    "IncompleteSignature",
    "SignatureDoesNotMatch",
}
_DENIED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"}
_TRANSIENT_STATUSES = {408, 429}
_CONFLICTS = {"ConcurrentModification", "ConcurrentUpdateException", "OperationAbortedException"}
"""Another change of the same thing is under way, in IAM, Application Auto Scaling or CloudWatch Logs."""
_FIRST_REFUSAL = 300
"""The first HTTP status that is no success."""
_REST = "rest-json"
_JSON_PROTOCOLS = {"json", _REST}
_XML_ROOT = re.compile(rb"<(?:\w+:)?\w+Response[\s>]")
_NAME_THEIR_TYPE = {"dynamodb", "dynamodbstreams"}
"""Services whose responses say that they are JSON; emulators of others send it as a page."""


class Answer(dict[str, Any]):
    """What AWS answered to a call. A member that is not there is a fault of the endpoint, and not of the caller."""

    def __init__(self, about: str, content: dict[str, Any]) -> None:
        super().__init__(content)
        self._about = about

    def __missing__(self, name: str) -> Any:
        """Raises TransientAwsError."""
        raise _not_valid(f"{self._about}: {name} is missing")


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One AWS API call that a command makes, or with --dry-run only shows."""

    service: str
    operation: str
    parameters: dict[str, Any]

    def make(self, client: Any) -> Any:
        """Make the call with a boto3 client of the service."""
        with self._made():
            answer = getattr(client, xform_name(self.operation))(**self.parameters)
        return Answer(self._about, answer) if isinstance(answer, dict) else answer

    def pages(self, client: Any) -> Iterator[dict[str, Any]]:
        """Make the call for each page of its answer, by boto3's paginator, as they are asked for."""
        pages = iter(client.get_paginator(xform_name(self.operation)).paginate(**self.parameters))
        while True:
            with self._made():
                page = next(pages, None)
            if page is None:
                return
            yield Answer(self._about, page)

    @property
    def _about(self) -> str:
        return f"{self.service} {self.operation}"

    @contextmanager
    def _made(self) -> Iterator[None]:
        _log.info("%s", self._about)
        with aws_errors(self._about):
            yield


def make_in_order(calls: Iterable[tuple[str, ApiCall]], make: Callable[[ApiCall], object]) -> None:
    """Make calls, each named by what it is about; if one fails, its error names what was made before."""
    made: list[str] = []
    for about, call in calls:
        try:
            make(call)
        except CqrsctlError as error:
            if made:
                error.message += f" Done before that: {', '.join(made)}."
                error.hint = f"{error.hint or ''} The same command resumes from there.".strip()
            raise
        made.append(f"{call.operation} {about}")


def database_secret(client: Any, name: str, user: str | None, default_user: str | None = None) -> tuple[str, str]:
    """The user and the password in a secret of Secrets Manager, which is JSON as RDS keeps it.

    `user` wins over the secret's own, `default_user` is for one without. Raises AwsError, and CqrsctlError (`secret`)
    if the secret is not one of a database.
    """
    with aws_errors(f"secretsmanager GetSecretValue of {name}"):
        text = client.get_secret_value(SecretId=name).get("SecretString")
    try:
        content = json.loads(text)
        found = user or content.get("username") or default_user, content["password"]
    except (ValueError, KeyError, TypeError, AttributeError):
        found = None, None
    match found:
        case (str(), str()):
            return found
    # Neither the cause nor the message may carry the content.
    raise CqrsctlError(
        f"Secret {name} is not JSON with `username` and `password`.",
        hint="Use the secret that RDS manages, or let `cqrsctl function deploy` make one.",
        code="secret",
    )


def require_valid_bodies(client: Any) -> Any:
    """The same boto3 client, which from now on refuses a success whose body is not that of its protocol.

    botocore makes an empty response of a page of HTML that a proxy sends with status 200: a put would look done.
    """
    client.meta.events.register_last("before-parse", _require_valid)
    return client


def _require_valid(
    response_dict: dict[str, Any], operation_model: Any, customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Raises ResponseParserError if a success is not in the service's protocol.

    Bodies that are kept raw are decoded by their own decoder; here they are only checked to be complete.
    """
    if response_dict["status_code"] >= _FIRST_REFUSAL:
        return
    if operation_model.has_streaming_output or operation_model.has_event_stream_output:
        return
    headers, body = response_dict["headers"], customized_response_dict.get("Body", response_dict["body"])
    _require_whole(headers.get("x-amz-crc32"), body)
    service = operation_model.service_model
    kind = headers.get("content-type")
    if kind and "json" not in kind and service.service_name in _NAME_THEIR_TYPE:
        raise ResponseParserError(f"the body is {kind}, not JSON")
    if service.resolved_protocol == "query":
        if not _XML_ROOT.search(body):
            raise ResponseParserError("the body is not a response of the query protocol")
    elif service.resolved_protocol in _JSON_PROTOCOLS and "Body" not in customized_response_dict:
        shape = operation_model.output_shape
        _require_json(body, may_be_empty=service.resolved_protocol == _REST or shape is None or not shape.members)


def _require_whole(checksum: str | None, body: bytes) -> None:
    """Raises ResponseParserError if a body is not the one that DynamoDB computed the checksum of."""
    if checksum is not None and str(zlib.crc32(body)) != checksum.strip():
        raise ResponseParserError(f"the body does not have the checksum {checksum}")


def _require_json(body: bytes, *, may_be_empty: bool) -> None:
    """Raises ResponseParserError if a body is not a JSON object."""
    if not body and may_be_empty:
        return
    try:
        content = json.loads(body)
    except ValueError as error:
        raise ResponseParserError(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict) and not (content is None and may_be_empty):
        raise ResponseParserError("the body is not a JSON object")


def _not_valid(what: str) -> TransientAwsError:
    return TransientAwsError(
        f"{what}: the response is not valid: is this endpoint AWS?",
        hint="Check the endpoint URL and proxies; not every emulator knows every call.",
        code=UNEXPECTED_ANSWER,
    )


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Translate botocore's errors into ours. `what` says what was being done, for the message."""
    try:
        yield
    except ClientError as error:
        raise _refusal(what, error) from error
    except ProfileNotFound as error:
        raise ConfigurationError(str(error), hint="See the profiles with: aws configure list-profiles") from error
    except NoRegionError as error:
        raise ConfigurationError(
            "No AWS region is set.", hint="Give --region, or set CQRSCTL_REGION or AWS_REGION."
        ) from error
    except (SSOError, TokenRetrievalError) as error:
        raise ConfigurationError(f"{what}: {error}", hint="Sign in again with: aws sso login") from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        raise ConfigurationError(
            f"{what}: no usable AWS credentials. {error}",
            hint="Give --profile, or configure credentials as for the AWS CLI (aws configure).",
            code=BAD_CREDENTIALS,
        ) from error
    except (EndpointConnectionError, BotoConnectionError, HTTPClientError) as error:
        raise TransientAwsError(
            f"{what}: {error}",
            hint="Check the region, the endpoint URL and the network; `cqrsctl local status` for the local stack.",
        ) from error
    except ResponseParserError as error:
        raise _not_valid(what) from error
    except BotoCoreError as error:
        raise AwsError(f"{what}: {error}") from error


def is_refusal(error: ClientError) -> bool:
    """Whether AWS refused for a missing permission or because of the credentials."""
    return error.response.get("Error", {}).get("Code") in _DENIED | _REFUSED_CREDENTIALS


def error_code(error: BaseException | None) -> str:
    """The AWS error code behind one of our errors, or an empty string."""
    cause = error.__cause__ if isinstance(error, CqrsctlError) else error
    return str(cause.response["Error"].get("Code", "")) if isinstance(cause, ClientError) else ""


def attempts_before(error: AwsError) -> int:
    """How often boto3 had sent a request before the one that was refused: an earlier one may have been carried out."""
    cause = error.__cause__
    return (
        int(cause.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) if isinstance(cause, ClientError) else 0
    )


def refused_item(error: AwsError) -> dict[str, Any] | None:
    """The item that a conditional write met (`ReturnValuesOnConditionCheckFailure`); None if there is none."""
    cause = error.__cause__
    return cause.response.get("Item") if isinstance(cause, ClientError) else None


def _refusal(what: str, error: ClientError) -> CqrsctlError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = _first_line(str(error.response.get("Error", {}).get("Message", "")))
    if code in _REFUSED_CREDENTIALS:
        return ConfigurationError(
            f"{what}: AWS does not accept the credentials ({code}). {message}",
            hint="Check the profile and the region, or sign in again.",
            code=BAD_CREDENTIALS,
        )
    if code in _DENIED:
        return AwsError(
            f"{what}: access denied. {message}",
            hint="Grant the permission to this identity. A new grant can take a minute to take effect.",
            code=ACCESS_DENIED,
        )
    if is_transient(error):
        return TransientAwsError(f"{what}: {' '.join((code or str(_status(error)), message)).strip()}")
    return AwsError(f"{what}: {message or code}", hint=None, code=_snake(code))


def is_transient(error: ClientError) -> bool:
    """Whether the same call may succeed later: by botocore's own list of codes, and by the status whatever the body."""
    from botocore.retries.standard import (  # noqa: PLC0415 -- only when something was refused
        RetryContext,
        ThrottledRetryableChecker,
        TransientRetryableChecker,
    )

    context = RetryContext(1, parsed_response=error.response)
    checkers = (ThrottledRetryableChecker(), TransientRetryableChecker())
    by_code = any(checker.is_retryable(context) for checker in checkers)
    status = _status(error)
    conflicts = error.response.get("Error", {}).get("Code") in _CONFLICTS
    return by_code or conflicts or status >= 500 or status in _TRANSIENT_STATUSES


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _first_line(message: str) -> str:
    """Emulators answer a failure with a page of HTML; its first line says nothing, so leave it out."""
    line = message.strip().split("\n", 1)[0]
    return "" if line.startswith("<") else line


def _snake(code: str) -> str:
    return xform_name(code).removesuffix("_exception") or "aws"
