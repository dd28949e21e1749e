"""The event source mapping that brings the stream's records to the projector: asked for, there, and the calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall
from cqrsctl.change import RETENTION
from cqrsctl.errors import AwsError, UsageError
from cqrsctl.functions.parts import MANAGED_BY, Part, updated

if TYPE_CHECKING:
    from collections.abc import Mapping as Described
    from collections.abc import Sequence
    from datetime import datetime

ENABLED = "Enabled"
DISABLED = "Disabled"
_LEAVING = "Deleting"
MOST_BATCH = 10_000
MOST_PARALLEL = 10
BATCH_SIZE = 1_000
_PARALLELIZATION = 1
WINDOW_SECONDS = 1
MOST_PAUSE = RETENTION - timedelta(minutes=5)
"""So long a pause loses nothing: the stream keeps changes for 24 hours, and this clock may be wrong by five minutes."""
_WELL = {"OK", "No records processed"}
"""Results of a mapping's last poll that are no problem."""
MOST_AGE_SECONDS = 24 * 3600
MOST_RETRIES = 1_000


@dataclass(frozen=True, slots=True)
class MappingSpec:
    """The requested mapping. None keeps the present value, or takes the default if there is no mapping yet.

    A batch that fails is tried again, in halves, with growing pauses of up to a minute or so: 1,000 times, which is
    hours in which a database can be repaired, and an hour or less if each attempt fails at once. Bad records are
    dead letters and no errors, so only what may pass is tried again. The age of a record must not bound it sooner than
    the stream does (24 hours): Lambda discards what is older, also records that were never tried.
    """

    function: str
    stream_arn: str
    destination: str
    batch_size: int | None = None
    parallelization: int | None = None

    def __post_init__(self) -> None:
        for what, value, most in (
            ("--batch-size", self.batch_size, MOST_BATCH),
            ("--parallelization", self.parallelization, MOST_PARALLEL),
        ):
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"{what}: {value} is not one of 1 to {most}.")

    def settings(self, found: Mapping | None) -> dict[str, Any]:
        """What can also be changed later; stream and starting position cannot."""
        there = found.settings if found else {}
        return {
            "BatchSize": self.batch_size or there.get("BatchSize") or BATCH_SIZE,
            "MaximumBatchingWindowInSeconds": WINDOW_SECONDS,
            "ParallelizationFactor": self.parallelization or there.get("ParallelizationFactor") or _PARALLELIZATION,
            "BisectBatchOnFunctionError": True,
            "MaximumRecordAgeInSeconds": MOST_AGE_SECONDS,
            "MaximumRetryAttempts": MOST_RETRIES,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {"OnFailure": {"Destination": self.destination}},
        }

    def create_call(self, replaced: Mapping | None = None) -> ApiCall:
        """From the trim horizon: LATEST would skip what is written while the mapping comes up."""
        parameters = {
            "EventSourceArn": self.stream_arn,
            "FunctionName": self.function,
            "Enabled": replaced is None or not replaced.paused,
            "StartingPosition": "TRIM_HORIZON",
            **self.settings(replaced),
            "Tags": MANAGED_BY,
        }
        return ApiCall("lambda", "CreateEventSourceMapping", parameters)

    def part(self, found: Sequence[Mapping], now: datetime | None = None) -> Part:
        """The calls that bring the mapping to these settings; it replaces the function's mappings on other streams.

        Its note says which changes are lost with that, or were lost by a pause until `now`.
        """
        title = f"mapping of {self.function}"
        others = [mapping for mapping in found if mapping.stream_arn != self.stream_arn]
        removed = tuple(delete_call(mapping) for mapping in others)
        note = " ".join(
            f"The mapping of {other.stream_arn} is removed: the table has another stream. Changes that it had not "
            "read, and those between the two streams, reach the read model by `cqrsctl rebuild` only."
            for other in others
        )
        there = next((mapping for mapping in found if mapping.stream_arn == self.stream_arn), None)
        if there is not None and now is not None and there.paused_too_long(now):
            note = (
                f"{note} The mapping has been paused since {there.modified_at:%Y-%m-%d %H:%M} UTC: changes may have "
                "left the stream. They reach the read model by `cqrsctl rebuild` only."
            ).strip()
        if there is None:
            last = others[-1] if others else None
            return Part(title, "replaced" if others else "created", (self.create_call(last), *removed), note)
        wanted = {key: value for key, value in self.settings(there).items() if there.settings.get(key) != value}
        calls = removed
        if wanted:
            calls = (ApiCall("lambda", "UpdateEventSourceMapping", {"UUID": there.uuid, **wanted}), *removed)
        changes = {key: f"{_plain(there.settings.get(key))} → {_plain(value)}" for key, value in wanted.items()}
        if others:
            changes["streams"] = f"{len(others)} other removed"
        return updated(title, changes, calls, note)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping as Lambda describes it. `settings` are named as in the API.

    `modified_at` is when its state or a setting last changed (Lambda API reference, EventSourceMappingConfiguration).
    """

    uuid: str
    function: str
    stream_arn: str
    starting_position: str
    state: str
    reason: str
    last_result: str
    settings: dict[str, Any]
    modified_at: datetime | None = None

    @classmethod
    def of(cls, described: Described[str, Any]) -> Mapping:
        destination = ((described.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
        names = (
            "BatchSize",
            "MaximumBatchingWindowInSeconds",
            "ParallelizationFactor",
            "BisectBatchOnFunctionError",
            "MaximumRecordAgeInSeconds",
            "MaximumRetryAttempts",
            "FunctionResponseTypes",
        )
        return cls(
            uuid=described["UUID"],
            function=described.get("FunctionArn", "").partition(":function:")[2],
            stream_arn=described.get("EventSourceArn", ""),
            starting_position=described.get("StartingPosition", ""),
            state=described.get("State", ""),
            reason=described.get("StateTransitionReason") or "",
            last_result=described.get("LastProcessingResult") or "",
            settings={
                **{name: described.get(name) for name in names},
                "DestinationConfig": {"OnFailure": {"Destination": destination}},
            },
            modified_at=described.get("LastModified"),
        )

    @property
    def destination(self) -> str | None:
        found: str | None = self.settings["DestinationConfig"]["OnFailure"]["Destination"]
        return found

    def is_of(self, table: str) -> bool:
        """Whether it brings changes of a table, from whichever of its streams."""
        return f":table/{table}/stream/" in self.stream_arn

    @property
    def paused(self) -> bool:
        return self.state in {DISABLED, "Disabling"}

    def paused_too_long(self, now: datetime) -> bool:
        """Whether it has been paused until changes may have left the stream."""
        return self.paused and self.modified_at is not None and now - self.modified_at > MOST_PAUSE

    @property
    def reads_since(self) -> datetime | None:
        """Since when it has been reading its stream without a problem, at least; None if it is not."""
        return self.modified_at if self.state == ENABLED and self.last_result in _WELL else None

    @property
    def has_problem(self) -> bool:
        """Whether Lambda calls its last poll a problem (Lambda API reference, LastProcessingResult)."""
        return self.last_result.startswith("PROBLEM")

    @property
    def settled(self) -> bool:
        return self.state in {ENABLED, DISABLED}


def of_function(client: Any, function: str) -> list[Mapping]:
    """The function's mappings; those that are being deleted count no more."""
    return _listed(client, {"FunctionName": function})


