"""`cqrsctl function`: the two Lambda functions."""

from __future__ import annotations

import hashlib
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import columns, render
from cqrsctl.cli.function_status import show
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import DryRunOption, NoWaitOption, OutputOption, YesOption, of, parse_duration
from cqrsctl.cli.render import Output
from cqrsctl.diagnosis import function_status
from cqrsctl.errors import CqrsctlError, UsageError
from cqrsctl.functions.deploy import Options
from cqrsctl.functions.function import MEMORY_RANGE_MB, TIMEOUT_RANGE_SECONDS
from cqrsctl.functions.mapping import MOST_BATCH, MOST_PARALLEL
from cqrsctl.functions.parts import shown
from cqrsctl.pipeline.function_operations import Functions, Which, invoke_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqrsctl.functions.logs import LogLine
    from cqrsctl.functions.parts import Part

app = group("Package, deploy and operate the two Lambda functions.")

_ZIP_NAME = "cqrsctl-functions.zip"
_PART_COLUMNS = ("part", "change")
_LINE_COLUMNS = ("at", "stream", "message")
_MOST_PAYLOAD_BYTES = 6 * 1024 * 1024


class Invocable(StrEnum):
    """The functions that take a command from a person."""

    COMMAND = "command"


class Logged(StrEnum):
    """The functions whose log is printed."""

    COMMAND = "command"
    PROJECTOR = "projector"


@app.command()
def package(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the zip goes.")] = Path(_ZIP_NAME),
    output: OutputOption = Output.TABLE,
) -> None:
    """Write the zip of both functions, with the environment's projections; the same bytes for the same sources.

    \b
    Example:
      cqrsctl function package --out build/functions.zip
    """
    with operating(ctx) as functions:
        code = functions.package()
    try:
        out.write_bytes(code)
    except OSError as error:
        raise CqrsctlError(f"{out} cannot be written: {error.strerror}.", hint="Choose another --out.") from error
    render.one(output, {"path": str(out), "bytes": len(code), "sha256": hashlib.sha256(code).hexdigest()})


@app.command()
def deploy(
    ctx: typer.Context,
    which: Annotated[Which, typer.Argument(help="Which function.")] = Which.ALL,
    subnet: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A subnet of the projector; may be repeated.  [default: the cluster's]"),
    ] = None,
    security_group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SG", help="A security group of the projector; may be repeated.  [default: the cluster's]"
        ),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(metavar="MB", min=MEMORY_RANGE_MB[0], max=MEMORY_RANGE_MB[1], help="Memory.  [default: 256]"),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="An invocation's most.  [default: projector 60s, command 15s]"),
    ] = None,
    reserved_concurrency: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Reserve this number of concurrent invocations, and allow no more."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=MOST_BATCH, help="Most records an invocation.  [default: 1000]")
    ] = None,
    parallelization: Annotated[
        int | None, typer.Option(min=1, max=MOST_PARALLEL, help="Invocations at once a shard.  [default: 1]")
    ] = None,
    on_failure: Annotated[
        str | None,
        typer.Option(metavar="ARN", help="SQS queue, SNS topic or S3 bucket.  [default: a queue, which is made]"),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(metavar="ARN", help="An existing role of theirs.  [default: one is made for each]"),
    ] = None,
    permissions_boundary: Annotated[
        str | None, typer.Option(metavar="ARN", help="The policy that bounds the roles that are made.")
    ] = None,
    no_wait: NoWaitOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put the functions in place with role, log group, queue and mapping, or update what differs of them.

    What is not asked for stays as it is. A mapping that is paused stays paused. If the table has another stream than
    the mapping, what changed between the two is lost: everything is deployed all the same, and ends with exit 6.

    \b
    Examples:
      cqrsctl -e prod function deploy --dry-run
      cqrsctl -e prod function deploy projector --memory 512 --parallelization 4
    """
    options = Options(
        memory_mb=memory,
        timeout_seconds=None if timeout is None else _seconds(timeout),
        reserved_concurrency=reserved_concurrency,
        subnets=tuple(subnet or ()),
        security_groups=tuple(security_group or ()),
        batch_size=batch_size,
        parallelization=parallelization,
        on_failure=on_failure,
        role=role,
        boundary=permissions_boundary,
    )
    with operating(ctx) as functions:
        code = functions.package()
        if dry_run:
            planned = functions.plan(which, options, code)
            _note_parts(ctx, planned)
            return render.planned(output, [shown(call) for part in planned for call in part.calls])
        parts = functions.deploy(which, options, code, wait=not no_wait)
    _note_parts(ctx, parts)
    if not functions.wiring.environment.runs_functions:
        of(ctx).note("The embedded endpoint keeps functions, but runs none: the projector here is `cqrsctl project`.")
    render.rows(output, _PART_COLUMNS, [{"part": part.name, "change": part.change} for part in parts])
    if functions.gap is not None:
        raise functions.gap
    return None


@app.command()
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the functions, their last hour, the mapping with its last result, and what lies at its destination.

    Invocations that run into the time-out count as errors, with a duration of just that. CODE shows whether `deploy`
    would upload another zip now.

    \b
    Example:
      cqrsctl -e prod function status
    """
    with operating(ctx) as functions:
        found = function_status.status(functions)
    if not functions.wiring.environment.runs_functions:
        of(ctx).note("The embedded endpoint runs no functions, so there are no numbers.")
    show(found, output, of(ctx))


