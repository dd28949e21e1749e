"""Changes of a table that is still UPDATING, as AWS's are for a while and an emulator's never."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cqrsctl.errors import AwsError, UsageError
from cqrsctl.write_model.table import Table
from cqrsctl.write_model.table_changes import (
    delete_calls,
    disable_stream_calls,
    enable_stream_calls,
    make_in_turn,
    settled,
)

TABLE = Table("Products", "arn", "ACTIVE", (("ProductId", "N"),), 7, 700, True, 0, 0, True, None, None, None)
"""A table with deletion protection, whose stream is off."""
STREAMING = replace(TABLE, stream_arn="arn/stream/1", view_type="NEW_AND_OLD_IMAGES", deletion_protection=False)


class Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class UpdatingTable:
    """A client of DynamoDB whose table is UPDATING for a while after each change."""

    seconds = 20.0

    def __init__(self, clock: Clock, status: str = "UPDATING") -> None:
        self.clock = clock
        self.busy_until = self.seconds
        self.status = status
        self.made: list[str] = []

    @property
    def is_busy(self) -> bool:
        return self.clock.time < self.busy_until

    def describe_table(self, **_: Any) -> Any:
        return {
            "Table": {
                "TableName": "Products",
                "TableStatus": self.status if self.is_busy else "ACTIVE",
                "AttributeDefinitions": [],
                "KeySchema": [],
            }
        }

    def update_table(self, **_: Any) -> Any:
        return self._change("UpdateTable")

    def delete_table(self, **_: Any) -> Any:
        return self._change("DeleteTable")

    def _change(self, operation: str) -> Any:
        if self.is_busy:
            raise ClientError({"Error": {"Code": "ResourceInUseException", "Message": "being updated"}}, operation)
        self.made.append(operation)
        self.busy_until = self.clock.time + self.seconds
        return {}


def test_a_change_waits_for_the_one_before_it() -> None:
    clock = Clock()
    client = UpdatingTable(clock)

    make_in_turn(client, "Products", delete_calls(TABLE, unprotect=True), clock)

    assert client.made == ["UpdateTable", "DeleteTable"]


def test_a_table_is_looked_at_when_no_change_of_it_is_under_way() -> None:
    clock = Clock()

    assert settled(UpdatingTable(clock), "Products", clock).status == "ACTIVE"
    assert settled(UpdatingTable(Clock(), "DELETING"), "Products", clock).status == "DELETING"


def test_waiting_for_a_table_to_take_a_change_has_an_end() -> None:
    clock = Clock()
    client = UpdatingTable(clock)
    client.busy_until = 10_000

    with pytest.raises(AwsError, match="being updated"):
        make_in_turn(client, "Products", enable_stream_calls(TABLE), clock)
    assert 590 < clock.time < 620


def test_only_what_changes_the_table_is_planned() -> None:
    assert enable_stream_calls(STREAMING) == []
    assert disable_stream_calls(TABLE) == []
    assert [call.operation for call in disable_stream_calls(STREAMING)] == ["UpdateTable"]
    assert [call.operation for call in delete_calls(STREAMING, unprotect=True)] == ["DeleteTable"]


def test_what_would_be_refused_is_not_planned() -> None:
    with pytest.raises(UsageError, match="is on with view type KEYS_ONLY"):
        enable_stream_calls(replace(STREAMING, view_type="KEYS_ONLY"))
    with pytest.raises(UsageError, match="is protected from deletion"):
        delete_calls(TABLE, unprotect=False)
