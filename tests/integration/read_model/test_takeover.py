"""A projector by hand takes over from the Lambda function and gives back: nothing is lost, nothing repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import Position, SequenceNumber, ShardState
from cqrsctl.clock import SystemClock
from cqrsctl.errors import StreamGap
from cqrsctl.functions.projector_function import ProjectorFunction
from cqrsctl.pipeline import function_operations, project
from cqrsctl.projection.definition import Projection, default_product
from cqrsctl.read_model import checkpoints, function_position, heartbeat, locks, rebuilds
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.function_position import Reason
from cqrsctl.read_model.sink import MySqlSink, prepare
from cqrsctl.stream.reader import Beginning
from cqrsctl.write_model import table
from cqrsctl.write_model.product import Product
from cqrsctl.write_model.products import Existence

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.read_model.connection import Login
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

PRODUCTS = 40


class KeptLogin:
    """The stack's login, kept for as long as nobody forgets it."""

    def __init__(self, login: Callable[[], Login]) -> None:
        self._login = login

    def __call__(self) -> Login:
        return self._login()

    def forget(self) -> None:
        """It does not change here."""


def deployed(wiring: Wiring) -> ProjectorFunction:
    """The projector function, as its entry point makes it."""
    login = KeptLogin(wiring.database.login)
    return ProjectorFunction(
        wiring.environment.table, (default_product(),), wiring.database, login, lambda: datetime.now(UTC)
    )


def records(wiring: Wiring) -> list[dict[str, Any]]:
    """All records of the table's stream, as Lambda hands them over."""
    streams, arn = (
        wiring.client("dynamodbstreams"),
        table.describe(wiring.dynamodb, wiring.environment.table).stream_arn,
    )
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    found = streams.get_records(ShardIterator=iterator["ShardIterator"], Limit=1_000)["Records"]
    return [{**record, "eventSource": "aws:dynamodb", "eventSourceARN": arn} for record in found]


