"""What is waited out is noted sparingly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cqrsctl import retries
from cqrsctl.errors import TransientDatabaseError


class Clock:
    """A clock that is ahead by what was slept."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_an_error_long_after_the_last_note_is_a_new_one() -> None:
    clock, notices = Clock(), list[str]()
    took = iter([0, 0, 200, 0, 20])

    def work() -> None:
        for seconds in took:
            clock.sleep(seconds)
            raise TransientDatabaseError("gone.")

    again = retries.of_hiccups(
        lambda error: isinstance(error, TransientDatabaseError),
        lambda: clock.now() + timedelta(minutes=1),
        clock,
        lambda text: notices.append(f"{clock.seconds // 100:.0f} {text}"),
    )
    again(work)

    assert notices == ["0 gone. Trying again.", "2 gone. Trying again.", "2 gone. Trying again."]
