"""The functions' roles in IAM, each with one policy: what is there, and the calls that make it as it shall be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError, UsageError
from cqrsctl.functions import policies
from cqrsctl.functions.parts import TAG_LIST, Part, require_ours, role_name, tags_of, updated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cqrsctl.functions.parts import Place
    from cqrsctl.functions.policies import Document, Statement

POLICY_NAME = "cqrsctl"


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """A function's role as it shall be."""

    function: str
    region: str
    policy: Document
    boundary: str | None = None

    @property
    def name(self) -> str:
        return role_name(self.function, self.region)


@dataclass(frozen=True, slots=True)
class Role:
    """A role as IAM describes it. `foreign` names the policies that are not ours, inline and attached."""

    name: str
    trust: Document
    policy: Document | None
    foreign: tuple[str, ...]
    tags: dict[str, str]
    boundary: str | None = None


def require_arn(arn: str, kind: str) -> str:
    """The ARN of a role or a policy. Raises UsageError."""
    if not re.fullmatch(rf"arn:[\w-]+:iam::(?:\d{{12}}|aws):{kind}/[\w+=,.@/-]+", arn):
        raise UsageError(f"{arn!r} is not the ARN of a {kind}.", hint=f"One is arn:aws:iam::123456789012:{kind}/mine.")
    return arn


def name_of(arn: str) -> str:
    """A role's name: its ARN may have a path before it."""
    return arn.rpartition("/")[2]


def given_note(arn: str, function: str) -> str:
    """What is said of a role that is not made here."""
    return f"Function {function} has the role {arn}: what that allows is not looked at, and stays as it is."


def command_policy(place: Place, function: str, table_arn: str, keys: Iterable[Statement] = ()) -> Document:
    """Put items into the table, and write the function's own log. `keys` are used for that."""
    statements = policies.command(table_arn, _log_streams(place, function))["Statement"]
    return policies.document([*statements, *keys])


def projector_policy(
    place: Place,
    function: str,
    table_arn: str,
    login: list[Statement],
    destination: str,
    *,
    security_groups: Sequence[str] = (),
    keys: Iterable[Statement] = (),
) -> Document:
    """Read the table's streams, log in to the database, write its own log, report what failed for good.

    The stream's ARN is left open at its label, so that a stream switched off and on needs no new policy. A function
    with security groups is in a VPC. `keys` are used for all that.
    """
    statements = policies.projector(
        f"{table_arn}/stream/*", login, _log_streams(place, function), policies.destination(destination)
    )
    if security_groups:
        statements += policies.network(place.arn, security_groups, function)
    return policies.document([*statements, *keys])


def secret_statements(place: Place, secret_arn: str, kms_key: str | None) -> list[Statement]:
    """Read one secret; with a key of its own also decrypt with that key, through Secrets Manager only."""
    read = policies.secret(secret_arn)
    if kms_key is None:
        return [read]
    return [read, _use_key(place, "DecryptLogin", ["Decrypt"], kms_key, "secretsmanager")]


def table_key(place: Place, kms_key: str | None) -> list[Statement]:
    """Read and write a table with a key of its own, and read its stream, which has the same key.

    Source: "DynamoDB encryption at rest usage notes", Amazon DynamoDB Developer Guide.
    """
    return [_use_key(place, "UseTable", ["Decrypt"], kms_key, "dynamodb")] if kms_key else []


def destination_key(place: Place, destination: str, kms_key: str | None) -> list[Statement]:
    """Report what failed to a queue, a topic or a bucket with a key of its own; what is in a bucket is not read.

    Source: "Capturing discarded batches", AWS Lambda Developer Guide.
    """
    if kms_key is None:
        return []
    service = destination.split(":")[2]
    operations = ["GenerateDataKey"] if service == "s3" else ["Decrypt", "GenerateDataKey"]
    return [_use_key(place, "EncryptFailures", operations, kms_key, service)]


