"""The checkpoints: each projection's own, kept as long as they say something."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from cqrsctl.change import Position, SequenceNumber, ShardState
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import checkpoints
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

ARN = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/2026-03-01T12:00:00.000"
PRODUCT = default_product()
NUMBER = SequenceNumber("7")


@pytest.fixture
def connection(wiring: Wiring) -> Iterator[Connection]:
    prepare(wiring.database, [PRODUCT])
    with connect(wiring.database) as connection:
        yield connection


def eight_days_pass(connection: Connection) -> None:
    connection.execute("UPDATE cqrs_checkpoint SET updated_at = updated_at - INTERVAL 8 DAY")


def shards(connection: Connection) -> list[str]:
    return sorted(checkpoints.read(connection, [PRODUCT], ARN)["product"])


def test_a_finished_shard_is_forgotten_after_a_week_once_its_child_is_known(connection: Connection) -> None:
    parent = Position("parent", None, NUMBER, ShardState.FINISHED)
    checkpoints.write(connection, ARN, {"product": [parent, Position("child", "parent")]})
    checkpoints.forget_finished(connection, ARN)
    assert shards(connection) == ["child", "parent"]
    eight_days_pass(connection)
    checkpoints.forget_finished(connection, ARN)
    assert shards(connection) == ["child"]


def test_the_last_one_stays_however_old_it_is_or_a_gap_would_be_taken_for_a_first_start(
    connection: Connection,
) -> None:
    checkpoints.write(connection, ARN, {"product": [Position("only", None, NUMBER, ShardState.FINISHED)]})
    eight_days_pass(connection)
    checkpoints.forget_finished(connection, ARN)
    assert shards(connection) == ["only"]


def test_one_projections_child_does_not_make_another_forget_its_parent(connection: Connection) -> None:
    parent = Position("parent", None, NUMBER, ShardState.FINISHED)
    checkpoints.write(connection, ARN, {"product": [parent], "other": [parent, Position("child", "parent")]})
    eight_days_pass(connection)
    checkpoints.forget_finished(connection, ARN)
    assert shards(connection) == ["parent"]


def test_a_checkpoint_of_an_earlier_release_was_read_through_its_last_record(connection: Connection) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    checkpoints.write(connection, ARN, {"product": [Position("only", None, NUMBER, record_time=now)]})
    connection.execute("UPDATE cqrs_checkpoint SET read_through = NULL")
    assert checkpoints.read(connection, [PRODUCT], ARN)["product"]["only"].read_through == now
