"""`cqrsctl project`: the projector."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cqrsctl import words
from cqrsctl.cli import render
from cqrsctl.cli.completion import projection_names
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of
from cqrsctl.cli.render import Output
from cqrsctl.errors import UsageError
from cqrsctl.pipeline import project as projecting
from cqrsctl.projection.recovery import OnError
from cqrsctl.stream.reader import Beginning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqrsctl.cli.invocation import Invocation
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.projector import Summary

_NOTE_SECONDS = 60.0

app = group("Run the projector: changes become rows of the read model.")


@app.command()
def project(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Stop when every shard is caught up.")] = False,
    projection: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this projection; may be repeated.", autocompletion=projection_names),
    ] = None,
    from_: Annotated[
        Beginning, typer.Option("--from", help="Where to begin; counts only where there is no checkpoint.")
    ] = Beginning.HORIZON,
    on_error: Annotated[
        OnError, typer.Option(help="What to do with a record that does not fit: stop before it, or set it aside.")
    ] = OnError.STOP,
    input: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Replay change records that `stream tail -o jsonl` wrote.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Map every change to its rows; write nothing.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background, beside the embedded stack, until `local down`.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run the projector: changes become rows of the read model.

    It starts from its checkpoints and follows the stream until Ctrl-C; rows and checkpoints commit together, so
    that it can be stopped, or killed, at any moment. What is missing of the read model is made first.

    \b
    Examples:
      cqrsctl project --once
      cqrsctl project
      cqrsctl project --on-error dead-letter
      cqrsctl project --detach
      cqrsctl project --input changes.jsonl
    """
    if input is not None and (once or dry_run):
        raise UsageError("--input goes with neither --once nor --dry-run.")
    if detach and (once or dry_run or input is not None):
        raise UsageError("--detach goes with none of --once, --dry-run and --input.")
    invocation = of(ctx)
    chosen = projecting.chosen(invocation.environment.projections, projection or ())
    if detach:
        _detach(invocation, chosen, from_, on_error, output)
        return
    clock = invocation.clock
    invocation.follows = input is None and not once
    invocation.stops_by_itself = input is None  # standard input may leave it waiting for ever
    with render.live() as live:
        show = live if sys.stderr.isatty() else _each_minute(invocation.note)
        run = projecting.Run(invocation.wiring, chosen, clock, _shown_by(show), invocation.note, on_error)
        if input is None:
            summary = projecting.from_stream(run, once=once, beginning=from_, dry_run=dry_run)
        else:
            summary = _replay(run, input)
    _report(summary, output, note=invocation.note, dry_run=dry_run)
    if invocation.stop.is_set():
        invocation.note("Stopped. Resume with the same command: it starts from the checkpoints.")
        raise typer.Abort


def _detach(
    invocation: Invocation, chosen: Sequence[Projection], beginning: Beginning, on_error: OnError, output: Output
) -> None:
    from cqrsctl.pipeline import detached

    if not invocation.environment.embedded:
        raise UsageError(
            "Only an embedded stack has a projector in the background.",
            hint="Run `cqrsctl project` under a supervisor, such as systemd, or deploy the function: "
            "cqrsctl function deploy",
        )
    options = ["--from", beginning, "--on-error", on_error, "--log-format", invocation.log_format]
    options += ["-v"] * invocation.verbosity + [f"--projection={each.name}" for each in chosen]
    _, *arguments = shlex.split(invocation.addressed(f"cqrsctl project {shlex.join(options)}"))
    service = detached.start(invocation.wiring, chosen, arguments)
    invocation.note(
        f"Projecting in the background (pid {service.pid}). See it with `cqrsctl local status`, its log with "
        f"`cqrsctl local logs projector`. Stop it with: kill {service.pid}"
    )
    render.outcome(output, {"name": service.name, "pid": service.pid})


def _replay(run: projecting.Run, name: str) -> Summary:
    if name == "-" and sys.stdin is None:
        raise UsageError("Standard input is closed.", hint="Name a file, or pipe one in.")
    try:
        file = nullcontext(sys.stdin) if name == "-" else Path(name).open(encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}.") from error
    with file as lines:
        try:
            return projecting.from_file(run, lines)
        except KeyboardInterrupt:
            run.notice("Stopped. Run the same command again: applying a change twice changes nothing.")
            raise


def _each_minute(note: Callable[[str], None]) -> Callable[[str], None]:
    """Notes the progress once a minute, where no line can change in place."""
    noted = time.monotonic()

    def show(line: str) -> None:
        nonlocal noted
        if time.monotonic() - noted >= _NOTE_SECONDS:
            noted = time.monotonic()
            note(line)

    return show


def _shown_by(show: Callable[[str], None]) -> Callable[[Summary], None]:
    begun = time.monotonic()

    def progress(summary: Summary) -> None:
        rate = summary.changes / max(time.monotonic() - begun, 1e-9)
        show(
            f"applied {words.count(summary.changes, 'change')}, {rate:.0f}/s, "
            f"lag {words.duration(summary.lag_seconds)}, {words.count(summary.shards, 'shard')}"
            + (", caught up" if summary.caught_up else "")
        )

    return progress


def _report(summary: Summary, output: Output, *, note: Callable[[str], None], dry_run: bool) -> None:
    note(
        f"{'would apply' if dry_run else 'applied'} {words.count(summary.changes, 'change')} "
        f"to {words.count(summary.rows, 'row')}, "
        f"dead-lettered {summary.dead_lettered}, lag {words.duration(summary.lag_seconds)}"
    )
    if summary.dead_lettered and not dry_run:
        note("See what was set aside with: cqrsctl dead-letter list")
    render.outcome(
        output,
        {
            "changes": summary.changes,
            "rows": summary.rows,
            "stale": summary.stale,
            "dead_lettered": summary.dead_lettered,
            "shards": summary.shards,
            "lag_seconds": summary.lag_seconds,
            "caught_up": summary.caught_up,
        },
    )
