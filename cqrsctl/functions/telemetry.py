"""One JSON line an invocation on standard output: measures in CloudWatch's embedded metric format, or the error.

CloudWatch makes metrics of such a line by itself (CloudWatch user guide, "Specification: Embedded metric format").
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAMESPACE = "cqrsctl"
_DIMENSION = "FunctionName"
_UNITS = {"Milliseconds": "Milliseconds", "LagSeconds": "Seconds"}
"""All other measures are counts."""


class Context(Protocol):
    """What is used of the context object that Lambda hands a handler."""

    function_name: str
    aws_request_id: str


@dataclass(frozen=True, slots=True)
class Done:
    """What an invocation answers, what it measured, and what else its log line reports."""

    answer: dict[str, Any]
    measures: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)


def write_line(line: str) -> None:
    """Write to standard output as it is now: Lambda's runtime puts its own in place."""
    sys.stdout.write(line + "\n")


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Runs an invocation's work and writes its line."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    write: Callable[[str], None] = write_line

    def invoke(self, work: Callable[[], Done], context: Context) -> dict[str, Any]:
        """The answer of the work. Logs and raises what it raises."""
        started = self.monotonic()
        try:
            done = work()
        except Exception as error:
            self.write(error_line(error, context))
            raise
        measures = {**done.measures, "Milliseconds": round((self.monotonic() - started) * 1_000, 3)}
        self.write(metrics_line(measures, done.details, context, self.now()))
        return done.answer


def metrics_line(measures: Mapping[str, float], details: Mapping[str, Any], context: Context, moment: datetime) -> str:
    """A line in embedded metric format: its measures are metrics of the function, the rest can be searched for."""
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [[_DIMENSION]],
        "Metrics": [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in measures],
    }
    content = {
        "level": "INFO",
        "requestId": context.aws_request_id,
        **details,
        _DIMENSION: context.function_name,
        **measures,
        "_aws": {"Timestamp": int(moment.timestamp() * 1_000), "CloudWatchMetrics": [directive]},
    }
    return json.dumps(content)


def error_line(error: Exception, context: Context) -> str:
    """An error as one line. An unforeseen one is reported by its class alone: its text may hold anything."""
    foreseen = isinstance(error, CqrsctlError)
    content = {
        "level": "ERROR",
        "requestId": context.aws_request_id,
        _DIMENSION: context.function_name,
        "code": error.code if isinstance(error, CqrsctlError) else "unexpected",
        "errorType": type(error).__name__,
        "message": str(error) if foreseen else "An error that cqrsctl did not foresee; its trace follows.",
    }
    if isinstance(error, CqrsctlError) and error.hint:
        content["hint"] = error.hint
    return json.dumps(content)
