"""Waits out a refusal of what AWS allowed before: IAM is eventually consistent, and sessions are renewed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from cqrsctl.aws import aws_errors, is_refusal, is_transient
from cqrsctl.errors import ACCESS_DENIED, BAD_CREDENTIALS, CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.clock import SystemClock

_log = logging.getLogger(__name__)

_QUESTIONS = ("Describe", "List", "Get")
_OF_DATA = {"GetRecords", "GetItem"}
"""Too many to remember; who reads data has a patience of its own."""
_PATIENCE = timedelta(minutes=2)


def forgiving(client: Any, answered: set[str], clock: SystemClock) -> Any:
    """The same boto3 client, which asks again if AWS refuses what it has `answered` before, for two minutes.

    The first refusal of a question is the caller's, and so is each of a call that changes something.
    """
    service = client.meta.service_model.service_name
    client._make_api_call = _AskedAgain(service, client._make_api_call, answered, clock)  # noqa: SLF001 -- the place of all calls
    return client


@dataclass(frozen=True, slots=True)
class _AskedAgain:
    service: str
    make: Callable[[str, dict[str, Any]], Any]
    answered: set[str]
    clock: SystemClock

    def __call__(self, operation: str, parameters: dict[str, Any]) -> Any:
        """Make a call. Raises what the call raises."""
        if not operation.startswith(_QUESTIONS) or operation in _OF_DATA:
            return self.make(operation, parameters)
        question = f"{self.service} {operation} {parameters}"
        try:
            answer = self.make(operation, parameters)
        except ClientError as error:
            if is_refusal(error):
                if question in self.answered:
                    return self._make_again(operation, parameters)
            elif not is_transient(error):
                self.answered.add(question)  # as "there is none"
            raise
        self.answered.add(question)
        return answer

    def _make_again(self, operation: str, parameters: dict[str, Any]) -> Any:
        """Raises CqrsctlError."""
        from cqrsctl import retries  # noqa: PLC0415 -- only when something was refused

        def make() -> Any:
            with aws_errors(f"{self.service} {operation}"):
                return self.make(operation, parameters)

        deadline = self.clock.now() + _PATIENCE
        refused = retries.of_hiccups(_passes, lambda: deadline, self.clock, _log.warning, self.clock.stop.is_set)
        return refused(make)


def _passes(error: BaseException) -> bool:
    return isinstance(error, CqrsctlError) and error.code in {ACCESS_DENIED, BAD_CREDENTIALS}
