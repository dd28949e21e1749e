"""The IAM policy of those who run commands, from the table of what cqrsctl asks of AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cqrsctl.config import DEFAULT_USER
from cqrsctl.diagnosis.doctor.needs import ACTIONS, EXAMPLE_SUFFIX, Action, Purpose, Target
from cqrsctl.functions.parts import COMMAND, PROJECTOR, UNKNOWN_SUFFIX, Place
from cqrsctl.functions.policies import Document, Statement, document

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cqrsctl.config import Environment

_READING = frozenset({Purpose.PROJECTING, Purpose.KEYS})
PURPOSES: dict[str, frozenset[Purpose]] = {
    "table": _READING | {Purpose.TABLE, Purpose.TABLE_KEY},
    "product": _READING | {Purpose.PRODUCTS, Purpose.VIA_FUNCTION},
    "aurora": _READING | {Purpose.CLUSTER, Purpose.COSTS, Purpose.CLUSTER_ONCE},
    "cost": _READING | {Purpose.COSTS},
    "function": _READING | {Purpose.FUNCTIONS},
    **dict.fromkeys(("stream", "project", "read-model", "query", "dead-letter", "rebuild", "verify", "init"), _READING),
    **dict.fromkeys(("lag", "status", "doctor"), _READING),
}
"""The commands that ask AWS, and what for; each reads the table at least."""
_DIAGNOSES = frozenset({"lag", "status", "doctor"})
"""These look at whatever is there."""
_FINDING = frozenset(
    {
        *("rds:DescribeDBClusters", "rds:DescribeDBInstances"),
        *("lambda:GetFunction", "lambda:ListTags", "lambda:ListEventSourceMappings"),
    }
)
"""How every command finds the cluster's servers, and a function that reads the stream too."""
_LOOKING = frozenset({"cloudwatch:GetMetricData", "sqs:GetQueueAttributes", "sqs:ListQueueTags"})
"""How these look, besides what is tried."""
_CONDITIONS: dict[str, dict[str, Any]] = {
    "iam:PassRole": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}},
    "iam:CreateServiceLinkedRole": {
        "StringEquals": {"iam:AWSServiceName": ["rds.amazonaws.com", "rds.application-autoscaling.amazonaws.com"]}
    },
}
_ANYWHERE = "*"


def policy(environment: Environment, commands: Collection[str], place: Place) -> Document:
    """What an identity needs for these commands in an environment."""
    target = Target(
        place=place,
        environment=environment.name,
        table_arn=place.arn("dynamodb", f"table/{environment.table}"),
        key={},
        cluster=environment.own_cluster or _ANYWHERE,
        secret=environment.database.secret,
        instance=_ANYWHERE,
    )
    purposes = frozenset().union(*(PURPOSES[command] for command in commands))
    unused = set() if environment.own_cluster or "aurora" in commands else {Purpose.CLUSTER, Purpose.COSTS}
    diagnoses = not _DIAGNOSES.isdisjoint(commands)

    def is_needed(action: Action) -> bool:
        looks = action.name in _FINDING or (diagnoses and (action.tried is not None or action.name in _LOOKING))
        return action.purpose in purposes or (looks and action.purpose not in unused)

    needed = [action for action in ACTIONS if is_needed(action)]
    return document([*_statements(needed, target), *_login(environment, place)])


def _statements(actions: list[Action], target: Target) -> Iterator[Statement]:
    """One for all actions on the same resources, under the same condition."""
    grouped: dict[str, Statement] = {}
    for action in actions:
        statement: Statement = {"Effect": "Allow", "Action": [], "Resource": list(_resources(action, target))}
        if condition := _condition(action, target.place):
            statement["Condition"] = condition
        names = grouped.setdefault(json.dumps(statement), statement)["Action"]
        if action.name not in names:
            names.append(action.name)
    yield from ({**statement, "Action": sorted(statement["Action"])} for statement in grouped.values())


def _condition(action: Action, place: Place) -> dict[str, Any] | None:
    if not action.via:
        return _CONDITIONS.get(action.name)
    return {"StringEquals": {"kms:ViaService": [name for each in action.via for name in place.service_names(each)]}}


def _resources(action: Action, target: Target) -> tuple[str, ...]:
    """What an action is made on: of what the projector function has, the command function has one too."""
    arn = action.arn(target).replace(EXAMPLE_SUFFIX, UNKNOWN_SUFFIX)
    both = [arn, arn.replace(PROJECTOR, COMMAND)] if PROJECTOR in arn and ":sqs:" not in arn else [arn]
    if ":log-group:" in arn:
        both += [f"{each}:*" for each in both]
    return tuple(both)


def _login(environment: Environment, place: Place) -> Iterator[Statement]:
    """How the database's password is had: as a token, or from a secret, by default the one that RDS manages."""
    settings = environment.database
    if settings.iam_auth:
        resource = place.arn("rds-db", f"dbuser:*/{settings.user or DEFAULT_USER}")
        yield {"Effect": "Allow", "Action": ["rds-db:connect"], "Resource": [resource]}
    elif settings.secret or environment.own_cluster:
        secret = settings.secret or "rds!cluster-*"
        arn = secret if secret.startswith("arn:") else place.arn("secretsmanager", f"secret:{secret}-{UNKNOWN_SUFFIX}")
        yield {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": [arn]}
