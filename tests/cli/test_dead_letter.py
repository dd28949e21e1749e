"""`project --on-error` and `dead-letter`, by the installed command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl


@pytest.fixture
def bad_record(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    """Three products, the second of which has no price, and the third a price of 38 digits."""
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "19.90")
    for number, more in (("2", {}), ("3", {"Price": {"N": "12345678901234567890123456789012345678"}})):
        wiring.dynamodb.put_item(
            TableName=wiring.environment.table,
            Item={"ProductId": {"N": number}, "Name": {"S": "Chair 😀"}, **more},
        )
    cqrsctl.ok("product", "put", "4", "--name", "Table", "--price", "1")


@pytest.mark.usefixtures("bad_record")
def test_by_default_a_bad_record_stops_the_projector_before_it(cqrsctl: Cqrsctl) -> None:
    result = cqrsctl("project", "--once", "-o", "json")

    assert result.code == 1
    error = json.loads(result.err.splitlines()[-1])["error"]
    assert error["code"] == "bad_record"
    assert "Price: the attribute Price is missing" in error["message"]
    assert "--on-error dead-letter" in error["hint"]
    assert [row["ProductId"] for row in cqrsctl.ok("query", "list", "-o", "json").json()] == [1]


@pytest.mark.usefixtures("bad_record")
def test_a_bad_record_is_set_aside_shown_retried_and_discarded(cqrsctl: Cqrsctl) -> None:
    projected = cqrsctl.ok("project", "--once", "--on-error", "dead-letter", "-o", "json")
    assert projected.json()["dead_lettered"] == 2
    assert "dead-lettered 2" in projected.err
    assert "cqrsctl dead-letter list" in projected.err
    assert [row["ProductId"] for row in cqrsctl.ok("query", "list", "-o", "json").json()] == [1, 4]
    assert cqrsctl.ok("read-model", "status", "-o", "json").json()["projections"][0]["dead_letters"] == 2

    listed = cqrsctl.ok("dead-letter", "list", "-o", "json").json()
    assert [(row["projection"], row["event"], row["key"], row["attempts"]) for row in listed] == [
        ("product", "INSERT", "ProductId 2", 1),
        ("product", "INSERT", "ProductId 3", 1),
    ]
    first, second = (str(row["number"]) for row in listed)
    shown = cqrsctl.ok("dead-letter", "show", second, "-o", "json").json()
    assert shown["record"]["new_image"]["Price"] == {"N": "12345678901234567890123456789012345678"}
    assert "Chair 😀" in cqrsctl.ok("dead-letter", "show", second).out

    retried = cqrsctl("dead-letter", "retry", "--all")
    assert retried.code == 1
    assert "applied 0, stale 0, refused 2" in retried.err
    assert "the attribute Price is missing" in retried.out

    cqrsctl.ok("product", "put", "2", "--name", "Chair", "--price", "5")
    cqrsctl.ok("project", "--once")
    assert cqrsctl.ok("dead-letter", "discard", first, second, "--yes", "-o", "json").json() == {
        "discarded": [int(first), int(second)]
    }
    assert cqrsctl.ok("dead-letter", "list", "-o", "json").json() == []
    assert [row["ProductId"] for row in cqrsctl.ok("query", "list", "-o", "json").json()] == [1, 2, 4]


@pytest.mark.usefixtures("bad_record")
def test_a_replayed_file_sets_bad_records_aside_too(cqrsctl: Cqrsctl) -> None:
    lines = cqrsctl.ok("stream", "tail", "--from", "horizon", "--no-follow", "-o", "jsonl").out
    stopped = cqrsctl("project", "--input", "-", stdin=lines)
    assert stopped.code == 1
    assert "ProductId 2" in stopped.err

    replayed = cqrsctl.ok("project", "--input", "-", "--on-error", "dead-letter", "-o", "json", stdin=lines).json()

    assert (replayed["changes"], replayed["dead_lettered"]) == (4, 2)
    projected = cqrsctl.ok("project", "--once", "--on-error", "dead-letter", "-o", "json").json()
    assert (projected["stale"], projected["dead_lettered"]) == (2, 2)
    assert len(cqrsctl.ok("dead-letter", "list", "-o", "json").json()) == 2, "the same records are the same letters"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["retry"], 2, "--all"),
        (["retry", "1", "--all"], 2, "--all"),
        (["discard"], 2, "dead-letter list"),
        (["show", "x"], 2, "valid integer"),
        (["show", "0"], 2, "'N'"),
        (["show", "99"], 1, "There is no dead letter 99"),
        (["retry", "99"], 1, "There is no dead letter 99"),
        (["discard", "99", "--yes"], 1, "There is no dead letter 99"),
    ],
)
def test_wrong_input_says_what_is_wrong(cqrsctl: Cqrsctl, arguments: list[str], code: int, said: str) -> None:
    cqrsctl.ok("read-model", "init")
    result = cqrsctl("dead-letter", *arguments)

    assert result.code == code
    assert said in result.err
    assert "Traceback" not in result.err


def test_without_a_read_model_the_hint_says_how_to_make_one(cqrsctl: Cqrsctl) -> None:
    result = cqrsctl("dead-letter", "list")

    assert result.code == 5
    assert "read-model init" in result.err
