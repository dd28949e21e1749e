"""What most tests of this folder begin with: an AWS of their own, with the table, or with the functions too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.functions_world import Operated, deploy_all, moto_for, with_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS of the test's own; not for all tests here: some run on the embedded stack."""
    with moto_for(monkeypatch):
        yield


@pytest.fixture
def functions(aws: None, tmp_path: Path) -> Operated:
    """The functions of an environment whose table is there."""
    return with_table(tmp_path)


@pytest.fixture
def deployed(functions: Operated) -> Operated:
    """Both functions deployed, with what was asked for that forgotten."""
    return deploy_all(functions)
