"""What users read keeps to plain words."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cqrsctl

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(cqrsctl.__file__).parent
AVOIDED = re.compile(
    r"\b(mend\w*|anew|so many|as asked|is not known|tells?|told|does not run|do not run|go(es)? on|give(s|n)? up"
    r"|where there is none)\b",
    re.IGNORECASE,
)
"""Words that read as if translated. Instead: fix, again, number of, already exists, is unknown, shows, is not running,
resume or continue, abandon, if there is none."""
PAGES = sorted([*PACKAGE.parent.glob("docs/*.md"), PACKAGE.parent / "README.md"])


def texts(module: Path) -> Iterator[str]:
    """The strings of a module that a user may read: all but docstrings; of commands, those too."""
    tree = ast.parse(module.read_text())
    is_command = module.parent.name == "cli"
    unread = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                is_help = is_command and isinstance(node, ast.FunctionDef) and node.decorator_list
                if not is_help:
                    unread.add(statement.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in unread:
            yield node.value


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_messages_and_help_are_in_plain_words(module: Path) -> None:
    found = [text for text in texts(module) if AVOIDED.search(text)]

    assert not found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_documentation_is_in_plain_words(page: Path) -> None:
    found = [line for line in page.read_text().splitlines() if AVOIDED.search(line)]

    assert not found


def test_help_of_a_command_and_messages_are_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "cli"
    folder.mkdir()
    (folder / "lag.py").write_text('"""Of a module."""\n@command\ndef lag():\n    """Tell."""\n    note(f"{1} told")\n')

    assert list(texts(folder / "lag.py")) == ["Tell.", " told"]
