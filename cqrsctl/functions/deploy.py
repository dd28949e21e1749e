"""Deploying a function with all that it needs: first everything is looked at and planned, then it is made in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cqrsctl import retries
from cqrsctl.aws import make_in_order
from cqrsctl.errors import ACCESS_DENIED, AwsError, UsageError
from cqrsctl.functions import function as functions
from cqrsctl.functions import logs, queue, readiness, roles
from cqrsctl.functions import mapping as mappings
from cqrsctl.functions.function import TABLE_VARIABLE, FunctionSpec
from cqrsctl.functions.mapping import MappingSpec
from cqrsctl.functions.parts import (
    COMMAND,
    COMMAND_HANDLER,
    PROJECTOR,
    PROJECTOR_HANDLER,
    Part,
    Place,
    log_group,
    queue_name,
)
from cqrsctl.functions.roles import RoleSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cqrsctl.aws import ApiCall
    from cqrsctl.clock import Clock
    from cqrsctl.functions.function import Function
    from cqrsctl.functions.policies import Statement

    Clients = Callable[[str], Any]

COMMAND_SECONDS = 15
PROJECTOR_SECONDS = 60
_NEED_IDLE = {"UpdateFunctionCode", "UpdateFunctionConfiguration", "CreateEventSourceMapping"}


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose. None, or nothing, leaves it to what is there, else to the default."""

    memory_mb: int | None = None
    timeout_seconds: int | None = None
    reserved_concurrency: int | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    batch_size: int | None = None
    parallelization: int | None = None
    on_failure: str | None = None
    role: str | None = None
    """The ARN of a role that is there, in place of one that is made."""
    boundary: str | None = None
    """The ARN of the policy that bounds what a role that is made may ever do."""

    @property
    def for_projector(self) -> bool:
        """Whether something is asked for that only the projector has."""
        return bool(self.subnets or self.security_groups or self.batch_size or self.parallelization or self.on_failure)


@dataclass(frozen=True, slots=True)
class EventSource:
    """The write model's table, and the stream that comes out of it; both with one key, if it is their own."""

    table: str
    table_arn: str
    stream_arn: str
    kms_key: str | None = None

    @property
    def place(self) -> Place:
        return Place.of(self.table_arn)


@dataclass(frozen=True, slots=True)
class Access:
    """How the projector reaches the database: its variables, what its role must allow, and its network."""

    variables: dict[str, str]
    statements: list[Statement]
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()


def plan_command(
    clients: Clients, table: str, table_arn: str, code: bytes, options: Options, kms_key: str | None = None
) -> list[Part]:
    """The command function's parts; `kms_key` is the table's, if it has one of its own.

    Raises AwsError if one of their names is not ours.
    """
    place = Place.of(table_arn)
    found = functions.find(clients("lambda"), COMMAND)
    role = _role(place, COMMAND, options, found)
    spec = FunctionSpec(
        name=COMMAND,
        handler=COMMAND_HANDLER,
        role=role,
        code=code,
        environment={TABLE_VARIABLE: table},
        default_timeout_seconds=COMMAND_SECONDS,
        description="Puts products into the write model.",
        memory_mb=options.memory_mb,
        timeout_seconds=options.timeout_seconds,
        reserved_concurrency=options.reserved_concurrency,
    )
    policy = roles.command_policy(place, COMMAND, table_arn, roles.table_key(place, kms_key))
    return [
        _log_part(clients, COMMAND),
        _role_part(clients, role, RoleSpec(COMMAND, place.region, policy, options.boundary)),
        spec.part(found),
    ]


