"""ProductCommandFunction: puts a product, validated as `cqrsctl product put` does.

It is invoked with the product itself, and then raises what is wrong; or through API Gateway (REST and HTTP APIs, and
function URLs), by POST or PUT, and then answers with a status.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import CqrsctlError
from cqrsctl.functions.telemetry import Done
from cqrsctl.write_model.product import InvalidProduct, product
from cqrsctl.write_model.products import ConditionFailed, Existence, Put

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXISTENCE = "existence"
_METHODS = ("POST", "PUT")
_CONDITIONS = {"if-none-match": Existence.ABSENT, "if-match": Existence.EXISTS}


class InvalidCommand(CqrsctlError):
    """What was sent is no command to put a product."""

    code = "invalid_command"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class CommandFunction:
    """The function, with its DynamoDB client."""

    table: str
    dynamodb: Any

    def __call__(self, event: Any) -> Done:
        """Put a product.

        Raises AwsError; and invoked directly InvalidCommand, InvalidProduct, ConditionFailed.
        """
        if isinstance(event, dict) and "requestContext" in event:
            return self._answered(event)
        fields = _fields(event)
        return _done(self._put(fields, _existence(fields.pop(_EXISTENCE, Existence.ANY.value))))

    def _answered(self, request: Mapping[str, Any]) -> Done:
        method = _method(request)
        if method is not None and method not in _METHODS:
            error = InvalidCommand(f"{method} puts no product.", hint=f"Use {' or '.join(_METHODS)}.", code="method")
            return _refused(405, error, {"Allow": ", ".join(_METHODS)})
        try:
            done = self._put(_fields(_body(request)), _condition(_headers(request)))
        except (InvalidCommand, InvalidProduct) as error:
            return _refused(400, error)
        except ConditionFailed as error:
            return _refused(409, error)
        return _done(_response(200, done), status=200, outcome=done["outcome"])

    def _put(self, fields: Mapping[str, object], existence: Existence) -> dict[str, Any]:
        put = Put(self.table, product(fields), existence)
        outcome = put.make(self.dynamodb)
        return {**put.product.fields(), "Price": format(put.product.price, "f"), "outcome": outcome.value}


def _done(answer: dict[str, Any], **details: Any) -> Done:
    return Done(answer, {"Commands": 1, "Rejected": 0}, details or {"outcome": answer["outcome"]})


def _refused(status: int, error: CqrsctlError, headers: Mapping[str, str] | None = None) -> Done:
    content = {"message": error.message, "code": error.code}
    if error.hint:
        content["hint"] = error.hint
    return Done(
        _response(status, content, headers), {"Commands": 1, "Rejected": 1}, {"status": status, "code": error.code}
    )


def _response(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json", **(headers or {})},
        "body": json.dumps(content, ensure_ascii=False),
    }


def _fields(content: object) -> dict[str, object]:
    if not isinstance(content, dict):
        raise InvalidCommand("A command is a JSON object with the product's fields.")
    return dict(content)


def _existence(value: object) -> Existence:
    try:
        return Existence(str(value))
    except ValueError:
        allowed = ", ".join(Existence)
        raise InvalidCommand(f"{_EXISTENCE}: {str(value)[:40]!r} is none of {allowed}.") from None


def _headers(request: Mapping[str, Any]) -> dict[str, str]:
    """By lower-case name: HTTP's are case-insensitive, and REST APIs hand them on as they were sent."""
    return {str(name).lower(): str(value).strip() for name, value in (request.get("headers") or {}).items()}


def _method(request: Mapping[str, Any]) -> str | None:
    """The HTTP method, in payloads of version 1 or 2; None if it is not given."""
    context = request["requestContext"]
    http = context.get("http") if isinstance(context, dict) else None
    method = request.get("httpMethod") or (http.get("method") if isinstance(http, dict) else None)
    return str(method).upper() if method else None


def _condition(headers: Mapping[str, str]) -> Existence:
    asked = {name: headers[name] for name in _CONDITIONS if name in headers}
    if any(value != "*" for value in asked.values()):
        raise InvalidCommand("If-Match and If-None-Match take only *: products have no entity tags.")
    if len(asked) > 1:
        raise InvalidCommand("If-Match and If-None-Match contradict each other.")
    return next((_CONDITIONS[name] for name in asked), Existence.ANY)


def _body(request: Mapping[str, Any]) -> object:
    """The body's JSON. Its numbers keep their digits."""
    body = request.get("body") or ""
    try:
        text = base64.b64decode(body, validate=True).decode() if request.get("isBase64Encoded") else body
        content: object = json.loads(text, parse_float=Decimal)
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        raise InvalidCommand("The body is not JSON.") from None
    return content
