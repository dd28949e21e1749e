"""When a shard is read next: soon while changes come, seldom when it is quiet, later and later while reads fail."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cqrsctl.errors import CqrsctlError
    from cqrsctl.stream.shard_reader import Read, ShardReader

POLL_SECONDS = 0.2
"""AWS throttles a shard's readers at about five reads a second."""
QUIET_POLL_SECONDS = 1.0
QUIET_AFTER_SECONDS = 10.0
PATIENCE_SECONDS = 300.0
_LONGEST_BACKOFF_SECONDS = 10.0
_FAILURES_OF_AN_ITERATOR = 5
"""After this many in a row it may be the iterator: a restarted emulator answers 500 to an old one."""


@dataclass(frozen=True, slots=True)
class Tip:
    """When an open shard counts as read to its tip: after a number of empty pages, over a time at least.

    AWS may return empty pages before records, and names no bound on them. `pause_seconds` is what a look from outside
    waits between two reads of a shard, whose limit it shares with the projector.
    """

    pages: int
    seconds: float
    pause_seconds: float

    def __str__(self) -> str:
        return f"{self.pages} empty pages" + (f" over {self.seconds:.0f} s" if self.seconds else "")


CERTAIN = Tip(pages=16, seconds=3.0, pause_seconds=POLL_SECONDS)
"""For whoever acts on it: `--once`, a cutover, a purge."""
GLANCE = Tip(pages=5, seconds=0.0, pause_seconds=2 * POLL_SECONDS)
"""For whoever looks, and will look again: at most half of what a shard allows."""
EMULATOR = Tip(pages=5, seconds=0.0, pause_seconds=0.0)
"""moto has no empty pages before a record."""


class Poll:
    """When a shard is to be read next, and how its reads went."""

    def __init__(self, reader: ShardReader, now: float, tip: Tip) -> None:
        self.reader = reader
        self.due = now
        self.under_way = False
        self.at_tip = False
        self.empty_pages = 0
        self._tip = tip
        self._empty_since = now
        self._last_change = now
        self._failures = 0
        self._failing_since = now

    def read(self, read: Read, now: float) -> None:
        self._failures = 0
        if read.records:
            self.empty_pages = 0
            self.at_tip = False
            self._last_change = now
            self.due = now if read.full else now + POLL_SECONDS
            return
        if not self.empty_pages:
            self._empty_since = now
        self.empty_pages += 1
        self.at_tip = self.empty_pages >= self._tip.pages and now - self._empty_since >= self._tip.seconds
        quiet = self.at_tip and now - self._last_change > QUIET_AFTER_SECONDS
        self.due = now + (QUIET_POLL_SECONDS if quiet else POLL_SECONDS)

    def failed(self, error: CqrsctlError, now: float) -> None:
        """Wait longer after each failure in a row. Raises the error after five minutes of them."""
        if not self._failures:
            self._failing_since = now
        elif now - self._failing_since > PATIENCE_SECONDS:
            raise error
        self._failures += 1
        if self._failures % _FAILURES_OF_AN_ITERATOR == 0:
            self.reader.forget_iterator()
        self.due = now + backoff(self._failures)

    @property
    def failing_seconds(self) -> float:
        """How long reads have failed, up to the last one."""
        return self.due - self._failing_since if self._failures else 0.0


def backoff(failures: int) -> float:
    """Seconds to wait after a number of failures in a row: exponential, with full jitter."""
    return random.uniform(0, min(_LONGEST_BACKOFF_SECONDS, POLL_SECONDS * 2**failures))  # noqa: S311 -- jitter
