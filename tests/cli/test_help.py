"""Every command explains itself, and is quick to do so; the generated documentation is what it says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.cli.commands import COMMANDS, load_command
from scripts.reference import stale
from tests.documentation import LEAVES

if TYPE_CHECKING:
    from tests.conftest import Cqrsctl


@pytest.mark.parametrize(("name", "command"), LEAVES.items())
def test_a_command_has_help_with_an_example(name: str, command: Any) -> None:
    assert re.search(rf"Examples?:\n(.*\n)*? .*cqrsctl( -e \w+)? {name}", command.help), name


def test_the_generated_documentation_is_current() -> None:
    assert not stale(), "a help text or a check of the doctor changed: run scripts/docs, and commit what it writes"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_root_knows_each_groups_help_line_without_loading_it(name: str) -> None:
    assert load_command(name).help.split("\n")[0] == COMMANDS[name]


def test_help_lists_every_command(cqrsctl: Cqrsctl) -> None:
    shown = cqrsctl.started.ok("--help").out

    assert [line.split()[0] for line in shown.split("Commands:\n")[1].splitlines()[: len(COMMANDS)]] == list(COMMANDS)
    assert "…" not in shown
    assert "..." not in shown.split("Commands:")[1]


def test_help_and_version_load_neither_boto3_nor_pymysql_nor_rich(cqrsctl: Cqrsctl) -> None:
    for option in ("--help", "--version"):
        imported = cqrsctl.started.ok(option, variables={"PYTHONPROFILEIMPORTTIME": "1"}).err
        assert "typer" in imported
        for heavy in ("boto3", "botocore", "pymysql", "rich.console", "tenacity"):
            assert not re.search(rf"\| +{re.escape(heavy)}\b", imported), heavy


def test_every_printing_command_gives_one_json_document(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create", "-o", "json").json()
    for command in (
        ["local", "up"],
        ["local", "status"],
        ["table", "status"],
        ["table", "enable-stream"],
        ["product", "put", "1", "--name", "Lamp", "--price", "2"],
        ["product", "get", "1"],
        ["product", "sample", "-n", "2"],
        ["product", "delete", "2"],
        ["aurora", "status"],
        ["aurora", "autoscale", "show"],
        ["cost"],
        ["aurora", "cost"],
        ["function", "package"],
        ["function", "deploy", "--dry-run"],
        ["stream", "status"],
        ["stream", "tail", "--no-follow"],
        ["read-model", "init"],
        ["read-model", "status"],
        ["project", "--once"],
        ["query", "list"],
        ["query", "get", "1"],
        ["query", "count"],
        ["query", "sql", "SELECT 1 AS a, 2 AS a"],
        ["verify"],
        ["lag"],
        ["status"],
        ["dead-letter", "list"],
        ["table", "disable-stream", "--yes"],
        ["read-model", "drop", "--yes"],
        ["table", "delete", "--yes"],
    ):
        cqrsctl.ok(*command, "-o", "json").json()
        for line in cqrsctl.ok(*command, "-o", "jsonl").out.splitlines() if command[0] == "query" else ():
            assert line.startswith("{")


def test_output_without_a_terminal_has_no_colour_and_loses_no_cell(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "long " * 50, "--price", "2")

    shown = cqrsctl.ok("stream", "status").out + cqrsctl.ok("product", "get", "1").out

    assert "\x1b" not in shown
    assert "long " * 49 in shown
