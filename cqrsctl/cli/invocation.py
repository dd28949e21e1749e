"""One run of the command line: the root options, and what commands need because of them."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import typer

from cqrsctl.cli import render
from cqrsctl.cli.render import Output
from cqrsctl.errors import CqrsctlError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.aurora.operations import Aurora
    from cqrsctl.clock import SystemClock
    from cqrsctl.config import Environment, Flags
    from cqrsctl.wiring import Wiring


_GRACE_SECONDS = 1.0
_ANNOUNCED_SECONDS = 0.3


class LogFormat(StrEnum):
    """How remarks and logs are written on stderr."""

    TEXT = "text"
    JSON = "json"


@dataclass
class Invocation:
    """What the root options ask for. Settings are read, and connections made, at their first use."""

    flags: Flags | None = None
    verbosity: int = 0
    log_format: LogFormat = LogFormat.TEXT
    output: Output = Output.TABLE
    preset: Environment | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    """Set once the command is to stop; whatever it waits for looks at it."""
    stopped_by: int = signal.SIGINT
    """The signal that stopped the command."""
    follows: bool = False
    """Whether the command has no end of its own, so that SIGTERM is its regular end."""
    stops_by_itself: bool = False
    """Whether the command looks at `stop` and ends in order; else a signal interrupts it anywhere."""
    _announced: threading.Event = field(default_factory=threading.Event, init=False)

    @cached_property
    def environment(self) -> Environment:
        from cqrsctl.config import Flags, load

        return self.preset or load(self.flags or Flags())

    @cached_property
    def wiring(self) -> Wiring:
        from cqrsctl.wiring import Wiring

        return Wiring(self.environment, self.stop)

    @cached_property
    def clock(self) -> SystemClock:
        from cqrsctl.clock import SystemClock

        return SystemClock(self.stop)

    def take(self, flags: Flags, verbosity: int, log_format: LogFormat | None) -> None:
        """Take global options. Those after the command win over those before it; each -v counts."""
        self.flags = flags if self.flags is None else self.flags.overridden(flags)
        self.verbosity += verbosity
        self.log_format = log_format or self.log_format
        # Only cqrsctl's own log: botocore's, at debug level, would show secrets.
        handler = _LogHandler()
        handler.setFormatter(_Formatter(self))
        logger = logging.getLogger("cqrsctl")
        logger.handlers = [handler]
        logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(self.verbosity, logging.DEBUG))

    def begin_stopping(self, number: int) -> None:
        """Let all that the command waits for stop because of a signal. A transaction under way has a second left."""
        if self.stop.is_set():
            return
        self.stopped_by = number
        self.stop.set()
        if "wiring" in vars(self):
            cutting = threading.Timer(_GRACE_SECONDS, self.wiring.cut)
            cutting.daemon = True
            cutting.start()
        # In a thread of its own: the signal may have come in the middle of a message, which holds stderr.
        threading.Thread(target=self._announce, daemon=True).start()
        self.wait_for_announcement()

    def wait_for_announcement(self) -> None:
        """Give the message that the command stops a moment: what was interrupted may be an import that it needs."""
        if self.stop.is_set():
            self._announced.wait(_ANNOUNCED_SECONDS)

    def _announce(self) -> None:
        try:
            self.note("Stopping…")
        except ImportError:  # the signal interrupted the import of what notes are drawn with
            sys.stderr.write("Stopping…\n")
        self._announced.set()

    @property
    def stopped_code(self) -> int:
        """The exit code after a signal, as shells count it; 0 if SIGTERM ended a command that follows."""
        return 0 if self.follows and self.stopped_by == signal.SIGTERM else 128 + self.stopped_by

    def addressed(self, text: str) -> str:
        """The text with its commands addressed as this run is, by flags or variables: `cqrsctl -e staging rebuild`.

        A variable may be set for this run alone, so it counts as a flag; what the settings file says needs no flag.
        """
        from cqrsctl.cli.addressing import addressed
        from cqrsctl.config import Flags

        environment = vars(self).get("environment")
        aws = {name: getattr(environment, name, None) for name in ("profile", "region", "endpoint_url")}
        return addressed(text, (self.flags or Flags()).said(), aws)

    def report(self, failure: CqrsctlError) -> None:
        """Print an error, for the person at the terminal or as JSON."""
        failure.message = self.addressed(failure.message)
        failure.hint = failure.hint and self.addressed(failure.hint)
        render.error(failure, self.output)

    def note(self, message: str) -> None:
        """A note for the person at the terminal, or for the log."""
        message = self.addressed(message)
        if self.log_format is LogFormat.JSON:
            content = {"time": render.rfc3339(datetime.now(UTC)), "level": "info", "message": message}
            render.message(json.dumps(content, ensure_ascii=False))
        else:
            render.note(message)

    def place(self) -> str:
        """Where this run acts: the environment with its account, region and table."""
        environment = self.environment
        where = "embedded stack" if environment.embedded else self.wiring.place()
        return f"Environment {environment.name}: {where}, table {environment.table}."

    def confirm(self, question: str, *, yes: bool, needed: bool = True, typed: str | None = None) -> None:
        """Ask before something that cannot be undone, or costs money; if all data goes, `typed` is to be typed.

        The question begins with the environment, its account, region and table. Raises UsageError if nobody can answer.
        """
        if yes or not needed:
            return
        asked = f"{self.place()} {question}"
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(f"{asked} This was not confirmed.", hint="Confirm it with --yes.", code="not_confirmed")
        if typed is None:
            agreed = render.confirmed(f"{asked} Continue?")
        else:
            agreed = render.answered(f"{asked} Type {typed} to confirm") == typed
        if not agreed:
            self.note("Nothing was done.")
            raise typer.Exit(1)


def of(ctx: typer.Context) -> Invocation:
    """The invocation that a command runs in."""
    invocation = ctx.find_root().obj
    if not isinstance(invocation, Invocation):
        raise AssertionError("the root is run with an invocation")  # noqa: TRY004
    return invocation


def _remember_output(ctx: typer.Context, value: Output) -> Output:
    of(ctx).output = value
    return value


def parse_duration(text: str) -> timedelta:
    """`90`, `90s`, `15m`, `2h`, `1d`. Raises typer.BadParameter."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        found = timedelta(seconds=float(number) * units[unit])
    except (ValueError, OverflowError):
        found = timedelta(-1)
    if not timedelta(0) <= found <= timedelta(days=3_650):
        raise typer.BadParameter(f"{text!r} is not a duration (30s, 15m, 2h, 1d)")
    return found


OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="How data is printed.", callback=_remember_output, is_eager=True),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the calls that would be made; make none.")]


NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait for what AWS does in its own time.")]


def operated(ctx: typer.Context) -> Aurora:
    """The environment's cluster, to be operated on."""
    from cqrsctl.pipeline import embedded

    invocation = of(ctx)
    return embedded.operated(invocation.wiring, invocation.clock, invocation.note)


@contextmanager
def waiting(ctx: typer.Context, aurora: Aurora) -> Iterator[None]:
    """What is waited for shows in a line that changes in place."""
    with render.live() as show:
        aurora.progress = show
        try:
            yield
        except KeyboardInterrupt:
            of(ctx).note("Stopped waiting; what was begun continues. See how far it is: cqrsctl aurora status")
            raise


class _LogHandler(logging.Handler):
    """Log records among the other messages on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        render.message(self.format(record))


class _Formatter(logging.Formatter):
    """Log records as text, or as JSON, one a line."""

    def __init__(self, invocation: Invocation) -> None:
        super().__init__()
        self._invocation = invocation

    def format(self, record: logging.LogRecord) -> str:
        message = self._invocation.addressed(record.getMessage())
        if self._invocation.log_format is LogFormat.TEXT:
            return message
        content = {"level": record.levelname.lower(), "logger": record.name, "message": message}
        return json.dumps(content, ensure_ascii=False)
