"""`--wait [writer|readers]` and `--timeout`: the options of commands that may wait for what they wrote."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperOption

from cqrsctl import words
from cqrsctl.cli.global_options import Command
from cqrsctl.cli.invocation import of, parse_duration
from cqrsctl.errors import UsageError
from cqrsctl.pipeline.wait import Waiting, Where

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_DEFAULT_SECONDS = 30.0
_OPTION = "--wait"

WaitOption = Annotated[
    Where | None,
    typer.Option(
        _OPTION,
        metavar="[writer|readers]",
        help="Wait until the view shows it, on the writer or on every reader.",
        show_default=False,
    ),
]
TimeoutOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="How long --wait waits.  [default: 30s]", show_default=False)
]


class WaitCommand(Command):
    """A command with `--wait`, whose value may be left out; Typer has no such options.

    So the option is given its value before the arguments are parsed.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        valued = {
            name
            for parameter in self.get_params(ctx)
            if isinstance(parameter, TyperOption) and not parameter.is_flag and not parameter.count
            for name in parameter.opts
        }
        return super().parse_args(ctx, completed(args, _OPTION, tuple(Where), valued - {_OPTION}))


def completed(args: Sequence[str], option: str, values: Sequence[str], valued: Collection[str]) -> list[str]:
    """The arguments, with a value for the option: the next argument if it is one of the values, else the first.

    What follows one of the options `valued` is its value, whatever it looks like, and after `--` there are no options.
    """
    done: list[str] = []
    rest = list(args)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*done, argument, *rest]
        if argument == option:
            value = rest.pop(0) if rest and rest[0] in values else values[0]
            argument = f"{option}={value}"
        done.append(argument)
        if argument in valued and rest:
            done.append(rest.pop(0))
    return done


def timeout_seconds(wait: Where | None, timeout: str | None) -> float:
    """How long to wait. Raises UsageError if a timeout is given and nothing is waited for."""
    if timeout is not None and wait is None:
        raise UsageError("--timeout goes with --wait.")
    return _DEFAULT_SECONDS if timeout is None else parse_duration(timeout).total_seconds()


def wait_for(ctx: typer.Context, product_id: int, wait: Where | None, seconds: float) -> None:
    """Wait for a product that was just written, if that is asked for. Raises TooSlow."""
    if wait is None:
        return
    sys.stdout.flush()
    invocation = of(ctx)
    try:
        shown = Waiting(invocation.wiring, product_id, invocation.clock, seconds, invocation.note).until_shown(wait)
    except KeyboardInterrupt:
        invocation.note("Stopped waiting; the write is done.")
        raise
    by = {0: "The writer shows", 1: "The reader shows"}.get(shown.readers, f"All {shown.readers} readers show")
    invocation.note(f"{by} the write after {words.duration(shown.seconds)}.")
