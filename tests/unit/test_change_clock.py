"""The clock of changes: what a time says of them, at AWS, at DynamoDB Local and on the embedded stack."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from cqrsctl.operations.change_clock import ChangeClock
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring

NOON = datetime(2026, 3, 1, 12, 0, 30, 500_000, tzinfo=UTC)
TOLD = NOON.replace(microsecond=0)
MINUTE = timedelta(minutes=1)
AWS = {"url": "https://dynamodb.eu-central-1.amazonaws.com"}
LOCAL = {"url": "http://127.0.0.1:8000"}
EMBEDDED = {"url": "http://127.0.0.1:1", "embedded": True}
EMBEDDED_ELSEWHERE = {**LOCAL, "embedded": True, "endpoint_url": "http://127.0.0.1:8000"}


def clock(
    monkeypatch: pytest.MonkeyPatch,
    *,
    url: str,
    embedded: bool = False,
    endpoint_url: str | None = None,
    told: datetime | None = TOLD,
) -> ChangeClock:
    environment = SimpleNamespace(
        embedded=embedded, endpoint_url=endpoint_url, table="Products", aws_endpoint=lambda _: False
    )
    client = SimpleNamespace(meta=SimpleNamespace(endpoint_url=url))
    monkeypatch.setattr(table, "server_time", lambda *_: told)
    return ChangeClock(cast("Wiring", SimpleNamespace(environment=environment, dynamodb=client)), lambda: NOON)


@pytest.mark.parametrize(
    ("where", "floor", "next_step"),
    [
        (AWS, datetime(2026, 3, 1, 12, 0, 29, tzinfo=UTC), datetime(2026, 3, 1, 12, 0, 32, tzinfo=UTC)),
        (LOCAL, datetime(2026, 3, 1, 12, 0, tzinfo=UTC), datetime(2026, 3, 1, 12, 1, tzinfo=UTC)),
        (EMBEDDED, datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC), datetime(2026, 3, 1, 12, 0, 31, tzinfo=UTC)),
        (EMBEDDED_ELSEWHERE, datetime(2026, 3, 1, 12, 0, tzinfo=UTC), datetime(2026, 3, 1, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_change_of_now_is_between_the_floor_and_the_next_step(
    monkeypatch: pytest.MonkeyPatch, where: dict[str, Any], floor: datetime, next_step: datetime
) -> None:
    read = clock(monkeypatch, **where)
    now = read.now()
    assert now is not None
    assert (read.floor(), read.next_step(now)) == (floor, next_step)
    assert not read.is_past(next_step)
    assert read.is_past(floor)


def test_where_no_time_is_told_any_change_wins_over_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = clock(monkeypatch, **LOCAL, told=None)  # type: ignore[arg-type]
    assert silent.floor() == datetime(1970, 1, 1, tzinfo=UTC)
    assert silent.is_past(NOON + MINUTE)
