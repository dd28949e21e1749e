"""When a shard is read next: soon while changes come, seldom when it is quiet, later and later while reads fail."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cqrsctl.errors import TransientAwsError
    from cqrsctl.stream.shard_reader import Read, ShardReader

POLL_SECONDS = 0.2
"""AWS throttles a shard's readers at about five reads a second."""
QUIET_POLL_SECONDS = 1.0
QUIET_AFTER_SECONDS = 10.0
EMPTY_PAGES_AT_TIP = 5
"""AWS may return empty pages before the tip, so one is no proof of having caught up."""
PATIENCE_SECONDS = 300.0
_LONGEST_BACKOFF_SECONDS = 10.0
_FAILURES_OF_AN_ITERATOR = 5
"""After so many in a row it may be the iterator: an emulator that was started anew answers 500 to an old one."""


class Poll:
    """When a shard is to be read next, and how its reads went."""

    def __init__(self, reader: ShardReader, now: float) -> None:
        self.reader = reader
        self.due = now
        self.under_way = False
        self.empty_pages = 0
        self._last_change = now
        self._failures = 0
        self._failing_since = now

    @property
    def at_tip(self) -> bool:
        return self.empty_pages >= EMPTY_PAGES_AT_TIP

    def read(self, read: Read, now: float) -> None:
        self._failures = 0
        if read.records:
            self.empty_pages = 0
            self._last_change = now
            self.due = now if read.full else now + POLL_SECONDS
        else:
            self.empty_pages += 1
            quiet = self.at_tip and now - self._last_change > QUIET_AFTER_SECONDS
            self.due = now + (QUIET_POLL_SECONDS if quiet else POLL_SECONDS)

    def failed(self, error: TransientAwsError, now: float) -> None:
        """Wait longer after each failure in a row. Raises the error after five minutes of them."""
        if not self._failures:
            self._failing_since = now
        elif now - self._failing_since > PATIENCE_SECONDS:
            raise error
        self._failures += 1
        if self._failures % _FAILURES_OF_AN_ITERATOR == 0:
            self.reader.forget_iterator()
        self.due = now + backoff(self._failures)


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: exponential, with full jitter."""
    return random.uniform(0, min(_LONGEST_BACKOFF_SECONDS, POLL_SECONDS * 2**failures))  # noqa: S311 -- jitter
