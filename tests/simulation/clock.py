"""Virtual time."""

from __future__ import annotations

import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BEGINNING = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


class VirtualClock:
    """Time that passes only when someone sleeps; what is due by then happens meanwhile."""

    def __init__(self) -> None:
        self.skew_seconds = 0.0
        """How far this machine's clock is ahead of AWS's."""
        self._elapsed = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self.aws_now() + timedelta(seconds=self.skew_seconds)

    def aws_now(self) -> datetime:
        """The time that DynamoDB has."""
        return BEGINNING + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.go_on(seconds)

    def go_on(self, seconds: float) -> None:
        """Let time pass, and what is due meanwhile happen."""
        end = self._elapsed + seconds
        while self._due and self._due[0][0] <= end:
            moment, _, happen = heapq.heappop(self._due)
            self._elapsed = max(self._elapsed, moment)
            happen()
        self._elapsed = end

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen once so much time has passed. It must not sleep."""
        heapq.heappush(self._due, (self._elapsed + seconds, next(self._order), happen))
