"""Many items by key: what AWS leaves unprocessed is asked for again, after a pause."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from cqrsctl.errors import TransientAwsError
from cqrsctl.write_model.batch_get import get_many

KEYS = [{"ProductId": {"N": str(number)}} for number in range(3)]


class Throttled:
    """A table that processes so many keys of each request."""

    def __init__(self, *processed: int) -> None:
        self._processed = list(processed)
        self.asked: list[list[str]] = []

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 -- as boto3 names it
        assert RequestItems["Products"]["ConsistentRead"]
        keys = RequestItems["Products"]["Keys"]
        self.asked.append([key["ProductId"]["N"] for key in keys])
        now = self._processed.pop(0) if self._processed else 0
        left = {"Products": {"Keys": keys[now:], "ConsistentRead": True}} if keys[now:] else {}
        return {"Responses": {"Products": keys[:now]}, "UnprocessedKeys": left}


def test_unprocessed_keys_are_asked_for_again_after_a_pause() -> None:
    table, pauses = Throttled(1, 0, 2), list[float]()

    found = get_many(table, "Products", KEYS, pauses.append)

    assert [item["ProductId"] for item in found] == [Decimal(0), Decimal(1), Decimal(2)]
    assert table.asked == [["0", "1", "2"], ["1", "2"], ["1", "2"]]
    assert len(pauses) == 2


def test_a_table_that_processes_nothing_is_given_up_with_a_hint() -> None:
    table, pauses = Throttled(), list[float]()

    with pytest.raises(TransientAwsError, match="left keys unprocessed") as caught:
        get_many(table, "Products", KEYS, pauses.append)

    assert "read capacity" in str(caught.value.hint)
    assert 5 < len(table.asked) < 50


def test_nothing_is_asked_for_no_keys() -> None:
    table = Throttled()

    assert get_many(table, "Products", [], lambda _: None) == []
    assert table.asked == []
