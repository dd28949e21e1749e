"""A command run to its end, and what it took.

Linux counts in a process's peak of memory what it was forked from. So a small process comes between, which starts the
command, waits for it, and tells what the system counted of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Measured:
    """What a command printed, and what it took. `cpu_seconds` is user and system time."""

    out: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> Measured:
    """Run a command in a folder, with more environment variables; its stderr is shown.

    Raises CalledProcessError where it fails.
    """
    with subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *command],
        stdout=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, **variables},
        text=True,
    ) as between:
        try:
            out, _ = between.communicate()
        except BaseException:
            between.terminate()
            raise
    if between.returncode:
        raise subprocess.CalledProcessError(between.returncode, command, out)
    return Measured(**json.loads(out))


def _between(command: Sequence[str]) -> int:
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the command by itself
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return 1
    unit = 1 if sys.platform == "darwin" else 1_024
    measured = {
        "out": out,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
    }
    sys.stdout.write(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(_between(sys.argv[1:]))
