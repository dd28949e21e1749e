"""A judge of calls: what AWS's own description of a service says of each parameter, which boto3 checks only in part.

boto3 looks at types, required members and the least lengths. AWS refuses the rest, too; emulators mostly do not.
"""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import regex
from botocore.loaders import create_loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from cqrsctl.aws import ApiCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_JAVA_PAIR, _CODE_POINTS = r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF"
"""The patterns are Java's, which writes what is beyond 16 bits as two surrogates."""
_BY_NUMBER = {"integer", "long", "float", "double"}
_BY_LENGTH = {"string", "blob", "list", "map"}


UNJUDGED = ApiCall.__init__


class RefusedByModel(AssertionError):
    """A call that AWS would refuse whatever the account holds."""


def faults(call: ApiCall) -> list[str]:
    """What AWS would find wrong with the parameters of a call: one sentence each."""
    shape = _model(call.service).operation_model(call.operation).input_shape
    if shape is None:
        return [f"{call.operation} has no parameters"] if call.parameters else []
    report = ParamValidator().validate(call.parameters, shape)
    return [*([report.generate_report()] if report.has_errors() else []), *_beyond(shape, call.parameters, "")]


def judge_all(patch: Callable[[object, str, object], None] = setattr) -> None:
    """From now on a call that AWS would refuse raises RefusedByModel as it is planned, whether it is made or not."""

    def judged(self: ApiCall, service: str, operation: str, parameters: dict[str, Any]) -> None:
        UNJUDGED(self, service, operation, parameters)
        if found := faults(self):
            raise RefusedByModel(f"{service} {operation}: {'; '.join(found)}")

    patch(ApiCall, "__init__", judged)


@functools.cache
def _model(service: str) -> Any:
    return ServiceModel(create_loader().load_service_model(service, "service-2"), service)


def _beyond(shape: Any, value: Any, path: str) -> Iterator[str]:
    """What boto3 does not look at: patterns, enumerations, the most, and the least of what is no text."""
    if value is None:
        return
    yield from _own(shape, value, path)
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, inner in value.items():
            if name in shape.members:
                yield from _beyond(shape.members[name], inner, f"{path}.{name}")
    elif shape.type_name == "list":
        for number, inner in enumerate(value):
            yield from _beyond(shape.member, inner, f"{path}[{number}]")
    elif shape.type_name == "map":
        for name, inner in value.items():
            yield from _beyond(shape.key, name, f"{path}.{name}")
            yield from _beyond(shape.value, inner, f"{path}.{name}")


def _own(shape: Any, value: Any, path: str) -> Iterator[str]:
    limits = shape.metadata
    if shape.type_name == "string":
        if limits.get("enum") and value not in limits["enum"]:
            yield f"{path}: {value!r} is none of {', '.join(limits['enum'])}"
        if limits.get("pattern") and not _pattern(limits["pattern"]).fullmatch(value):
            yield f"{path}: {value!r} does not match {limits['pattern']}"
    size = _size(shape.type_name, value)
    if size is None:
        return
    if "min" in limits and size < limits["min"]:
        yield f"{path}: {size} is below {limits['min']}"
    if "max" in limits and size > limits["max"]:
        yield f"{path}: {size} is above {limits['max']}"


@functools.cache
def _pattern(text: str) -> regex.Pattern[str]:
    return regex.compile(text.replace(_JAVA_PAIR, _CODE_POINTS))


def _size(kind: str, value: Any) -> Any:
    if kind in _BY_NUMBER and isinstance(value, int | float | Decimal):
        return value
    return len(value) if kind in _BY_LENGTH and hasattr(value, "__len__") else None
