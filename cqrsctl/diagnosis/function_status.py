"""The functions as they are: state, code, mapping, the last hour's numbers, and what lies at the destination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import AwsError, CqrsctlError
from cqrsctl.functions import function as functions
from cqrsctl.functions import mapping as mappings
from cqrsctl.functions import metrics, queue
from cqrsctl.functions.parts import COMMAND, PROJECTOR
from cqrsctl.read_model import function_position
from cqrsctl.read_model.connection import ReadModelMissing, connect

if TYPE_CHECKING:
    from cqrsctl.functions.function import Function
    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.pipeline.function_operations import Functions
    from cqrsctl.read_model.function_position import Gap


@dataclass(frozen=True, slots=True)
class FunctionStatus:
    """A function, whether its code is what `deploy` would upload now, and its numbers (None: not known)."""

    function: Function
    current: bool
    numbers: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class MappingStatus:
    """A mapping with its destination; `depth` counts its messages, None where it is no queue or cannot be asked."""

    mapping: Mapping
    depth: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """The functions that are there, the projector's mappings, and the gaps it left (None: unknown)."""

    functions: list[FunctionStatus]
    mappings: list[MappingStatus]
    gaps: list[Gap] | None


def status(operated: Functions) -> Status:
    """Raises AwsError where there is no function. What else AWS does not tell is a note, and not known."""
    client = operated.client("lambda")
    code = functions.code_sha256(operated.package())
    found = [there for name in (COMMAND, PROJECTOR) if (there := functions.find(client, name))]
    if not found:
        functions.describe(client, PROJECTOR)
    mapped = mappings.of_function(client, PROJECTOR) if any(each.name == PROJECTOR for each in found) else []
    return Status(
        [FunctionStatus(each, each.code_sha256 == code, _numbers(operated, each.name)) for each in found],
        [MappingStatus(each, _depth(operated, each)) for each in mapped],
        _gaps(operated),
    )


def _gaps(operated: Functions) -> list[Gap] | None:
    try:
        with connect(operated.wiring.database) as connection:
            return function_position.gaps(connection)
    except ReadModelMissing:
        return []
    except CqrsctlError as error:
        operated.note(f"Whether changes were lost is unknown: {error.message}")
        return None


def _numbers(operated: Functions, function: str) -> dict[str, float | None]:
    unknown: dict[str, float | None] = dict.fromkeys(metrics.NAMES)
    if operated.runs_nothing:
        return unknown
    try:
        return metrics.last_hour(operated.client("cloudwatch"), function, operated.clock.now())
    except AwsError as error:
        operated.note(f"The last hour of {function} is not known: {error.message}")
        return unknown


def _depth(operated: Functions, mapping: Mapping) -> int | None:
    _, _, service, _, account, name = (mapping.destination or "arn::::::").split(":", 5)
    if service != "sqs":
        return None
    try:
        found = queue.find(operated.client("sqs"), name, account)
    except AwsError as error:
        operated.note(f"The depth of {name} is not known: {error.message}")
        return None
    if found is None:
        operated.note(f"The destination {mapping.destination} is not there: what fails for good is lost.")
    return found.depth if found else None
