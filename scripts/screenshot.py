"""docs/screenshot.svg: a change on its way through the pipeline, as a terminal shows it, from a real run."""

from __future__ import annotations

import html
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FILE = Path(__file__).parents[1] / "docs" / "screenshot.svg"
PREPARATION = (
    "local up",
    "table create",
    "product put 7 --name 'Cotton Candle Holder' --price 27.49",
    "product put 8 --name 'Linen Mirror' --price 383.49",
    "product put 9 --name 'Ash Stool' --price 45",
    "project --once",
)
SHOWN = (
    "product put 7 --name 'Oak Desk Lamp' --price 19.90 --out-of-stock",
    "product delete 8",
    "stream tail --no-follow --id 7 --id 8",
    "project --once",
    "query get 7",
    "verify",
    "status",
)
_WIDTH = 118
COLOURED = {"FORCE_COLOR": "1", "COLUMNS": str(_WIDTH)}
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""rich's own, without fonts from a server: a terminal's font of the reader is shown."""
_LINE = re.compile(r'<text class="\S+-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')


def transcript(run: Callable[[Sequence[str]], str]) -> str:
    """The commands with what they print, coloured; `run` gives both output streams of a command."""
    for command in PREPARATION:
        run(shlex.split(command))
    return "\n".join(f"$ cqrsctl {command}\n{run(shlex.split(command)).rstrip()}" for command in SHOWN)


def lines(coloured: str) -> list[str]:
    """The lines of a transcript that are not empty, without colours and without spaces at their ends."""
    return [line.rstrip() for line in Text.from_ansi(coloured).plain.splitlines() if line.strip()]


def drawn(coloured: str) -> str:
    """A transcript as an SVG picture."""
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    for line in Text.from_ansi(coloured).split("\n"):
        line.rstrip()
        console.print(line, overflow="fold")
    return console.export_svg(title="cqrsctl", code_format=_FORMAT, unique_id="screenshot")


def lines_of(svg: str) -> list[str]:
    """The lines that a picture shows, without empty ones."""
    pieces: dict[str, str] = {}  # spaces between two colours are no text there
    for _, y, text in _LINE.findall(svg):
        pieces[y] = pieces.get(y, "") + html.unescape(text).replace("\xa0", " ")
    return [line.rstrip() for line in pieces.values()]


def _run(arguments: Sequence[str]) -> str:
    done = subprocess.run(
        [Path(sys.executable).parent / "cqrsctl", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        env={**os.environ, **COLOURED},
    )
    return done.stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="cqrsctl-screenshot-") as folder:
        os.environ["CQRSCTL_STATE_DIR"] = folder
        try:
            FILE.write_text(drawn(transcript(_run)), encoding="utf-8")
        finally:
            _run(["local", "down", "--wipe", "--yes"])
