"""`--watch`: a view that is refreshed in place, or off a terminal a line of JSON for each look."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from cqrsctl.cli import columns, render
from cqrsctl.cli.render import Output
from cqrsctl.clock import SystemClock
from cqrsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.text import Text

Found = TypeVar("Found")

EVERY_SECONDS = 2.0


def require_terminal(output: Output) -> None:
    """Raises UsageError if there is nothing to refresh in place, and no lines are asked for."""
    if output is Output.JSONL or (output is Output.TABLE and sys.stdout.isatty() and not columns.chosen()):
        return
    raise UsageError(
        "--watch draws on a terminal, without --columns.",
        hint="Add -o jsonl for a line of JSON at each look, or leave --watch out.",
    )


def watch(
    output: Output,
    look: Callable[[], Found],
    draw: Callable[[Found], list[Text]],
    record: Callable[[Found], Mapping[str, Any]],
) -> NoReturn:
    """Look every two seconds and show what is found, until Ctrl-C."""
    clock = SystemClock()
    if output is Output.JSONL:
        while True:
            begun = clock.monotonic()
            render.rows(output, [], [record(look())])
            _wait(clock, begun)
    from rich.text import Text

    with render.screen() as show:
        show([Text("Looking …")])
        while True:
            begun = clock.monotonic()
            show(draw(look()))
            _wait(clock, begun)


def _wait(clock: SystemClock, begun: float) -> None:
    clock.sleep(max(0.0, EVERY_SECONDS - (clock.monotonic() - begun)))
