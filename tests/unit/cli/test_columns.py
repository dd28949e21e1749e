"""YAML, flat CSV, and the columns that are chosen."""

from __future__ import annotations

import csv
import importlib
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from cqrsctl.cli import columns, render, yaml_text
from cqrsctl.cli.render import Output
from cqrsctl.errors import UsageError

yaml: Any = importlib.import_module("yaml")

CHANGES: list[dict[str, Any]] = [
    {"event": "INSERT", "keys": {"Id": Decimal(1)}, "old_image": None, "new_image": {"Id": Decimal(1), "Tags": ["a"]}},
    {"event": "MODIFY", "keys": {"Id": Decimal(1)}, "old_image": {"Id": Decimal(1)}, "new_image": {"Price": "2"}},
    {"event": "REMOVE", "keys": {"Id": Decimal(1)}, "old_image": {"Id": Decimal(1)}, "new_image": None},
]


@pytest.mark.parametrize(
    "text",
    [
        *("no", "Yes", "NULL", "true", "~", "", "1.0", "0x1F", "1e3", "2026-11-30", "12:04:25", ".inf", "-", "- a"),
        *("# a", "a #b", "a: b", "a:", "{a}", "[a]", "*a", "&a", "!a", "%a", "@a", "`a`", "'a'", '"a"', "|", ">", "?"),
        *(" a", "a ", "a\nb", "tab\t", "a\\n", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "😀", "Größe"),
        *("=", "<<", "arn:aws:dynamodb:eu-west-1:1:table/P/stream/2026-11-30", "a, b", "a (b)", "n", "O", "---"),
    ],
)
def test_yaml_gives_back_every_text(text: str) -> None:
    value = {"text": text, text or "empty": [text, {text: text}], "list": [[text]]}

    assert yaml.safe_load("\n".join(yaml_text.lines(value))) == value


def test_yaml_says_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "price": Decimal("19.90"),
        "at": datetime(2026, 11, 30, 12, tzinfo=UTC),
        "none": None,
        "yes": True,
        "number": 2**63 - 1,
        "lag": 0.25,
        "empty": [{}, []],
        "nested": [[1, 2], [{"a": {"b": None}}]],
        "output": Output.CSV,
    }
    render.one(Output.JSON, record)
    as_json = json.loads(capsys.readouterr().out)

    render.one(Output.YAML, record)
    assert yaml.safe_load(capsys.readouterr().out) == as_json
    render.rows(Output.YAML, list(record), [record, record])
    assert yaml.safe_load(capsys.readouterr().out) == [as_json, as_json]


def test_yaml_is_in_block_style_and_quotes_only_what_needs_it(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(Output.YAML, [], [{"name": "Oak Desk Lamp", "price": Decimal("19.90"), "tags": ["no", "a:b"]}])

    assert capsys.readouterr().out == '- name: Oak Desk Lamp\n  price: "19.90"\n  tags:\n    - "no"\n    - a:b\n'


def test_csv_is_flat_whatever_is_inside_of_any_record(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(Output.CSV, list(CHANGES[0]), CHANGES)

    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(read[0]) == [
        *("event", "keys.Id", "old_image.Id", "new_image.Id", "new_image.Tags.0", "new_image.Price"),
    ]
    assert [row["new_image.Price"] for row in read] == ["", "2", ""]
    assert [row["old_image.Id"] for row in read] == ["", "1", "1"]


@pytest.mark.parametrize("output", Output)
def test_chosen_columns_are_printed_in_their_order(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    with columns.choosing("new_image.Price, event"):
        render.rows(output, list(CHANGES[0]), iter(CHANGES))

    out = capsys.readouterr().out
    prices = (None, "2", None)
    records = [{"new_image.Price": p, "event": each["event"]} for p, each in zip(prices, CHANGES, strict=True)]
    expected: dict[Output, Any] = {
        Output.JSON: lambda: json.loads(out) == records,
        Output.JSONL: lambda: [json.loads(line) for line in out.splitlines()] == records,
        Output.YAML: lambda: yaml.safe_load(out) == records,
        Output.CSV: lambda: out == "new_image.Price,event\n,INSERT\n2,MODIFY\n,REMOVE\n",
        Output.TABLE: lambda: out.split() == ["new_image.Price", "EVENT", "INSERT", "2", "MODIFY", "REMOVE"],
    }
    assert expected[output](), out


def test_one_record_has_the_chosen_columns_too(capsys: pytest.CaptureFixture[str]) -> None:
    with columns.choosing("b,a"):
        render.one(Output.JSONL, {"a": 1, "b": 2, "c": 3})

    assert capsys.readouterr().out == '{"b": 2, "a": 1}\n'


@pytest.mark.parametrize("records", [[], [{"part": "table", "health": "ok"}]])
def test_an_unknown_column_is_a_usage_error_with_the_closest_one(records: list[dict[str, Any]]) -> None:
    with columns.choosing("helth"), pytest.raises(UsageError) as refused:
        render.rows(Output.JSON, ["part", "health"], records)

    assert refused.value.hint == "Did you mean health?"


def test_a_column_may_be_named_as_a_table_heads_it(capsys: pytest.CaptureFixture[str]) -> None:
    with columns.choosing("HOURS LEFT,Shard,ProductId"):
        render.rows(Output.JSONL, ["shard", "hours_left"], [{"shard": "a", "hours_left": 2, "ProductId": 1}])

    assert capsys.readouterr().out == '{"hours_left": 2, "shard": "a", "ProductId": 1}\n'


def test_a_document_has_only_its_records_if_columns_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    shards = [{"shard": "a", "state": "open"}]
    whole = {"name": "s", "shards": shards}

    assert render.document(Output.YAML, whole, ["shard"], shards)
    assert yaml.safe_load(capsys.readouterr().out) == whole
    with columns.choosing("state"):
        assert render.document(Output.JSON, whole, ["shard"], shards)
    assert json.loads(capsys.readouterr().out) == [{"state": "open"}]
    assert not render.document(Output.TABLE, whole, ["shard"], [])
