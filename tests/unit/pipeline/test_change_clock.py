"""The clock of changes: what a time says of them, at AWS, at DynamoDB Local and on the embedded stack."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from cqrsctl.pipeline.change_clock import ChangeClock
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
    ("where", "next_time"),
    [
        (AWS, datetime(2026, 3, 1, 12, 0, 32, tzinfo=UTC)),
        (LOCAL, datetime(2026, 3, 1, 12, 1, tzinfo=UTC)),
        (EMBEDDED, datetime(2026, 3, 1, 12, 0, 31, tzinfo=UTC)),
        (EMBEDDED_ELSEWHERE, datetime(2026, 3, 1, 12, 1, tzinfo=UTC)),
    ],
)
def test_the_next_time_is_one_that_no_change_has_yet(
    monkeypatch: pytest.MonkeyPatch, where: dict[str, Any], next_time: datetime
) -> None:
    read = clock(monkeypatch, **where)
    assert read.next_time() == next_time
    assert not read.is_past(next_time)
    assert read.is_past(NOON - timedelta(seconds=2))


def test_where_no_time_is_told_there_is_no_next_one_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = clock(monkeypatch, **LOCAL, told=None)  # type: ignore[arg-type]
    assert silent.next_time() is None
    assert silent.is_past(NOON + MINUTE)
