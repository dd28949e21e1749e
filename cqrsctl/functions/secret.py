"""The database's login in Secrets Manager, if RDS does not keep it there already."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError
from cqrsctl.functions.parts import TAG_LIST, Part, require_ours, tags_of, updated

SERVICE = "secretsmanager"
_MISSING = "ResourceNotFoundException"
RECOVERY_DAYS = 7
_AWS_KEY = "alias/aws/secretsmanager"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret as Secrets Manager describes it. `content` None: it has no value, or it was not asked for."""

    name: str
    arn: str
    kms_key: str | None
    deleted: bool
    tags: dict[str, str]
    content: str | None = field(default=None, repr=False)


def secret_name(environment: str) -> str:
    return f"cqrsctl/{environment}/database"


def find(client: Any, name: str, *, content: bool = False) -> Secret | None:
    """The secret of a name or ARN, or None if there is none; its content only if asked for."""
    try:
        found = ApiCall(SERVICE, "DescribeSecret", {"SecretId": name}).make(client)
    except AwsError as error:
        if error_code(error) == _MISSING:
            return None
        raise
    key = found.get("KmsKeyId")
    deleted = found.get("DeletedDate") is not None
    return Secret(
        name=found["Name"],
        arn=found["ARN"],
        kms_key=None if not key or key.endswith(_AWS_KEY) else key,
        deleted=deleted,
        tags=tags_of(found.get("Tags")),
        content=_content(client, name) if content and not deleted else None,
    )


def part(name: str, user: str, password: str, found: Secret | None) -> Part:
    """What makes the secret hold this login. Raises AwsError if one of its name is not ours."""
    title = f"secret {name}"
    text = json.dumps({"username": user, "password": password})
    if found is None:
        parameters = {"Name": name, "Description": "The login of cqrsctl's projector.", "Tags": TAG_LIST}
        call = ApiCall(SERVICE, "CreateSecret", {**parameters, "SecretString": text})
        return Part(title, "created", (call,))
    require_ours(f"Secret {name!r}", found.tags)
    put = ApiCall(SERVICE, "PutSecretValue", {"SecretId": name, "SecretString": text})
    if found.deleted:
        return Part(title, "restored", (ApiCall(SERVICE, "RestoreSecret", {"SecretId": name}), put))
    return Part(title) if _same(found.content, text) else updated(title, {"content": ""}, (put,))


def delete_calls(found: Secret) -> list[ApiCall]:
    """The secret can be had back for some days."""
    if found.deleted:
        return []
    require_ours(f"Secret {found.name!r}", found.tags)
    parameters = {"SecretId": found.name, "RecoveryWindowInDays": RECOVERY_DAYS}
    return [ApiCall(SERVICE, "DeleteSecret", parameters)]


def _content(client: Any, name: str) -> str | None:
    try:
        answer = ApiCall(SERVICE, "GetSecretValue", {"SecretId": name}).make(client)
    except AwsError as error:
        if error_code(error) == _MISSING:
            return None
        raise
    text: str | None = answer.get("SecretString")
    return text


def _same(there: str | None, wanted: str) -> bool:
    try:
        return there is not None and json.loads(there) == json.loads(wanted)
    except ValueError:
        return False