def plan_projector(
    clients: Clients, source: EventSource, access: Access, code: bytes, options: Options, now: datetime
) -> list[Part]:
    """The projector's parts, with its queue and its mapping. Raises AwsError if one of their names is not ours."""
    place = source.place
    found = functions.find(clients("lambda"), PROJECTOR)
    mapped = mappings.of_function(clients("lambda"), PROJECTOR) if found else []
    destination = options.on_failure or next((each.destination for each in mapped if each.destination), None)
    destination = destination or place.queue(PROJECTOR)
    subnets, groups = _network(options, found, access)
    role = _role(place, PROJECTOR, options, found)
    spec = FunctionSpec(
        name=PROJECTOR,
        handler=PROJECTOR_HANDLER,
        role=role,
        code=code,
        environment={TABLE_VARIABLE: source.table, **access.variables},
        default_timeout_seconds=PROJECTOR_SECONDS,
        description="Projects the changes of products into the read model.",
        memory_mb=options.memory_mb,
        timeout_seconds=options.timeout_seconds,
        subnets=subnets,
        security_groups=groups,
        reserved_concurrency=options.reserved_concurrency,
    )
    destination_key, note = _destination_key(clients, destination)
    policy = roles.projector_policy(
        place,
        PROJECTOR,
        source.table_arn,
        access.statements,
        destination,
        security_groups=groups,
        keys=[
            *roles.table_key(place, source.kms_key),
            *roles.destination_key(place, destination, destination_key),
        ],
    )
    mapping = MappingSpec(PROJECTOR, source.stream_arn, destination, options.batch_size, options.parallelization)
    own_queue = destination == place.queue(PROJECTOR)
    role_part = _role_part(clients, role, RoleSpec(PROJECTOR, place.region, policy, options.boundary))
    return [
        _log_part(clients, PROJECTOR),
        *([_queue_part(clients, PROJECTOR)] if own_queue else []),
        replace(role_part, note=f"{role_part.note} {note}".strip()),
        spec.part(found),
        mapping.part(mapped, now),
    ]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes planned calls in order."""

    clients: Clients
    clock: Clock
    progress: Callable[[str], None]

    def make(self, parts: Sequence[Part]) -> None:
        """Make all parts; if a call fails, the error names what was made before."""
        make_in_order(((f"({part.name})", call) for part in parts for call in part.calls), self._make)

    def _make(self, call: ApiCall) -> None:
        self.progress(call.operation)
        client = self.clients(call.service)
        if call.service not in {"lambda", "sqs"}:
            retries.of_calls(self.clock.sleep)(call.make, client)
            return
        if call.operation in _NEED_IDLE:
            readiness.until_idle(client, call.parameters["FunctionName"], self.clock, self.progress)
        if call.operation == "CreateEventSourceMapping":
            stream_arn = call.parameters["EventSourceArn"]
            readiness.until_unmapped(client, PROJECTOR, stream_arn, self.clock, self.progress)
        elif call.operation == "UpdateEventSourceMapping":
            readiness.until_settled(client, PROJECTOR, call.parameters["UUID"], None, self.clock, self.progress)
        readiness.make(call, client, self.clock)


def _network(options: Options, found: Function | None, access: Access) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Subnets and security groups: the requested ones, else the present ones, else the cluster's. Raises UsageError."""
    subnets = options.subnets or (found.subnets if found else ()) or access.subnets
    groups = options.security_groups or (found.security_groups if found else ()) or access.security_groups
    if bool(subnets) is not bool(groups):
        raise UsageError(
            "A function in a VPC needs subnets and security groups.", hint="Give both --subnet and --security-group."
        )
    return subnets, groups


def _destination_key(clients: Clients, destination: str) -> tuple[str | None, str]:
    """The key of a destination, and a note if AWS does not report it."""
    try:
        return queue.destination_key(clients, destination), ""
    except AwsError as error:
        if error.code != ACCESS_DENIED:
            raise
        return None, (
            f"Whether {destination} has a KMS key is unknown, so the role may use none for it: {error.message}"
        )


def _log_part(clients: Clients, function: str) -> Part:
    return logs.part(function, logs.find(clients("logs"), log_group(function)))


def _role(place: Place, function: str, options: Options, found: Function | None) -> str:
    """The role asked for, else the one that somebody gave the function before, else the one that is made for it."""
    made = place.role(function)
    if options.role is not None:
        return options.role
    return found.role if found and found.has_given_role(made) else made


def _role_part(clients: Clients, role: str, spec: RoleSpec) -> Part:
    if roles.name_of(role) != spec.name:
        return Part(f"role {roles.name_of(role)}", note=roles.given_note(role, spec.function))
    return roles.part(spec, roles.find(clients("iam"), spec.name))


def _queue_part(clients: Clients, function: str) -> Part:
    return queue.part(queue_name(function), queue.find(clients("sqs"), queue_name(function)))
