"""A Lambda function: what is asked for, what is there, and the API calls between the two."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError
from cqrsctl.functions.parts import MANAGED_BY, Part, former_role_name, require_ours, updated

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNTIME = "python3.13"
"""The newest of Lambda's runtimes whose Python this package declares to work with; AWS patches it until 2029."""
ARCHITECTURE = "arm64"
MEMORY_MB = 256
MEMORY_RANGE_MB = (128, 10_240)
TIMEOUT_RANGE_SECONDS = (1, 900)
TABLE_VARIABLE = "CQRSCTL_TABLE"
_MISSING = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """The requested function. None keeps the present value, or takes the default if there is no function yet.

    `reserved_concurrency`: the number of concurrent invocations that the account reserves for it, and the most it gets.
    """

    name: str
    handler: str
    role: str
    code: bytes = field(repr=False)
    environment: dict[str, str]
    default_timeout_seconds: int
    description: str
    memory_mb: int | None = None
    timeout_seconds: int | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    reserved_concurrency: int | None = None

    @property
    def title(self) -> str:
        return f"function {self.name}"

    def configuration(self, found: Function | None) -> dict[str, Any]:
        """Everything but the code and the architecture, which go with it."""
        memory = self.memory_mb or (found.memory_mb if found else MEMORY_MB)
        timeout = self.timeout_seconds or (found.timeout_seconds if found else self.default_timeout_seconds)
        network = {"SubnetIds": sorted(self.subnets), "SecurityGroupIds": sorted(self.security_groups)}
        return {
            "Role": self.role,
            "Runtime": RUNTIME,
            "Handler": self.handler,
            "Description": self.description,
            "MemorySize": memory,
            "Timeout": timeout,
            "Environment": {"Variables": self.environment},
            "VpcConfig": network,
        }

    def create_call(self) -> ApiCall:
        parameters = {
            "FunctionName": self.name,
            **self.configuration(None),
            "PackageType": "Zip",
            "Architectures": [ARCHITECTURE],
            "Code": {"ZipFile": self.code},
            "Tags": MANAGED_BY,
        }
        if not self.subnets:
            del parameters["VpcConfig"]
        return ApiCall("lambda", "CreateFunction", parameters)

    def part(self, found: Function | None) -> Part:
        """The calls that bring the function to these settings. Raises AwsError if one of its name is not ours."""
        if found is None:
            return Part(self.title, "created", (self.create_call(), *self._concurrency_calls(None)))
        found.require_ours(self.environment[TABLE_VARIABLE])
        there = found.configuration()
        wanted = {name: value for name, value in self.configuration(found).items() if value != there[name]}
        changes = {_WORDS[name]: _difference(name, there[name], value) for name, value in wanted.items()}
        calls = []
        if wanted:
            calls.append(ApiCall("lambda", "UpdateFunctionConfiguration", {"FunctionName": self.name, **wanted}))
        if found.code_sha256 != code_sha256(self.code) or found.architecture != ARCHITECTURE:
            changes["code"] = ""
            parameters = {"FunctionName": self.name, "ZipFile": self.code, "Architectures": [ARCHITECTURE]}
            calls.append(ApiCall("lambda", "UpdateFunctionCode", parameters))
        if concurrency := self._concurrency_calls(found):
            before = "none" if found.reserved_concurrency is None else found.reserved_concurrency
            changes["reserved concurrency"] = f"{before} → {self.reserved_concurrency}"
            calls += concurrency
        return updated(self.title, changes, tuple(calls), found.former_role_note)

    def _concurrency_calls(self, found: Function | None) -> list[ApiCall]:
        wanted = self.reserved_concurrency
        if wanted is None or (found and found.reserved_concurrency == wanted):
            return []
        parameters = {"FunctionName": self.name, "ReservedConcurrentExecutions": wanted}
        return [ApiCall("lambda", "PutFunctionConcurrency", parameters)]


