"""`cqrsctl config`: the settings in force, and the environments."""

from __future__ import annotations

import re
from typing import Any

import typer  # noqa: TC002 -- Typer reads annotations at run time

from cqrsctl.cli import render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of
from cqrsctl.cli.render import Output
from cqrsctl.config import DEFAULT, Flags, environments, in_force

app = group("Show the settings in force and the environments.")


@app.command()
def show(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show every setting of this environment, with the flag, variable or file that it comes from.

    Passwords are never shown. AWS and the database are not asked.

    \b
    Examples:
      cqrsctl config show
      cqrsctl -e demo config show -o json
    """
    records = [
        {"setting": each.name, "value": _shown(each.value), "source": each.source}
        for each in in_force(of(ctx).flags or Flags())
    ]
    render.rows(output, ("setting", "value", "source"), records)


@app.command("environments")
def environments_(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """List the environments, which one is the default, and the file that declares each.

    \b
    Example:
      cqrsctl config environments
    """
    declared, default = environments(of(ctx).flags or Flags())
    records = [
        {"environment": name, "default": name == default.value, "source": file or "built in"}
        for name, file in declared.items()
    ]
    render.rows(output, ("environment", "default", "source"), records)
    if default.source != DEFAULT:
        of(ctx).note(f"{default.source} makes {default.value} the default.")


def _shown(value: Any) -> Any:
    """A value without the password that a URL may hold."""
    match value:
        case list():
            return ", ".join(value)
        case str():
            return re.sub(r"(?<=//)[^/@]*@", "", value)
        case _:
            return value
