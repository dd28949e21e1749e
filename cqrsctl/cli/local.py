"""`cqrsctl local`: the embedded stack."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections import deque
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, YesOption, of
from cqrsctl.cli.render import Output
from cqrsctl.errors import CqrsctlError, UsageError

if TYPE_CHECKING:
    from cqrsctl.cli.invocation import Invocation
    from cqrsctl.local.stack import StackPart
    from cqrsctl.local.state import StackState

app = group("Start and stop the embedded stack.")


class Database(StrEnum):
    """The database of an embedded stack."""

    MARIADB = "mariadb"
    MYSQL = "mysql"


_POLL_SECONDS = 0.2
_COLUMNS = ("name", "role", "state", "address", "pid", "since")


@app.command()
def up(
    ctx: typer.Context,
    readers: Annotated[int, typer.Option(min=0, max=15, help="The least number of readers.")] = 0,
    database: Annotated[
        Database | None,
        typer.Option(help="The database of a new stack, by default MariaDB.", show_default=False),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start the stack, or what is missing of it; a second `up` finds the running one.

    Readers are database servers that follow the writer. Existing ones stay; one that can no longer follow is seeded
    again, and a failover that was cut short is finished.

    \b
    Examples:
      cqrsctl local up
      cqrsctl local up --readers 2 --database mysql
    """
    from cqrsctl.local import stack

    state = _state(of(ctx))
    _show(state, stack.up(state, of(ctx).note, readers, database), output)


@app.command()
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the stack's parts: running, stopped, or crashed. LAG is a reader's, in seconds; none if it cannot follow.

    \b
    Example:
      cqrsctl local status -o json
    """
    from cqrsctl.local import stack

    state = _state(of(ctx))
    _show(state, stack.parts(state), output)


@app.command()
def logs(
    ctx: typer.Context,
    part: Annotated[
        str | None, typer.Argument(help="A name that `local status` shows; the writer if none is given.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
) -> None:
    """Print the end of a part's log, and with --follow new lines as they come.

    \b
    Examples:
      cqrsctl local logs emulator -n 20
      cqrsctl local logs --follow
    """
    from cqrsctl.local import stack

    of(ctx).follows = follow
    state = _state(of(ctx))
    names = [known.name for known in stack.parts(state)]
    part = part or names[1]
    if part not in names:
        raise UsageError(f"The stack has no part {part!r}; it has: {', '.join(names)}.")
    log = state.log(part)
    if not log.exists():
        raise CqrsctlError(f"There is no log {log} yet.", hint="Start the stack with: cqrsctl local up")
    with log.open(errors="replace") as file:
        for text in deque(file, maxlen=lines):
            sys.stdout.write(text)
        while follow:
            sys.stdout.write(file.read())
            sys.stdout.flush()
            of(ctx).clock.sleep(_POLL_SECONDS)


@app.command()
def shell(
    ctx: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="What the client is given.", show_default=False)
    ] = None,
) -> None:
    """Open the database's client on the stack's read model. What stands after `--` is the client's.

    \b
    Examples:
      cqrsctl local shell
      cqrsctl local shell -- --table -e "SELECT * FROM Product LIMIT 3"
    """
    from cqrsctl.local import database_server, engines, stack

    state = _state(of(ctx))
    stack.running(state)
    engine = engines.of(state)
    program = database_server.client_program(engine, engine.client)
    settings = f"--defaults-file={database_server.client_file(state)}"
    for number in (signal.SIGPIPE, signal.SIGINT):  # Python ignores the one, and this command catches the other
        signal.signal(number, signal.SIG_DFL)
    os.execv(program, [program, settings, *(arguments or ())])  # noqa: S606 -- it takes this process's place


@app.command()
def env(ctx: typer.Context) -> None:
    """Print export lines that bring the AWS CLI and the database's client to the stack.

    \b
    Example:
      eval "$(cqrsctl local env)"
      aws dynamodb list-tables
      mariadb -e 'SELECT * FROM Product LIMIT 3'
    """
    from cqrsctl.config import EMBEDDED_REGION
    from cqrsctl.local import database_server, stack

    state = _state(of(ctx))
    variables = {
        "AWS_ENDPOINT_URL": stack.running(state).endpoint_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": EMBEDDED_REGION,
        "AWS_DEFAULT_REGION": EMBEDDED_REGION,
        "MYSQL_HOME": str(database_server.client_folder(state)),
        "CQRSCTL_ENV": of(ctx).environment.name,
    }
    for name, value in variables.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


@app.command()
def down(
    ctx: typer.Context,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the stack's data too, after asking.")] = False,
    yes: YesOption = False,
) -> None:
    """Stop the stack: exactly the processes that it started. The tables and the read model are kept, unless wiped.

    \b
    Example:
      cqrsctl local down --wipe
    """
    from cqrsctl.local import stack

    invocation = of(ctx)
    state = _state(invocation)
    if wipe and not yes and (held := stack.contents(state)).size_bytes:
        tables = "tables that cannot be read"
        if held.tables is not None:
            tables = f"{words.count(held.tables, 'table')} with {words.count(held.items, 'item')}"
        question = (
            f"Remove the stack with all its data: {tables}, their streams and the read model, "
            f"{words.size(held.size_bytes)} in {state.directory}."
        )
        invocation.confirm(question, yes=yes, typed=invocation.environment.name)
    ended = stack.down(state, wipe=wipe)
    *others, last = [f"{service.name} (pid {service.pid})" for service in ended] or [""]
    names = f"{', '.join(others)} and {last}" if others else last
    invocation.note(f"Stopped {names}." if ended else "Nothing was running.")
    if ended and not wipe:
        invocation.note("All data is kept. Start the stack again with: cqrsctl local up")


def _state(invocation: Invocation) -> StackState:
    if not invocation.environment.embedded:
        raise UsageError(
            f"Environment {invocation.environment.name!r} is not an embedded stack.",
            hint="Choose one with --env local, or set `embedded = true` for this one.",
        )
    from cqrsctl.local.state import StackState

    return StackState(invocation.environment.state_dir)


def _show(state: StackState, parts: list[StackPart], output: Output) -> None:
    from cqrsctl.local.database_cluster import lag_seconds

    lags = {part.name: lag_seconds(state, part.name) for part in parts if part.role == "reader"}
    if output is Output.TABLE:
        now = datetime.now(UTC)
        shown = [_record(part) | {"lag": _lag(lags.get(part.name)), "started": _started(part, now)} for part in parts]
        render.rows(output, (*_COLUMNS[:-1], "started", "lag"), shown)
    else:
        records = [_record(part) | {"lag_seconds": lags.get(part.name)} for part in parts]
        render.rows(output, (*_COLUMNS, "lag_seconds"), records)


def _lag(seconds: float | None) -> str:
    return "" if seconds is None else words.duration(seconds)


def _started(part: StackPart, now: datetime) -> str | None:
    service = part.service if part.state == "running" else None
    return words.ago(now.timestamp() - service.started) if service else None


def _record(part: StackPart) -> dict[str, Any]:
    service = part.service if part.state == "running" else None
    return {
        "name": part.name,
        "role": part.role,
        "state": part.state,
        "address": part.address,
        "pid": service.pid if service else None,
        "since": datetime.fromtimestamp(service.started, UTC).replace(microsecond=0) if service else None,
    }