def is_leaving(client: Any, function: str, stream_arn: str) -> bool:
    """Whether a mapping of a stream to a function is being deleted: for about a minute there can be no other one."""
    found = _described(client, {"FunctionName": function, "EventSourceArn": stream_arn})
    return any(mapping.state == _LEAVING for mapping in found)


def of_stream(client: Any, stream_arn: str) -> list[Mapping]:
    """The mappings of a stream, to whatever functions; those that are being deleted count no more."""
    return _listed(client, {"EventSourceArn": stream_arn})


def _listed(client: Any, asked: dict[str, Any]) -> list[Mapping]:
    return [mapping for mapping in _described(client, asked) if mapping.state != _LEAVING]


def _described(client: Any, asked: dict[str, Any]) -> list[Mapping]:
    pages = ApiCall("lambda", "ListEventSourceMappings", asked).pages(client)
    return [Mapping.of(described) for page in pages for described in page["EventSourceMappings"]]


def serving(mappings: Sequence[Mapping], table: str, stream_arn: str | None) -> Mapping | None:
    """The mapping of a table's stream, else of an earlier stream of it."""
    of_table = [mapping for mapping in mappings if mapping.is_of(table)]
    current = [mapping for mapping in of_table if mapping.stream_arn == stream_arn]
    return next(iter(current or of_table), None)


def require(function: str, found: Sequence[Mapping]) -> Mapping:
    """The function's mapping. Raises AwsError (`mapping_missing`) if there is none."""
    if not found:
        raise AwsError(
            f"No stream is mapped to the function {function!r}.",
            hint="Deploy it with: cqrsctl function deploy",
            code="mapping_missing",
        )
    return found[0]


def switch_call(mapping: Mapping, *, enabled: bool) -> ApiCall:
    return ApiCall("lambda", "UpdateEventSourceMapping", {"UUID": mapping.uuid, "Enabled": enabled})


def delete_call(mapping: Mapping) -> ApiCall:
    return ApiCall("lambda", "DeleteEventSourceMapping", {"UUID": mapping.uuid})


def _plain(value: Any) -> Any:
    return value["OnFailure"]["Destination"] if isinstance(value, dict) else value
