"""`cqrsctl dead-letter`: changes that did not fit the read model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import columns, render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, YesOption, of
from cqrsctl.cli.render import Output
from cqrsctl.codec import to_json
from cqrsctl.errors import UsageError
from cqrsctl.pipeline import settling
from cqrsctl.pipeline.settling import LetterOutcome, Retried

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqrsctl.read_model.dead_letters import KeptLetter

app = group("List, show, retry and discard dead letters.")

_COLUMNS = ("number", "projection", "event", "key", "error", "first_seen", "attempts")
Number = Annotated[int, typer.Argument(metavar="N", min=1, help="The letter's number.")]
Numbers = Annotated[list[int] | None, typer.Argument(metavar="N", min=1, help="The letters' numbers.")]


@app.command("list")
def list_(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """List the dead letters, the oldest first.

    \b
    Example:
      cqrsctl dead-letter list
    """
    render.rows(output, _COLUMNS, map(_summary, settling.listing(of(ctx).wiring)))


@app.command()
def show(ctx: typer.Context, number: Number, output: OutputOption = Output.TABLE) -> None:
    """Show a dead letter with its whole change record.

    \b
    Example:
      cqrsctl dead-letter show 3 -o json
    """
    letter = settling.show(of(ctx).wiring, number)
    render.one(output, {**_summary(letter), "record": to_json(letter.change, letter.shard_id)})


@app.command()
def retry(
    ctx: typer.Context,
    numbers: Numbers = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them, the oldest first.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Apply dead letters again, by the projections as they are declared now.

    A letter that is older than its row changes nothing. One that still does not fit stays, and the exit code is 1.

    \b
    Examples:
      cqrsctl dead-letter retry 3 4
      cqrsctl dead-letter retry --all
    """
    if bool(numbers) == all_:
        raise UsageError("Name the letters, or give --all.", hint="See them with: cqrsctl dead-letter list")
    found: list[Retried] = []
    try:
        found.extend(settling.retry(of(ctx).wiring, None if all_ else numbers))
    finally:
        _report(found, output, of(ctx).note)
    if any(one.outcome is LetterOutcome.REFUSED for one in found):
        raise typer.Exit(1)


def _report(found: Sequence[Retried], output: Output, note: Callable[[str], None]) -> None:
    counted = {outcome: sum(one.outcome is outcome for one in found) for outcome in LetterOutcome}
    note(", ".join(f"{outcome} {count}" for outcome, count in counted.items()))
    whole = output is not Output.TABLE or bool(columns.chosen())
    shown = found if whole else [one for one in found if one.outcome is LetterOutcome.REFUSED]
    if shown or whole:
        render.rows(
            output,
            ["number", "outcome", "error"],
            [{"number": one.number, "outcome": one.outcome.value, "error": one.error} for one in shown],
        )


@app.command()
def discard(
    ctx: typer.Context, numbers: Numbers = None, yes: YesOption = False, output: OutputOption = Output.TABLE
) -> None:
    """Remove dead letters for good, after asking.

    \b
    Example:
      cqrsctl dead-letter discard 3 4 --yes
    """
    if not numbers:
        raise UsageError("Name the letters.", hint="See them with: cqrsctl dead-letter list")
    invocation = of(ctx)
    letters = words.count(len(numbers), "dead letter")
    invocation.confirm(
        f"Discard {letters} ({', '.join(map(str, numbers))}): what they hold never reaches the read model.", yes=yes
    )
    discarded = settling.discard(invocation.wiring, numbers)
    invocation.note(f"Discarded {', '.join(map(str, discarded))}.")
    render.outcome(output, {"discarded": discarded})


def _summary(letter: KeptLetter) -> dict[str, Any]:
    return {
        "number": letter.number,
        "projection": letter.projection,
        "event": letter.change.event.value,
        "key": ", ".join(f"{name} {render.cell(value)}" for name, value in letter.change.keys.items()),
        "error": letter.error,
        "first_seen": letter.first_seen,
        "attempts": letter.attempts,
    }
