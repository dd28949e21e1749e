"""mariadb-install-db for the tests: the real one makes a data folder once, and each server has a copy of it.

The real one takes seconds, most of them waiting for the disk, and the tests start dozens of servers.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "mariadb-install-db"
_DATA = "--datadir="


def put_on_path(folder: Path, search: str) -> None:
    """Let this and all later processes find it before the real one, if that is in `search`. `folder` may be shared."""
    real = shutil.which(NAME, path=search)
    if real is None:
        return
    programs = folder / f"programs-{os.getpid()}"
    programs.mkdir()
    words = [sys.executable, "-I", __file__, real, str(folder)]
    program = programs / NAME
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath)))


def main(real: str, folder: Path, arguments: list[str]) -> int:
    """Make the data folder that the arguments name; the real program's exit code."""
    (data,) = [argument.removeprefix(_DATA) for argument in arguments if argument.startswith(_DATA)]
    others = [argument for argument in arguments if not argument.startswith(_DATA)]
    made = folder / f"data-{hashlib.sha256(shlex.join(others).encode()).hexdigest()[:16]}"
    with (folder / "data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = made.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            done = subprocess.run([real, *others, f"{_DATA}{unfinished}"], check=False)
            if done.returncode:
                return done.returncode
            unfinished.rename(made)
    shutil.copytree(made, data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
