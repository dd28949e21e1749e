"""What the function writes of its way through the stream, and the gaps that are found by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import Position, SequenceNumber
from cqrsctl.projection.definition import Projection, default_product
from cqrsctl.read_model import bookkeeping, checkpoints, function_position, heartbeat, rebuilds, schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.function_position import Reason
from cqrsctl.read_model.sink import prepare
from tests.integration.functions.test_lambda_projector import made
from tests.integration.functions.test_lambda_runtime import ARN, names, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring
    from tests.integration.functions.test_lambda_projector import Function

PRODUCT = default_product()
OTHER = Projection("other", "Other", PRODUCT.columns[:2])
EARLIER = ARN.replace("2024-03-01", "2024-02-01")
LATER = ARN.replace("2024-03-01", "2024-04-01")


def of_stream(stream_arn: str, sequence: int, product_id: int) -> dict[str, Any]:
    return {**record(sequence, product_id), "eventSourceARN": stream_arn}


@pytest.fixture
def function(wiring: Wiring) -> Iterator[Function]:
    """The function after its first event."""
    prepared = made(wiring)
    prepared.run(record(1, 1))
    yield prepared
    if prepared.connection:
        prepared.connection.close()


@pytest.fixture
def connection(wiring: Wiring) -> Iterator[Connection]:
    prepare(wiring.database, [PRODUCT])
    with connect(wiring.database) as opened:
        yield opened


def marked(connection: Connection) -> list[tuple[str, Reason]]:
    found = [(gap.projection, gap.reason) for gap in function_position.gaps(connection)]
    connection.commit()
    return found


def rebuilt(connection: Connection, stream_arn: str, projection: Projection = PRODUCT) -> None:
    """A rebuild's steps, without its projector."""
    rebuild = rebuilds.begin(connection, projection, stream_arn, 1)
    rebuilds.mark_loaded(connection, rebuild)
    rebuilds.cut_over(connection, rebuild)


def position(connection: Connection, stream_arn: str) -> dict[str, Any]:
    (row,) = connection.query("SELECT * FROM cqrs_function_position WHERE stream = %s", (stream_arn,))
    connection.commit()
    return row


def test_the_newest_change_and_the_time_of_the_last_batch_are_written(
    function: Function, connection: Connection
) -> None:
    before = position(connection, ARN)
    newer, older = record(20, 2), record(9, 3)
    newer["dynamodb"]["ApproximateCreationDateTime"] += 60
    function.run(newer, older)
    function.run(older)  # comes again

    after = position(connection, ARN)

    assert after["sequence_number"] == newer["dynamodb"]["SequenceNumber"]
    assert after["record_time"].replace(tzinfo=UTC).timestamp() == newer["dynamodb"]["ApproximateCreationDateTime"]
    assert after["handled_at"] > before["handled_at"]


def test_sequence_numbers_of_different_length_compare_as_numbers(function: Function, connection: Connection) -> None:
    longer = record(1, 2)
    longer["dynamodb"]["SequenceNumber"] = "1" + "0" * 29
    function.run(longer)
    function.run(record(9, 3))

    assert position(connection, ARN)["sequence_number"] == "1" + "0" * 29


