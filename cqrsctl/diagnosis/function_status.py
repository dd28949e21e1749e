"""The functions as they are: state, code, mapping, the last hour's numbers, and what lies at the destination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.diagnosis.facts import Facts
from cqrsctl.errors import AwsError, CqrsctlError
from cqrsctl.functions import function as functions
from cqrsctl.functions import metrics
from cqrsctl.functions.parts import COMMAND, PROJECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """A mapping with its destination; `depth` counts its messages, None if it is no queue or cannot be asked."""

    mapping: Mapping
    depth: int | None


@dataclass(frozen=True, slots=True)
class FunctionsStatus:
    """The functions that are there, the projector's mappings, and the gaps it left (None: unknown)."""

    functions: list[FunctionStatus]
    mappings: list[MappingStatus]
    gaps: list[Gap] | None


def status(operated: Functions) -> FunctionsStatus:
    """Raises AwsError if there is no function. What else AWS does not report is a note, and unknown."""
    facts = Facts(operated.wiring, operated.clock)
    facts.clients = operated.clients
    code = functions.code_sha256(operated.code())
    found = [there for there in (functions.find(facts.client("lambda"), COMMAND), facts.function()) if there]
    if not found:
        functions.describe(facts.client("lambda"), PROJECTOR)
    return FunctionsStatus(
        [FunctionStatus(each, each.code_sha256 == code, _numbers(operated, each.name)) for each in found],
        [MappingStatus(each, _depth(facts, operated.note, each)) for each in facts.mappings() or ()],
        _gaps(facts, operated.note),
    )


def _gaps(facts: Facts, note: Callable[[str], None]) -> list[Gap] | None:
    try:
        made = facts.made()
    except CqrsctlError as error:
        note(f"Whether changes were lost is unknown: {error.message}")
        return None
    return list(made.function_gaps) if made else []


def _numbers(operated: Functions, function: str) -> dict[str, float | None]:
    unknown: dict[str, float | None] = dict.fromkeys(metrics.NAMES)
    if not operated.wiring.environment.runs_functions:
        return unknown
    try:
        return metrics.last_hour(operated.client("cloudwatch"), function, operated.clock.now())
    except AwsError as error:
        operated.note(f"The last hour of {function} is unknown: {error.message}")
        return unknown


def _depth(facts: Facts, note: Callable[[str], None], mapping: Mapping) -> int | None:
    if mapping.destination is None:
        return None
    try:
        queues = facts.destinations()
    except AwsError as error:
        note(f"The depth of {mapping.destination.rpartition(':')[2]} is unknown: {error.message}")
        return None
    if mapping.destination not in queues:
        return None  # it is no queue
    found = queues[mapping.destination]
    if found is None:
        note(f"The destination {mapping.destination} is not there: what fails for good is lost.")
    return found.depth if found else None