def _use_key(place: Place, name: str, operations: Iterable[str], kms_key: str, service: str) -> Statement:
    """Use a key, named by id, ARN or alias, through one service only."""
    via = {"kms:ViaService": place.service_names(service)}
    alias = kms_key.rsplit(":", maxsplit=1)[-1] if kms_key.startswith("arn:") else kms_key
    if alias.startswith("alias/"):
        # An alias is no resource of what uses a key: any key that has it.
        resource = place.arn("kms", "key/*")
        condition = {"StringEquals": via, "ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}}
    else:
        resource = kms_key if kms_key.startswith("arn:") else place.arn("kms", f"key/{kms_key}")
        condition = {"StringEquals": via}
    return policies.use_key(name, operations, resource, condition)


def token_statements(place: Place, resource_id: str, user: str) -> list[Statement]:
    """Log in with IAM tokens, as one user of one cluster."""
    return [policies.token(place.arn("rds-db", f"dbuser:{resource_id}/{user}"))]


def find(client: Any, name: str) -> Role | None:
    """The role with its policies, or None if there is none."""
    try:
        described = ApiCall("iam", "GetRole", {"RoleName": name}).make(client)["Role"]
    except AwsError as error:
        if error_code(error) == "NoSuchEntity":
            return None
        raise
    asked = {"RoleName": name}
    pages = ApiCall("iam", "ListAttachedRolePolicies", asked).pages(client)
    attached = [policy["PolicyName"] for page in pages for policy in page["AttachedPolicies"]]
    inline = [name for page in ApiCall("iam", "ListRolePolicies", asked).pages(client) for name in page["PolicyNames"]]
    policy = None
    if POLICY_NAME in inline:
        answer = ApiCall("iam", "GetRolePolicy", {**asked, "PolicyName": POLICY_NAME}).make(client)
        policy = answer["PolicyDocument"]
    return Role(
        name=name,
        trust=described["AssumeRolePolicyDocument"],
        policy=policy,
        foreign=(*attached, *(other for other in inline if other != POLICY_NAME)),
        tags=tags_of(described.get("Tags")),
        boundary=(described.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn"),
    )


def part(spec: RoleSpec, found: Role | None) -> Part:
    """What makes the role as it shall be. Raises AwsError if one of its name is not ours."""
    title = f"role {spec.name}"
    policy = ApiCall(
        "iam",
        "PutRolePolicy",
        {"RoleName": spec.name, "PolicyName": POLICY_NAME, "PolicyDocument": json.dumps(spec.policy)},
    )
    if found is None:
        description = f"Made by cqrsctl for {spec.function} in {spec.region}"
        parameters = {"RoleName": spec.name, "Description": description, "Tags": TAG_LIST}
        parameters["AssumeRolePolicyDocument"] = json.dumps(policies.trust())
        if spec.boundary:
            parameters["PermissionsBoundary"] = spec.boundary
        return Part(title, "created", (ApiCall("iam", "CreateRole", parameters), policy))
    require_ours(f"Role {spec.name!r}", found.tags)
    calls, changes = [], {}
    if found.trust != policies.trust():
        parameters = {"RoleName": spec.name, "PolicyDocument": json.dumps(policies.trust())}
        calls.append(ApiCall("iam", "UpdateAssumeRolePolicy", parameters))
        changes["trust"] = ""
    if spec.boundary and found.boundary != spec.boundary:
        parameters = {"RoleName": spec.name, "PermissionsBoundary": spec.boundary}
        calls.append(ApiCall("iam", "PutRolePermissionsBoundary", parameters))
        changes["permissions boundary"] = f"{found.boundary or 'none'} → {spec.boundary}"
    if found.policy != spec.policy:
        calls.append(policy)
        changes["policy"] = ""
    return updated(title, changes, tuple(calls), _foreign_note(found))


def delete_calls(found: Role) -> tuple[list[ApiCall], str]:
    """The calls that delete a role of ours, and a remark if policies of somebody else keep it."""
    require_ours(f"Role {found.name!r}", found.tags)
    calls = []
    if found.policy is not None:
        calls.append(ApiCall("iam", "DeleteRolePolicy", {"RoleName": found.name, "PolicyName": POLICY_NAME}))
    if found.foreign:
        return calls, f"Role {found.name} is kept: it has other policies: {', '.join(found.foreign)}."
    return [*calls, ApiCall("iam", "DeleteRole", {"RoleName": found.name})], ""


def _foreign_note(found: Role) -> str:
    if not found.foreign:
        return ""
    return f"Role {found.name} has other policies too, which stay: {', '.join(found.foreign)}."


def _log_streams(place: Place, function: str) -> str:
    return f"{place.log_group(function)}:*"
