"""`cqrsctl permissions`: the IAM policy of those who run commands."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import of
from cqrsctl.diagnosis.doctor.policy import PURPOSES, policy
from cqrsctl.errors import UsageError
from cqrsctl.functions.parts import Place

app = group("Print the IAM policy that commands need.")


@app.command()
def permissions(
    ctx: typer.Context,
    commands: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Commands, as `project`; all if none is named.")
    ] = None,
    account: Annotated[
        str, typer.Option(metavar="ID", help="The account's number in the resources' ARNs; any account by default.")
    ] = "*",
) -> None:
    """Print the IAM policy that commands need.

    It is JSON, and names the environment's table, cluster, functions and secret; AWS is not asked. It is for the person
    or the machine that runs the commands: the functions' own roles are made by `function deploy`.

    \b
    Examples:
      cqrsctl permissions project verify
      cqrsctl -e prod permissions > policy.json
    """
    if unknown := [name for name in commands or () if name not in PURPOSES]:
        raise UsageError(
            f"{unknown[0]!r} asks nothing of AWS, or is no command.", hint=f"Commands that do: {', '.join(PURPOSES)}."
        )
    invocation = of(ctx)
    meta = invocation.wiring.client("dynamodb").meta
    place = Place(meta.partition, meta.region_name, account)
    found = policy(invocation.environment, commands or list(PURPOSES), place)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
