"""The generated documentation: the commands from their help, and the doctor's codes from its checks."""

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
# Commands

Every command with its options, as `--help` prints them. `scripts/docs` writes this page from the program.

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
    parts = [_HEAD, _section("cqrsctl", typer.main.get_command(app), "##")]
    parts += [_section(f"cqrsctl {name}", command, "##" + "#" * name.count(" ")) for name, command in every_command()]
    return "\n".join(parts)


def _section(name: str, command: Any, level: str) -> str:
    context = command.context_class(command, info_name=name, terminal_width=_WIDTH, help_option_names=["-h", "--help"])
    return f"{level} {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


def doctor_codes() -> str:
    """The table of the doctor's codes: a line for each check."""
    lines = ["| code | severity | problem | fix |", "|---|---|---|---|"]
    for check in CHECKS:
        problem, fix = (inspect.getdoc(check.run) or "").split("\n\nFix: ")
        found = ", ".join(severity for severity in Severity if severity in _names(check.run))
        lines.append(f"| `{check.code}` | {found} | {problem} | {fix.rstrip('.')} |")
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


if __name__ == "__main__":
    for page, text in pages().items():
        if page.exists() and page.read_text() == text:
            continue
        if "--check" in sys.argv[1:]:
            sys.exit(f"{page.name} is out of date. Run: scripts/docs")
        page.write_text(text)
