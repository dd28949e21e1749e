"""The generated documentation: the commands from their help texts, and the doctor's codes from its checks."""

from __future__ import annotations

import dis
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cqrsctl.cli.app import app
from cqrsctl.cli.commands import COMMANDS, load_command
from cqrsctl.diagnosis.doctor.checks import CHECKS
from cqrsctl.diagnosis.doctor.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[1] / "docs"
_WIDTH = 100
_BEGIN, _END = "<!-- The table is written by scripts/docs. -->\n", "<!-- End of the table. -->\n"
_HEAD = """\
<!-- This page is written by scripts/docs from the help texts. -->
# Commands

`cqrsctl COMMAND --help` prints the same. The [global options](#cqrsctl) stand before the command or after it.

| command | what it does |
|---|---|
"""


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command or group and all below it, by the words that are typed."""
    yield name, command
    for child, below in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {child}", below)


def every_command() -> Iterator[tuple[str, Any]]:
    """All commands and groups, in the order of `cqrsctl --help`."""
    for name in COMMANDS:
        yield from commands(name, load_command(name))


def command_reference() -> str:
    """The text of docs/commands.md."""
    every = dict(every_command())
    rows = [
        f"| [`{name}`](#cqrsctl-{name.replace(' ', '-')}) | {_summary(command)} |\n"
        for name, command in every.items()
        if not hasattr(command, "commands")
    ]
    sections = [_section("cqrsctl", typer.main.get_command(app))]
    sections += [_section(f"cqrsctl {name}", command) for name, command in every.items()]
    return "\n".join([_HEAD + "".join(rows), *sections])


def _summary(command: Any) -> str:
    """The first sentence of a command's help."""
    first = " ".join(command.help.split("\n\n")[0].split())
    return first.split(". ")[0].rstrip(".").replace("|", "\\|") + "."


def _section(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name, terminal_width=_WIDTH, help_option_names=["-h", "--help"])
    return f"{'#' * (2 + (name.count(' ') > 1))} {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


def doctor_codes() -> str:
    """The table of the doctor's codes: a line for each check."""
    lines = ["| code | severity | problem | fix |", "|---|---|---|---|"]
    for check in CHECKS:
        problem, _, fix = (inspect.getdoc(check.run) or "").partition("\n\nFix: ")
        if not fix:
            raise SystemExit(f"The check {check.code} needs a docstring of its problem and `Fix: …`.")
        reported = ", ".join(severity for severity in Severity if severity in _names(check.run))
        lines.append(f"| `{check.code}` | {reported} | {problem} | {fix.rstrip('.')} |")
    return "\n".join(lines) + "\n"


def _names(function: Any) -> set[str]:
    """The names that a function uses, and those used by functions of its module that it calls, in lower case."""
    used = {name.lower() for name in function.__code__.co_names}
    for name in {step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL"}:
        called = function.__globals__.get(name)
        if inspect.isfunction(called) and called.__module__ == function.__module__:
            used |= _names(called)
    return used


def pages() -> dict[Path, str]:
    """What the generated files should hold."""
    doctor = DOCS / "doctor.md"
    before, rest = doctor.read_text().split(_BEGIN)
    after = rest.split(_END)[1]
    return {DOCS / "commands.md": command_reference(), doctor: f"{before}{_BEGIN}\n{doctor_codes()}\n{_END}{after}"}


def stale() -> list[Path]:
    """The generated files that are not what the program says today."""
    return [page for page, text in pages().items() if not page.exists() or page.read_text() != text]


if __name__ == "__main__":
    outdated = stale()
    if "--check" in sys.argv[1:] and outdated:
        sys.exit(f"Out of date: {', '.join(page.name for page in outdated)}. Run scripts/docs.")
    for page in outdated:
        page.write_text(pages()[page])
