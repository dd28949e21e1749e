"""How values are printed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import typer

from cqrsctl.cli import render
from cqrsctl.cli.app import _output_of
from cqrsctl.cli.invocation import parse_duration
from cqrsctl.cli.render import Output


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("19.9000", "19.90"),
        ("5", "5.00"),
        ("0.0001", "0.0001"),
        ("1E+3", "1000.00"),
        ("12345678901234.5678", "12345678901234.5678"),
        ("-1.5", "-1.50"),
    ],
)
def test_money_keeps_every_digit_that_counts_and_at_least_two_decimals(value: str, shown: str) -> None:
    assert str(render.money(Decimal(value))) == shown


def test_json_has_exact_decimals_as_text_and_times_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    record: dict[str, Any] = {
        "price": Decimal("1E+2"),
        "at": datetime(2026, 11, 23, 12, tzinfo=timezone(timedelta(hours=2))),
        "naive": datetime(2026, 11, 23, 12),  # noqa: DTZ001 -- as a database driver returns it
        "wait": timedelta(seconds=1.5),
        "bytes": b"\x00\xff",
        "set": frozenset({"b", "a"}),
        "output": Output.CSV,
        "id": 2**63 - 1,
    }

    render.one(Output.JSON, record)

    assert json.loads(capsys.readouterr().out) == {
        "price": "100",
        "at": "2026-11-23T10:00:00Z",
        "naive": "2026-11-23T12:00:00Z",
        "wait": 1.5,
        "bytes": "AP8=",
        "set": ["a", "b"],
        "output": "csv",
        "id": 2**63 - 1,
    }


def test_an_array_is_closed_also_where_its_source_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def records() -> Any:
        yield {"a": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render.rows(Output.JSON, ["a"], records())

    assert json.loads(capsys.readouterr().out) == [{"a": 1}]


@pytest.mark.parametrize("output", [Output.JSON, Output.JSONL, Output.CSV, Output.TABLE])
def test_no_records_are_an_empty_document(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(output, ["a"], [])

    expected = {Output.JSON: "[]", Output.JSONL: "", Output.CSV: "a", Output.TABLE: "A"}
    assert capsys.readouterr().out.strip() == expected[output]


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(Output.TABLE, ["name"], [{"name": "a\x1b[31mred\x07"}])

    assert "\x1b" not in (out := capsys.readouterr().out)
    assert "a\\x1b[31mred\\x07" in out


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400), ("0", 0)]
)
def test_durations_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "m", "soon", "5w", "1e999d", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_duration(text)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["query", "-o", "json"], Output.JSON),
        (["--output=csv"], Output.CSV),
        (["-ojsonl"], Output.JSONL),
        (["-o"], Output.TABLE),
        (["-o", "xml"], Output.TABLE),
    ],
)
def test_the_output_is_known_before_the_arguments_are_parsed(arguments: list[str], output: Output) -> None:
    assert _output_of(arguments) is output


def test_times_are_rfc_3339() -> None:
    assert render.rfc3339(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("values", "blocks"),
    [
        ([], ""),
        ([0.0, 0.0], "▁▁"),
        ([0.0, 3.5, 7.0], "▁▅█"),
        ([1.0, None, 1.0], "█ █"),
        ([9.0, 0.0, 1.0, 2.0], "▁▅█"),
    ],
)
def test_a_sparkline_shows_the_last_values_against_their_highest(values: list[float | None], blocks: str) -> None:
    assert render.sparkline(values, width=3) == blocks
