"""`--wait`, which may stand with a value or without."""

from __future__ import annotations

import pytest

from cqrsctl.cli.wait_option import completed

VALUED = {"--name", "--price", "-o"}


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("1 --wait", "1 --wait=writer"),
        ("1 --wait writer", "1 --wait=writer"),
        ("1 --wait readers", "1 --wait=readers"),
        ("1 --wait=readers", "1 --wait=readers"),
        ("1 --wait=nobody", "1 --wait=nobody"),
        ("--wait readers 1", "--wait=readers 1"),
        ("--wait 1", "--wait=writer 1"),
        ("1 --name x --wait --price 5", "1 --name x --wait=writer --price 5"),
        ("1 --wait readers --name readers", "1 --wait=readers --name readers"),
        ("1 --name --wait --price 5", "1 --name --wait --price 5"),
        ("1 -o --wait", "1 -o --wait"),
        ("1 -- --wait readers", "1 -- --wait readers"),
        ("1 --name", "1 --name"),
        ("", ""),
    ],
)
def test_an_option_alone_gets_its_first_value(given: str, parsed: str) -> None:
    assert completed(given.split(), "--wait", ("writer", "readers"), VALUED) == parsed.split()
