"""Checks of the identity's permissions: what only reads is tried, all else IAM is asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from cqrsctl.aws import ApiCall
from cqrsctl.diagnosis.doctor.findings import Check, Finding, Severity, note
from cqrsctl.diagnosis.doctor.needs import ACTIONS, SELDOM, Purpose, Target
from cqrsctl.diagnosis.doctor.refusals import unknown_operation
from cqrsctl.errors import ACCESS_DENIED, AwsError, TransientAwsError
from cqrsctl.functions.parts import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cqrsctl.diagnosis.doctor.needs import Action
    from cqrsctl.diagnosis.facts import Facts

_Answer = TypeVar("_Answer")
_KEYS: dict[str, Any] = {"N": "0", "S": "0", "B": b"0"}
_ACTIONS_A_CALL = 50
_PASSED_TO = {
    "ContextKeyName": "iam:PassedToService",
    "ContextKeyType": "string",
    "ContextKeyValues": ["lambda.amazonaws.com"],
}


def tried(facts: Facts) -> Iterator[Finding]:
    """AWS refused a call that only reads; a warning if projecting or products need it.

    Fix: grant it in the identity's policy.
    """
    target = _target(facts)
    if target is None:
        return
    denied, unreachable = [], None
    for action in _needed(facts):
        call = action.tried(target) if action.tried else None
        try:
            if call is not None:
                call.make(facts.client(call.service))
        except AwsError as error:
            if error.code == ACCESS_DENIED:
                denied.append(action)
            elif isinstance(error, TransientAwsError) and not _answered(error):
                unreachable = error
    yield from _findings(denied)
    if unreachable is not None:
        raise unreachable


def simulated(facts: Facts) -> Iterator[Finding]:
    """IAM reports that it would refuse a call that writes; a warning if projecting or products need it.

    Fix: grant it in the identity's policy.
    """
    target = _target(facts)
    if target is None:
        return
    try:
        identity = identity_of(facts)
        if identity is None:
            return
        denied = _denied(facts, identity, target)
    except AwsError as error:
        if unknown_operation(error):
            return  # an emulator, which allows everything
        if error.code != ACCESS_DENIED:
            raise
        yield note(
            "Whether this identity may write is unknown: it may not ask IAM.",
            f"{error.message}. Only what reads was tried.",
            "grant it iam:SimulatePrincipalPolicy and iam:GetRole on itself, to have that looked at",
        )
        return
    yield from _findings(denied)


def identity_of(facts: Facts) -> str | None:
    """The ARN of the user or role that calls; None if IAM cannot simulate it, as the root and federated users."""
    arn: str = ApiCall("sts", "GetCallerIdentity", {}).make(facts.client("sts"))["Arn"]
    kind, _, name = arn.rpartition(":")[2].partition("/")
    if kind == "user":
        return arn
    if kind != "assumed-role":
        return None
    # The session's ARN leaves out the role's path.
    role: str = ApiCall("iam", "GetRole", {"RoleName": name.partition("/")[0]}).make(facts.client("iam"))["Role"]["Arn"]
    return role


def _denied(facts: Facts, identity: str, target: Target) -> list[Action]:
    """Which of the actions that cannot be tried IAM would deny."""
    by_arn: dict[str, list[Action]] = {}
    for action in _needed(facts):
        if action.tried is None:
            by_arn.setdefault(action.arn(target), []).append(action)
    denied: list[Action] = []
    for arn, actions in by_arn.items():
        for begin in range(0, len(actions), _ACTIONS_A_CALL):
            some = actions[begin : begin + _ACTIONS_A_CALL]
            refused = set(_simulate(facts, identity, arn, [action.name for action in some]))
            denied += [action for action in some if action.name in refused]
    return denied


def _simulate(facts: Facts, identity: str, arn: str, names: list[str]) -> Iterator[str]:
    asked: dict[str, Any] = {
        "PolicySourceArn": identity,
        "ActionNames": names,
        "ResourceArns": [arn],
        "ContextEntries": [_PASSED_TO],
    }
    for page in ApiCall("iam", "SimulatePrincipalPolicy", asked).pages(facts.client("iam")):
        for result in page["EvaluationResults"]:
            if result["EvalDecision"] != "allowed":
                yield result["EvalActionName"]


def _needed(facts: Facts) -> list[Action]:
    """The actions that this environment needs: no cluster and no functions need none of theirs."""
    unused = set(SELDOM)
    if facts.environment.own_cluster is None:
        unused |= {Purpose.CLUSTER, Purpose.COSTS}
    if _if_allowed(facts.mappings) is None:
        unused.add(Purpose.FUNCTIONS)
    return [action for action in ACTIONS if action.purpose not in unused]


def _target(facts: Facts) -> Target | None:
    """None on the embedded stack, whose endpoint allows all; and without a table, whose ARN has region and account."""
    table = facts.table()
    if facts.environment.embedded or table is None:
        return None
    stream = _if_allowed(facts.stream)
    shard = next((shard.shard_id for shard in stream.shards.values() if shard.is_open), None) if stream else None
    return Target(
        place=Place.of(table.arn),
        environment=facts.environment.name,
        table_arn=table.arn,
        key={name: {kind: _KEYS[kind]} for name, kind in table.key},
        stream_arn=table.stream_arn,
        shard=shard,
        iterator=_if_allowed(lambda: _iterator(facts, stream.arn, shard)) if stream and shard else None,
        cluster=facts.environment.own_cluster,
        secret=facts.environment.database.secret,
    )


def _iterator(facts: Facts, stream_arn: str, shard: str) -> str:
    asked = {"StreamArn": stream_arn, "ShardId": shard, "ShardIteratorType": "LATEST"}
    call = ApiCall("dynamodbstreams", "GetShardIterator", asked)
    iterator: str = call.make(facts.client("dynamodbstreams"))["ShardIterator"]
    return iterator


def _answered(error: AwsError) -> bool:
    """Whether it is an answer, if only of an emulator that does not know the call: so it was not refused."""
    return isinstance(error.__cause__, ClientError) or unknown_operation(error)


def _if_allowed(ask: Callable[[], _Answer]) -> _Answer | None:
    """The answer, or None if this identity may not ask."""
    try:
        return ask()
    except AwsError as error:
        if error.code != ACCESS_DENIED:
            raise
        return None


def _findings(denied: Iterable[Action]) -> Iterator[Finding]:
    """One finding for each purpose. Without those to project or to put, the pipeline does not work as it should."""
    by_purpose: dict[Purpose, list[str]] = {}
    for action in denied:
        by_purpose.setdefault(action.purpose, []).append(action.name)
    for purpose, names in by_purpose.items():
        severity = Severity.WARNING if purpose in {Purpose.PROJECTING, Purpose.PRODUCTS} else Severity.NOTE
        yield Finding(
            severity,
            f"This identity may not {', '.join(dict.fromkeys(names))}.",
            f"It is needed {purpose.value}.",
            "grant it in the identity's policy",
        )


CHECKS = (
    Check("permissions_tried", "permissions", tried),
    Check("permissions_simulated", "permissions", simulated),
)
