"""`cqrsctl verify`: the read model against the write model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer  # noqa: TC002 -- Typer reads annotations at run time

from cqrsctl.cli import render
from cqrsctl.cli.invocation import OutputOption, group, of
from cqrsctl.cli.render import Output
from cqrsctl.errors import Drift
from cqrsctl.operations.verify import Verification

if TYPE_CHECKING:
    from cqrsctl.operations.verify import Verified

app = group("Compare the read model with the write model.")

_COLUMNS = ("projection", "kind", "key", "columns")


@app.command()
def verify(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Compare the read model with the write model.

    Every item of the table is compared with its row, and rows without an item are looked for. What differs only
    because its change is still under way is waited for. Exit 7 where something stays different.

    \b
    Example:
      cqrsctl verify
    """
    invocation = of(ctx)
    results: list[Verified] = []
    with render.live() as show:
        for projection in invocation.environment.projections:
            verification = Verification(
                invocation.wiring,
                projection,
                time.sleep,
                lambda r: show(f"compared {r.items} items, {r.rows} rows; drift {len(r.drift)}"),
            )
            results.append(verification.run())
    drift = [row for result in results for row in result.drift]
    records = [
        {
            "projection": row.projection,
            "kind": row.kind.value,
            "key": ", ".join(map(str, row.key)),
            "columns": ", ".join(row.columns),
        }
        for row in drift
    ]
    if drift or output is not Output.TABLE:
        render.rows(output, _COLUMNS, records)
    for result in results:
        summary = f"write model: {result.items} products · read model: {result.rows} products"
        summary += f" · drift: {len(result.drift)}" + (f" · in flight: {result.in_flight}" if result.in_flight else "")
        if output is Output.TABLE:
            render.line(summary)
        else:
            invocation.note(summary)
    if drift:
        raise Drift(
            f"{len(drift)} rows of the read model differ from their items.",
            hint="If no projector runs, run `cqrsctl project --once` and verify again.",
        )
