"""`cqrsctl rebuild`: the read model rebuilt from the write model while the old one serves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl.cli import render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, YesOption, of
from cqrsctl.cli.render import Output
from cqrsctl.errors import UsageError
from cqrsctl.pipeline import project
from cqrsctl.pipeline.rebuild import rebuilding
from cqrsctl.pipeline.rebuild.progress import Phase, Unfit
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.cli.invocation import Invocation
    from cqrsctl.pipeline.rebuild.progress import RebuildProgress, Rebuilt
    from cqrsctl.projection.definition import Projection

app = group("Rebuild the read model while the old one serves.")

_COLUMNS = ("projection", "table", "former", "can_undo", "items", "left_out", "seconds", "loading_seconds")
_UNIT_BYTES = 4_096
"""A consistent read of so much uses one read capacity unit (DynamoDB Developer Guide, "Read and write operations")."""


@app.command()
def rebuild(
    ctx: typer.Context,
    projection: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this projection; may be repeated.")
    ] = None,
    read_capacity: Annotated[
        float | None,
        typer.Option(min=1, metavar="UNITS", help="Use at most so many read capacity units a second.  [default: all]"),
    ] = None,
    on_error: Annotated[
        Unfit, typer.Option(help="What to do with what does not fit: stop before the cutover, or leave it out.")
    ] = Unfit.STOP,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Bring back the table from before the last rebuild, if no change is lost to it."),
    ] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Give up a rebuild that was stopped.")] = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Rebuild the read model while the old one serves.

    A new table is filled beside the old one: with all items, and with every change that comes meanwhile. When it is
    nowhere older than the old one, the view is put over it. It ends a gap, brings a changed declaration into the
    database, and loads items that are older than the stream. Stopped or killed, the same command goes on.

    \b
    Examples:
      cqrsctl rebuild
      cqrsctl rebuild --read-capacity 200
      cqrsctl rebuild --undo
    """
    if undo and discard:
        raise UsageError("--undo and --discard exclude each other.")
    invocation = of(ctx)
    chosen = project.chosen(invocation.environment.projections, projection or ())
    if discard:
        return _discard(invocation, chosen, output)
    _confirm(invocation, chosen, undo=undo, yes=yes)
    with render.live() as show:

        def rebuilt(one: Projection) -> Rebuilt:
            run = rebuilding.Rebuilding(
                invocation.wiring, one, invocation.clock, _shown_by(show), invocation.note, read_capacity, on_error
            )
            return run.run(undo=undo)

        try:
            done = rebuilding.rebuild_all(
                chosen, rebuilt, lambda: rebuilding.with_gap(invocation.wiring, chosen), again=not undo
            )
        except KeyboardInterrupt:
            invocation.note(
                "Stopped; the old table serves on. The same command goes on from here, `cqrsctl rebuild --discard` "
                "gives it up."
            )
            raise
    for one in done:
        _tell(invocation, one)
    if output is not Output.TABLE:
        render.rows(output, _COLUMNS, map(_record, done))
    return None


def _confirm(invocation: Invocation, chosen: tuple[Projection, ...], *, undo: bool, yes: bool) -> None:
    needed = not (yes or invocation.environment.embedded)
    if not needed:
        return
    names = ", ".join(one.name for one in chosen)
    if undo:
        question = f"Bring back the former table of {names}."
    else:
        described = table.describe(invocation.wiring.dynamodb, invocation.environment.table)
        units = -(-described.bytes // _UNIT_BYTES) * len(chosen)
        question = (
            f"Rebuild {names} from table {described.name!r}: reads about {described.items} items with about {units} "
            "read capacity units, while the old table serves."
        )
    invocation.confirm(question, yes=yes, needed=needed)


def _discard(invocation: Invocation, chosen: tuple[Projection, ...], output: Output) -> None:
    dropped = [name for one in chosen if (name := rebuilding.discard(invocation.wiring, one)) is not None]
    invocation.note(f"Given up: {', '.join(dropped)}." if dropped else "No rebuild is under way.")
    if output is not Output.TABLE:
        render.one(output, {"discarded": dropped})


def _shown_by(show: Callable[[str], None]) -> Callable[[RebuildProgress], None]:
    def shown(progress: RebuildProgress) -> None:
        if progress.phase is not Phase.LOADING:
            return show(f"{progress.projection}: {progress.items} items loaded, {progress.phase}")
        left = progress.about - progress.items
        seconds = timedelta(seconds=left / progress.rate) if progress.rate and left > 0 else None
        return show(
            f"{progress.projection}: loaded {progress.items} of about {progress.about} items, {progress.rate:.0f}/s"
            + (f", {render.duration(seconds)} left" if seconds else "")
        )

    return shown


def _tell(invocation: Invocation, rebuilt: Rebuilt) -> None:
    progress = rebuilt.progress
    left_out = f", left out {progress.left_out}" if progress.left_out else ""
    done = "brought up to date" if rebuilt.undone else f"loaded {progress.items} items{left_out}, {progress.rate:.0f}/s"
    if rebuilt.can_undo:
        former = f"{rebuilt.former} is kept for --undo."
    else:
        former = f"{rebuilt.former} is kept until the next rebuild, but lacks lost changes: --undo will refuse it."
    invocation.note(f"{progress.projection}: {done}; the view shows {rebuilt.table} now. {former}")
    if rebuilt.changed:
        invocation.note("The declaration changed; where functions project: cqrsctl function deploy")
    elif rebuilt.projected:
        invocation.note("If nobody else projects, follow the stream with: cqrsctl project")


def _record(rebuilt: Rebuilt) -> dict[str, Any]:
    progress = rebuilt.progress
    return {
        "projection": progress.projection,
        "table": rebuilt.table,
        "former": rebuilt.former,
        "can_undo": rebuilt.can_undo,
        "items": progress.items,
        "left_out": progress.left_out,
        "seconds": round(progress.seconds, 3),
        "loading_seconds": round(progress.loading_seconds, 3),
    }
