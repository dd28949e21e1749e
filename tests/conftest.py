"""Real parts for the tests: one embedded stack for each test process, a table and a database for each test."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

from cqrsctl.config import Environment, Flags, load
from cqrsctl.local import database_server, engines, stack
from cqrsctl.local.engines import MARIADB
from cqrsctl.local.state import StackState
from cqrsctl.wiring import Wiring
from tests import data_folders, forked
from tests.aws import service_model
from tests.scheduling import SharingModules

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = 40
"""How many histories of each kind the stream simulator lives through."""

COMMAND = Path(sys.executable).parent / "cqrsctl"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=SEEDS, metavar="N", help="how many seeds the stream simulator runs")
    parser.addoption("--database", choices=sorted(engines.NAMES), default=MARIADB.name, help="what stacks run on")
    group.addoption("--seed", type=int, metavar="N", help="the one seed that the stream simulator runs again")
    parser.addoption("--all-pages", action="store_true", help="run the commands of all pages of the documentation")


def pytest_configure() -> None:
    """A shell's background job ignores SIGINT, and so would the commands that are started here and sent one."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("COLUMNS", None)  # workers have it, and commands would fold their tables


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharingModules:
    """How workers are given their tests; called only if there are workers."""
    return SharingModules(config, log)


@dataclass(frozen=True)
class Result:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Cqrsctl:
    """The installed command, with variables and a working folder of its own, in a process of its own.

    A command that goes on is started as a shell does it, and so is one with variables that Python reads as it starts;
    others are forked with their libraries loaded already, unless `started` is called.
    """

    directory: Path
    variables: dict[str, str] = field(default_factory=dict)
    forked: bool = forked.IS_SAFE

    @property
    def started(self) -> Cqrsctl:
        """The same, with every command started as a shell does it."""
        return replace(self, forked=False)

    def __call__(
        self,
        *arguments: str,
        stdin: str | bytes = b"",
        timeout: float = 100,
        variables: dict[str, str] | None = None,
    ) -> Result:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        environment = self.environment(variables)
        if self.forked and not any(name.startswith("PYTHON") for name in (*self.variables, *(variables or ()))):
            done = forked.run(COMMAND, arguments, content, timeout, environment, self.directory)
        else:
            done = subprocess.run(
                [COMMAND, *arguments],
                input=content,
                capture_output=True,
                timeout=timeout,
                env=environment,
                cwd=self.directory,
                check=False,
            )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(
        self,
        *arguments: str,
        stdin: str | bytes = b"",
        timeout: float = 100,
        variables: dict[str, str] | None = None,
    ) -> Result:
        """Run a command that is expected to succeed."""
        result = self(*arguments, stdin=stdin, timeout=timeout, variables=variables)
        assert result.code == 0, result
        return result

    def start(self, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a command that goes on."""
        return subprocess.Popen(
            [COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=self.environment(),
            cwd=self.directory,
            text=True,
        )

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "CQRSCTL_")) and name not in {"NO_COLOR", "FORCE_COLOR"}
        }
        return {**kept, "HOME": str(self.directory), **self.variables, **(more or {})}


@pytest.fixture(scope="session", autouse=True)
def _models_are_read_once() -> Iterator[None]:
    """Each boto3 session would read the descriptions of the services again, and each test has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _calls_are_judged() -> Iterator[None]:
    """No test plans a call that AWS would refuse by the service's own description."""
    with pytest.MonkeyPatch.context() as patch:
        service_model.judge_all(patch.setattr)
        yield


@pytest.fixture(scope="session", autouse=True)
def _copied_data_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Servers start from copies of one data folder, which the workers share."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folders = (os.environ.get("PATH", os.defpath), *database_server._SERVER_FOLDERS)
    data_folders.put_on_path(shared, os.pathsep.join(folders))


@pytest.fixture(scope="session")
def database(request: pytest.FixtureRequest) -> str:
    """The database that the stacks of this run have."""
    return str(request.config.getoption("--database"))


@pytest.fixture(scope="session")
def stack_home(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Path]:
    """The state folder of a running embedded stack."""
    home = tmp_path_factory.mktemp("state")
    state = StackState(home / "local")
    stack.up(state, lambda _: None, database=database)
    yield home
    stack.down(state, wipe=True)


@pytest.fixture
def pipeline(stack_home: Path) -> dict[str, str]:
    """Variables that give a test a table and a database of its own on the running stack."""
    unique = uuid.uuid4().hex[:12]
    return {
        "CQRSCTL_STATE_DIR": str(stack_home),
        "CQRSCTL_TABLE": f"Products-{unique}",
        "CQRSCTL_DATABASE_NAME": f"cqrs_{unique}",
    }


@pytest.fixture
def cqrsctl(tmp_path: Path, pipeline: dict[str, str]) -> Cqrsctl:
    """The installed command on a pipeline of the test's own."""
    return Cqrsctl(tmp_path, pipeline)


@pytest.fixture
def environment(tmp_path: Path, pipeline: dict[str, str]) -> Environment:
    """The settings of the test's own pipeline."""
    return load(Flags(), pipeline, tmp_path)


@pytest.fixture
def wiring(environment: Environment) -> Wiring:
    """Clients and connections of the test's own pipeline."""
    return Wiring(environment)
