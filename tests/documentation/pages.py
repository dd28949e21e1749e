"""A page's blocks as the steps of one shell: commands with the output that the page shows, and settings files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if "```console" in page.read_text())
_BLOCK = re.compile(
    r"^(?P<not_run><!-- not run: [^>]+ -->\n)?```(?P<kind>console|toml)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SETTINGS = "# cqrsctl.toml\n"
_END = "@@ exit "
_MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|(\d{4}-\d\d-\d\d )?\b\d\d:\d\d(:\d\d)?\b( UTC)?"), "TIME"),
    (re.compile(r"\d+( items)?/s\b"), "RATE"),
    (re.compile(r"(\d+ (d|h|min) )?\d+(\.\d+)? (s|min|h) (ago|old)"), "AGE"),
    (re.compile(r"--after \S+"), "--after TOKEN"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, slots=True)
class Step:
    """What a shell is given, and lines of its output, in order: others may come between them."""

    command: str
    shown: tuple[str, ...] = ()


def steps(page: Path) -> Iterator[Step]:
    """The steps of a page; blocks after a comment `not run: why` are left out."""
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = block["text"]
        if block["not_run"]:
            continue
        if block["kind"] == "toml":
            if text.startswith(_SETTINGS):
                yield Step(f"cat > cqrsctl.toml <<'END'\n{text}END")
            continue
        assert text.startswith("$ "), f"{page.name}: a console block begins with a command"
        for part in ("\n" + text).split("\n$ ")[1:]:
            command, *shown = part.splitlines()
            yield Step(command, tuple(filter(None, shown)))


def script(some: list[Step]) -> str:
    """One script that runs all steps, each followed by a line with its exit code."""
    run = "".join(f"{{ {step.command}\n}} 2>&1\nprintf '\\n{_END}%s\\n' $?\n" for step in some)
    return f"set -m -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n{run}"


def mistakes(some: list[Step], printed: str) -> Iterator[str]:
    """What went otherwise than the page shows."""
    outputs = re.split(rf"\n{_END}(\d+)\n", printed)
    yield from (f"not reached: {step.command}" for step in some[len(outputs) // 2 :])
    for step, output, code in zip(some, outputs[::2], outputs[1::2], strict=False):
        lines = map(masked, output.splitlines())
        missing = [line for line in step.shown if masked(line) not in lines]
        if missing or code != "0":
            yield f"$ {step.command}\nexit {code}, without {missing}:\n{output}"


def masked(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, replacement in _MASKS:
        line = pattern.sub(replacement, line)
    return line.strip()
