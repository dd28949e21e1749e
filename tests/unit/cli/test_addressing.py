"""Commands in messages exist, and are addressed to the pipeline that the run works on."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import cqrsctl
from cqrsctl.cli.addressing import addressed
from cqrsctl.cli.app import app
from cqrsctl.cli.commands import COMMANDS, load_command
from cqrsctl.config import Flags

PACKAGE = Path(cqrsctl.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTS = sorted([PACKAGE.parent / "README.md", *(PACKAGE.parent / "docs").rglob("*.md")])
ROOT: Any = typer.main.get_command(app)
TREE = {name: load_command(name) for name in COMMANDS}
VALUE = "VALUE"
PLACEHOLDERS = {VALUE, "COMMAND", "[OPTIONS]", "…"}
MENTION = re.compile(r"(?P<before>`|: |\$ |\n  +|)\bcqrsctl (?P<words>[^`;,|()\"\n]+)")
"""A command in a text, up to what cannot belong to it, and what shows that it is meant to be typed."""
SETTINGS = {"env": "staging", "config": Path("my shop.toml"), "region": None}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("See: cqrsctl rebuild", "See: cqrsctl -e staging --config 'my shop.toml' rebuild"),
        ("Use `cqrsctl lag`.", "Use `cqrsctl -e staging --config 'my shop.toml' lag`."),
        ("cqrsctl -vv doctor shows", "cqrsctl -e staging --config 'my shop.toml' -vv doctor shows"),
        ("cqrsctl -e demo query list", "cqrsctl -e demo query list"),
        ("cqrsctl does not connect", "cqrsctl does not connect"),
        ("a later cqrsctl", "a later cqrsctl"),
        ("aws sso login", "aws --profile shop --region eu-west-1 sso login"),
        ("aws rds describe-events; x", "aws --profile shop --region eu-west-1 rds describe-events; x"),
        ("aws configure list-profiles", "aws configure list-profiles"),
    ],
)
def test_commands_get_the_options_of_the_run(text: str, printed: str) -> None:
    assert addressed(text, SETTINGS, {"profile": "shop", "region": "eu-west-1"}) == printed


def test_nothing_is_added_if_nothing_was_said() -> None:
    assert addressed("cqrsctl rebuild; aws sso login", Flags().said({}), {}) == "cqrsctl rebuild; aws sso login"


def test_every_command_in_a_text_gets_the_options() -> None:
    both = addressed("cqrsctl table enable-stream; cqrsctl rebuild", {"endpoint_url": "http://x"}, {})

    assert both == "cqrsctl --endpoint-url http://x table enable-stream; cqrsctl --endpoint-url http://x rebuild"


def test_what_a_variable_says_counts_if_no_flag_does() -> None:
    said = Flags(region="eu-west-1").said({"CQRSCTL_ENV": "staging", "CQRSCTL_REGION": "us-east-1"})

    assert {name: value for name, value in said.items() if value} == {"env": "staging", "region": "eu-west-1"}


@pytest.mark.parametrize("path", [*MODULES, *DOCUMENTS], ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_every_command_that_a_text_names_exists_with_its_options(path: Path) -> None:
    wrong = [
        f"{mention['words']!r}: {error}"
        for text in texts(path)
        for mention in MENTION.finditer(text)
        if (error := mistake(mention["words"].split(), typed=bool(mention["before"])))
    ]

    assert not wrong


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("rebuild --undoo", "no option --undoo"),
        ("aurora reader", "no command reader"),
        ("--undo rebuild", "no option --undo"),
        ("-x aurora status", "no option -x"),
        ("function deploy --memory 3 -e staging", ""),
        ("local shell -- --table", ""),
        ("made them", "no command made"),
    ],
)
def test_the_judge_of_commands_finds_mistakes(words: str, error: str) -> None:
    assert mistake(words.split(), typed=True) == error


def test_prose_about_the_program_is_no_command() -> None:
    assert not mistake(["made", "them"], typed=False)


def texts(path: Path) -> list[str]:
    """The texts of a module, or the whole of a document. What a text is filled with is a value."""
    if path.suffix == ".md":
        return [path.read_text()]
    tree = ast.parse(path.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    whole = [node for node in ast.walk(tree) if id(node) not in parts]
    return [
        *(node.value for node in whole if isinstance(node, ast.Constant) and isinstance(node.value, str)),
        *(
            "".join(str(part.value) if isinstance(part, ast.Constant) else f" {VALUE} " for part in node.values)
            for node in whole
            if isinstance(node, ast.JoinedStr)
        ),
    ]


def mistake(words: list[str], *, typed: bool) -> str:
    """What is wrong with the words after `cqrsctl`; of prose, which is not `typed`, only what looks like a command."""
    place, commands = ROOT, TREE
    rest = [word.rstrip(".:") for word in words]
    while rest:
        word = rest.pop(0)
        if word == "--":
            return ""
        if word[:1] == "-" and word != "-":
            name, _, value = word.partition("=")
            option = OPTIONS.get(name) or known(place).get(name)
            if option is None:
                return f"no option {word}"
            if rest and not (value or option.is_flag or option.count):
                rest.pop(0)
        elif commands:
            if word in PLACEHOLDERS:
                return ""
            if word not in commands:
                return f"no command {word}" if typed or place is not ROOT else ""
            place = commands[word]
            commands = getattr(place, "commands", {})
    return ""


def known(command: Any) -> dict[str, Any]:
    """The options of a command by name."""
    options = [each for each in command.params if each.param_type_name == "option"]
    return {name: option for option in options for name in (*option.opts, *option.secondary_opts)}


OPTIONS = known(ROOT)
OPTIONS |= {"-vv": OPTIONS["-v"], "--help": OPTIONS["--version"]}
