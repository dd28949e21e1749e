"""`cqrsctl local`: the embedded stack."""

from __future__ import annotations

import shlex
import sys
from collections import deque
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl.cli import render
from cqrsctl.cli.invocation import OutputOption, group, of
from cqrsctl.cli.render import Output
from cqrsctl.errors import CqrsctlError, UsageError

if TYPE_CHECKING:
    from cqrsctl.cli.invocation import Invocation
    from cqrsctl.local.stack import Part
    from cqrsctl.local.state import State

app = group("Start and stop the embedded stack.")

_COLUMNS = ("name", "state", "address", "pid", "since")


class Which(StrEnum):
    """The parts that write a log."""

    EMULATOR = "emulator"
    MARIADB = "mariadb"


@app.command()
def up(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Start the stack, or what is missing of it; a second `up` finds the running one.

    \b
    Example:
      cqrsctl local up
    """
    from cqrsctl.local import stack

    _show(stack.up(_state(of(ctx)), of(ctx).note), output)


@app.command()
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the stack's parts: running, stopped, or crashed.

    \b
    Example:
      cqrsctl local status -o json
    """
    from cqrsctl.local import stack

    _show(stack.parts(_state(of(ctx))), output)


@app.command()
def logs(
    ctx: typer.Context,
    part: Annotated[Which, typer.Argument(help="Whose log.")] = Which.MARIADB,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
) -> None:
    """Print the end of a part's log.

    \b
    Example:
      cqrsctl local logs emulator -n 20
    """
    log = _state(of(ctx)).log(part.value)
    if not log.exists():
        raise CqrsctlError(f"There is no log {log} yet.", hint="Start the stack with: cqrsctl local up")
    with log.open(errors="replace") as file:
        for text in deque(file, maxlen=lines):
            sys.stdout.write(text)


@app.command()
def env(ctx: typer.Context) -> None:
    """Print export lines that bring the AWS CLI and the mariadb client to the stack.

    \b
    Example:
      eval "$(cqrsctl local env)"
      aws dynamodb list-tables
      mariadb -e 'SELECT * FROM Product LIMIT 3'
    """
    from cqrsctl.local import mariadb, stack

    state = _state(of(ctx))
    variables = {
        "AWS_ENDPOINT_URL": stack.running(state).endpoint_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MYSQL_HOME": str(mariadb.client_folder(state)),
        "CQRSCTL_ENV": of(ctx).environment.name,
    }
    for name, value in variables.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


@app.command()
def down(
    ctx: typer.Context,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the stack's data too.")] = False,
) -> None:
    """Stop the stack: exactly the processes that it started. MariaDB's data is kept, unless wiped.

    \b
    Example:
      cqrsctl local down --wipe
    """
    from cqrsctl.local import stack

    invocation = of(ctx)
    ended = stack.down(_state(invocation), wipe=wipe)
    names = " and ".join(f"{service.name} (pid {service.pid})" for service in ended)
    invocation.note(f"Stopped {names}." if ended else "Nothing was running.")
    if ended and not wipe:
        invocation.note("The AWS endpoint kept its tables in memory: they are gone. The read model is kept.")


def _state(invocation: Invocation) -> State:
    if not invocation.environment.embedded:
        raise UsageError(
            f"Environment {invocation.environment.name!r} is not an embedded stack.",
            hint="Choose one with --env local, or set `embedded = true` for this one.",
        )
    from cqrsctl.local.state import State

    return State(invocation.environment.state_dir)


def _show(parts: list[Part], output: Output) -> None:
    render.rows(output, _COLUMNS, [_record(part) for part in parts])


def _record(part: Part) -> dict[str, Any]:
    service = part.service if part.state == "running" else None
    return {
        "name": part.name,
        "state": part.state,
        "address": part.address,
        "pid": service.pid if service else None,
        "since": datetime.fromtimestamp(service.started, UTC).replace(microsecond=0) if service else None,
    }
