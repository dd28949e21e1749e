"""What a deployment consists of: its parts by name and place, whose they are, and the calls that each needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.aws import ApiCall

COMMAND = "ProductCommandFunction"
PROJECTOR = "ProductHandlerFunction"
HANDLERS = "cqrsctl.functions.handlers"
"""The module with the functions' entry points."""
COMMAND_HANDLER = f"{HANDLERS}.command"
PROJECTOR_HANDLER = f"{HANDLERS}.projector"
MANAGED_BY = {"managed-by": "cqrsctl"}
"""The tag of everything that is made here."""
TAG_LIST = [{"Key": key, "Value": value} for key, value in MANAGED_BY.items()]
UNKNOWN_SUFFIX = "??????"
"""Secrets Manager ends a secret's ARN with six characters of its own; in a policy each ? stands for one."""
_MASK = "***"
_DOMAIN = "amazonaws.com"
_DOMAINS = {
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
    "aws-iso-e": "cloud.adc-e.uk",
    "aws-iso-f": "csp.hci.ic.gov",
}
"""The domains of the partitions that have another one, as in botocore's partitions.json."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pipeline is: partition, region and account, from which every ARN follows."""

    partition: str
    region: str
    account: str

    @classmethod
    def of(cls, arn: str) -> Place:
        """The place of a regional resource."""
        _, partition, _, region, account, _ = arn.split(":", 5)
        return cls(partition, region, account)

    def arn(self, service: str, resource: str, *, regional: bool = True) -> str:
        return f"arn:{self.partition}:{service}:{self.region if regional else ''}:{self.account}:{resource}"

    def service_names(self, service: str) -> list[str]:
        """What `kms:ViaService` may call a service here.

        AWS's guides write amazonaws.com, and say nothing of partitions with another domain. There both are allowed, as
        each names one service of one region. Source: "AWS KMS condition keys", AWS KMS Developer Guide.
        """
        domains = dict.fromkeys((_DOMAIN, _DOMAINS.get(self.partition, _DOMAIN)))
        return [f"{service}.{self.region}.{domain}" for domain in domains]

    def role(self, function: str) -> str:
        return self.arn("iam", f"role/{role_name(function, self.region)}", regional=False)

    def log_group(self, function: str) -> str:
        return self.arn("logs", f"log-group:{log_group(function)}")

    def queue(self, function: str) -> str:
        return self.arn("sqs", queue_name(function))


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the deployment: what becomes of it, and by which calls; none if it is as it shall be."""

    name: str
    change: str = "unchanged"
    calls: tuple[ApiCall, ...] = ()
    note: str = ""


def role_name(function: str, region: str) -> str:
    """The name of a function's role, at most 64 characters: roles are global, so another region has another one.

    Source: "IAM and AWS STS quotas", IAM User Guide.
    """
    return f"{former_role_name(function)}-{region}"


def former_role_name(function: str) -> str:
    """The name that earlier versions gave the role, the same in every region."""
    return f"{function}Role"


def log_group(function: str) -> str:
    return f"/aws/lambda/{function}"


def queue_name(function: str) -> str:
    return f"{function}-failures"


def updated(name: str, changes: Mapping[str, str], calls: tuple[ApiCall, ...], note: str = "") -> Part:
    """A part that exists; `changes` says in words what differs, by name."""
    if not calls:
        return Part(name, note=note)
    return Part(
        name, "updated: " + ", ".join(f"{what} {words}".strip() for what, words in changes.items()), calls, note
    )


def require_ours(what: str, tags: Mapping[str, str]) -> None:
    """Raises AwsError if something of our name was not made by cqrsctl: it is left alone."""
    if any(tags.get(key) != value for key, value in MANAGED_BY.items()):
        raise AwsError(
            f"{what} exists, but is not cqrsctl's: it has no tag managed-by=cqrsctl. Nothing was changed.",
            hint="Remove or rename it; if it shall be cqrsctl's from now on, give it that tag.",
            code="not_ours",
        )


def tags_of(listed: list[Mapping[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in listed or ()}


def shown(call: ApiCall) -> ApiCall:
    """A call as it may be printed: the zip by its size and hash, a secret's content not at all."""
    return replace(call, parameters={name: _shown(name, value) for name, value in call.parameters.items()})


def _shown(name: str, value: Any) -> Any:
    if name == "SecretString":
        return _MASK
    if name == "ZipFile":
        return f"{len(value)} bytes, SHA-256 {hashlib.sha256(value).hexdigest()}"
    return {key: _shown(key, inner) for key, inner in value.items()} if name == "Code" else value
