"""The package, its scripts and its pages keep to plain words, as messages, comments and names do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AVOIDED = re.compile(
    r"(?<![a-z.])(mend(s|ed|er|ing)?|anew|so many|as asked|(is|are) not known|tells?|told|(does|do) not run"
    r"|go(es|ing)? on|gone on|(give|gives|given|giving|gave) (it )?up|(None|Raises \w+) where|where there is none)"
    r"(?![a-z])",
    re.IGNORECASE,
)
"""Words that read as if translated. Instead: fix, again, number of, already exists, is unknown, shows, is not running,
resume or continue, abandon, if there is none."""
TEXTS = sorted(
    path
    for pattern in ("cqrsctl/**/*.py", "scripts/*", "docs/*.md", "README.md", "CONTRIBUTING.md")
    for path in ROOT.glob(pattern)
    if path.is_file()
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_plain(path: Path) -> None:
    found = [line for line in path.read_text().splitlines() if AVOIDED.search(line.replace("_", " "))]

    assert not found


@pytest.mark.parametrize("line", ["Tell it.", "_told = 1", "it goes\ton", "Raises AwsError where it is not."])
def test_a_word_to_avoid_is_found(line: str) -> None:
    assert AVOIDED.search(line.replace("_", " ").replace("\t", " "))
