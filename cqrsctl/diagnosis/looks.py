"""Looking at a pipeline again and again, as a view does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.diagnosis.facts import Facts, outcome

if TYPE_CHECKING:
    from cqrsctl.clock import Clock
    from cqrsctl.wiring import Wiring

_POINT_SECONDS = 60.0
"""CloudWatch has one point a minute, and each question costs money (Lambda Developer Guide, "Types of metrics")."""


@dataclass(slots=True)
class Looks:
    """Makes the facts of each look. What CloudWatch answered, or refused, is kept for a minute."""

    wiring: Wiring
    clock: Clock
    _asked: Facts | None = None
    """The look whose question to CloudWatch counts for those of the same minute."""
    _ask_again_at: float = 0.0

    def next(self) -> Facts:
        """The facts of one more look."""
        now = self.clock.monotonic()
        if self._asked is None or now >= self._ask_again_at:
            self._asked, self._ask_again_at = Facts(self.wiring, self.clock), now + _POINT_SECONDS
            return self._asked
        known = {"iterator_age_seconds": outcome(self._asked.iterator_age_seconds)}
        return Facts(self.wiring, self.clock, known=known)
