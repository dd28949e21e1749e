"""`cqrsctl init` writes a settings file that the pipeline runs with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cqrsctl
from tests.pipelines import create_table_of_lines

if TYPE_CHECKING:
    from pathlib import Path

    from cqrsctl.wiring import Wiring


@pytest.fixture
def folder(tmp_path: Path) -> Cqrsctl:
    """The installed command in an empty folder, with no stack."""
    return Cqrsctl(tmp_path, {"CQRSCTL_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)})


@pytest.fixture
def lines(wiring: Wiring) -> str:
    """A table of order lines, whose key has two parts; its name."""
    name = create_table_of_lines(wiring, "order id", "Line")
    for number in range(1, 4):
        item = {"order id": {"S": 'a "b" \\ é'}, "Line": {"N": str(number)}, "Price": {"N": f"{number}.25"}}
        more = {"Tags": {"SS": ["x", "y"]}, "a.b": {"N": "1"}, "Gift": {"BOOL": True}}
        wiring.dynamodb.put_item(TableName=name, Item={**item, **more})
    return name


def test_a_table_of_ones_own_is_projected_as_declared(cqrsctl: Cqrsctl, lines: str) -> None:
    shown = cqrsctl.ok("init", "--from-table", lines, "--dry-run").out
    written = cqrsctl.ok("init", "--from-table", lines)

    assert (cqrsctl.directory / "cqrsctl.toml").read_text() == shown
    assert "Read 3 items of table" in written.err
    assert "Not in the view: a.b. The file has the reasons." in written.err
    assert '{ name = "order_id", type = "varchar(255)", attribute = "order id", key = true }' in shown
    assert '{ name = "Price", type = "decimal(18,4)" }' in shown
    cqrsctl.ok("project", "--once")
    (row, *_) = rows = cqrsctl.ok("query", "list", "-o", "json").json()
    assert len(rows) == 3
    assert row == {"order_id": 'a "b" \\ é', "Line": 1, "Price": "1.25", "Tags": ["x", "y"], "Gift": True}
    verified = cqrsctl.ok("verify")
    assert "drift: 0" in verified.out
    assert "No column names these attributes of the items, which are in no view: a.b." in verified.err
    found = cqrsctl("doctor", "-o", "json").json()
    assert "table_attributes" in [each["code"] for each in found]


def test_a_file_that_exists_is_never_changed(folder: Cqrsctl) -> None:
    file = folder.directory / "cqrsctl.toml"
    folder.ok("init")
    text = file.read_text()

    again = folder("init")
    file.unlink()
    file.symlink_to(folder.directory / "nowhere")
    dangling = folder("init")

    assert (again.code, dangling.code) == (1, 1)
    assert "cqrsctl.toml already exists; nothing was written." in again.err
    assert not (folder.directory / "nowhere").exists()
    assert "[environments.prod]" in text


def test_the_file_declares_the_environment_that_is_named(folder: Cqrsctl) -> None:
    written = folder.ok("-e", "prod", "--region", "eu-west-1", "--config", "shop.toml", "init")
    shown = folder.ok("-e", "prod", "--config", "shop.toml", "config", "show", "-o", "json").json()

    settings = {each["setting"]: each["value"] for each in shown}
    assert "environment prod, table Products, view Product with 4 columns" in written.err
    assert (settings["region"], settings["database.cluster"]) == ("eu-west-1", "products")
    assert folder.ok("--config", "shop.toml", "config", "environments", "-o", "json").json()[0]["default"] is False


def test_a_table_that_is_not_there_leaves_no_file(cqrsctl: Cqrsctl) -> None:
    refused = cqrsctl("init", "--from-table", "Nowhere")

    assert refused.code == 4
    assert "Nowhere" in refused.err
    assert not (cqrsctl.directory / "cqrsctl.toml").exists()


def test_a_folder_that_cannot_be_written_is_named(folder: Cqrsctl) -> None:
    refused = folder("--config", "missing/shop.toml", "init")

    assert refused.code == 3
    assert "missing/shop.toml: No such file or directory." in refused.err
