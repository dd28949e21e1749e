"""Changes that can no longer reach the function: found and marked as its mapping is resumed or replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import Position, SequenceNumber, ShardState
from cqrsctl.clock import SystemClock
from cqrsctl.diagnosis import function_status
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.errors import StreamGap
from cqrsctl.functions.deploy import Options
from cqrsctl.local.ports import free_port
from cqrsctl.pipeline.function_operations import Which, reads_since
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import checkpoints, function_position, heartbeat, rebuilds
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.read_model.function_position import Reason
from cqrsctl.read_model.sink import prepare
from cqrsctl.write_model.table import Table
from tests.functions_world import (
    NOW,
    OTHER_ZIP,
    ZIP,
    Operated,
    deploy_all,
    moto_for,
    remake_table,
    stream_arn,
    with_table,
    writes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

PRODUCT = default_product()


@pytest.fixture
def operated(tmp_path: Path, wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operated]:
    """Deployed functions, beside a read model on a real server."""
    endpoint = wiring.database
    prepare(endpoint, [PRODUCT])
    with moto_for(monkeypatch):
        found = deploy_all(with_table(tmp_path))
        found.wiring.servers = Servers(lambda: Topology(endpoint))
        monkeypatch.setattr(found, "code", lambda: ZIP)
        yield found


def paused(operated: Operated, hours: float) -> None:
    """Pause the function, some time ago."""
    operated.switch(enabled=False, wait=True)
    modified(operated, NOW - timedelta(hours=hours))


def modified(operated: Operated, at: datetime, **more: Any) -> None:
    """Let Lambda report another time for the mapping's last change, and other things."""

    def listed(real: Any, **parameters: Any) -> Any:
        page = real(**parameters)
        found = [{**each, "LastModified": at, **more} for each in page["EventSourceMappings"]]
        return {**page, "EventSourceMappings": found}

    operated.client("lambda").instead["list_event_source_mappings"] = listed


def unreachable(operated: Operated) -> None:
    endpoint = replace(operated.wiring.database, port=free_port())
    operated.wiring.servers = Servers(lambda: Topology(endpoint))


def marked(operated: Operated) -> dict[str, Reason]:
    with connect(operated.wiring.database) as connection:
        return {gap.projection: gap.reason for gap in function_position.gaps(connection)}


def with_another_stream(operated: Operated) -> str:
    """Make the table again; the ARN of its new stream."""
    remake_table(operated)
    return stream_arn(operated)


def handled(operated: Operated, seconds_ago: float = 0) -> None:
    with connect(operated.wiring.database) as connection:
        connection.execute(
            "INSERT INTO cqrs_function_position VALUES (%s, NOW(6) - INTERVAL %s SECOND, NOW(6), '7', NULL)",
            (stream_arn(operated), seconds_ago),
        )
        connection.commit()


def test_resuming_after_a_pause_of_a_day_is_a_gap_and_resumes(operated: Operated) -> None:
    paused(operated, 23.95)

    assert operated.switch(enabled=True, wait=False)

    assert operated.gap is not None
    assert (operated.gap.exit_code, operated.gap.code) == (6, "stream_gap")
    assert "paused until changes left the stream" in operated.gap.message
    assert "cqrsctl rebuild" in (operated.gap.hint or "")
    assert marked(operated) == {"product": Reason.PAUSED}
    assert operated.client("lambda").made("update_event_source_mapping")[-1]["Enabled"] is True


def test_the_gap_is_marked_before_the_function_is_resumed(operated: Operated) -> None:
    paused(operated, 30)
    operated.client("lambda").refuse("update_event_source_mapping")

    with pytest.raises(Exception, match="UpdateEventSourceMapping"):
        operated.switch(enabled=True, wait=False)

    assert marked(operated) == {"product": Reason.PAUSED}


def test_resuming_after_a_shorter_pause_says_nothing(operated: Operated) -> None:
    paused(operated, 23.9)
    operated.notes.clear()

    assert operated.switch(enabled=True, wait=False)

    assert operated.gap is None
    assert not any("lost" in line or "left the stream" in line for line in operated.notes)
    assert marked(operated) == {}


def test_a_gap_that_cannot_be_recorded_is_one_all_the_same(operated: Operated) -> None:
    paused(operated, 30)
    unreachable(operated)

    assert operated.switch(enabled=True, wait=False)

    assert operated.gap is not None
    assert "could not be recorded in the database" in operated.gap.message
    assert "paused since 2026-02-28 06:00 UTC" in operated.gap.message


def test_a_shorter_pause_needs_no_database(operated: Operated) -> None:
    paused(operated, 2)
    unreachable(operated)

    assert operated.switch(enabled=True, wait=False)
    assert operated.gap is None


def test_a_projector_that_read_the_stream_meanwhile_lost_nothing(operated: Operated) -> None:
    with connect(operated.wiring.database) as connection:
        position = Position("shard-1", None, SequenceNumber("7"))
        checkpoints.write(connection, stream_arn(operated), {PRODUCT.name: [position]})
        connection.commit()
    paused(operated, 100)

    assert operated.switch(enabled=True, wait=False)

    assert operated.gap is None
    assert marked(operated) == {}


