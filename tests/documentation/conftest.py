"""A person's shell: nothing is running yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cqrsctl.local import stack
from cqrsctl.local.state import StackState
from tests.conftest import Cqrsctl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Cqrsctl]:
    """The installed command in a folder of its own, with a stack of its own that is not started."""
    state = tmp_path / "state"
    yield Cqrsctl(tmp_path, {"CQRSCTL_STATE_DIR": str(state)})
    stack.down(StackState(state / "local"), wipe=True)
