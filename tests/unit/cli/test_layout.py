"""Records at 80 columns: nothing is cut, and no id is split."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.text import Text

from cqrsctl.cli import layout, render

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/Products-of-production/stream/2026-11-30T12:04:25.000"
SHARD = "shardId-00000001766437473124-71c3b3d9"
TEXT = "the stream was switched off and on again, so that what changed between the two is in no change record"
RECORD = {"keys": {"ProductId": {"N": "1"}}, "new_image": {"Name": {"S": "a lamp with a long name " * 5}}}


def lines(drawn: list[Text]) -> list[str]:
    return [line.plain for line in drawn]


def shown(value: Any) -> str:
    return render.cell(value)


@pytest.mark.parametrize(
    "record",
    [
        {"shard": SHARD, "state": "open", "reason": TEXT},
        {"shard": SHARD, "parent": SHARD, "state": "open", "sequence_number": "1" * 21},
        {"stream": ARN, "reason": TEXT},
        {
            "at": datetime(2026, 11, 30, tzinfo=UTC),
            "address": "a-cluster.cluster-cdefghijklmn.rds.amazonaws.com:3306",
        },
        {"number": 1, "record": RECORD, "error": TEXT},
        {"part": "stream", "summary": f"{TEXT} {ARN} {TEXT} 2026-11-30 12:04:25 UTC"},
    ],
)
@pytest.mark.parametrize("width", [20, 40, 80, 120, 10**9])
def test_no_value_is_split_and_no_line_is_wider_than_it_must_be(record: dict[str, Any], width: int) -> None:
    drawn = lines(layout.table(list(record), [record, record], shown, width)), lines(layout.block(record, shown, width))

    for printed in drawn:
        for value in record.values():
            pieces = [shown(value)] if not isinstance(value, str) else value.split()
            for piece in pieces:
                assert any(piece in line for line in printed), (piece, printed)
        for line in printed:
            whole = line.strip() == shown(record.get("record")) or "12:04:25 UTC" in line
            assert len(line) <= width or " " not in line.strip() or whole or width < 80, line


def test_text_folds_in_its_cell_while_enough_of_it_is_left() -> None:
    printed = lines(layout.table(["part", "reason"], [{"part": "stream", "reason": TEXT}], shown, 60))

    assert printed[0] == "PART    REASON"
    assert [line[8:] for line in printed[1:]] == layout.wrapped(TEXT, 52)
    assert all(line.startswith("        ") for line in printed[2:])


def test_a_table_that_does_not_fit_becomes_blocks() -> None:
    records = [{"shard": SHARD, "parent_id": SHARD, "lag": None}] * 2

    assert lines(layout.table(list(records[0]), records, shown, 79)) == [
        *(f"shard:      {SHARD}", f"parent id:  {SHARD}", "lag:", ""),
        *(f"shard:      {SHARD}", f"parent id:  {SHARD}", "lag:"),
    ]
    assert len(lines(layout.table(list(records[0]), records, shown, 82))) == 3


def test_a_value_that_is_longer_than_a_line_stands_alone_in_one() -> None:
    assert lines(layout.block({"arn": ARN, "record": RECORD, "state": "on"}, shown, 80)) == [
        *("arn:", ARN, "record:", shown(RECORD), "state:   on"),
    ]


def test_numbers_stand_to_the_right_and_wide_characters_have_their_width() -> None:
    records = [{"name": "灯", "rows": 5, "on": True}, {"name": "Tray", "rows": 1234, "on": None}]

    assert lines(layout.table(["name", "rows", "on"], records, shown, 80)) == [
        *("NAME  ROWS  ON", "灯       5  true", "Tray  1234"),
    ]


def test_styled_text_folds_with_its_styles() -> None:
    first, second = layout.folded(Text.assemble("aaa ", ("bbb ccc", "red"), " ddd"), 10, indent=2)

    assert (first.plain, second.plain) == ("aaa bbb", "  ccc ddd")
    assert [span.style for span in first.spans] == [span.style for span in second.spans] == ["red"]