def test_what_the_function_handled_is_written_with_the_rows_or_not_at_all(
    function: Function, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = position(connection, ARN)

    def broken(*_: object) -> None:
        raise RuntimeError("the environment dies")

    monkeypatch.setattr(heartbeat, "write", broken)
    with pytest.raises(RuntimeError):
        function.run(of_stream(LATER, 2, 2))

    assert position(connection, ARN) == before
    assert marked(connection) == []


def test_the_first_stream_is_no_gap(function: Function, connection: Connection) -> None:
    assert "Gaps" not in function({"Records": [record(2, 2)]}, "test").measures
    assert marked(connection) == []


def test_a_new_stream_is_a_gap_and_is_applied_all_the_same(
    function: Function, connection: Connection, wiring: Wiring
) -> None:
    done = function({"Records": [of_stream(LATER, 2, 2)]}, "test")

    assert done.measures["Gaps"] == 1
    assert done.details["level"] == "WARNING"
    assert done.details["code"] == "stream_gap"
    assert "Projection product lacks changes: the table's stream was replaced" in done.details["message"]
    assert "cqrsctl rebuild" in done.details["hint"]
    assert marked(connection) == [("product", Reason.STREAM_CHANGED)]
    assert names(wiring) == {1: "Lamp", 2: "Lamp"}

    again = function({"Records": [of_stream(LATER, 3, 3)]}, "test")

    assert again.measures["Gaps"] == 1  # until it is rebuilt, though it was reported
    assert again.details == {}


def test_a_late_event_of_an_older_stream_is_applied_and_no_gap(
    function: Function, connection: Connection, wiring: Wiring
) -> None:
    function.run(of_stream(EARLIER, 99, 2))
    function.run(of_stream(EARLIER, 98, 1))

    assert marked(connection) == []
    assert names(wiring) == {1: "Lamp", 2: "Lamp"}


def test_a_stream_that_comes_after_the_projectors_is_a_gap(connection: Connection, wiring: Wiring) -> None:
    checkpoints.write(
        connection, EARLIER, {each.name: [Position("shard-1", None, SequenceNumber("7"))] for each in [PRODUCT]}
    )
    connection.commit()

    made(wiring).run(record(1, 1))

    assert marked(connection) == [("product", Reason.STREAM_CHANGED)]


def test_a_stream_that_the_projector_follows_already_is_no_gap(
    function: Function, connection: Connection, wiring: Wiring
) -> None:
    checkpoints.write(
        connection, LATER, {each.name: [Position("shard-1", None, SequenceNumber("7"))] for each in [PRODUCT]}
    )
    connection.commit()

    function.run(of_stream(LATER, 2, 2))

    assert marked(connection) == []


def test_a_projection_rebuilt_on_the_new_stream_has_no_gap_and_the_others_have(
    function: Function, connection: Connection
) -> None:
    schema.create_missing(connection, OTHER)
    rebuilt(connection, LATER)

    function.run(of_stream(LATER, 2, 2))

    assert marked(connection) == [("other", Reason.STREAM_CHANGED)]


def test_a_rebuild_ends_the_gap_and_its_undo_brings_it_back(function: Function, connection: Connection) -> None:
    function.run(of_stream(LATER, 2, 2))
    rebuild = rebuilds.begin(connection, PRODUCT, LATER, 1)
    assert function_position.gaps(connection)[0].rebuilding
    rebuilds.mark_loaded(connection, rebuild)
    rebuilds.cut_over(connection, rebuild)
    assert marked(connection) == []

    undo = rebuilds.begin_undo(connection, "product", LATER)
    rebuilds.cut_over(connection, undo)
    assert marked(connection) == [("product", Reason.STREAM_CHANGED)]

    back = rebuilds.begin_undo(connection, "product", LATER)
    rebuilds.cut_over(connection, back)
    assert marked(connection) == []


def test_a_gap_after_a_rebuild_is_one_again(function: Function, connection: Connection) -> None:
    function.run(of_stream(LATER, 2, 2))
    rebuilt(connection, LATER)
    function_position.mark(connection, LATER, Reason.PAUSED, ["product"])

    assert marked(connection) == [("product", Reason.PAUSED)]


def test_dropping_a_projection_forgets_its_gaps(function: Function, connection: Connection) -> None:
    function.run(of_stream(LATER, 2, 2))
    bookkeeping.forget(connection, "product")

    assert connection.query("SELECT * FROM cqrs_function_gap") == []


def test_a_read_model_of_an_earlier_release_has_no_gaps_and_can_be_dropped(connection: Connection) -> None:
    connection.execute("DROP TABLE cqrs_function_gap")
    connection.execute("DROP TABLE cqrs_function_position")

    assert function_position.gaps(connection) == []
    assert function_position.standstill(connection, ARN) is None
    assert schema.drop(connection, [PRODUCT]) == ["product_v1"]


def test_a_remembered_pause_keeps_its_earliest_time_until_it_is_forgotten(
    function: Function, connection: Connection
) -> None:
    since = datetime(2024, 3, 1, 12, tzinfo=UTC)
    function_position.remember_pause(connection, ARN, since)
    function_position.remember_pause(connection, ARN, since + timedelta(hours=3))
    connection.commit()
    assert function_position.forget_pause(connection, ARN) == since
    assert function_position.forget_pause(connection, ARN) is None

    function_position.remember_pause(connection, ARN, since)
    connection.commit()
    function.run(record(2, 2))
    assert function_position.forget_pause(connection, ARN) is None
