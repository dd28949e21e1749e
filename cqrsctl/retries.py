"""What is tried again, and for how long: throttled calls, transactions in conflict, hiccups of what worked before.

Not for what goes into the functions' zip: Lambda sends a batch again by itself, and tenacity stays out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tenacity import Retrying, retry_if_exception, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cqrsctl.errors import TransactionConflict, TransientAwsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cqrsctl.clock import Clock

_FIRST_INTERVAL = timedelta(seconds=5)
_WORKED = timedelta(minutes=1)
_CONFLICTS_IN_A_ROW = 5
_CALLS_IN_A_ROW = 12
"""About a minute of pauses."""


def of_calls(sleep: Callable[[float], None], attempts: int = _CALLS_IN_A_ROW) -> Retrying:
    """Makes a call again that AWS throttled, or did not do as a whole, with growing random pauses."""
    return Retrying(
        retry=retry_if_exception_type(TransientAwsError),
        wait=wait_random_exponential(multiplier=0.05, max=20),
        stop=stop_after_attempt(attempts),
        sleep=sleep,
        reraise=True,
    )


def of_transactions(sleep: Callable[[float], None], stopped: Callable[[], bool] = lambda: False) -> Retrying:
    """Runs a transaction again if it conflicted with another one, a few times."""
    return Retrying(
        retry=retry_if_exception_type(TransactionConflict),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        stop=lambda state: stopped() or stop_after_attempt(_CONFLICTS_IN_A_ROW)(state),
        sleep=sleep,
        reraise=True,
    )


def of_hiccups(
    passes: Callable[[BaseException], bool],
    deadline: Callable[[], datetime | None],
    clock: Clock,
    notice: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> Retrying:
    """Waits out what passes until a time, or with None not at all.

    What is waited out is noted, with the error's hint: at once, and then at growing intervals.
    """
    said = _Sparing(notice, clock)

    def is_over(_: object) -> bool:
        end = deadline()
        return stopped() or end is None or clock.now() > end

    return Retrying(
        retry=retry_if_exception(passes),
        wait=wait_random_exponential(multiplier=0.2, max=10),
        stop=is_over,
        sleep=clock.sleep,
        before_sleep=lambda state: said(state.outcome.exception() if state.outcome else None),
        reraise=True,
    )


@dataclass(slots=True)
class _Sparing:
    """Notes that an error is waited out, unless it did so a moment ago; each interval is twice as long as the last.

    An error that comes long after a note was due is a new one: meanwhile it worked.
    """

    notice: Callable[[str], None]
    clock: Clock
    _said: str = ""
    _due: datetime | None = None
    _interval: timedelta = _FIRST_INTERVAL

    def __call__(self, error: BaseException | None) -> None:
        hint = getattr(error, "hint", None)
        text = f"{error} Trying again." + (f" {hint}" if hint else "")
        now = self.clock.now()
        if text != self._said or self._due is None or now > self._due + _WORKED:
            self._said, self._interval = text, _FIRST_INTERVAL
        elif now < self._due:
            return
        else:
            self._interval *= 2
        self._due = now + self._interval
        self.notice(text)
