"""`cqrsctl read-model`: its tables, its view, its bookkeeping."""

from __future__ import annotations

import typer

from cqrsctl.change import ShardState
from cqrsctl.cli import render
from cqrsctl.cli.invocation import DryRunOption, OutputOption, YesOption, group, of
from cqrsctl.cli.render import Output
from cqrsctl.errors import StreamGap
from cqrsctl.operations import read_models
from cqrsctl.read_model import schema
from cqrsctl.read_model.sink import prepare

app = group("Create, inspect and drop the read model.")

_COLUMNS = ("projection", "view", "table", "rows", "tombstones", "dead_letters", "differences")
_CHECKPOINT_COLUMNS = ("projection", "shard", "state", "sequence_number", "record_time", "updated_at")


@app.command()
def init(ctx: typer.Context, dry_run: DryRunOption = False, output: OutputOption = Output.TABLE) -> None:
    """Make the database, tables and views that are missing. `project` does so by itself.

    \b
    Example:
      cqrsctl read-model init --dry-run
    """
    environment = of(ctx).environment
    if dry_run:
        statements = schema.statements(environment.projections)
        if output is Output.TABLE:
            return typer.echo(";\n\n".join(statements) + ";")
        return render.rows(output, ["statement"], [{"statement": text} for text in statements])
    made = prepare(of(ctx).wiring.database, environment.projections)
    of(ctx).note(f"Made the view {', '.join(made)}." if made else "The read model exists already, as declared.")
    return _show(ctx, output)


@app.command()
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the projections' tables, rows and checkpoints, and who projects.

    \b
    Example:
      cqrsctl read-model status
    """
    _show(ctx, output)


@app.command()
def drop(
    ctx: typer.Context, yes: YesOption = False, dry_run: DryRunOption = False, output: OutputOption = Output.TABLE
) -> None:
    """Drop the read model: views, tables and checkpoints. Dead letters stay; the write model is not touched.

    \b
    Example:
      cqrsctl read-model drop --yes
    """
    environment = of(ctx).environment
    found = read_models.status(of(ctx).wiring)
    tables = [record["table"] for record in found.projections]
    if dry_run:
        return render.rows(output, ["table"], [{"table": name} for name in tables])
    of(ctx).confirm(
        f"Drop the read model of environment {environment.name!r}: {', '.join(tables) or 'only bookkeeping'} "
        f"with {sum(record['rows'] for record in found.projections)} rows.",
        yes=yes,
        needed=not environment.embedded,
    )
    dropped = read_models.drop(of(ctx).wiring)
    of(ctx).note(f"Dropped {', '.join(dropped)}." if dropped else "Only bookkeeping was left; it is gone.")
    return None if output is Output.TABLE else render.one(output, {"dropped": dropped})


def _show(ctx: typer.Context, output: Output) -> None:
    found = read_models.status(of(ctx).wiring)
    for row in found.checkpoints:
        if row["state"] == ShardState.GAP:
            gap = StreamGap(f"Gap: projection {row['projection']} lost changes of shard {row['shard']}.")
            of(ctx).note(f"{gap} {gap.hint}")
    if output.is_json:
        return render.one(
            output,
            {"projections": found.projections, "checkpoints": found.checkpoints, "heartbeat": found.heartbeat},
        )
    render.rows(output, _COLUMNS, found.projections)
    if output is Output.TABLE:
        if found.checkpoints:
            render.line("")
            render.rows(output, _CHECKPOINT_COLUMNS, found.checkpoints)
        if found.heartbeat:
            render.line(
                f"\nLast projected by {found.heartbeat['holder']} at {render.rfc3339(found.heartbeat['beat_at'])}"
            )
    return None
