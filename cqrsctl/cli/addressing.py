"""Commands in messages, addressed to the pipeline that this run works on: pasted, they act on the same one."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from cqrsctl.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_OUR_OWN = re.compile(rf"\bcqrsctl (?=(?:-v+ )?(?:{'|'.join(COMMANDS)})\b)")
_OF_AWS = re.compile(r"\baws (?=sso login\b|(?!configure)[a-z]+ [a-z]+-[a-z-]+)")


def addressed(text: str, own: Mapping[str, object], aws: Mapping[str, object]) -> str:
    """The text, in which each `cqrsctl …` command has the options of `own`, and each of the AWS CLI those of `aws`.

    Both are settings by name; one without a value is left out. A command that already has options before its name stays
    as it is.
    """
    return _with_options(_OF_AWS, _with_options(_OUR_OWN, text, own), aws)


def _with_options(command: re.Pattern[str], text: str, settings: Mapping[str, object]) -> str:
    options = "".join(f"{_option(name)} {shlex.quote(str(value))} " for name, value in settings.items() if value)
    return command.sub(lambda found: found[0] + options, text)


def _option(name: str) -> str:
    return "-e" if name == "env" else f"--{name.replace('_', '-')}"
