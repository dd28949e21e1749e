"""A projector in the background of an embedded stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
import pytest

from cqrsctl.errors import Busy, UsageError
from cqrsctl.local import stack
from cqrsctl.local.state import StackState
from tests.conftest import Cqrsctl
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cqrsctl]:
    """The command with a stack of its own, in an environment that the settings file declares."""
    (tmp_path / "cqrsctl.toml").write_text("[environments.own]\nembedded = true\n")
    yield Cqrsctl(tmp_path, {"CQRSCTL_STATE_DIR": str(tmp_path / "state")})
    stack.down(StackState(tmp_path / "state" / "own"), wipe=True)


def projector(own: Cqrsctl) -> dict[str, Any] | None:
    parts = own.ok("-e", "own", "local", "status", "-o", "json").json()
    return next((part for part in parts if part["name"] == "projector"), None)


def test_it_projects_until_it_is_stopped_and_ends_with_the_stack(own: Cqrsctl) -> None:
    assert "cqrsctl -e own local up" in own("-e", "own", "project", "--detach").err
    own.ok("-e", "own", "local", "up")
    own.ok("-e", "own", "table", "create")
    assert projector(own) is None

    started = own.ok("-e", "own", "project", "--detach", "-o", "json")
    own.ok("-e", "own", "product", "put", "1", "--name", "Lamp", "--price", "2", "--wait", "writer")
    first = psutil.Process(started.json()["pid"])
    second = own("-e", "own", "project", "--detach")

    part = projector(own)
    assert part is not None
    assert (part["state"], part["pid"], part["address"]) == ("running", first.pid, None)
    assert f"kill {first.pid}" in started.err
    assert second.code == Busy.exit_code
    assert f"pid {first.pid}" in second.err

    first.terminate()
    wait_for(lambda: not first.is_running(), "the projector stops")
    part = projector(own)
    assert part is not None
    assert (part["state"], part["pid"]) == ("ended", None)
    assert "applied 1 change to 1 row" in own.ok("-e", "own", "local", "logs", "projector").out

    again = psutil.Process(own.ok("-e", "own", "project", "--detach", "-o", "json").json()["pid"])
    ended = own.ok("-e", "own", "local", "down")
    assert f"projector (pid {again.pid})" in ended.err
    assert not again.is_running()
    assert projector(own) is None


def test_one_that_cannot_begin_is_an_error_with_its_reason(own: Cqrsctl) -> None:
    own.ok("-e", "own", "local", "up")

    failed = own("-e", "own", "project", "--detach")

    assert failed.code == 1
    assert "No table 'Products'" in failed.err
    part = projector(own)
    assert part is None


@pytest.mark.parametrize("option", ["--once", "--dry-run", "--input=changes.jsonl"])
def test_it_goes_with_no_run_that_ends_by_itself(own: Cqrsctl, option: str) -> None:
    assert own("-e", "own", "project", "--detach", option).code == UsageError.exit_code


def test_only_an_embedded_stack_has_one(own: Cqrsctl) -> None:
    (own.directory / "cqrsctl.toml").write_text('[environments.prod]\nregion = "eu-west-1"\n')

    failed = own("-e", "prod", "project", "--detach")

    assert failed.code == UsageError.exit_code
    assert "cqrsctl -e prod function deploy" in failed.err