@app.command()
def invoke(
    ctx: typer.Context,
    which: Annotated[Invocable, typer.Argument(help="Which function.", show_default=False)],
    payload: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="The command; - for standard input.", show_default=False)
    ],
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a command to the deployed function, and print its answer.

    \b
    Example:
      cqrsctl function invoke command --payload '{"ProductId": 42, "Name": "Lamp", "Price": "19.90"}'
    """
    text = _payload(payload)
    if dry_run:
        return render.planned(output, [invoke_call(text)])
    with operating(ctx) as functions:
        answer = functions.invoke(text)
    return render.one(output, answer if isinstance(answer, dict) else {which.value: answer})


@app.command()
def template(ctx: typer.Context) -> None:
    """Print a CloudFormation template of the whole pipeline, for teams that deploy from templates.

    Table and stream, cluster with reader and autoscaling, both functions, roles, mapping, failure queue, alarms. The
    zip of `function package` goes to a bucket; the template's parameters name it. A table that is already there is
    imported into the stack first: see docs/import-table.md.

    \b
    Example:
      cqrsctl -e prod function template > pipeline.json
    """
    from cqrsctl.cloudformation.template import Settings
    from cqrsctl.cloudformation.template import template as rendered

    wiring = of(ctx).wiring
    database = wiring.environment.database
    settings = Settings(wiring.environment.table, database.name, wiring.cluster_name, database.port)
    render.one(Output.JSON, rendered(settings))
    of(ctx).note(
        f"If table {settings.table} is already there, import it into the stack first: see docs/import-table.md."
    )


@app.command()
def pause(
    ctx: typer.Context,
    no_wait: NoWaitOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Pause the projector: its mapping is disabled, and keeps its place in the stream.

    The stream keeps records for 24 hours; what is not read by then is lost.

    \b
    Example:
      cqrsctl -e prod function pause
    """
    _switch(ctx, enabled=False, wait=not no_wait, dry_run=dry_run, output=output)


