"""The root of the command line: root options, groups loaded when they are used, errors as messages and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cqrsctl import __version__
from cqrsctl.cli import completion, standard_streams
from cqrsctl.cli.commands import COMMANDS, load_command
from cqrsctl.cli.global_options import Group
from cqrsctl.cli.invocation import Invocation, LogFormat, of
from cqrsctl.cli.render import Output
from cqrsctl.errors import CqrsctlError

INTERRUPTED = 128 + signal.SIGINT
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What stops a command, unless it is ignored: a shell's background job ignores SIGINT."""


class LazyGroup(Group):
    """Knows its commands by name, and loads the module of the one that is used."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, help_line in COMMANDS.items():
            self.add_command(TyperCommand(name, help=help_line))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            self.add_command(load_command(args[0]))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyGroup,
    name="cqrsctl",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"cqrsctl {__version__}")
        raise typer.Exit


@app.callback(epilog="Start with: cqrsctl demo")
def root(
    ctx: typer.Context,
    env: Annotated[
        str | None,
        typer.Option(
            "--env",
            "-e",
            metavar="NAME",
            help="The environment to work on.",
            autocompletion=completion.environment_names,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The settings file (cqrsctl.toml).")] = None,
    profile: Annotated[str | None, typer.Option(metavar="NAME", help="The AWS profile.")] = None,
    region: Annotated[str | None, typer.Option(metavar="NAME", help="The AWS region.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(metavar="URL", help="The endpoint of all AWS services.")] = None,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Print more; -vv for traces.")
    ] = 0,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="How notes are written on stderr.  [default: text]")
    ] = None,
    _: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Operate a CQRS pipeline on AWS: DynamoDB, its stream, a projector, and an Aurora MySQL read model."""
    from cqrsctl.config import Flags

    of(ctx).take(Flags(env, config, profile, region, endpoint_url), verbose, log_format)


def main() -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:]
    invocation = Invocation(output=_output_of(arguments))
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, partial(_interrupted, invocation))
    standard_streams.guard(lambda: invocation.follows)
    sys.exit(_with_output(invocation, run(invocation, arguments)))


def _with_output(invocation: Invocation, code: int) -> int:
    """The exit code, once all output is written; an error if some of it is lost and was to be read."""
    sys.stdout.flush()
    failure = standard_streams.failure_of_output()
    if failure is None or failure.errno == errno.EPIPE:
        return code
    done = "" if code else " The command itself is done."
    invocation.report(CqrsctlError(f"Standard output cannot be written: {_reason(failure)}.{done}", code="output"))
    return code or CqrsctlError.exit_code


def _interrupted(invocation: Invocation, number: int, *_: Any) -> None:
    """Stop the command and all that it waits for; a second signal ends the process at once."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    invocation.begin_stopping(number)
    if not invocation.stops_by_itself:
        raise KeyboardInterrupt


def run(invocation: Invocation, arguments: list[str]) -> int:
    """Run the command line; its exit code."""
    code = _run(invocation, arguments)
    invocation.wait_for_announcement()
    return invocation.stopped_code if code == INTERRUPTED else code


def _run(invocation: Invocation, arguments: list[str]) -> int:
    """The one place where errors become messages."""
    try:
        result = dispatch(invocation, arguments)
    except standard_streams.OutputClosed:
        return 0
    except CqrsctlError as failure:
        if invocation.verbosity >= 2:
            traceback.print_exc()
        if failure.exit_code == INTERRUPTED and invocation.stopped_code == 0:
            invocation.note(failure.message)
        else:
            invocation.report(failure)
        return failure.exit_code
    except typer.TyperException as misuse:
        return _misused(misuse, invocation)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- the last resort: a message instead of a trace
        if invocation.verbosity >= 2:
            traceback.print_exc()
        failed = _of_the_system(error) if isinstance(error, OSError) else _internal(error)
        invocation.report(failed)
        return failed.exit_code
    return result if isinstance(result, int) else 0


def _of_the_system(error: OSError) -> CqrsctlError:
    """What the operating system refused."""
    hint = "Free some space there." if error.errno in {errno.ENOSPC, errno.EDQUOT} else None
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
    return CqrsctlError(f"{place}{_reason(error)}.", hint=hint, code="system")


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def _internal(bug: Exception) -> CqrsctlError:
    return CqrsctlError(
        f"This is a fault of cqrsctl: {type(bug).__name__}: {bug}.",
        hint="Run it again with -vv and report the trace.",
        code="internal",
    )


def dispatch(invocation: Invocation, arguments: list[str]) -> Any:
    """Run one command. What it raises goes through; an interruption is returned as its exit code."""
    command = typer.main.get_command(app)
    return command.main(arguments, prog_name="cqrsctl", standalone_mode=False, obj=invocation)


def _output_of(arguments: list[str]) -> Output:
    """The output that the arguments ask for, also if they are too wrong to be parsed."""
    for output in Output:
        if {f"-o{output}", f"--output={output}"} & {*arguments}:
            return output
        if any(pair in {("-o", output), ("--output", output)} for pair in pairwise(arguments)):
            return output
    return Output.TABLE


def _misused(misuse: typer.TyperException, invocation: Invocation) -> int:
    """Typer's own errors: a usage line and what is wrong with it."""
    if invocation.output.is_json:
        invocation.report(CqrsctlError(misuse.format_message(), hint="See --help.", code="usage"))
    elif (show := getattr(misuse, "show", None)) is not None:
        show()
    return int(misuse.exit_code)
