"""The installed command in a process that is forked from one which has the libraries loaded already.

Importing them is most of a command's processor time, and the tests run hundreds of commands.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cqrsctl
from tests.aws import service_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from multiprocessing.context import ForkServerContext

IS_SAFE = sys.platform == "linux"
"""Elsewhere the system's own libraries may not outlive a fork, or there is none."""

_LIBRARIES = (
    "pytest",  # is imported by each process where it is the main module
    "boto3.session",
    "botocore.endpoint_provider",
    "botocore.httpsession",
    "encodings.idna",
    "pydantic.plugin._loader",
    "rich.console",
    "rich.table",
    "typer._adapters",
    service_model.__name__,
)


def run(
    command: Path,
    arguments: Sequence[str],
    content: bytes,
    timeout: float,
    environment: Mapping[str, str],
    directory: Path,
) -> subprocess.CompletedProcess[bytes]:
    """Run a Python program as `subprocess.run` would, and wait for its end.

    Raises subprocess.TimeoutExpired, like that, where it takes longer than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        for stream, before in zip(streams, (content, b"", b""), strict=True):
            stream.write_bytes(before)
        process = _forks().Process(target=_become, args=(command, arguments, dict(environment), directory, streams))
        with _without_coverage():
            process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(
                [command, *arguments], timeout, *(file.read_bytes() for file in streams[1:])
            )
        out, err = (stream.read_bytes() for stream in streams[1:])
        return subprocess.CompletedProcess([command, *arguments], process.exitcode, out, err)


@cache
def _forks() -> ForkServerContext:
    forks = multiprocessing.get_context("forkserver")
    package = Path(cqrsctl.__file__).parent
    own = [".".join(file.relative_to(package.parent).with_suffix("").parts) for file in package.rglob("[!_]*.py")]
    forks.set_forkserver_preload([*_LIBRARIES, *own, "tests.preloaded"])
    return forks


@contextmanager
def _without_coverage() -> Iterator[None]:
    """The server, which the first process starts, would measure itself and slow down all that it forks."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE_")}
    try:
        yield
    finally:
        os.environ.update(kept)


def _become(
    command: Path, arguments: Sequence[str], environment: dict[str, str], directory: Path, streams: Sequence[Path]
) -> None:
    """Be the command, in the new process, with every call judged."""
    service_model.judge_all()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, (stream, flags) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        opened = os.open(stream, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 -- as the interpreter has them, until its end
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    sys.argv = [str(command), *arguments]
    runpy.run_path(str(command), run_name="__main__")
