"""The picture in the README shows what the commands print."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from scripts import screenshot
from tests.documentation.pages import masked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import Cqrsctl


@pytest.mark.timeout(300)  # a dozen commands, on a busy machine
def test_the_screenshot_is_current(shell: Cqrsctl) -> None:
    def run(arguments: Sequence[str]) -> str:
        result = shell.ok(*arguments, variables=screenshot.COLOURED)
        return result.err + result.out

    today = screenshot.lines(screenshot.transcript(run))

    assert [*map(comparable, screenshot.lines_of(screenshot.FILE.read_text()))] == [*map(comparable, today)], (
        "what is printed changed: run scripts/screenshot, and look at the picture"
    )


def test_a_picture_holds_the_lines_that_it_was_drawn_from() -> None:
    coloured = "\x1b[1mname \x1b[0m \x1b[31mfailing\x1b[0m <why> & what\n  5 → 6"

    shown = screenshot.lines_of(screenshot.drawn(coloured))

    assert [*map(comparable, shown)] == [*map(comparable, screenshot.lines(coloured))]
    assert "http" not in re.sub(r'xmlns="\S+"|<!-- .*? -->', "", screenshot.drawn(coloured))


def comparable(line: str) -> str:
    """A line without spaces, and without what differs from run to run."""
    return re.sub(r"about\d+|\d+KB|\s", "", masked(line).replace(" ", ""))
