"""What goes to stderr on a terminal: the live line, notes, logs and questions never run into one another."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

PROGRAM = """
import logging, sys, time, typer
from cqrsctl.cli import render
from cqrsctl.cli.invocation import Invocation
from cqrsctl.config import Flags

run = Invocation()
run.take(Flags(), 1, None)
with render.live() as show:
    for number in range(3):
        show(f"applied {number} changes, 1 shard")
        time.sleep(0.3)
        run.note(f"Caught up: {number}")
        logging.getLogger("cqrsctl.any").info("asked again")
        with render.live() as inner:
            inner("inner")
    print("agreed" if render.confirmed("Go on?") else "refused")
    show("applied 4 changes")
    time.sleep(0.3)
run.note("done")
"""


def screen(written: str) -> list[str]:
    """The lines that a terminal shows of what was written to it."""
    lines, row, column = [""], 0, 0
    for control, text in re.findall(r"(\x1b\[[?\d;]*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", written):
        if text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif control == "\r":
            column = 0
        elif control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif control.endswith("A"):
            row -= int(control[2:-1] or 1)
        elif control.endswith("K"):
            lines[row] = "" if control == "\x1b[2K" else lines[row][:column]
    return [line.rstrip() for line in lines if line.strip()]


def test_every_message_has_lines_of_its_own() -> None:
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    ) as run:
        os.close(theirs)
        written, answered = b"", 0
        while True:
            try:
                read = os.read(ours, 10_000)
            except OSError:  # how Linux says that nobody holds the other side any more
                break
            written += read
            if b"Go on? [y/N]: " in written and not answered:
                answered = os.write(ours, b"y\n")
    os.close(ours)

    assert run.returncode == 0
    assert b"applied 2 changes, 1 shard" in written
    assert screen(written.decode()) == [
        *(line for number in range(3) for line in (f"Caught up: {number}", "asked again")),
        *("Go on? [y/N]: y", "agreed", "done"),
    ]
