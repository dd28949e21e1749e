"""What the embedded stack remembers between commands: its processes, their ports, its password."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError

try:
    import psutil
except ModuleNotFoundError as error:
    raise CqrsctlError(
        "The embedded stack needs psutil, which is not installed.",
        hint="Install it with: pip install 'cqrsctl[local]'",
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_REMEMBERING = threading.Lock()
"""Services may be started in several threads at once; other processes are kept away by StackState.locked."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process that the stack started, known by its pid and start time: the pid alone can be another's by now."""

    name: str
    pid: int
    started: float
    port: int
    """0: it does not listen."""

    def process(self) -> psutil.Process | None:
        """The process, if it is still the one that was started and has not ended."""
        try:
            process = psutil.Process(self.pid)
            same = process.create_time() == self.started
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def ask_to_stop(self) -> None:
        """Ask the process to end, without waiting for it."""
        process = self.process()
        if process:
            with suppress(psutil.NoSuchProcess):
                process.terminate()

    def stop(self, patience_seconds: float = 30) -> None:
        """End the process: politely, and after the patience by force."""
        process = self.process()
        if process is None:
            return
        self.ask_to_stop()
        try:
            process.wait(patience_seconds)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(patience_seconds)


@dataclass(frozen=True, slots=True)
class StackState:
    """The folder of one embedded stack."""

    directory: Path

    def services(self) -> dict[str, Service]:
        """The processes that were started, by name; they may have died since."""
        try:
            content = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise CqrsctlError(
                f"{self._file} is damaged: {error}.",
                hint="End the stack's processes by hand, then remove that file.",
            ) from error
        return {name: Service(**service) for name, service in content.items()}

    def launch(
        self,
        name: str,
        command: list[str],
        port: int = 0,
        *,
        inherited: Sequence[int] = (),
        directory: Path | None = None,
        of_aws: bool = False,
    ) -> Service:
        """Start a process that outlives this one, with a log, and remember it.

        One that is no client of AWS (`of_aws` False) gets no variables of AWS: a profile that does not exist would make
        the emulator fail. `directory` is its working folder, by default the root, so that no folder is kept in use.
        """
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                env={name: value for name, value in os.environ.items() if of_aws or not name.startswith("AWS_")},
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory or "/",
                start_new_session=True,
            )
        service = Service(name, process.pid, psutil.Process(process.pid).create_time(), port)
        process.returncode = 0  # it is meant to outlive us: keeps Popen from warning of that
        with _REMEMBERING:
            self._write({**self.services(), name: service})
        return service

    def forget(self, name: str) -> None:
        with _REMEMBERING:
            self._write({kept: service for kept, service in self.services().items() if kept != name})

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    @property
    def password_file(self) -> Path:
        return self.directory / "database.password"

    def password(self) -> str:
        """The random password of the stack's database, made at the first call."""
        return _secret(self.password_file)

    def replication_password(self) -> str:
        """The random password with which readers follow the writer, made at the first call."""
        return _secret(self.directory / "replication.password")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from changing this stack; they wait their turn."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def _file(self) -> Path:
        return self.directory / "stack.json"

    def _write(self, services: dict[str, Service]) -> None:
        content = {name: asdict(service) for name, service in services.items()}
        write_private(self._file, json.dumps(content, indent=2))


def write_private(path: Path, content: str, *, durable: bool = False) -> None:
    """Write a file that only its owner can read, whole or not at all. A durable one outlives a power cut."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    new.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _secret(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        password = secrets.token_urlsafe(24)
        write_private(path, password)
        return password
