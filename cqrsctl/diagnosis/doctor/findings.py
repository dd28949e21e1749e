"""What a check reports: a finding, its severity, why it matters, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cqrsctl.diagnosis.facts import Facts


class Severity(StrEnum):
    """How bad a finding is, the worst first.

    Critical: changes are lost, or do not arrive. Warning: that is how they will be. Note: good to know.
    """

    CRITICAL = "critical"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem. `fix` is a command, or what to do if there is none."""

    severity: Severity
    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing. `code` is its stable name, `part` the part of the pipeline that it looks at."""

    code: str
    part: str
    run: Callable[[Facts], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Found:
    """A finding with the code of its check."""

    code: str
    part: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, the worst first, and by how many checks."""

    found: tuple[Found, ...]
    checks: int

    def count(self, severity: Severity) -> int:
        return sum(each.finding.severity is severity for each in self.found)

    @property
    def well(self) -> bool:
        """Whether nothing is wrong: notes may be there."""
        return self.count(Severity.NOTE) == len(self.found)


def critical(what: str, why: str, fix: str) -> Finding:
    return Finding(Severity.CRITICAL, what, why, fix)


def warning(what: str, why: str, fix: str) -> Finding:
    return Finding(Severity.WARNING, what, why, fix)


def note(what: str, why: str, fix: str) -> Finding:
    return Finding(Severity.NOTE, what, why, fix)
