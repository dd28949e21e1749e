"""`cqrsctl rebuild`: the read model rebuilt from the write model while the old one serves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import columns, render
from cqrsctl.cli.completion import projection_names
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, YesOption, of
from cqrsctl.cli.render import Output
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.diagnosis.rebuild_needs import rebuild_needs, undoable
from cqrsctl.errors import UsageError
from cqrsctl.pipeline import project
from cqrsctl.pipeline.rebuild import rebuilding
from cqrsctl.pipeline.rebuild.progress import Phase, Unfit
from cqrsctl.pipeline.rebuild.rebuilding import Rebuilding
from cqrsctl.pipeline.rebuild.vanishing import RowsWouldVanish
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
        list[str] | None,
        typer.Option(metavar="NAME", help="Rebuild this projection; may be repeated.", autocompletion=projection_names),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Rebuild all projections, also those that need none.")] = False,
    read_capacity: Annotated[
        float | None,
        typer.Option(min=1, metavar="UNITS", help="Read capacity units to use a second, at most.  [default: all]"),
    ] = None,
    on_error: Annotated[
        Unfit, typer.Option(help="What to do with what does not fit: stop before the cutover, or leave it out.")
    ] = Unfit.STOP,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Bring back the table from before the last rebuild, if no change is lost to it."),
    ] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Drop the table of a rebuild that was stopped.")] = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Rebuild the read model while the old one serves.

    Rebuilds the projections that need it: after a gap, a changed declaration, or if items are older than the stream.
    A new table is filled beside the old one: with all items, and with every change that comes meanwhile. When it is
    nowhere older than the old one, the view is put over it. If fewer rows would be shown than now, it asks first.
    Stopped or killed, it resumes with the same command.

    \b
    Examples:
      cqrsctl rebuild
      cqrsctl rebuild --all --read-capacity 200
      cqrsctl rebuild --undo
    """
    if undo and discard:
        raise UsageError("--undo and --discard exclude each other.")
    if every and projection:
        raise UsageError("--all and --projection exclude each other.")
    invocation = of(ctx)
    chosen = project.chosen(invocation.environment.projections, projection or ())
    if discard:
        return _discard(invocation, chosen, output)
    if undo and not projection:
        names = undoable(Facts(invocation.wiring, invocation.clock))
        chosen = tuple(one for one in chosen if one.name in names) or chosen
    elif not (undo or every or projection):
        chosen = _needing(invocation, chosen)
    done = _rebuilt(invocation, chosen, read_capacity, on_error, undo=undo, yes=yes) if chosen else []
    for one in done:
        _report(invocation, one)
    if output is not Output.TABLE or columns.chosen():
        render.rows(output, _COLUMNS, map(_record, done))
    return None


def _needing(invocation: Invocation, declared: tuple[Projection, ...]) -> tuple[Projection, ...]:
    """The projections that need a rebuild, each with its reason in a note."""
    needs = rebuild_needs(Facts(invocation.wiring, invocation.clock))
    for name, reason in needs.items():
        invocation.note(f"{name} needs a rebuild: {reason}.")
    rest = ", ".join(one.name for one in declared if one.name not in needs)
    if rest:
        invocation.note(f"Not needed for {rest}. Rebuild all anyway with: cqrsctl rebuild --all")
    return tuple(one for one in declared if one.name in needs)


def _rebuilt(
    invocation: Invocation,
    chosen: tuple[Projection, ...],
    read_capacity: float | None,
    on_error: Unfit,
    *,
    undo: bool,
    yes: bool,
) -> list[Rebuilt]:
    """Rebuild projections, after asking; what came of it."""
    _confirm(invocation, chosen, undo=undo, yes=yes)

    def run(one: Rebuilding) -> Rebuilt:
        with render.live() as show:
            return replace(one, progress=_shown_by(show)).run(undo=undo)

    def rebuilt(one: Projection) -> Rebuilt:
        careful = Rebuilding(
            invocation.wiring,
            one,
            invocation.clock,
            lambda _: None,
            invocation.note,
            read_capacity,
            on_error,
            may_shrink=False,
        )
        try:
            return run(careful)
        except RowsWouldVanish as loss:
            _confirm_loss(invocation, loss, yes=yes)
        return run(replace(careful, may_shrink=True))

    lost = partial(rebuilding.with_gap, invocation.wiring, chosen)
    try:
        return rebuilding.rebuild_all(chosen, rebuilt, lost, again=not undo)
    except KeyboardInterrupt:
        invocation.note(
            "Stopped; the old table serves. The same command resumes; `cqrsctl rebuild --discard` drops the new one."
        )
        raise


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


def _confirm_loss(invocation: Invocation, loss: RowsWouldVanish, *, yes: bool) -> None:
    """Ask whether a view may show fewer rows; its name is to be typed if it would show none."""
    if yes:
        return invocation.note(loss.message)
    invocation.note(
        "The old table serves, the new one is kept: `cqrsctl rebuild` resumes, `cqrsctl rebuild --discard` drops it."
    )
    return invocation.confirm(loss.message, yes=yes, typed=None if loss.rebuilt else loss.projection)


def _discard(invocation: Invocation, chosen: tuple[Projection, ...], output: Output) -> None:
    dropped = [name for one in chosen if (name := rebuilding.discard(invocation.wiring, one)) is not None]
    invocation.note(f"Dropped: {', '.join(dropped)}." if dropped else "No rebuild is under way.")
    render.outcome(output, {"discarded": dropped})


def _shown_by(show: Callable[[str], None]) -> Callable[[RebuildProgress], None]:
    def shown(progress: RebuildProgress) -> None:
        if progress.phase is not Phase.LOADING:
            return show(f"{progress.projection}: {words.count(progress.items, 'item')} loaded, {progress.phase}")
        left = progress.about - progress.items
        seconds = left / progress.rate if progress.rate and left > 0 else None
        return show(
            f"{progress.projection}: loaded {progress.items} of about {progress.about} items, {progress.rate:.0f}/s"
            + (f", {words.duration(seconds)} left" if seconds else "")
        )

    return shown


def _report(invocation: Invocation, rebuilt: Rebuilt) -> None:
    progress = rebuilt.progress
    left_out = f", left out {progress.left_out}" if progress.left_out else ""
    done = (
        "brought up to date"
        if rebuilt.undone
        else f"loaded {words.count(progress.items, 'item')}{left_out}, {progress.rate:.0f}/s"
    )
    if rebuilt.can_undo:
        former = f"{rebuilt.former} is kept for --undo."
    else:
        former = f"{rebuilt.former} is kept until the next rebuild, but lacks lost changes: --undo will refuse it."
    invocation.note(f"{progress.projection}: {done}; the view shows {rebuilt.table} now. {former}")
    if rebuilt.changed:
        invocation.note("The declaration changed. If the function projects: cqrsctl function deploy")
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
