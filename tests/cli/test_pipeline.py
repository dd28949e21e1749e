"""The pipeline end to end, by the installed command."""

from __future__ import annotations

import csv
import io
import json
import random
import signal
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.conftest import Cqrsctl

HEADER = "ProductId,Name,Price,OutOfStock\n"


@pytest.mark.timeout(300)
def test_ten_thousand_rows_with_repeated_ids_arrive_as_the_last_state_of_each_product(cqrsctl: Cqrsctl) -> None:
    chance = random.Random(7)
    expected: dict[int, list[str]] = {}
    lines = [HEADER]
    for row in range(10_000):
        product = chance.randrange(1, 6_000)
        cells = [str(product), f"Name {row}", f"{chance.randrange(10**6)}.{chance.randrange(10**4):04}", "true"]
        expected[product] = cells
        lines.append(",".join(cells) + "\n")
    (cqrsctl.directory / "products.csv").write_text("".join(lines))
    cqrsctl.ok("table", "create")
    imported = cqrsctl.ok("product", "import", "products.csv", "-o", "json", timeout=200).json()
    assert imported["imported"] == 10_000
    assert imported["rejected"] == 0

    projected = cqrsctl.ok("project", "--once", "-o", "json", timeout=200).json()

    assert projected["changes"] == 10_000
    assert projected["caught_up"] is True
    view = cqrsctl.ok("query", "sql", "SELECT * FROM Product", "-o", "jsonl").lines()
    assert {row["ProductId"]: (row["Name"], Decimal(row["Price"])) for row in view} == {
        product: (cells[1], Decimal(cells[2])) for product, cells in expected.items()
    }


def test_a_second_run_applies_only_new_changes_and_a_third_says_none(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "import", "-", stdin=cqrsctl.ok("product", "sample", "-n", "20", "-o", "csv").out)
    first = cqrsctl.ok("project", "--once", "-o", "json").json()
    cqrsctl.ok("product", "delete", "3")
    cqrsctl.ok("product", "put", "4", "--name", "Changed", "--price", "1.2345", "--out-of-stock")

    second = cqrsctl.ok("project", "--once", "-o", "json").json()
    third = cqrsctl.ok("project", "--once", "-o", "json").json()

    assert [run["changes"] for run in (first, second, third)] == [20, 2, 0]
    assert [run["rows"] for run in (first, second, third)] == [20, 2, 0]
    assert cqrsctl("query", "get", "3").code == 1
    assert cqrsctl.ok("query", "get", "4", "-o", "json").json() == {
        "ProductId": 4,
        "Name": "Changed",
        "Price": "1.2345",
        "OutOfStock": True,
    }
    assert cqrsctl.ok("query", "count", "-o", "json").json() == {"count": 19}
    assert "drift: 0" in cqrsctl.ok("verify").out


def test_a_deleted_and_newly_put_product_is_there_again(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    for name in ("first", "second"):
        cqrsctl.ok("product", "put", "1", "--name", name, "--price", "1")
        cqrsctl.ok("project", "--once")
        if name == "first":
            cqrsctl.ok("product", "delete", "1")
            cqrsctl.ok("project", "--once")

    assert cqrsctl.ok("query", "get", "1", "-o", "json").json()["Name"] == "second"


def test_a_following_projector_applies_what_comes_and_stops_cleanly_on_sigint(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("read-model", "init")
    follower = cqrsctl.start("project", "-o", "json")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "2")
    wait_for(lambda: cqrsctl("query", "get", "1").code == 0, "the product arrives")

    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=20)

    assert follower.returncode == 130, err
    assert json.loads(out)["changes"] == 1
    assert "applied 1 change to 1 row" in err


def test_a_second_projector_is_refused_and_the_holder_named(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "2")
    follower = cqrsctl.start("project")
    try:
        wait_for(lambda: cqrsctl("query", "get", "1").code == 0, "the first projector runs")
        second = cqrsctl("project", "--once", "-o", "json")
        dropping = cqrsctl("read-model", "drop", "--yes")
    finally:
        follower.terminate()
        follower.communicate(timeout=20)

    assert second.code == 9
    assert f"process {follower.pid}" in json.loads(second.err)["error"]["message"]
    assert dropping.code == 9
    cqrsctl.ok("project", "--once")


