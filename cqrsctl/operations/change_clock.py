"""The clock that gives changes their times: DynamoDB's own, as far as it can be read from here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.wiring import Wiring

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ERROR = timedelta(seconds=2)
"""AWS tells its time to the second, and not all its hosts have the same."""


@dataclass(frozen=True, slots=True)
class ChangeClock:
    """Tells the time of changes. Theirs are rounded down, to the second, and to the minute by DynamoDB Local."""

    wiring: Wiring
    own: Callable[[], datetime]
    """The time of this machine, which the embedded stack shares."""

    def now(self) -> datetime | None:
        """The time; None where the endpoint does not tell it. Raises AwsError."""
        if self.wiring.environment.embedded:
            return self.own()
        return table.server_time(self.wiring.dynamodb, self.wiring.environment.table)

    def rounded(self, moment: datetime) -> datetime:
        """A time as a change of that moment has it: every change from before is in a read that begins then."""
        return moment - (moment - _EPOCH) % self._step

    def next_step(self, moment: datetime) -> datetime:
        """The first time that no change up to a moment can have."""
        return self.rounded(moment) + self._step

    def is_past(self, moment: datetime) -> bool:
        """Whether every change with an earlier time has been made. Raises AwsError."""
        now = self.now()
        return now is None or now >= moment + (timedelta(0) if self.wiring.environment.embedded else _ERROR)

    @property
    def _step(self) -> timedelta:
        url = self.wiring.dynamodb.meta.endpoint_url
        is_exact = self.wiring.environment.embedded or ".amazonaws." in url or url.endswith(".api.aws")
        return timedelta(seconds=1) if is_exact else timedelta(minutes=1)
