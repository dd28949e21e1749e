"""How long the command takes to start, beside the library it is made with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

COMMAND = str(Path(sys.executable).parent / "cqrsctl")
CASES = {
    "import typer": [sys.executable, "-c", "import typer"],
    "cqrsctl --version": [COMMAND, "--version"],
    "cqrsctl --help": [COMMAND, "--help"],
}


def measure(rounds: int = 20) -> list[dict[str, Any]]:
    """The median of so many starts of each, taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, command in CASES.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - begun)
    base = median(taken["import typer"])
    return [
        {"start": name, "milliseconds": round(median(seconds) * 1_000), "times": round(median(seconds) / base, 2)}
        for name, seconds in taken.items()
    ]
