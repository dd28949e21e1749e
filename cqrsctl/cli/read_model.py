"""`cqrsctl read-model`: its tables, its view, its bookkeeping."""

from __future__ import annotations

from typing import Annotated

import typer

from cqrsctl import words
from cqrsctl.cli import columns, render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import DryRunOption, OutputOption, YesOption, of, parse_duration
from cqrsctl.cli.render import Output
from cqrsctl.diagnosis import read_model_status
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.pipeline import purging
from cqrsctl.read_model import schema, sink

app = group("Create, inspect, purge and drop the read model.")

_COLUMNS = ("projection", "view", "table", "rows", "tombstones", "dead_letters", "differences")
_CHECKPOINT_COLUMNS = ("projection", "shard", "state", "sequence_number", "record_time", "updated_at")
_PURGE_COLUMNS = ("projection", "table", "before", "tombstones", "kept_for_letters")


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
        if output is Output.TABLE and not columns.chosen():
            return typer.echo(";\n\n".join(statements) + ";")
        return render.rows(output, ["statement"], [{"statement": text} for text in statements])
    made = sink.prepare(of(ctx).wiring.database, environment.projections)
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
    found = read_model_status.status(Facts(of(ctx).wiring, of(ctx).clock))
    tables = [record["table"] for record in found.projections]
    if dry_run:
        return render.rows(output, ["table"], [{"table": name} for name in tables])
    settings = environment.database
    server = settings.cluster or settings.host
    rows = sum(record["rows"] for record in found.projections)
    of(ctx).confirm(
        f"Drop the read model in database {settings.name!r}{f' of {server}' if server else ''}: "
        f"{', '.join(tables) or 'only bookkeeping'} with {words.count(rows, 'row')}.",
        yes=yes,
        typed=environment.name,
    )
    dropped = sink.drop(of(ctx).wiring.database, environment.projections)
    of(ctx).note(f"Dropped {', '.join(dropped)}." if dropped else "Only bookkeeping was left; it is gone.")
    return render.outcome(output, {"dropped": dropped})


@app.command()
def purge(
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option(metavar="DURATION", help="Remove those of deletions so long ago; at least 25h.")
    ] = "48h",
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them; remove none.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove tombstones, the rows of deleted products, that no change can need any more.

    A tombstone keeps an older change, which comes once more, from bringing its product back. The stream keeps changes
    for 24 hours, so younger tombstones stay, as do those that a dead letter may be older than. Projectors continue
    meanwhile; while a rebuild is under way, or changes are unread that are older, nothing is removed.

    \b
    Examples:
      cqrsctl read-model purge --dry-run
      cqrsctl read-model purge --older-than 7d --yes
    """
    invocation = of(ctx)
    plans = purging.plan(invocation.wiring, parse_duration(older_than))
    removable = sum(each.removable for each in plans)
    records = [
        {
            "projection": each.table.projection.name,
            "table": each.table.name,
            "before": each.before,
            "tombstones": each.removable,
            "kept_for_letters": each.kept,
        }
        for each in plans
    ]
    if kept := sum(each.kept for each in plans):
        invocation.note(
            f"{words.count(kept, 'tombstone stays', 'tombstones stay')}: a dead letter may be older, and would bring "
            "its product back. Retry or discard it: cqrsctl dead-letter list"
        )
    if not dry_run and removable:
        invocation.confirm(
            f"Remove {words.count(removable, 'tombstone')}.",
            yes=yes,
            needed=not invocation.environment.embedded,
        )
        with render.live() as show:
            removed = purging.run(invocation.wiring, plans, lambda n: show(f"removed {n} of {removable} tombstones"))
        invocation.note(f"Removed {words.count(removed, 'tombstone')}.")
    elif not dry_run:
        invocation.note("There is nothing to remove.")
    if dry_run or output is not Output.TABLE or columns.chosen():
        render.rows(output, _PURGE_COLUMNS, records)


def _show(ctx: typer.Context, output: Output) -> None:
    found = read_model_status.status(Facts(of(ctx).wiring, of(ctx).clock))
    for gap in found.gaps:
        of(ctx).note(f"Gap: {gap} {gap.hint}")
    last = found.last_projected
    whole = {
        "projections": found.projections,
        "checkpoints": found.checkpoints,
        "holder": found.holder,
        "last_projected": last and last._asdict(),
    }
    if render.document(output, whole, _COLUMNS, found.projections):
        return
    render.rows(output, _COLUMNS, found.projections)
    if found.checkpoints:
        render.line("")
        render.rows(output, _CHECKPOINT_COLUMNS, found.checkpoints)
    if found.holder:
        render.text(f"\nProjected now by {found.holder}")
    if last:
        render.text(f"\nLast projected by {last.holder} at {words.moment(last.at, of(ctx).clock.now())}")