def test_tailed_changes_are_replayed_into_an_empty_read_model(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "import", "-", stdin=cqrsctl.ok("product", "sample", "-n", "50", "-o", "csv").out)
    cqrsctl.ok("product", "delete", "9")
    tailed = cqrsctl.ok("stream", "tail", "--no-follow", "-o", "jsonl").out
    (cqrsctl.directory / "changes.jsonl").write_text(tailed)

    replayed = cqrsctl.ok("project", "--input", "changes.jsonl", "-o", "json").json()
    again = cqrsctl.ok("project", "--input", "-", "-o", "json", stdin=tailed).json()

    assert (replayed["changes"], replayed["rows"]) == (51, 50)
    assert (again["changes"], again["rows"], again["stale"]) == (51, 0, 50)
    assert "drift: 0" in cqrsctl.ok("verify").out
    assert cqrsctl.ok("project", "--once", "-o", "json").json()["stale"] == 50


def test_tail_shows_what_changed_and_only_what_was_asked_for(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "2")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "3.50")
    cqrsctl.ok("product", "put", "2", "--name", "Tray", "--price", "9")
    cqrsctl.ok("product", "delete", "2")

    modified = cqrsctl.ok("stream", "tail", "--no-follow", "--event", "modify").out
    of_two = cqrsctl.ok("stream", "tail", "--no-follow", "--id", "2", "-o", "jsonl").lines()
    limited = cqrsctl.ok("stream", "tail", "--no-follow", "-n", "1", "-o", "json").json()
    sequence = of_two[-1]["sequence_number"]
    later = cqrsctl.ok("stream", "tail", "--no-follow", "--from", sequence, "-o", "jsonl").lines()
    as_csv = list(csv.DictReader(io.StringIO(cqrsctl.ok("stream", "tail", "--no-follow", "-o", "csv").out)))

    assert modified.splitlines()[0].endswith(" UTC  MODIFY  1  Price: 2 → 3.50")
    assert [change["event"] for change in of_two] == ["INSERT", "REMOVE"]
    assert len(limited) == 1
    assert [change["event"] for change in later] == ["REMOVE"]
    assert len(as_csv) == 4


def test_a_first_run_over_a_table_older_than_its_stream_gives_a_warning(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create", "--no-stream")
    created = time.monotonic()
    cqrsctl.ok("product", "put", "1", "--name", "Old", "--price", "2")
    wait_for(lambda: time.monotonic() > created + 1, "the table is older than a stream that it was created with")
    cqrsctl.ok("table", "enable-stream")
    cqrsctl.ok("product", "put", "2", "--name", "New", "--price", "2")

    first = cqrsctl.ok("project", "--once")
    verified = cqrsctl("verify", "-o", "json")

    assert "are in no change record" in first.err
    assert "in no change record" not in cqrsctl.ok("project", "--once").err
    assert verified.code == 7
    assert [(row["kind"], row["key"]) for row in verified.json()] == [("missing", "1")]


def test_from_latest_leaves_out_what_was_there_before(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Before", "--price", "2")

    first = cqrsctl.ok("project", "--once", "--from", "latest", "-o", "json").json()

    assert first["changes"] == 0


def test_a_table_made_anew_is_a_gap_and_a_dropped_read_model_mends_it(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "2")
    cqrsctl.ok("project", "--once")
    cqrsctl.ok("table", "delete", "--yes")
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "2", "--name", "Tray", "--price", "2")

    gap = cqrsctl("project", "--once", "-o", "json")
    cqrsctl.ok("read-model", "drop", "--yes")
    cqrsctl.ok("project", "--once")

    assert gap.code == 6
    assert json.loads(gap.err)["error"]["code"] == "stream_gap"
    assert "drift: 0" in cqrsctl.ok("verify").out


def test_dry_run_of_the_projector_writes_nothing(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "2")

    dry = cqrsctl.ok("project", "--once", "--dry-run", "-o", "json")

    assert dry.json()["changes"] == 1
    assert cqrsctl("query", "count").code == 5


@pytest.mark.timeout(120)
def test_the_demo_ends_without_drift_and_leaves_nothing_behind(cqrsctl: Cqrsctl) -> None:
    home = cqrsctl.directory / "state"
    shown = cqrsctl.started.ok("demo", "--products", "100", variables={"CQRSCTL_STATE_DIR": str(home)})

    assert shown.out.splitlines()[-1] == "write model: 99 products · read model: 99 products · drift: 0"
    assert "$ cqrsctl -e demo table create" in shown.out
    assert [path.name for path in (home / "demo").iterdir()] == ["lock"]
