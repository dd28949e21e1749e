"""Each state in which a part is not well has its word and its reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cqrsctl.aurora.autoscaling import Autoscaling, Policy
from cqrsctl.aurora.cluster import Cluster, Instance
from cqrsctl.diagnosis import health_of_read_model as read_side
from cqrsctl.diagnosis import health_of_stream as stream_side
from cqrsctl.diagnosis.backlog import Backlog
from cqrsctl.diagnosis.health import Health, NotAsked, PartHealth, broken
from cqrsctl.diagnosis.health_of_stream import Mapped, Projecting
from cqrsctl.diagnosis.servers import ReaderLag
from cqrsctl.errors import (
    AwsError,
    ConfigurationError,
    CqrsctlError,
    DatabaseError,
    StreamGap,
    TransientAwsError,
    TransientDatabaseError,
)
from cqrsctl.functions.function import Function
from cqrsctl.functions.mapping import Mapping
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.read_model.function_position import Gap, Reason
from cqrsctl.read_model.heartbeat import LastProjected
from cqrsctl.read_model.inventory import Building, Inventory, StoredProjection
from cqrsctl.stream.lineage import Shard
from cqrsctl.stream.shards import Stream
from cqrsctl.write_model.table import Table

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHARDS = {"a": Shard("a", None, 1, 9), "b": Shard("b", "a", 10, None)}
ARN = "arn:aws:dynamodb:eu-west-1:1:table/Products/stream/2026-03-01T00:00:00.000"
STREAM = Stream(ARN, "ENABLED", "NEW_AND_OLD_IMAGES", NOW - timedelta(days=3), ("ProductId",), SHARDS)
TABLE = Table("Products", "arn", "ACTIVE", (("ProductId", "N"),), 7, 700, True, 0, 0, True, None, ARN, "NEW_IMAGE")
IDLE = Backlog(NOW, SHARDS, {"b": None})
BY_FUNCTION = Backlog(NOW, SHARDS, None)
LAST = LastProjected("me@here, process 7", NOW)
STORED = StoredProjection("product", "Product", "product_v2", 1_000, 123_456)
HELD = Inventory((STORED,), (), (), (), LAST.holder, LAST, NOW, 2.0, 100)
STOPPED = replace(HELD, holder=None, progress_seconds=400.0)


def waiting(seconds: float) -> Backlog:
    return Backlog(NOW, SHARDS, {"b": NOW - timedelta(seconds=seconds)})


def told(part: PartHealth) -> tuple[str, str | None]:
    return part.health.value, part.reason


@pytest.mark.parametrize(
    ("error", "health"),
    [
        (AwsError("No table 'Products'.", code="table_missing"), Health.FAILING),
        (TransientAwsError("dynamodb DescribeTable: timed out"), Health.FAILING),
        (TransientDatabaseError("the database does not answer"), Health.FAILING),
        (DatabaseError("the login is refused"), Health.FAILING),
        (CqrsctlError("the stack is broken", code="stack_down"), Health.FAILING),
        (ConfigurationError("no credentials"), Health.UNKNOWN),
        (NotAsked("unknown without the table"), Health.UNKNOWN),
    ],
)
def test_a_part_that_cannot_be_looked_at_says_why(error: CqrsctlError, health: Health) -> None:
    error.hint = "Mend it."

    part = broken("stream", error)

    assert (part.health, part.reason) == (health, f"{error.message} Mend it.")


def test_an_api_that_only_tells_of_a_part_and_does_not_answer_leaves_it_unknown() -> None:
    assert broken("autoscaling", TransientAwsError("no answer")).health is Health.UNKNOWN


@pytest.mark.parametrize("found", [None, Inventory(())])
def test_a_read_model_that_is_not_made_yet_is_off(found: Inventory | None) -> None:
    part = read_side.of_read_model("product", found, 7)

    assert (part.health, part.summary) == (Health.OFF, "there is none yet of product: cqrsctl read-model init")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("ACTIVE", ("ok", None)),
        ("UPDATING", ("warning", "it is UPDATING")),
        ("INACCESSIBLE_ENCRYPTION_CREDENTIALS", ("failing", "it is INACCESSIBLE_ENCRYPTION_CREDENTIALS")),
    ],
)
def test_the_table_is_judged_by_its_state(status: str, expected: tuple[str, str | None]) -> None:
    assert told(stream_side.of_table(replace(TABLE, status=status))) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("ENABLED", ("ok", None)),
        ("ENABLING", ("warning", "it is ENABLING")),
        ("DISABLED", ("failing", "it is DISABLED")),
    ],
)
def test_the_stream_is_judged_by_its_state(status: str, expected: tuple[str, str | None]) -> None:
    assert told(stream_side.of_stream(replace(STREAM, status=status), NOW)) == expected


def test_a_stream_without_new_images_is_failing() -> None:
    assert told(stream_side.of_stream(replace(STREAM, view_type="KEYS_ONLY"), NOW)) == (
        "failing",
        "it has no new images: see cqrsctl doctor",
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (IDLE, ("ok", None)),
        (BY_FUNCTION, ("ok", None)),
        (waiting(3_600), ("ok", None)),
        (waiting(13 * 3_600), ("warning", "unread changes are trimmed in 11 h")),
        (waiting(20 * 3_600), ("failing", "unread changes are trimmed in 4 h")),
        (DatabaseError("away"), ("unknown", "how far they are read is unknown without the database")),
        (ConfigurationError("Projection gone is new."), ("unknown", "Projection gone is new.")),
    ],
)
def test_shards_are_judged_by_how_long_unread_changes_are_kept(
    found: Backlog | CqrsctlError, expected: tuple[str, str | None]
) -> None:
    part = stream_side.of_shards(STREAM, found)

    assert told(part) == expected
    assert part.summary.startswith("1 open, 1 closed")


def test_a_gap_is_failing_and_names_the_rebuild() -> None:
    part = stream_side.of_shards(STREAM, StreamGap("Changes were lost."))

    assert part.health is Health.FAILING
    assert "cqrsctl rebuild" in (part.reason or "")


def mapping(state: str = "Enabled", last_result: str = "OK") -> Mapping:
    return Mapping("uuid", PROJECTOR, ARN, "TRIM_HORIZON", state, "somebody asked", last_result, {})


@pytest.mark.parametrize(
    ("traces", "backlog", "mapped", "expected"),
    [
        (HELD, IDLE, None, ("ok", None)),
        (HELD, waiting(29), None, ("ok", None)),
        (HELD, waiting(300), None, ("warning", "behind: changes wait for 5 min, and it gets on")),
        (
            replace(HELD, progress_seconds=45.0),
            waiting(300),
            None,
            ("failing", "stuck: changes wait for 5 min, but its checkpoints did not move for 45 s"),
        ),
        (
            replace(HELD, progress_seconds=None),
            waiting(31),
            None,
            ("failing", "stuck: changes wait for 31 s, but its checkpoints did not move ever"),
        ),
        (replace(HELD, progress_seconds=4_000.0), IDLE, None, ("ok", None)),
        (HELD, StreamGap("lost"), None, ("unknown", "changes were lost: see shards")),
        (HELD, NotAsked("no stream"), None, ("unknown", "what waits is unknown: see shards")),
        (STOPPED, IDLE, None, ("off", None)),
        (
            STOPPED,
            waiting(5),
            None,
            ("warning", "stopped: changes wait for 5 s, and nobody projects. Start it: cqrsctl project"),
        ),
        (
            STOPPED,
            waiting(7_200),
            None,
            ("failing", "stopped: changes wait for 2 h, and nobody projects. Start it: cqrsctl project"),
        ),
        (STOPPED, waiting(7_200), mapping(), ("off", None)),
        (STOPPED, waiting(7_200), mapping("Creating"), ("off", None)),
        (STOPPED, waiting(7_200), mapping("Enabling"), ("off", None)),
        (
            STOPPED,
            BY_FUNCTION,
            mapping("Disabled"),
            (
                "unknown",
                "nobody projects, and what waits is unknown: the Lambda function projected last, and AWS keeps its "
                "position",
            ),
        ),
    ],
)
def test_the_projector_is_judged_by_its_progress(
    traces: Inventory,
    backlog: Backlog | CqrsctlError,
    mapped: Mapping | None,
    expected: tuple[str, str | None],
) -> None:
    assert told(stream_side.of_projector(Projecting(traces, backlog, mapped, None))) == expected


@pytest.mark.parametrize(
    ("state", "summary"),
    [
        ("Enabled", "the Lambda function projects"),
        ("Creating", "the Lambda function will project: its mapping is being created"),
        ("Enabling", "the Lambda function will project: its mapping is being enabled"),
        ("Updating", "the Lambda function will project: its mapping is being updated"),
    ],
)
def test_the_projectors_line_shows_that_the_function_projects_or_will_soon(state: str, summary: str) -> None:
    assert stream_side.of_projector(Projecting(STOPPED, waiting(7_200), mapping(state), None)).summary == summary


def test_the_projectors_line_names_who_holds_the_lock_and_how_quick_it_is() -> None:
    part = stream_side.of_projector(Projecting(HELD, IDLE, None, 1234.5))

    assert part.summary == "me@here, process 7; last progress 2 s ago, 1234 rows/s"


def function(state: str = "Active") -> Function:
    described = {
        "FunctionName": "ProductHandlerFunction",
        "FunctionArn": "arn",
        "State": state,
        "StateReason": "no key",
    }
    return Function.of({"Configuration": {**described, "Role": "r", "CodeSha256": ""}})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Mapped(), ("off", None)),
        (Mapped(function(), elsewhere=True), ("off", None)),
        (Mapped(function(), runs=False), ("off", None)),
        (Mapped(function()), ("warning", "no stream is mapped to it: cqrsctl function deploy")),
        (Mapped(function(), mapping(), 0.4, 0.0), ("ok", None)),
        (Mapped(function(), mapping()), ("ok", None)),
        (Mapped(function(), mapping("Disabled")), ("off", "paused; resume it with: cqrsctl function resume")),
        (Mapped(function(), mapping("Enabling")), ("warning", "somebody asked")),
        (Mapped(function("Failed"), mapping()), ("failing", "the function has failed: no key")),
        (Mapped(function(), mapping(last_result="PROBLEM: denied"), 1.0), ("failing", "PROBLEM: denied")),
        (
            Mapped(function(), mapping(), stream_arn="another"),
            (
                "failing",
                "it reads an earlier stream of the table: cqrsctl function deploy, then cqrsctl rebuild",
            ),
        ),
        (
            Mapped(function(), mapping(), 90.0),
            ("warning", "changes wait for 1 min 30 s. See why: cqrsctl function logs projector"),
        ),
        (
            Mapped(function(), mapping(), waiting=90.0),
            ("failing", "changes wait for 1 min 30 s. See why: cqrsctl function logs projector"),
        ),
        (
            Mapped(function(), mapping(), 21 * 3_600.0),
            ("failing", "changes wait for 21 h. See why: cqrsctl function logs projector"),
        ),
    ],
)
def test_the_mapping_is_judged_by_its_state_and_its_age(found: Mapped, expected: tuple[str, str | None]) -> None:
    assert told(stream_side.of_mapping(found)) == expected


BUILDING = Building("product_v3", "loading", 400, held=True)


GAP = {"projection": "product", "stream": ARN, "shard": "b", "state": "gap"}


def held(**differently: Any) -> Inventory:
    return replace(HELD, projections=(replace(STORED, **differently),))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (HELD, ("ok", None)),
        (held(building=BUILDING), ("ok", None)),
        (
            held(building=replace(BUILDING, held=False)),
            ("warning", "a rebuild was stopped with 400 items in product_v3: resume it with cqrsctl rebuild"),
        ),
        (held(dead_letters=3), ("warning", "3 dead letters: cqrsctl dead-letter list")),
        (
            held(differences=("column Name is new",)),
            ("failing", "its table was made from another declaration: cqrsctl rebuild"),
        ),
        (
            replace(held(dead_letters=1), checkpoints=(GAP, {**GAP, "shard": "a"}, {**GAP, "projection": "other"})),
            (
                "failing",
                "1 dead letter: cqrsctl dead-letter list; "
                "changes of 2 shards were trimmed before they were read: cqrsctl rebuild",
            ),
        ),
        (
            replace(HELD, function_gaps=(Gap("product", ARN, Reason.STOOD_STILL, NOW, rebuilding=False),)),
            ("failing", "nothing was projected until changes left the stream: cqrsctl rebuild"),
        ),
        (held(rows=None), ("failing", "its table is gone: cqrsctl read-model drop, then cqrsctl rebuild")),
    ],
)
def test_the_read_model_is_judged_by_what_it_holds(found: Inventory, expected: tuple[str, str | None]) -> None:
    assert told(read_side.of_read_model("product", found, 1_000)) == expected


def test_a_rebuild_under_way_tells_how_far_it_is() -> None:
    part = read_side.of_read_model("product", held(building=BUILDING), 1_000)

    assert part.summary == (
        "product_v2: about 1000 rows, 123 KB; product_v3 is being built, 400 of about 1000 items loaded"
    )


def member(name: str, status: str = "available", *, writer: bool = False) -> Instance:
    return Instance(name, writer, status, "db.r6g.large", "a", 1, "host")


CLUSTER = Cluster(
    name="products",
    status="available",
    engine="aurora-mysql",
    version="8.0",
    writer_host="w",
    reader_host="r",
    port=3306,
    capacity=None,
    storage_type="aurora",
    encrypted=True,
    kms_key="",
    deletion_protection=True,
    iam_auth=False,
    backup_days=7,
    subnet_group="",
    security_groups=(),
    secret_arn=None,
    members=(member("w", writer=True), member("r1")),
)


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (None, ("off", None)),
        (CLUSTER, ("ok", None)),
        (replace(CLUSTER, status="backing-up"), ("warning", "cluster products is backing-up")),
        (replace(CLUSTER, status="stopped"), ("failing", "cluster products is stopped")),
        (
            replace(CLUSTER, members=(member("w", writer=True), member("r1", "rebooting"))),
            ("warning", "r1 is rebooting"),
        ),
        (replace(CLUSTER, members=(member("r1"),)), ("failing", "it has no writer")),
    ],
)
def test_the_cluster_is_judged_by_its_members(cluster: Cluster | None, expected: tuple[str, str | None]) -> None:
    assert told(read_side.of_cluster(cluster)) == expected


@pytest.mark.parametrize(
    ("readers", "expected"),
    [
        ([], ("off", None)),
        ([ReaderLag("r1", 0.1), ReaderLag("r2", 9.0)], ("ok", None)),
        ([ReaderLag("r1", 0.1), ReaderLag("r2", 11.0)], ("warning", "r2 is 11 s behind")),
        ([ReaderLag("r1", 600.0), ReaderLag("r2", 11.0)], ("failing", "r1 is 10 min behind; r2 is 11 s behind")),
        (
            [ReaderLag("r1", None, "does not answer: refused", answers=False), ReaderLag("r2", 0.1)],
            ("failing", "r1: does not answer: refused"),
        ),
        ([ReaderLag("r1", None, "nobody wrote a heartbeat yet")], ("unknown", "r1: nobody wrote a heartbeat yet")),
    ],
)
def test_readers_are_judged_by_the_one_furthest_behind(
    readers: list[ReaderLag], expected: tuple[str, str | None]
) -> None:
    assert told(read_side.of_readers(readers)) == expected


SCALED = Autoscaling("products", 1, 5, policies=(Policy("p", "cpu", 60.0, 300, 300),))


@pytest.mark.parametrize(
    ("found", "activities", "expected"),
    [
        (None, [], ("off", None)),
        (Autoscaling("products"), [], ("off", None)),
        (SCALED, [], ("ok", None)),
        (replace(SCALED, suspended=True), [], ("warning", "it is suspended")),
        (SCALED, [{"status": "Failed", "cause": "no capacity"}], ("warning", "its last act failed: no capacity")),
        (SCALED, [{"status": "Successful"}, {"status": "Failed", "cause": "before"}], ("ok", None)),
    ],
)
def test_autoscaling_is_judged_by_its_last_act(
    found: Autoscaling | None, activities: list[dict[str, Any]], expected: tuple[str, str | None]
) -> None:
    assert told(read_side.of_autoscaling(found, activities)) == expected