@dataclass(frozen=True, slots=True)
class Function:
    """A function as Lambda describes it. `reason` is why it is in its state, if AWS reports it."""

    name: str
    arn: str
    role: str
    runtime: str
    handler: str
    description: str
    memory_mb: int
    timeout_seconds: int
    architecture: str
    environment: dict[str, str]
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    state: str
    last_update: str
    reason: str
    modified: str
    version: str
    code_sha256: str
    reserved_concurrency: int | None
    tags: dict[str, str]

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Function:
        """From GetFunction's answer. An endpoint that reports no state creates functions at once."""
        found = described["Configuration"]
        network = found.get("VpcConfig") or {}
        return cls(
            name=found["FunctionName"],
            arn=found["FunctionArn"],
            role=found["Role"],
            runtime=found.get("Runtime", ""),
            handler=found.get("Handler", ""),
            description=found.get("Description", ""),
            memory_mb=found.get("MemorySize", 0),
            timeout_seconds=found.get("Timeout", 0),
            architecture=(found.get("Architectures") or ["x86_64"])[0],
            environment=dict((found.get("Environment") or {}).get("Variables") or {}),
            subnets=tuple(sorted(network.get("SubnetIds") or ())),
            security_groups=tuple(sorted(network.get("SecurityGroupIds") or ())),
            state=found.get("State") or ACTIVE,
            last_update=found.get("LastUpdateStatus") or SUCCESSFUL,
            reason=found.get("StateReason") or found.get("LastUpdateStatusReason") or "",
            modified=found.get("LastModified", ""),
            version=found.get("Version", ""),
            code_sha256=found.get("CodeSha256", ""),
            reserved_concurrency=(described.get("Concurrency") or {}).get("ReservedConcurrentExecutions"),
            tags=dict(described.get("Tags") or {}),
        )

    def has_given_role(self, made: str) -> bool:
        """Whether its role is neither the one that is made for it nor the one that earlier versions made."""
        return self.role != made and self.role.rpartition("/")[2] != former_role_name(self.name)

    @property
    def former_role_note(self) -> str:
        """What is said of a role that an earlier version made for all regions; empty if it has another one."""
        name = self.role.rpartition("/")[2]
        if name != former_role_name(self.name):
            return ""
        return (
            f"Role {name}, which an earlier version made, is kept: this function in another region may still have it. "
            "If none has, delete it in IAM."
        )

    def configuration(self) -> dict[str, Any]:
        """As `FunctionSpec.configuration` has it."""
        return {
            "Role": self.role,
            "Runtime": self.runtime,
            "Handler": self.handler,
            "Description": self.description,
            "MemorySize": self.memory_mb,
            "Timeout": self.timeout_seconds,
            "Environment": {"Variables": self.environment},
            "VpcConfig": {"SubnetIds": [*self.subnets], "SecurityGroupIds": [*self.security_groups]},
        }

    def require_ours(self, table: str) -> None:
        """Raises AwsError if it was not made by cqrsctl, or for another table."""
        require_ours(f"Function {self.name!r}", self.tags)
        self.require_serving(table)

    def require_serving(self, table: str) -> None:
        """Raises AwsError if it works on another table.

        The functions' names are one pipeline's; what is done for another one would take them away from it.
        """
        there = self.environment.get(TABLE_VARIABLE)
        if there != table:
            raise AwsError(
                f"Function {self.name!r} works on table {there!r}, not {table!r}. Nothing was changed.",
                hint="An account has one pipeline a region: choose that one's environment, or delete it there first.",
                code="function_taken",
            )


ACTIVE = "Active"
SUCCESSFUL = "Successful"
_WORDS = {
    "Role": "role",
    "Runtime": "runtime",
    "Handler": "handler",
    "Description": "description",
    "MemorySize": "memory",
    "Timeout": "time-out",
    "Environment": "environment",
    "VpcConfig": "network",
}
_UNITS = {"MemorySize": " MB", "Timeout": " s", "Runtime": "", "Handler": ""}


def code_sha256(code: bytes) -> str:
    """A zip's hash as Lambda reports it."""
    return base64.b64encode(hashlib.sha256(code).digest()).decode()


def find(client: Any, name: str) -> Function | None:
    """The function, or None if there is none."""
    try:
        return Function.of(ApiCall("lambda", "GetFunction", {"FunctionName": name}).make(client))
    except AwsError as error:
        if error_code(error) == _MISSING:
            return None
        raise


def describe(client: Any, name: str) -> Function:
    """The function. Raises AwsError (`function_missing`) if there is none."""
    found = find(client, name)
    if found is None:
        raise AwsError(
            f"No function {name!r} in {client.meta.region_name} ({client.meta.endpoint_url}).",
            hint="Deploy it with `cqrsctl function deploy`, or check --region and --env.",
            code="function_missing",
        )
    return found


def delete_call(name: str) -> ApiCall:
    return ApiCall("lambda", "DeleteFunction", {"FunctionName": name})


def _difference(name: str, there: Any, wanted: Any) -> str:
    return f"{there}{_UNITS[name]} → {wanted}{_UNITS[name]}" if name in _UNITS else ""
