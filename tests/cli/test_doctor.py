"""The doctor's command: quiet about a clean pipeline, plain about one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cqrsctl


def test_a_clean_pipeline_exits_0_and_what_is_wrong_exits_1(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("project", "--once")
    clean = cqrsctl.ok("doctor")
    cqrsctl.ok("table", "disable-stream", "--yes")

    told = cqrsctl("doctor")
    listed = cqrsctl("doctor", "-o", "jsonl")

    assert clean.out.startswith("Nothing found: ")
    assert (told.code, listed.code, told.err, listed.err) == (1, 1, "", "")
    assert "critical  stream  stream_off\n  The table's stream is off.\n  why   Changes" in told.out
    assert listed.lines() == [
        {
            "severity": "critical",
            "code": "stream_off",
            "part": "stream",
            "finding": "The table's stream is off.",
            "why": "Changes are recorded nowhere, and never reach the read model.",
            "fix": "cqrsctl table enable-stream; cqrsctl rebuild",
        }
    ]


def test_a_stack_that_does_not_run_is_one_finding(cqrsctl: Cqrsctl, tmp_path: Path) -> None:
    result = cqrsctl("doctor", "-o", "json", variables={"CQRSCTL_STATE_DIR": str(tmp_path)})

    assert result.code == 1
    (found,) = result.json()
    assert (found["code"], found["fix"]) == ("not_looked", "Start it with: cqrsctl local up")
