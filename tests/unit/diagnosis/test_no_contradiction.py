"""One planted state at a time: what `lag`, `status`, `doctor` and the others say of it never differs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import Position
from cqrsctl.diagnosis import lag as lags
from cqrsctl.diagnosis import read_model_status, stream_status
from cqrsctl.diagnosis.backlog import Backlog
from cqrsctl.diagnosis.doctor.findings import Severity
from cqrsctl.diagnosis.facts import outcome
from cqrsctl.diagnosis.health import Health, PartHealth
from cqrsctl.diagnosis.servers import ReaderLag
from cqrsctl.diagnosis.status import judged
from cqrsctl.errors import AwsError, CqrsctlError, StreamGap, TransientDatabaseError
from cqrsctl.read_model.connection import ReadModelMissing
from cqrsctl.read_model.function_position import Gap, Reason
from tests.unit.diagnosis.test_doctor import (
    BY_FUNCTION,
    CHECKPOINT,
    FUNCTION,
    NOW,
    OLDER_ARN,
    SHARD,
    SHARDS,
    STREAM,
    STREAM_ARN,
    TABLE,
    diagnose,
    held,
    look,
    mapped,
    stored,
    unread,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cqrsctl.diagnosis.doctor.findings import Diagnosis
    from cqrsctl.diagnosis.lag import Lag

AWAY = TransientDatabaseError("db.example does not answer")
BEHIND = held(progress_seconds=2.0, progressed_at=NOW)
STOPPED = replace(BEHIND, holder=None)
OF_FUNCTION = replace(STOPPED, last=BY_FUNCTION)
UNKNOWN_POSITION = Backlog(NOW, SHARDS, None)
LOST = StreamGap("Shard shard-1: changes may have left the stream.")
NO_STREAM = AwsError("There is no stream that can be projected.")
OFF = replace(TABLE, stream_arn=None, view_type=None)

STATES: dict[str, dict[str, Any]] = {
    "all is well": {},
    "behind by an hour": {"inventory": BEHIND, "backlog": unread(1)},
    "stuck for an hour": {"inventory": replace(BEHIND, progress_seconds=3_600.0), "backlog": unread(1)},
    "nobody projects": {"inventory": STOPPED, "backlog": unread(1), "mappings": None, "function": None},
    "trimmed in eleven hours": {"inventory": BEHIND, "backlog": unread(13)},
    "trimmed in three hours": {"inventory": BEHIND, "backlog": unread(21)},
    "trimmed in three hours, and nobody projects": {"inventory": STOPPED, "backlog": unread(21)},
    "the function projects": {"inventory": OF_FUNCTION, "backlog": UNKNOWN_POSITION},
    "the function is late": {"inventory": OF_FUNCTION, "backlog": UNKNOWN_POSITION, "iterator_age_seconds": 50_000.0},
    "the function is nearly too late": {
        "inventory": OF_FUNCTION,
        "backlog": UNKNOWN_POSITION,
        "iterator_age_seconds": 76_000.0,
    },
    "the function has failed": {"inventory": OF_FUNCTION, "function": replace(FUNCTION, state="Failed")},
    "the function is paused": {"inventory": OF_FUNCTION, "mappings": mapped(State="Disabled")},
    "the mapping has a problem": {"mappings": mapped(LastProcessingResult="PROBLEM: Function call failed")},
    "the mapping is of an earlier stream": {"mappings": mapped(EventSourceArn=OLDER_ARN)},
    "no stream is mapped": {"mappings": []},
    "a gap is marked": {"inventory": held(checkpoints=({**CHECKPOINT, "state": "gap"},)), "backlog": LOST},
    "a gap of an earlier stream": {
        "inventory": held(checkpoints=(CHECKPOINT, {**CHECKPOINT, "stream": OLDER_ARN, "state": "gap"}))
    },
    "a gap that is not marked": {"backlog": LOST},
    "a gap of the function": {
        "inventory": held(function_gaps=(Gap("product", STREAM_ARN, Reason.PAUSED, NOW, rebuilding=False),)),
        "backlog": LOST,
    },
    "another stream": {"inventory": held(checkpoints=({**CHECKPOINT, "stream": OLDER_ARN},)), "backlog": LOST},
    "the stream is off": {"table": OFF, "stream": None, "backlog": NO_STREAM},
    "no new images": {
        "table": replace(TABLE, view_type="KEYS_ONLY"),
        "stream": replace(STREAM, view_type="KEYS_ONLY"),
        "backlog": NO_STREAM,
    },
    "no table": {"table": None, "stream": None, "backlog": NO_STREAM},
    "the table is inaccessible": {"table": replace(TABLE, status="INACCESSIBLE_ENCRYPTION_CREDENTIALS")},
    "no read model": {"inventory": ReadModelMissing("no such table"), "backlog": unread(1)},
    "the database is away": dict.fromkeys(("inventory", "counted", "backlog", "positions", "server"), AWAY),
    "declared otherwise": {"inventory": stored(differences=("column Name is new",))},
    "the table of rows is gone": {"inventory": stored(rows=None)},
    "dead letters": {"inventory": stored(dead_letters=2)},
    "a reader that does not answer": {"readers": [ReaderLag("r1", None, "does not answer: refused", answers=False)]},
    "a reader that is far behind": {"readers": [ReaderLag("r1", 600.0)]},
}


@dataclass(frozen=True, slots=True)
class Told:
    """What all commands say of one state."""

    lag: Lag | CqrsctlError
    parts: dict[str, PartHealth]
    doctor: Diagnosis
    stream: stream_status.StreamStatus | CqrsctlError
    notes: list[str]
    read_model: read_model_status.ReadModelStatus | CqrsctlError

    def found(self, code: str) -> list[Severity]:
        """How bad the doctor calls it."""
        return [each.finding.severity for each in self.doctor.found if each.code == code]


def told(tmp_path: Path, state: dict[str, Any]) -> Told:
    planted = {"positions": {"product": {SHARD: Position(SHARD, None)}}, **state}
    facts = look(tmp_path, **planted)
    notes: list[str] = []
    return Told(
        lag=outcome(lambda: lags.judged(facts)),
        parts={part.name: part for part in judged(facts).parts},
        doctor=diagnose(facts),
        stream=outcome(lambda: stream_status.status(facts, notes.append)),
        notes=notes,
        read_model=outcome(lambda: read_model_status.status(facts)),
    )


@pytest.fixture(params=STATES, scope="module")
def state(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return told(tmp_path_factory.mktemp("state"), STATES[request.param])


def test_a_part_is_failing_only_if_the_doctor_finds_something_wrong(state: Told) -> None:
    failing = [name for name, part in state.parts.items() if part.health is Health.FAILING]

    assert not failing or not state.doctor.well


def test_what_the_doctor_calls_critical_is_seen_in_the_status(state: Told) -> None:
    if state.doctor.count(Severity.CRITICAL):
        assert {part.health for part in state.parts.values()} & {Health.FAILING, Health.UNKNOWN}


def test_the_hours_left_are_the_same(state: Told) -> None:
    if isinstance(state.lag, CqrsctlError) or isinstance(state.stream, CqrsctlError):
        return
    from_shards = [each["hours_left"] for each in state.stream.shards if each["hours_left"] is not None]
    by_position = state.lag.source is lags.LagSource.CHECKPOINTS
    hours = state.lag.hours_left if by_position else None

    assert min(from_shards, default=None) == hours
    assert state.parts["shards"].facts["hours_left"] == hours
    expected = [] if hours is None or hours > 12 else [Severity.CRITICAL if hours <= 4 else Severity.WARNING]
    assert state.found("stream_trimming") == expected


def test_an_iterator_age_is_as_bad_for_the_doctor_as_for_the_status(state: Told) -> None:
    nearly_lost = state.found("stream_iterator_age") == [Severity.CRITICAL]

    assert not nearly_lost or state.parts["mapping"].health is Health.FAILING


def test_the_lag_is_the_same_in_both_commands(state: Told) -> None:
    if not isinstance(state.lag, CqrsctlError):
        waiting = state.parts["projector"].facts.get("waiting_seconds")
        assert waiting == (state.lag.lag_seconds if state.lag.source is lags.LagSource.CHECKPOINTS else None)


def test_a_gap_is_one_for_every_command(state: Told) -> None:
    if isinstance(state.lag, StreamGap):
        assert state.parts["shards"].health is Health.FAILING
        assert Severity.CRITICAL in state.found("stream_gap") + state.found("stream_changed")
        assert any(note.startswith("Gap: ") for note in state.notes)
    else:
        assert state.found("stream_gap") == []
        assert not any(note.startswith("Gap: ") for note in state.notes)
        if not isinstance(state.read_model, CqrsctlError) and not isinstance(state.lag, CqrsctlError):
            assert "trimmed before" not in (state.parts["read model"].reason or "")


def test_how_far_a_shard_is_read_is_unknown_without_the_database_and_said_once(tmp_path: Path) -> None:
    state = told(tmp_path, STATES["the database is away"])

    assert not isinstance(state.stream, CqrsctlError)
    assert {shard["read"] for shard in state.stream.shards} == {"unknown"}
    assert state.notes == [f"No checkpoints: {AWAY}"]


def test_the_holder_is_the_same(state: Told) -> None:
    if isinstance(state.read_model, CqrsctlError):
        return
    projector = state.parts["projector"]

    assert projector.facts.get("held", False) is (state.read_model.holder is not None)
    if state.read_model.holder and projector.health is not Health.UNKNOWN:
        assert projector.summary.startswith(state.read_model.holder)


def test_the_mapping_is_the_same(state: Told) -> None:
    mapping = state.parts["mapping"]
    if state.found("mapping_stream"):
        assert mapping.health is Health.FAILING
    if state.found("mapping_paused"):
        assert mapping.facts["state"] == "Disabled"
    if state.found("mapping_missing"):
        assert (mapping.health, mapping.facts) == (Health.WARNING, {})


def test_the_states_are_not_all_alike(tmp_path: Path) -> None:
    """Else what is asked above would be asked of nothing."""
    all_told = [told(tmp_path, planted) for planted in STATES.values()]

    assert {part.health for each in all_told for part in each.parts.values()} == set(Health)
    assert sum(isinstance(each.lag, StreamGap) for each in all_told) == 4
    hours = {each.lag.hours_left for each in all_told if not isinstance(each.lag, CqrsctlError)}
    assert {None, 23.0, 11.0, 3.0} <= hours
    for code in ("mapping_stream", "mapping_paused", "mapping_missing", "stream_changed", "part_failing"):
        assert any(each.found(code) for each in all_told), code
