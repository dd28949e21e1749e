"""Parts of commands that are used less often."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import COMMAND
from tests.waiting import wait_for

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

HEADER = "ProductId,Name,Price,OutOfStock\n"


def test_an_import_can_be_checked_without_writing(cqrsctl: Cqrsctl) -> None:
    (cqrsctl.directory / "p.csv").write_text(HEADER + "1,Lamp,2,\n2,Tray,x,\n")

    result = cqrsctl("product", "import", "p.csv", "--dry-run", "-o", "json")

    assert result.code == 1
    assert (result.json()["valid"], result.json()["rejected"]) == (1, 1)
    assert "Price" in (cqrsctl.directory / "p.rejects.csv").read_text()
    assert cqrsctl("table", "status").code == 4


def test_the_rejects_file_cannot_be_the_imported_one(cqrsctl: Cqrsctl) -> None:
    (cqrsctl.directory / "p.csv").write_text(HEADER)

    assert cqrsctl("product", "import", "p.csv", "--rejects", "./p.csv").code == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_import_says_where_it_stopped(
    cqrsctl: Cqrsctl, wiring: Wiring, number: signal.Signals, code: int
) -> None:
    cqrsctl.ok("table", "create")
    importing = subprocess.Popen(
        [COMMAND, "product", "import", "-", "--workers", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cqrsctl.environment(),
        cwd=cqrsctl.directory,
        text=True,
    )
    assert importing.stdin is not None
    importing.stdin.write(HEADER + "".join(f"{number},Lamp,1,\n" for number in range(1, 4_501)))
    importing.stdin.flush()
    table = wiring.environment.table
    wait_for(
        lambda: wiring.dynamodb.describe_table(TableName=table)["Table"]["ItemCount"] >= 25, "the first rows are in"
    )

    importing.send_signal(number)
    _, err = importing.communicate(timeout=30)

    assert importing.returncode == code
    assert err.startswith("Stopping…\n")
    stopped = re.search(
        r"Stopped at line (\d+): all lines before it are done, and at least (\d+) products are written\. "
        r"Resume with: … \| cqrsctl product import - --workers 1 --from-line (\d+)\n",
        err,
    )
    assert stopped is not None, err
    written = wiring.dynamodb.describe_table(TableName=table)["Table"]["ItemCount"]
    assert int(stopped[2]) == written
    assert stopped[1] == stopped[3] == str(written + 2)  # one worker writes in the file's order


def test_an_import_resumed_at_a_line_leaves_out_those_before_and_products_that_exist(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "3", "--name", "Old", "--price", "3")
    (cqrsctl.directory / "p.csv").write_text(HEADER + "1,Lamp,1,\n2,Desk,2,\n3,Vase,3,\nx,Bad,4,\n")
    (cqrsctl.directory / "p.rejects.csv").write_text(HEADER.strip() + ",Line,Reason,Text\n,,,,2,earlier,\n")

    result = cqrsctl("product", "import", "p.csv", "--from-line", "3", "--if-absent", "-o", "json")

    assert {**result.json(), "seconds": 0} == {
        "imported": 1, "skipped": 1, "rejected": 1, "seconds": 0, "rejects": "p.rejects.csv"
    }  # fmt: skip
    assert result.err.startswith("imported 1, skipped 1, rejected 1, ")
    assert len((cqrsctl.directory / "p.rejects.csv").read_text().splitlines()) == 3
    assert cqrsctl("product", "get", "1").code == 1
    assert cqrsctl.ok("product", "get", "3", "-o", "json").json()["Name"] == "Old"


def test_a_table_that_holds_no_products_is_refused(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    wiring.dynamodb.create_table(
        TableName=wiring.environment.table,
        AttributeDefinitions=[{"AttributeName": "Id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "Id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )

    importing = cqrsctl("product", "import", "-", stdin=HEADER)
    projecting = cqrsctl("project", "--once", "-o", "json")
    enabling = cqrsctl("table", "enable-stream")
    creating = cqrsctl("table", "create")

    assert importing.code == 4
    assert "has the key Id (S)" in importing.err
    assert (projecting.code, json.loads(projecting.err)["error"]["code"]) == (4, "stream_view_type")
    assert enabling.code == 2
    assert "key: asked ProductId (N), is Id (S)" in creating.err


def test_an_item_that_does_not_fit_stops_the_projector_and_loses_no_neighbour(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Before", "--price", "1")
    wiring.dynamodb.put_item(
        TableName=wiring.environment.table,
        Item={"ProductId": {"N": "2"}, "Name": {"S": "x"}, "Price": {"N": "0.00001"}},
    )
    cqrsctl.ok("product", "put", "3", "--name", "After", "--price", "1")

    for _ in range(2):
        stopped = cqrsctl("project", "--once", "-o", "json")
        assert stopped.code == 1
        assert "Price: 0.00001 has more than 4 decimals" in json.loads(stopped.err)["error"]["message"]
    assert [row["ProductId"] for row in cqrsctl.ok("query", "list", "-o", "json").json()] == [1]
    drift = cqrsctl("verify", "-o", "jsonl").lines()
    assert [(row["kind"], row["key"]) for row in drift] == [("misfit", "2"), ("missing", "3")]


def test_declared_projections_are_made_and_shown(cqrsctl: Cqrsctl) -> None:
    (cqrsctl.directory / "cqrsctl.toml").write_text(
        """
        [[projections]]
        name = "stock"
        view = "Stock"
        columns = [
          { name = "Id", attribute = "ProductId", type = "bigint", key = true },
          { name = "Sold", attribute = "OutOfStock", type = "boolean", default = false, index = true },
        ]
        """
    )
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "1", "--out-of-stock")
    planned = cqrsctl.ok("read-model", "init", "--dry-run").out
    as_json = cqrsctl.ok("read-model", "init", "--dry-run", "-o", "json").json()
    cqrsctl.ok("project", "--once", "--projection", "stock")

    assert "CREATE OR REPLACE SQL SECURITY DEFINER VIEW `Stock`" in planned
    assert "KEY (`Sold`)" in as_json[-2]["statement"]
    assert cqrsctl.ok("query", "list", "-o", "json").json() == [{"Id": 1, "Sold": True}]
    assert cqrsctl("query", "list", "--name-like", "x").code == 2
    assert next(csv.DictReader(io.StringIO(cqrsctl.ok("read-model", "status", "-o", "csv").out)))["rows"] == "1"
    assert "Last projected by" in cqrsctl.ok("read-model", "status").out
    assert [row["table"] for row in cqrsctl.ok("read-model", "drop", "--dry-run", "-o", "json").json()] == ["stock_v1"]
    assert "drift: 0" in cqrsctl.ok("verify").out


def test_stream_status_shows_how_far_each_shard_was_read(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "1")

    before = cqrsctl.ok("stream", "status", "-o", "json")
    cqrsctl.ok("project", "--once")
    after = cqrsctl.ok("stream", "status", "-o", "json").json()

    assert "No checkpoints" in before.err
    assert before.json()["shards"][0]["read"] == "unread"
    assert before.json()["shards"][0]["hours_left"] == pytest.approx(24, abs=0.1)
    assert (after["view_type"], after["open_shards"]) == ("NEW_AND_OLD_IMAGES", 1)
    assert after["shards"][0]["read"] == "open"
    assert after["shards"][0]["hours_left"] is None
    assert cqrsctl("stream", "tail", "--no-follow", "--shard", "nothing").code == 2
    shard = after["shards"][0]["shard"]
    assert len(cqrsctl.ok("stream", "tail", "--no-follow", "--shard", shard, "--since", "1h", "-o", "json").json()) == 1


def test_verbose_tells_the_calls_and_json_logs_are_json(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("read-model", "init")

    told = cqrsctl.ok("-v", "query", "sql", "SELECT 1 AS one")
    logged = cqrsctl.ok("-v", "--log-format", "json", "table", "status")
    traced = cqrsctl("-vv", "product", "get", "1")

    assert "connecting to 127.0.0.1" in told.err
    assert {"dynamodb DescribeTable"} <= {json.loads(line)["message"] for line in logged.err.splitlines()}
    assert "Traceback" in traced.err


def test_sql_without_database_columns_of_the_same_name_keeps_both(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("read-model", "init")

    rows = cqrsctl.ok("query", "sql", "SELECT 1 AS a, 2 AS a, 1.50 AS price", "-o", "jsonl").lines()
    refused = cqrsctl("query", "sql", "DELETE FROM Product")
    wrong = cqrsctl("query", "sql", "SELECT nothing FROM Product")

    assert rows == [{"a": 1, "a_2": 2, "price": "1.50"}]
    assert refused.code == 2
    assert wrong.code == 5