def test_a_pause_with_a_projector_by_hand_loses_and_repeats_nothing(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    cqrsctl.ok("table", "create")
    lines = [f"{number},Lamp {number},{number}.25,false" for number in range(PRODUCTS)]
    cqrsctl.ok("product", "import", "-", "--workers", "1", stdin="ProductId,Name,Price,OutOfStock\n" + "\n".join(lines))
    function = deployed(wiring)
    written = records(wiring)

    before = function({"Records": written[:15]}, "Lambda").measures  # paused in the middle of the stream
    cqrsctl.ok("product", "put", "3", "--name", "Changed", "--price", "1")
    cqrsctl.ok("product", "delete", "4")
    by_hand = cqrsctl.ok("project", "--once", "-o", "json").json()
    cqrsctl.ok("product", "put", "5", "--name", "Later", "--price", "2")
    after = function({"Records": records(wiring)[15:]}, "Lambda").measures  # resumed where it was paused

    assert (before["Applied"], before["Stale"]) == (15, 0)
    assert by_hand["stale"] == 13  # of the function's fifteen, two were changed since
    assert by_hand["rows"] == PRODUCTS - 13
    assert (after["Applied"], after["DeadLettered"]) == (1, 0)
    assert cqrsctl.ok("verify", "-o", "json").json() == []
    assert cqrsctl.ok("project", "--once", "-o", "json").json()["rows"] == 0


@pytest.mark.parametrize(
    ("holder", "beside", "forgotten"),
    [("Lambda function X", True, True), ("Lambda function X", False, False), ("somebody@host, process 1", True, False)],
)
def test_checkpoints_that_the_function_left_behind_are_no_gap(
    wiring: Wiring, holder: str, beside: bool, forgotten: bool
) -> None:
    arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/2026-03-01T12:00:00.000"
    projections = [default_product()]
    prepare(wiring.database, projections)
    with connect(wiring.database) as connection:
        gap = Position("shard-2", None, SequenceNumber("8"), state=ShardState.GAP)
        checkpoints.write(connection, arn, {"product": [Position("shard-1", None, SequenceNumber("7")), gap]})
        heartbeat.write(connection, holder)
        connection.commit()
    sink = MySqlSink(lambda: wiring.database, projections, arn, lambda: 0.0, beside_function=beside)

    found = sink.open()
    sink.close()

    assert sorted(found["product"]) == (["shard-2"] if forgotten else ["shard-1", "shard-2"])


def test_a_gap_ends_with_exit_6_until_a_rebuild(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "1")
    deployed(wiring)({"Records": records(wiring)}, f"{heartbeat.FUNCTION} X")
    cqrsctl.ok("product", "put", "2", "--name", "Lost", "--price", "1")
    with connect(wiring.database) as connection:
        connection.execute("UPDATE cqrs_function_position SET handled_at = handled_at - INTERVAL 1 DAY")
        connection.commit()

    assert cqrsctl("lag").code == 6
    for _ in range(2):
        projecting = cqrsctl("project", "--once", "-o", "json")
        assert (projecting.code, json.loads(projecting.err)["error"]["code"]) == (6, "stream_gap")
    assert "cqrsctl rebuild" in projecting.err
    assert "Projection product lacks changes" in cqrsctl.ok("read-model", "status").err
    assert cqrsctl("status").code == 1
    assert "stream_gap" in cqrsctl("doctor", "-o", "json").out
    cqrsctl.ok("rebuild")

    assert cqrsctl.ok("project", "--once", "-o", "json").json()["rows"] == 0
    assert cqrsctl.ok("verify", "-o", "json").json() == []
    assert "lacks" not in cqrsctl.ok("read-model", "status").err
    assert cqrsctl.ok("lag", "-o", "json").json()["lag_seconds"] == 0


STREAM = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/2026-03-01T12:00:00.000"
EARLIER = STREAM.replace("2026-03", "2026-02")
OTHER = Projection("other", "Other", default_product().columns[:2])


def sink_of(
    wiring: Wiring,
    *projections: Projection,
    beside: bool = True,
    reads_since: Callable[[], datetime | None] = lambda: None,
) -> MySqlSink:
    return MySqlSink(
        lambda: wiring.database,
        projections or [default_product()],
        STREAM,
        lambda: 0.0,
        beside_function=beside,
        reads_since=reads_since,
    )


def function_handled(
    wiring: Wiring, hours_ago: float, *, stream: str = STREAM, beat: bool = True, record_hours_ago: float | None = None
) -> None:
    """The read model as the function leaves it, some time later."""
    prepare(wiring.database, [default_product()])
    seconds = hours_ago * 3_600
    with connect(wiring.database) as connection:
        connection.execute("UPDATE cqrs_projection SET created_at = NOW(6) - INTERVAL 7 DAY")
        connection.execute(
            "INSERT INTO cqrs_function_position VALUES"
            " (%s, NOW(6) - INTERVAL %s SECOND, NOW(6) - INTERVAL %s SECOND, '7', NULL)",
            (stream, seconds, seconds if record_hours_ago is None else record_hours_ago * 3_600),
        )
        if beat:
            heartbeat.write(connection, f"{heartbeat.FUNCTION} X")
        connection.commit()


def gap_reasons(wiring: Wiring) -> dict[str, Reason]:
    with connect(wiring.database) as connection:
        return {gap.projection: gap.reason for gap in function_position.gaps(connection)}


def test_taking_over_from_a_function_that_stood_still_too_long_is_a_gap_for_good(wiring: Wiring) -> None:
    function_handled(wiring, 23.8)  # `lag` keeps the heartbeat young, so it tells nothing

    with pytest.raises(StreamGap, match="nothing was projected until changes left the stream"):
        sink_of(wiring).open()
    with connect(wiring.database) as connection:
        assert heartbeat.by_function(connection)
        heartbeat.write(connection, f"{heartbeat.FUNCTION} X, again")
        connection.execute("UPDATE cqrs_function_position SET handled_at = NOW(6), record_time = NOW(6)")
        connection.commit()
    with pytest.raises(StreamGap):  # the mapping is gone, and the function was deployed again meanwhile
        sink_of(wiring, beside=False).open()

    assert gap_reasons(wiring) == {"product": Reason.STOOD_STILL}


def test_taking_over_in_time_begins_at_the_horizon(wiring: Wiring) -> None:
    function_handled(wiring, 23.7)
    sink = sink_of(wiring)

    assert sink.open() == {"product": {}}
    sink.close()

    assert gap_reasons(wiring) == {}


def test_a_takeover_leaves_the_checkpoints_of_who_projects_alone(wiring: Wiring) -> None:
    function_handled(wiring, 1)
    free = replace(OTHER, name="free", view="Free")
    prepare(wiring.database, [free])
    running = sink_of(wiring, OTHER)
    running.open()
    with connect(wiring.database) as connection:
        position = Position("shard-1", None, SequenceNumber("7"))
        checkpoints.write(connection, STREAM, {name: [position] for name in ("product", "other", "free")})
        heartbeat.write(connection, f"{heartbeat.FUNCTION} X, beside the projector")
        connection.commit()
    sink = sink_of(wiring)

    assert sink.open() == {"product": {}}
    with connect(wiring.database) as connection:
        assert [row["projection"] for row in checkpoints.listing(connection)] == ["other"]
        assert not locks.is_held(connection, locks.of_projector(wiring.database.database, "free"))
    running.close()
    sink.close()


def test_a_function_that_was_behind_when_it_stopped_left_older_changes(wiring: Wiring) -> None:
    function_handled(wiring, 10, record_hours_ago=24)

    with pytest.raises(StreamGap):
        sink_of(wiring).open()


def test_a_function_of_an_earlier_release_is_as_old_as_its_heartbeat(wiring: Wiring) -> None:
    prepare(wiring.database, [default_product()])
    with connect(wiring.database) as connection:
        heartbeat.write(connection, f"{heartbeat.FUNCTION} X")
        connection.execute("UPDATE cqrs_heartbeat SET projected_at = NULL, beat_at = NOW(6) - INTERVAL 24 HOUR")
        connection.commit()

    for _ in range(2):
        with pytest.raises(StreamGap):
            sink_of(wiring).open()


@pytest.mark.parametrize(("reading_for_hours", "lost"), [(100, False), (10, False), (1, True), (None, True)])
def test_a_function_that_has_nothing_to_read_does_not_stand_still(
    wiring: Wiring, reading_for_hours: float | None, lost: bool
) -> None:
    """The table was quiet for 30 hours. Before the mapping was enabled it may have been paused."""
    function_handled(wiring, 30)
    since = None if reading_for_hours is None else datetime.now(UTC) - timedelta(hours=reading_for_hours)
    sink = sink_of(wiring, reads_since=lambda: since)

    if lost:
        with pytest.raises(StreamGap):
            sink.open()
    else:
        sink.open()
    sink.close()

    assert bool(gap_reasons(wiring)) is lost


def test_a_gap_is_marked_for_every_projection_and_a_rebuild_of_one_goes_on(wiring: Wiring) -> None:
    product = default_product()
    function_handled(wiring, 30)
    prepare(wiring.database, [OTHER])
    with connect(wiring.database) as connection:
        rebuilds.take_lock(connection, wiring.database.database, product.name)
        rebuilds.begin(connection, product, STREAM, 1)

        sink = sink_of(wiring, product)
        sink.open()
        sink.close()

    assert gap_reasons(wiring) == {"product": Reason.STOOD_STILL, "other": Reason.STOOD_STILL}
    with pytest.raises(StreamGap, match="product lacks"):  # the rebuild was left unfinished
        sink_of(wiring, product).open()
    with pytest.raises(StreamGap, match="other lacks"):
        sink_of(wiring, product, OTHER).open()


def test_a_gap_is_one_until_the_rebuild_that_loads_what_was_lost_is_done(wiring: Wiring) -> None:
    product = default_product()
    prepare(wiring.database, [product])
    with connect(wiring.database) as connection:
        checkpoints.write(connection, EARLIER, {product.name: [Position("shard-1", None, SequenceNumber("7"))]})
        connection.commit()
    with connect(wiring.database) as connection:
        rebuilds.take_lock(connection, wiring.database.database, product.name)
        rebuild = rebuilds.begin(connection, product, STREAM, 1)
        sink = sink_of(wiring, product)
        sink.open()
        sink.close()

    for opening in (sink_of(wiring, product), project.DrySink(wiring, (product,), STREAM)):
        with pytest.raises(StreamGap, match="the rebuild that loads them is not done") as gap:
            opening.open()
        assert gap.value.followers == {product.name}

    with connect(wiring.database) as connection:
        rebuilds.mark_loaded(connection, rebuild)
        rebuilds.cut_over(connection, rebuild)
    sink = sink_of(wiring, product)
    sink.open()
    sink.close()


def test_a_stream_that_the_function_never_followed_is_a_gap(wiring: Wiring) -> None:
    function_handled(wiring, 1, stream=EARLIER)

    with pytest.raises(StreamGap, match="stream was replaced"):
        sink_of(wiring).open()

    assert gap_reasons(wiring) == {"product": Reason.STREAM_CHANGED}


def test_the_undo_of_a_rebuild_on_a_new_stream_brings_the_gap_back(wiring: Wiring) -> None:
    product = default_product()
    function_handled(wiring, 1, stream=EARLIER)
    with connect(wiring.database) as connection:
        rebuilds.take_lock(connection, wiring.database.database, product.name)
        rebuild = rebuilds.begin(connection, product, STREAM, 1)
        sink = sink_of(wiring, product)  # the rebuild's own projector
        sink.open()
        sink.close()
        rebuilds.mark_loaded(connection, rebuild)
        rebuilds.cut_over(connection, rebuild)
        assert gap_reasons(wiring) == {}

        rebuilds.cut_over(connection, rebuilds.begin_undo(connection, "product", STREAM))

    assert gap_reasons(wiring) == {"product": Reason.STREAM_CHANGED}


def test_a_projection_that_only_the_function_filled_is_taken_over_from_it_later_too(wiring: Wiring) -> None:
    """A projector for another projection wrote the heartbeat meanwhile."""
    function_handled(wiring, 30, beat=False)

    with pytest.raises(StreamGap):
        sink_of(wiring, beside=False).open()
    assert gap_reasons(wiring) == {"product": Reason.STOOD_STILL}


def test_a_projection_that_is_new_or_has_checkpoints_is_not_taken_over(wiring: Wiring) -> None:
    product = default_product()
    function_handled(wiring, 30, beat=False)
    with connect(wiring.database) as connection:
        checkpoints.write(connection, STREAM, {product.name: [Position("shard-1", None, SequenceNumber("7"))]})
        connection.commit()

    for projection in (product, OTHER):
        sink = sink_of(wiring, projection)
        sink.open()
        sink.close()

    assert gap_reasons(wiring) == {}


def test_a_dry_run_finds_the_gap_too(wiring: Wiring) -> None:
    function_handled(wiring, 1)
    with connect(wiring.database) as connection:
        function_position.mark(connection, STREAM, Reason.PAUSED, ["product"])
        connection.commit()

    with pytest.raises(StreamGap):
        project.DrySink(wiring, (default_product(),), STREAM).open()


@pytest.mark.parametrize(("state", "said"), [("Enabled", True), ("Disabled", False), (None, False)])
def test_a_projector_by_hand_says_when_the_function_reads_too(
    cqrsctl: Cqrsctl, wiring: Wiring, monkeypatch: pytest.MonkeyPatch, state: str | None, said: bool
) -> None:
    cqrsctl.ok("table", "create")
    monkeypatch.setattr(function_operations, "mapping_state", lambda *_: state)
    told: list[str] = []

    run = project.Run(wiring, (default_product(),), SystemClock(), lambda _: None, told.append)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)

    assert any("ProductHandlerFunction reads this stream too" in line for line in told) is said


def test_a_put_through_the_function_sends_what_it_takes() -> None:
    entry = Product(42, "Lamp", price=Decimal("19.90"), out_of_stock=True)

    call = function_operations.put_call(entry, Existence.ABSENT)

    assert (call.operation, call.parameters["FunctionName"]) == ("Invoke", "ProductCommandFunction")
    assert call.parameters["Payload"] == (
        '{"ProductId": 42, "Name": "Lamp", "Price": "19.90", "OutOfStock": true, "existence": "absent"}'
    )


def test_the_embedded_stack_runs_no_functions_and_says_so(cqrsctl: Cqrsctl) -> None:
    planned = cqrsctl.ok(
        "product", "put", "42", "--name", "Lamp", "--price", "19.90", "--via-function", "--dry-run", "-o", "json"
    ).json()

    refused = cqrsctl("product", "put", "42", "--name", "Lamp", "--price", "19.90", "--via-function")

    assert [call["operation"] for call in planned] == ["Invoke"]
    assert refused.code == 4
    assert "keeps functions, but runs none" in refused.err
