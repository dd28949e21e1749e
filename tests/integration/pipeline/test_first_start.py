"""A first start on a table that is older than what its stream holds says which items no change record brings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from cqrsctl.clock import SystemClock
from cqrsctl.pipeline import project
from cqrsctl.pipeline.rebuild.progress import Unfit
from cqrsctl.pipeline.rebuild.rebuilding import Rebuilding
from cqrsctl.projection.definition import default_product
from cqrsctl.stream.reader import Beginning
from cqrsctl.write_model import table
from cqrsctl.write_model.table import Table, TableSpec
from tests.aws.states import taking_its_time

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring

CREATED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PRODUCT = default_product()


def described(switched_on: str | None, created_at: datetime | None = CREATED) -> Table:
    """A table as DescribeTable shows it."""
    stream = {"StreamSpecification": {"StreamEnabled": True}, "LatestStreamArn": f"arn:t/stream/{switched_on}"}
    return Table.of(
        {
            "TableName": "Products",
            "TableStatus": "ACTIVE",
            "KeySchema": [{"AttributeName": "ProductId"}],
            "AttributeDefinitions": [{"AttributeName": "ProductId", "AttributeType": "N"}],
            **({"CreationDateTime": created_at} if created_at else {}),
            **(stream if switched_on else {}),
        }
    )


@pytest.mark.parametrize(
    ("found", "after", "since"),
    [
        (described("2026-03-01T12:00:00.700"), timedelta(hours=23), None),
        (described("2026-03-01T12:00:00.700"), timedelta(hours=25), timedelta(hours=1)),
        (described("2026-03-01T13:30:00.000"), timedelta(hours=2), timedelta(hours=1.5)),
        (described("2026-03-01T13:30:00.000"), timedelta(hours=26), timedelta(hours=2)),
        (described(None), timedelta(hours=26), None),
        (described("2026-03-01T13:30:00.000", created_at=None), timedelta(hours=26), None),
    ],
)
def test_a_stream_goes_back_to_its_creation_and_a_day(found: Table, after: timedelta, since: timedelta | None) -> None:
    assert found.recorded_since(CREATED + after) == (None if since is None else CREATED + since)


@pytest.fixture
def told(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a projector says; the table is made to look older than its stream."""
    spec = TableSpec(wiring.environment.table, point_in_time_recovery=False, deletion_protection=False)
    with taking_its_time():
        table.create(wiring.dynamodb, spec, lambda _: None, SystemClock())
    monkeypatch.setattr(table, "_STREAM_OF_CREATION", timedelta(days=-1))
    return []


def projected(wiring: Wiring, told: list[str]) -> int:
    """How often a run of the projector names items that no change record brings."""
    told.clear()
    run = project.Run(wiring, (PRODUCT,), SystemClock(), lambda _: None, told.append)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)
    return sum("`cqrsctl rebuild` loads them" in line for line in told)


def test_the_first_start_says_it_and_the_next_does_not(wiring: Wiring, told: list[str]) -> None:
    assert projected(wiring, told) == 1
    assert projected(wiring, told) == 0


def test_a_rebuild_which_loads_them_does_not_say_it(wiring: Wiring, told: list[str]) -> None:
    Rebuilding(wiring, PRODUCT, SystemClock(), lambda _: None, told.append, None, Unfit.STOP).run()

    assert not any("loads them" in line for line in told)
    assert projected(wiring, told) == 0
