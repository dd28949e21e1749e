"""Every console block runs as it is printed, in the order of its page, and prints what the page shows."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.conftest import COMMAND
from tests.documentation.pages import PAGES, Step, mistakes, script, steps

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cqrsctl

AWS_CLI = f"""#!{sys.executable}
import json, sys, boto3
service, operation, *rest = sys.argv[1:]
options = {{name[2:].replace("-", " ").title().replace(" ", ""): value for name, value in zip(rest[::2], rest[1::2])}}
options = {{name: json.loads(value) if value[0] == "{{" else value for name, value in options.items()}}
getattr(boto3.client(service), operation.replace("-", "_"))(**options)
"""
"""Stands in for the AWS CLI: `aws SERVICE OPERATION --option VALUE …`."""


_FIRST = {"README.md", "tutorial.md"}
WIDTH = "130"
"""That of a terminal on which the pages' lines fit."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The first pages that a newcomer types from; with --all-pages all, which take minutes."""
    if "page" in metafunc.fixturenames:
        chosen = PAGES if metafunc.config.getoption("--all-pages") else [page for page in PAGES if page.name in _FIRST]
        metafunc.parametrize("page", chosen, ids=lambda page: page.name)


@pytest.mark.timeout(600)  # a page of forty commands, on a busy machine
def test_a_page_runs_as_it_is_printed(shell: Cqrsctl, page: Path) -> None:
    aws = shell.directory / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(AWS_CLI)
    aws.chmod(0o700)
    listed = list(steps(page))
    environment = shell.environment()
    path = f"{aws.parent}:{COMMAND.parent}:{environment['PATH']}"
    printed = shell.directory / "printed"
    with (
        printed.open("w") as file,
        subprocess.Popen(
            ["bash", "-c", script(listed)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            env={**environment, "PATH": path, "COLUMNS": WIDTH},
            cwd=shell.directory,
        ) as run,
        suppress(subprocess.TimeoutExpired),
    ):
        try:
            run.wait(timeout=560)
        finally:
            run.terminate()

    assert not list(mistakes(listed, printed.read_text()))


@pytest.mark.parametrize(
    ("printed", "wrong"),
    [
        ("a 12:00:01\nb\n\n@@ exit 0\n", 0),
        ("a 12:00:01\n\n@@ exit 0\n", 1),
        ("b\na 12:00:01\n\n@@ exit 0\n", 1),
        ("a 12:00:01\nb\n\n@@ exit 1\n", 1),
        ("", 1),
    ],
)
def test_the_judge_of_pages_finds_mistakes(printed: str, wrong: int) -> None:
    assert len(list(mistakes([Step("x", ("a  23:59:59", "b"))], printed))) == wrong
