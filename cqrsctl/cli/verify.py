"""`cqrsctl verify`: the read model against the write model."""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, YesOption, of, parse_duration
from cqrsctl.cli.render import Output
from cqrsctl.errors import Drift
from cqrsctl.pipeline.verify.comparison import DriftKind
from cqrsctl.pipeline.verify.verifying import Sample, Verification
from cqrsctl.projection.definition import unnamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.pipeline.verify.verifying import DriftRow, Verified

app = group("Compare the read model with the write model.")

_COLUMNS = ("projection", "kind", "key", "columns")
_SHOWN = 20


@app.command()
def verify(
    ctx: typer.Context,
    sample: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Compare only this many random items and rows.", show_default=False),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write the items over the rows that differ.")] = False,
    patience: Annotated[
        str, typer.Option(metavar="DURATION", help="How long a row may stay different before it is drift.")
    ] = "5s",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare the read model with the write model.

    Every item of the table is compared with its row on the writer, and rows without an item are looked for. What
    differs only because its change is still under way is waited for. Exit 7 if something stays different and was not
    repaired.

    \b
    Examples:
      cqrsctl verify
      cqrsctl verify --sample 1000
      cqrsctl verify --repair
    """
    invocation = of(ctx)
    seconds = parse_duration(patience).total_seconds()
    if repair:
        invocation.confirm(
            f"Write the items of table {invocation.environment.table!r} over the rows that differ from them.",
            yes=yes,
            needed=not invocation.environment.embedded,
        )
    chance = random.SystemRandom()
    with _live(output) as show:
        verifications = [
            Verification(
                wiring=invocation.wiring,
                projection=projection,
                clock=invocation.clock,
                progress=_shown_by(show),
                sample=Sample(sample, chance) if sample else None,
                repair=repair,
                patience_seconds=seconds,
            )
            for projection in invocation.environment.projections
        ]
        results = [each.result for each in verifications]
        drift = (_record(row, repair=repair) for each in verifications for row in each.run())
        try:
            first = _printed(output, (*_COLUMNS, "repaired") if repair else _COLUMNS, drift)
        except KeyboardInterrupt:
            invocation.note(
                f"Stopped before the end. {' '.join(map(_so_far, results))} Start over with the same command."
            )
            raise
    if first:
        _table(first, results, repair=repair)
    for result in results:
        named = f"{result.projection}: " if len(results) > 1 else ""
        summary = named + _summary(result, sample)
        if output is Output.TABLE:
            render.text(summary)
        else:
            invocation.note(summary)
        if result.not_in_former:
            rows = words.count(result.not_in_former, "repaired row does", "repaired rows do")
            invocation.note(f"{named}{rows} not fit the table that `cqrsctl rebuild --undo` would bring back.")
    seen = set().union(*(result.attributes for result in results))
    if names := unnamed(invocation.environment.projections, seen):
        invocation.note(f"No column names these attributes of the items, which are in no view: {words.listed(names)}.")
    _require_equal(results, repair=repair)


@contextmanager
def _live(output: Output) -> Iterator[Callable[[str], None]]:
    """The progress line, unless rows are written to the same terminal as they are found."""
    if output is not Output.TABLE and sys.stdout.isatty():
        yield lambda _: None
        return
    with render.live() as show:
        yield show


def _printed(output: Output, names: tuple[str, ...], drift: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print drift as it is found. A table waits for its end, so the first rows are returned for it."""
    if output is not Output.TABLE:
        render.rows(output, names, drift)
        return []
    first = list(islice(drift, _SHOWN))
    deque(drift, maxlen=0)
    return first


def _table(first: list[dict[str, Any]], results: list[Verified], *, repair: bool) -> None:
    render.rows(Output.TABLE, (*_COLUMNS, "repaired") if repair else _COLUMNS, first)
    more = sum(result.drift.total() for result in results) - len(first)
    if more:
        render.text(f"{more} more: -o jsonl prints all")


def _record(row: DriftRow, *, repair: bool) -> dict[str, Any]:
    record: dict[str, Any] = {
        "projection": row.projection,
        "kind": row.kind.value,
        "key": ", ".join(map(str, row.key)),
        "columns": ", ".join(row.columns),
    }
    return {**record, "repaired": row.repaired} if repair else record


def _shown_by(show: Callable[[str], None]) -> Callable[[Verified], None]:
    begun = time.monotonic()

    def shown(result: Verified) -> None:
        rate = (result.items + result.rows) / max(time.monotonic() - begun, 1e-9)
        show(
            f"{result.projection}: compared {result.items} of about {result.about} items, {result.rows} rows, "
            f"{rate:.0f}/s; drift {result.drift.total()}"
        )

    return shown


def _summary(result: Verified, sample: int | None) -> str:
    if sample is None:
        compared = (
            f"write model: {words.count(result.items, 'product')} · read model: {words.count(result.rows, 'product')}"
        )
    else:
        compared = f"sampled: {result.items} of about {result.about} products, {result.rows} rows"
    kinds = ", ".join(f"{count} {kind.value}" for kind, count in sorted(result.drift.items()))
    drift = f" · drift: {result.drift.total()}" + (f" ({kinds})" if kinds else "")
    in_flight = f" · in flight: {result.in_flight}" if result.in_flight else ""
    repaired = f" · repaired: {result.repaired}" if result.repaired else ""
    return compared + drift + in_flight + repaired


def _so_far(result: Verified) -> str:
    compared = f"{result.items} of about {result.about} items and {result.rows} rows"
    return f"{result.projection}: compared {compared}, found {result.drift.total()} that differ."


def _require_equal(results: list[Verified], *, repair: bool) -> None:
    left = sum(result.left for result in results)
    if not left:
        return
    misfits = sum(result.drift[DriftKind.MISFIT] for result in results)
    hints = []
    if misfits:
        hints.append(
            "What does not fit its columns cannot be repaired: fix the item, or declare columns that hold it and run "
            "`cqrsctl rebuild`."
        )
    if misfits < left:
        hints.append(
            "The rest changed meanwhile or was refused: run `cqrsctl verify` again."
            if repair
            else "If no projector is running, apply what is waiting: `cqrsctl project --once`; if one is behind, wait "
            "longer with --patience. `cqrsctl verify --repair` repairs what differs after that."
        )
    rows = words.count(left, "row of the read model differs", "rows of the read model differ")
    raise Drift(f"{rows} from {'its item' if left == 1 else 'their items'}.", hint=" ".join(hints))
