"""The clock that gives changes their times: DynamoDB's own, as far as it can be read from here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.wiring import Wiring

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ERROR = timedelta(seconds=1)
"""Not all hosts of AWS have the same time; that it is rounded to the second is covered by the steps."""


@dataclass(frozen=True, slots=True)
class ChangeClock:
    """The clock of changes. Their times are rounded down to the second, and to the minute by DynamoDB Local."""

    wiring: Wiring
    own: Callable[[], datetime]
    """The time of this machine, which the embedded stack shares."""

    def now(self) -> datetime | None:
        """The time; None if the endpoint does not report it. Raises AwsError."""
        if self._is_own:
            return self.own()
        return table.server_time(self.wiring.dynamodb, self.wiring.environment.table)

    def next_time(self) -> datetime | None:
        """The first time that no change has yet; None if the endpoint reports no time. Raises AwsError."""
        now = self.now()
        return None if now is None else self.next_step(now)

    def next_step(self, moment: datetime) -> datetime:
        """The first time that no change up to a moment can have."""
        return self._rounded(moment + self._error) + self._step

    def is_past(self, moment: datetime) -> bool:
        """Whether every change with an earlier time has been made. Raises AwsError."""
        return self.until_past(moment) <= timedelta(0)

    def until_past(self, moment: datetime) -> timedelta:
        """How long it takes until every change with an earlier time has been made. Raises AwsError."""
        now = self.now()
        return timedelta(0) if now is None else moment + self._error - now

    def _rounded(self, moment: datetime) -> datetime:
        return moment - (moment - EPOCH) % self._step

    @property
    def _is_own(self) -> bool:
        """Whether changes get the time of this machine: by the embedded stack's own endpoint."""
        environment = self.wiring.environment
        return environment.embedded and not environment.endpoint_url and not environment.aws_endpoint("dynamodb")

    @property
    def _error(self) -> timedelta:
        return timedelta(0) if self._is_own else _ERROR

    @property
    def _step(self) -> timedelta:
        url = self.wiring.dynamodb.meta.endpoint_url
        is_exact = self._is_own or ".amazonaws." in url or url.endswith(".api.aws")
        return timedelta(seconds=1) if is_exact else timedelta(minutes=1)
