"""Every command that prints data, at 80 columns: what is printed can be copied whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

COMMANDS = (
    *("table status", "stream status", "stream tail --no-follow", "read-model status", "lag", "status", "doctor"),
    *("local status", "aurora status", "aurora endpoints", "aurora autoscale show", "cost", "verify"),
    *("query list", "query get 1", "query count", "dead-letter list", "dead-letter show 1"),
    *("product get 1", "product sample -n 3", "config show", "config environments", "function status"),
)
NAME = "A lamp whose name is as long as the names that people give to lamps which they sell on the internet to others"


@pytest.fixture
def planted(cqrsctl: Cqrsctl, wiring: Wiring) -> Cqrsctl:
    """A pipeline whose table has a long name, and so a stream with a longer ARN; with a dead letter."""
    table = f"{wiring.environment.table}-{'of-production-' * 7}"
    shop = replace(cqrsctl, variables={**cqrsctl.variables, "CQRSCTL_TABLE": table, "COLUMNS": "80"})
    shop.ok("table", "create")
    shop.ok("product", "put", "1", "--name", NAME, "--price", "19.90")
    wiring.dynamodb.put_item(TableName=table, Item={"ProductId": {"N": "2"}, "Name": {"S": NAME}})
    shop.ok("project", "--once", "--on-error", "dead-letter")
    return shop


@pytest.mark.timeout(300)  # two dozen commands
def test_nothing_is_cut_no_id_is_split_and_no_line_is_longer_than_it_must_be(planted: Cqrsctl) -> None:
    stream = planted.ok("stream", "status", "-o", "json").json()
    printed = {command: planted(*command.split()).out for command in COMMANDS}

    for command, out in printed.items():
        assert "…" not in out, command
        for line in out.splitlines():
            assert len(line) <= 80 or " " not in line.strip() or line.startswith("{"), (command, line)
    for command in ("table status", "stream status"):
        assert stream["stream_arn"] in printed[command]
    for command in ("stream status", "lag", "read-model status"):
        assert stream["shards"][0]["shard"] in printed[command]
    assert all(word in printed["query get 1"] for word in NAME.split())
    record = next(line for line in printed["dead-letter show 1"].splitlines() if line.startswith("{"))
    assert stream["stream_arn"] in record
    assert NAME in record