@app.command()
def resume(
    ctx: typer.Context,
    no_wait: NoWaitOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a paused projector resume where it stopped.

    After a pause of 24 hours changes may have left the stream: it is resumed all the same, and ends with exit 6.

    \b
    Example:
      cqrsctl -e prod function resume
    """
    _switch(ctx, enabled=True, wait=not no_wait, dry_run=dry_run, output=output)


@app.command()
def logs(
    ctx: typer.Context,
    which: Annotated[Logged, typer.Argument(help="Whose log.")] = Logged.PROJECTOR,
    since: Annotated[str, typer.Option(metavar="DURATION", help="Only lines of the last 10m, 2h, …")] = "10m",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print a function's log, and with --follow new lines as they come.

    \b
    Examples:
      cqrsctl -e prod function logs --follow
      cqrsctl -e prod function logs command --since 2h -o jsonl
    """
    of(ctx).follows = follow
    functions = Functions(of(ctx).wiring, of(ctx).clock, of(ctx).note)
    lines = functions.logs(Which(which.value), datetime.now(UTC) - parse_duration(since), follow=follow)
    if output is Output.TABLE and columns.chosen():
        render.growing(_LINE_COLUMNS, map(_line, lines))
    elif output is Output.TABLE:
        for line in lines:
            render.line(f"{words.moment(line.at, of(ctx).clock.now())}  " + line.message.replace("\t", "  "))
    else:
        render.rows(output, _LINE_COLUMNS, map(_line, lines))


@app.command()
def delete(
    ctx: typer.Context,
    with_logs: Annotated[bool, typer.Option("--logs", help="Delete the log groups too.")] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete the functions with their mapping, roles, queue and secret; the table and the read model stay.

    A queue that holds messages stays, and so does a role with policies that are not cqrsctl's. The role of a function
    in a VPC stays until the same command is run again, 20 minutes later.

    \b
    Example:
      cqrsctl -e prod function delete --yes
    """
    with operating(ctx) as functions:
        removals = functions.removals(with_logs=with_logs)
        parts = [removal.part for removal in removals]
        if dry_run:
            return render.planned(output, [call for part in parts for call in part.calls])
        if not any(part.calls for part in parts):
            of(ctx).note("There is nothing to delete.")
        else:
            names = ", ".join(part.name for part in parts if part.calls)
            of(ctx).confirm(f"This deletes {names}. Table and read model stay.", yes=yes)
        functions.remove(removals)
    return render.rows(output, _PART_COLUMNS, [{"part": part.name, "change": part.change} for part in parts])


@contextmanager
def operating(ctx: typer.Context) -> Iterator[Functions]:
    """The environment's functions, to be operated on; what is waited for shows in a line that changes in place."""
    invocation = of(ctx)
    with render.live() as progress:
        try:
            yield Functions(invocation.wiring, invocation.clock, invocation.note, progress)
        except KeyboardInterrupt:
            invocation.note("Stopped waiting; what was begun continues. See how far it is: cqrsctl function status")
            raise


def _switch(ctx: typer.Context, *, enabled: bool, wait: bool, dry_run: bool, output: Output) -> None:
    with operating(ctx) as functions:
        if dry_run:
            if enabled and functions.paused_too_long():
                of(ctx).note("The projector was paused until changes left the stream: resuming it ends with exit 6.")
            return render.planned(output, functions.switch_calls(enabled=enabled))
        changed = functions.switch(enabled=enabled, wait=wait)
        found = [{"state": each.state, "stream": each.stream_arn} for each in functions.mappings()]
    state = "enabled" if enabled else "paused"
    of(ctx).note(f"The projector is {state}." if changed else f"The projector is {state} already.")
    render.rows(output, ("state", "stream"), found)
    if functions.gap is not None:
        raise functions.gap
    return None


def _note_parts(ctx: typer.Context, parts: Sequence[Part]) -> None:
    for part in parts:
        if part.note:
            of(ctx).note(part.note)


def _seconds(text: str) -> int:
    """A time-out in whole seconds. Raises UsageError."""
    least, most = TIMEOUT_RANGE_SECONDS
    seconds = parse_duration(text).total_seconds()
    if not least <= seconds <= most or seconds % 1:
        raise UsageError(f"--timeout: {text!r} is not one of {least} to {most} seconds.")
    return int(seconds)


def _payload(text: str) -> str:
    if text != "-" and not text.startswith("@"):
        return text
    if text == "-" and sys.stdin is None:
        raise UsageError("Standard input is closed.", hint="Give the payload, or @FILE.")
    try:
        content = sys.stdin.buffer.read() if text == "-" else Path(text[1:]).read_bytes()
        found = content.decode()
    except OSError as error:
        raise UsageError(f"--payload: {text} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--payload: {text} is not UTF-8.") from error
    if len(content) > _MOST_PAYLOAD_BYTES:
        raise UsageError(f"--payload: {len(content)} bytes; Lambda takes at most {_MOST_PAYLOAD_BYTES}.")
    return found


def _line(line: LogLine) -> dict[str, Any]:
    return {"at": line.at, "stream": line.stream, "message": line.message}
