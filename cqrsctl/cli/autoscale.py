"""`cqrsctl aurora autoscale`: readers that come and go with the load."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cqrsctl.aurora.autoscaling import Autoscaling, Metric, Wish, off_calls
from cqrsctl.cli import render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import DryRunOption, OutputOption, YesOption, of, operated, waiting
from cqrsctl.cli.render import Output

app = group("Let Aurora add and remove readers by load.")

_COLUMNS = ("metric", "target", "minimum", "maximum", "scale_in_cooldown", "scale_out_cooldown", "policy")
_CooldownHelp = "Seconds between two {}s.  [default: 300, or as it is]"


@app.command("set")
def set_(
    ctx: typer.Context,
    metric: Annotated[Metric, typer.Option(help="The readers' average CPU (percent) or connections.")],
    target: Annotated[float, typer.Option(help="The average to keep to.")],
    min: Annotated[int | None, typer.Option(help="The fewest readers (0-15).  [default: as it is]")] = None,
    max: Annotated[int | None, typer.Option(help="The most readers (0-15).  [default: as it is]")] = None,
    scale_in_cooldown: Annotated[int | None, typer.Option(min=0, help=_CooldownHelp.format("removal"))] = None,
    scale_out_cooldown: Annotated[int | None, typer.Option(min=0, help=_CooldownHelp.format("addition"))] = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set autoscaling by a metric, or change what differs; both metrics may be set, with one minimum and maximum.

    Where there is no reader and the minimum is at least 1, the first reader is made.

    \b
    Examples:
      cqrsctl aurora autoscale set --metric cpu --target 60 --min 1 --max 5
      cqrsctl aurora autoscale set --metric connections --target 500
    """
    invocation = of(ctx)
    aurora = operated(ctx)
    wish = Wish(metric, target, min, max, scale_in_cooldown, scale_out_cooldown)
    first, calls = aurora.plan_autoscaling(wish)
    if dry_run:
        return render.planned(output, [*first, *calls])
    if first and aurora.embedded is None:
        invocation.confirm(f"This adds the first reader to cluster {aurora.name}.", yes=yes)
    with waiting(ctx, aurora):
        aurora.set_autoscaling(first, calls)
    invocation.note(f"Autoscaling by {metric} is set." if calls else f"Autoscaling by {metric}: unchanged.")
    if calls and aurora.embedded:
        invocation.note("The embedded endpoint keeps these settings, but scales nothing by itself.")
    _show(aurora.autoscaling(), output)
    return None


@app.command()
def show(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the autoscaling in force.

    \b
    Example:
      cqrsctl aurora autoscale show -o json
    """
    aurora = operated(ctx)
    found = aurora.autoscaling()
    if found.maximum is None and not found.policies:
        of(ctx).note("Autoscaling is off.")
    _show(found, output)


@app.command()
def off(
    ctx: typer.Context,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Switch autoscaling off. The readers that it made stay until they are removed.

    \b
    Example:
      cqrsctl aurora autoscale off --yes
    """
    invocation = of(ctx)
    aurora = operated(ctx)
    calls = off_calls(aurora.autoscaling())
    if dry_run:
        return render.planned(output, calls)
    if not calls:
        return invocation.note("Autoscaling is off already.")
    if aurora.embedded is None:
        invocation.confirm(f"This switches off the autoscaling of cluster {aurora.name}.", yes=yes)
    aurora.make(calls)
    invocation.note("Autoscaling is off; the readers that are there stay.")
    return None


def records(found: Autoscaling) -> list[dict[str, Any]]:
    """What is in force, a policy a record."""
    return [
        {
            "metric": policy.metric,
            "target": policy.target,
            "minimum": found.minimum,
            "maximum": found.maximum,
            "scale_in_cooldown": policy.scale_in_cooldown_seconds,
            "scale_out_cooldown": policy.scale_out_cooldown_seconds,
            "policy": policy.name,
        }
        for policy in found.policies
    ]


def _show(found: Autoscaling, output: Output) -> None:
    render.rows(output, _COLUMNS, records(found))