def test_a_pause_that_a_deployment_hides_is_remembered(operated: Operated) -> None:
    handled(operated)
    paused(operated, 20)
    operated.deploy(Which.PROJECTOR, Options(batch_size=50), ZIP, wait=False)
    modified(operated, NOW)
    operated.clock.sleep(5 * 3_600)

    assert operated.switch(enabled=True, wait=False)

    assert operated.gap is not None
    assert marked(operated) == {"product": Reason.PAUSED}


def test_a_deployment_over_a_pause_of_a_day_notes_it_and_stays_paused(operated: Operated) -> None:
    paused(operated, 30)

    parts = operated.deploy(Which.PROJECTOR, Options(batch_size=50), ZIP, wait=True)

    assert "paused since 2026-02-28 06:00 UTC" in parts[-1].note
    assert "cqrsctl rebuild" in parts[-1].note
    assert operated.gap is None
    assert marked(operated) == {"product": Reason.PAUSED}  # from now on AWS does not tell it any more
    assert operated.mappings()[0].paused


def test_a_deployment_that_leaves_the_paused_mapping_alone_only_notes(operated: Operated) -> None:
    paused(operated, 30)

    parts = operated.deploy(Which.PROJECTOR, Options(), OTHER_ZIP, wait=False)

    assert "paused since" in parts[-1].note
    assert marked(operated) == {}


def test_a_mapping_of_an_earlier_stream_is_replaced_and_a_gap(operated: Operated) -> None:
    with_another_stream(operated)

    planned = operated.plan(Which.PROJECTOR, Options(), ZIP)
    assert "those between the two streams, reach the read model by `cqrsctl rebuild` only" in planned[-1].note
    assert (operated.gap, marked(operated)) == (None, {})

    parts = operated.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    assert parts[-1].change == "replaced"
    mapped = [name for name in writes(operated) if name.endswith("_event_source_mapping")]
    assert mapped[-2:] == ["create_event_source_mapping", "delete_event_source_mapping"]
    assert operated.gap is not None
    assert "the table's stream was replaced" in operated.gap.message
    assert marked(operated) == {"product": Reason.STREAM_CHANGED}

    operated.gap = None
    operated.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)
    assert operated.gap is None


@pytest.mark.parametrize(("hours", "gap"), [(23, False), (30, True)])
def test_a_function_that_is_deployed_again_after_a_day_has_a_gap(operated: Operated, hours: int, gap: bool) -> None:
    handled(operated, hours * 3_600)
    operated.remove(operated.removals(with_logs=False))

    operated.deploy(Which.PROJECTOR, Options(), ZIP, wait=False)

    assert (operated.gap is not None) is gap
    assert marked(operated) == ({"product": Reason.STOOD_STILL} if gap else {})


@pytest.mark.parametrize(
    ("parent_hours", "hours", "moved_hours", "gap"),
    [
        pytest.param(30, 24, 24, True, id="it stood still"),
        pytest.param(30, 24, 0, True, id="it tried lately, and came no further than a day ago"),
        pytest.param(30, 23, 23, False, id="what it had not read is in the stream"),
        pytest.param(30, None, 24, True, id="an earlier release did not write how far it read"),
        pytest.param(30, None, 23, False, id="an earlier release moved it within a day"),
        pytest.param(None, 23, 23, False, id="its parent is not known"),
        pytest.param(None, 24, 23, True, id="its parent is not known, and it stood still"),
    ],
)
def test_a_first_function_after_a_projector_has_a_gap_if_changes_left_the_stream_unread(
    operated: Operated, parent_hours: float | None, hours: float | None, moved_hours: float, gap: bool
) -> None:
    arn = stream_arn(operated)
    for mapping in operated.mappings():
        operated.client("lambda").delete_event_source_mapping(UUID=mapping.uuid)
    shard = position("shard-2", "shard-1", hours)
    parent = replace(position("shard-1", None, parent_hours), state=ShardState.FINISHED)
    with connect(operated.wiring.database) as connection:
        checkpoints.write(connection, arn, {"product": [shard] if parent_hours is None else [parent, shard]})
        connection.execute("UPDATE cqrs_checkpoint SET updated_at = NOW(6) - INTERVAL %s HOUR", (moved_hours,))
        connection.commit()

    operated.deploy(Which.PROJECTOR, Options(), ZIP, wait=False)

    assert marked(operated) == ({"product": Reason.STOOD_STILL} if gap else {})


def position(shard_id: str, parent_id: str | None, read_hours_ago: float | None) -> Position:
    """How far a shard was read."""
    through = None if read_hours_ago is None else datetime.now(UTC) - timedelta(hours=read_hours_ago)
    return Position(shard_id, parent_id, SequenceNumber("7"), read_through=through)


