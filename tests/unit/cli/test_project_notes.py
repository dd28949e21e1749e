"""`project` without a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.cli import project

if TYPE_CHECKING:
    import pytest


def test_progress_is_noted_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, noted = [0.0], list[str]()
    monkeypatch.setattr("cqrsctl.cli.project.time.monotonic", lambda: now[0])
    show = project._each_minute(noted.append)

    for now[0] in (1.0, 59.0, 61.0, 100.0, 122.0):
        show(f"at {now[0]:.0f}")

    assert noted == ["at 61", "at 122"]
