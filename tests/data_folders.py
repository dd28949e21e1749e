"""The programs that make data folders, for the tests: each makes one once, and each server has a copy of it.

The real ones take seconds, most of them waiting for the disk, and the tests start dozens of servers.
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

NAMES = ("mariadb-install-db", "mysqld")
_INITIALIZE = "--initialize-insecure"
_DATA = "--datadir="


def put_on_path(folder: Path, search: str) -> None:
    """Let this and all later processes find them before the real ones in `search`. `folder` may be shared."""
    programs = folder / f"programs-{os.getpid()}"
    programs.mkdir()
    for name in NAMES:
        if (real := shutil.which(name, path=search)) is None:
            continue
        make = shlex.join([sys.executable, "-I", __file__, real, str(folder)])
        serves = f'case " $* " in *" {_INITIALIZE} "*) ;; *) exec {shlex.quote(real)} "$@";; esac\n'
        program = programs / name
        program.write_text(f'#!/bin/sh\n{serves if name == "mysqld" else ""}exec {make} "$@"\n')
        program.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath)))


def main(real: str, folder: Path, arguments: list[str]) -> int:
    """Make the data folder that the arguments name; the real program's exit code."""
    (data,) = [argument.removeprefix(_DATA) for argument in arguments if argument.startswith(_DATA)]
    others = [argument for argument in arguments if not argument.startswith(_DATA)]
    made = folder / f"data-{hashlib.sha256(shlex.join([real, *others]).encode()).hexdigest()[:16]}"
    with (folder / "data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = made.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            done = subprocess.run([real, *others, f"{_DATA}{unfinished}"], check=False)
            if done.returncode:
                return done.returncode
            unfinished.rename(made)
    shutil.copytree(made, data, ignore=shutil.ignore_patterns("auto.cnf"))  # it holds a MySQL server's own identity
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