@pytest.mark.parametrize("projected", [False, True])
def test_a_first_deployment_notes_items_that_no_change_record_brings(
    operated: Operated, monkeypatch: pytest.MonkeyPatch, projected: bool
) -> None:
    for mapping in operated.mappings():
        operated.client("lambda").delete_event_source_mapping(UUID=mapping.uuid)
    monkeypatch.setattr(Table, "recorded_since", lambda self, now: now)
    if projected:
        handled(operated)
    operated.notes.clear()

    operated.deploy(Which.PROJECTOR, Options(), ZIP, wait=False)

    assert sum("`cqrsctl rebuild` loads them" in note for note in operated.notes) == (0 if projected else 1)


def test_after_a_rebuild_on_the_new_stream_the_replacement_is_no_gap(operated: Operated) -> None:
    arn = with_another_stream(operated)
    with connect(operated.wiring.database) as connection:
        rebuild = rebuilds.begin(connection, PRODUCT, arn, 1)
        rebuilds.mark_loaded(connection, rebuild)
        rebuilds.cut_over(connection, rebuild)

    operated.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    assert operated.gap is None
    assert marked(operated) == {}


def test_a_replacement_that_cannot_be_recorded_is_a_gap_all_the_same(operated: Operated) -> None:
    before = stream_arn(operated)
    with_another_stream(operated)
    unreachable(operated)

    operated.deploy(Which.ALL, Options(), ZIP, wait=True)

    assert operated.gap is not None
    assert before in operated.gap.message
    assert "could not be recorded in the database" in operated.gap.message


def test_the_functions_status_shows_gaps_or_says_that_they_are_unknown(operated: Operated) -> None:
    operated.client("cloudwatch").refuse("get_metric_data")
    assert function_status.status(operated).gaps == []
    with connect(operated.wiring.database) as connection:
        function_position.mark(connection, stream_arn(operated), Reason.PAUSED, ["product"])
        connection.commit()

    found = function_status.status(operated).gaps
    assert found is not None
    assert [(gap.projection, gap.reason) for gap in found] == [("product", Reason.PAUSED)]

    unreachable(operated)
    assert function_status.status(operated).gaps is None
    assert any("Whether changes were lost is unknown" in line for line in operated.notes)


def test_a_gap_that_a_projector_marked_stays_one_after_the_function_took_over(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trimmed before a projector read it never reached the function either."""
    mapped, client = operated.client("lambda"), operated.wiring.client
    monkeypatch.setattr(
        operated.wiring, "client", lambda name, **more: mapped if name == "lambda" else client(name, **more)
    )
    modified(operated, NOW, LastProcessingResult="OK")
    handled(operated)
    with connect(operated.wiring.database) as connection:
        heartbeat.write(connection, heartbeat.FUNCTION)
        connection.commit()
    arn = stream_arn(operated)
    assert Facts(operated.wiring, SystemClock())._following(arn) is None  # the function has the position

    lost = Position("shard-1", None, SequenceNumber("7"), ShardState.GAP)
    with connect(operated.wiring.database) as connection:
        checkpoints.write(connection, arn, {"product": [lost]})
        connection.execute("UPDATE cqrs_checkpoint SET updated_at = NOW(6) - INTERVAL 1 HOUR")
        connection.commit()
    facts = Facts(operated.wiring, SystemClock())
    with pytest.raises(StreamGap) as caught:
        facts._following(arn)
    assert caught.value.followers == {"product"}
    assert [str(each) for each in facts.gaps()] == [str(caught.value)]


def test_a_mapping_reads_since_its_last_change_if_it_is_enabled_and_well(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = stream_arn(operated)
    monkeypatch.setattr(operated.wiring, "client", lambda service, **_: operated.client(service))
    modified(operated, NOW, LastProcessingResult="OK")
    assert reads_since(operated.wiring, arn) == NOW
    assert reads_since(operated.wiring, arn.replace("2026", "2025") + "0") is None

    modified(operated, NOW, LastProcessingResult="PROBLEM: Function call failed")
    assert reads_since(operated.wiring, arn) is None
    modified(operated, NOW, LastProcessingResult="OK", State="Disabled")
    assert reads_since(operated.wiring, arn) is None


def test_the_command_deploys_everything_and_ends_with_exit_6(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("read-model", "init")
    cqrsctl.ok("function", "deploy")
    cqrsctl.ok("table", "delete", "--yes", "--unprotect")
    cqrsctl.ok("table", "create")

    planned = cqrsctl.ok("function", "deploy", "--dry-run")
    deployed = cqrsctl("function", "deploy", "-o", "json")

    assert "the table has another stream" in planned.err
    assert deployed.code == 6
    error = json.loads(deployed.err.splitlines()[-1])["error"]
    assert error["code"] == "stream_gap"
    assert "replaced" in {part["change"] for part in deployed.json()}
    assert cqrsctl("lag").code == 6
    cqrsctl.ok("function", "deploy")
    cqrsctl.ok("function", "pause")
    cqrsctl.ok("function", "resume", "--dry-run")
    cqrsctl.ok("function", "resume")
    gaps = cqrsctl.ok("function", "status", "-o", "json").json()["gaps"]
    assert [(gap["projection"], gap["reason"]) for gap in gaps] == [("product", "stream_changed")]
    assert "stream_changed" in cqrsctl.ok("function", "status").out
    cqrsctl.ok("function", "delete", "--yes", "--logs")
