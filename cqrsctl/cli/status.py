"""`cqrsctl status`: the whole pipeline on one screen."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import render, watch
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of
from cqrsctl.cli.layout import folded, hung, wrapped
from cqrsctl.cli.render import Output
from cqrsctl.diagnosis.health import Health
from cqrsctl.diagnosis.status import Overview
from cqrsctl.stopping import Questions

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.text import Text

    from cqrsctl.diagnosis.status import PipelineStatus

app = group("Show the whole pipeline on one screen, and what is not well.")

_COLUMNS = ("part", "health", "summary", "reason")
_COLOURS = {
    Health.OK: "green",
    Health.OFF: "dim",
    Health.WARNING: "yellow",
    Health.UNKNOWN: "magenta",
    Health.FAILING: "bold red",
}
_PART_WIDTH = len("autoscaling")
_HEALTH_WIDTH = len(Health.FAILING)
_INDENT = _PART_WIDTH + 2
_LOOKS_KEPT = 40


@app.command()
def status(
    ctx: typer.Context,
    watched: Annotated[bool, typer.Option("--watch", help="Look every 2 s, until Ctrl-C.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the whole pipeline on one screen, and what is not well.

    Each part is ok, off, warning, failing, or unknown, with the reason if it is not well. The projector is judged by
    its progress: with changes waiting for 30 s while its checkpoints do not move, it is stuck, though it holds the lock
    and its heart beats. Rows are the database's estimate. Exit 1 if a part is failing or could not be looked at.

    \b
    Examples:
      cqrsctl status
      cqrsctl status --watch
      cqrsctl status -o json
    """
    if watched:
        watch.require_terminal(output)
        of(ctx).follows = True
    overview = Overview(of(ctx).wiring, of(ctx).clock)
    with Questions() as executor:
        place = executor.submit(of(ctx).place)

    def look() -> PipelineStatus:
        return _addressed(overview.look(), of(ctx).addressed)

    if watched:
        history: deque[PipelineStatus] = deque(maxlen=_LOOKS_KEPT)
        watch.watch(output, look, lambda found: _watched(found, place.result(), history), record)
    found = look()
    whole = record(found)
    if not render.document(output, whole, _COLUMNS, whole["parts"]):
        render.text(place.result() + "\n")
        render.show(_drawn(found))
    if found.health in {Health.FAILING, Health.UNKNOWN}:
        raise typer.Exit(1)


def _addressed(found: PipelineStatus, addressed: Callable[[str], str]) -> PipelineStatus:
    """The status with the commands that it names addressed to this environment."""
    parts = (
        replace(part, summary=addressed(part.summary), reason=part.reason and addressed(part.reason))
        for part in found.parts
    )
    return replace(found, parts=tuple(parts))


def record(found: PipelineStatus) -> dict[str, Any]:
    """The status for machines; each part with the facts that it was judged by."""
    return {
        "environment": found.environment,
        "at": found.at,
        "health": found.health.value,
        "lag_seconds": _rounded(found.lag_seconds),
        "rows_per_second": _rounded(found.rows_per_second),
        "parts": [
            {
                "part": part.name,
                "health": part.health.value,
                "summary": part.summary,
                "reason": part.reason,
                "facts": part.facts,
            }
            for part in found.parts
        ],
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _drawn(found: PipelineStatus) -> list[Text]:
    """A line a part, and if one is not well, the reason below in the health's colour."""
    from rich.text import Text

    indent, lines = _PART_WIDTH + _HEALTH_WIDTH + 4, []
    for part in found.parts:
        colour = _COLOURS[part.health]
        head = Text(f"{part.name:<{_PART_WIDTH}}  ", "bold").append(part.health, f"not bold {colour}")
        texts = [(part.summary, "dim" if part.health is Health.OFF else ""), (part.reason or "", colour)]
        lines += hung(
            head,
            [
                Text(render.printable(line), style)
                for text, style in texts
                if text
                for line in wrapped(text, render.width() - indent)
            ],
            indent,
            render.width(),
        )
    return lines


def _watched(found: PipelineStatus, place: str, history: deque[PipelineStatus]) -> list[Text]:
    from rich.text import Text

    history.append(found)
    title = Text(words.moment(found.at, found.at)).append(f"  {found.health}", style=_COLOURS[found.health])
    rates, lags = [each.rows_per_second for each in history], [each.lag_seconds for each in history]
    lines = [
        *_line("rate", rates, lambda rate: "unknown" if rate is None else f"{rate:.0f} rows/s"),
        *_line("lag", lags, words.duration),
        Text(f"{'':{_INDENT}}{words.moment(history[0].at, found.at)} – {words.moment(found.at, found.at)}", "dim"),
    ]
    return [*map(Text, wrapped(place, render.width())), title, Text(), *_drawn(found), Text(), *lines]


def _line(name: str, values: list[float | None], shown: Callable[[float | None], str]) -> list[Text]:
    """The values of the last looks, the last one and the highest in words."""
    from rich.text import Text

    highest = max((value for value in values if value is not None), default=None)
    text = Text(f"{name:<{_INDENT}}", "bold").append(render.sparkline(values, _LOOKS_KEPT), "not bold cyan")
    return folded(text.append(f"  {shown(values[-1])}, max {shown(highest)}", "not bold"), render.width(), _INDENT)
