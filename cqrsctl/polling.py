"""Waiting for AWS, which continues its work even if nobody waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cqrsctl.errors import AwsError, TransientAwsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from cqrsctl.clock import Clock

_FIRST_PAUSE_SECONDS = 0.2
_LAST_PAUSE_SECONDS = 5.0

Looked = TypeVar("Looked")


def until(
    look: Callable[[], Looked],
    done: Callable[[Looked], bool],
    clock: Clock,
    patience: timedelta,
    not_reached: str,
    look_again: str,
    passes: Callable[[AwsError], bool] = lambda error: isinstance(error, TransientAwsError),
) -> Looked:
    """Look until what is seen is as wanted. `passes`: which errors of a look are waited out, too.

    Raises AwsError (`too_slow`) if it takes longer than `patience`: what was `not_reached`, and the command that
    shows it, `look_again`.
    """
    deadline = clock.monotonic() + patience.total_seconds()
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        try:
            found = look()
        except AwsError as error:
            if not passes(error) or clock.monotonic() >= deadline:
                raise
        else:
            if done(found):
                return found
        if clock.monotonic() >= deadline:
            raise AwsError(
                f"{not_reached} within {patience.total_seconds() / 60:.0f} minutes.",
                hint=f"AWS continues by itself; look again with: {look_again}",
                code="too_slow",
            )
        clock.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _LAST_PAUSE_SECONDS)
