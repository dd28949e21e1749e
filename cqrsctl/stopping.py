"""Calls of AWS that hold up no command that is to stop, even if the network swallows what is sent.

A thread that waits for an answer cannot be ended. So each call is made by a thread of its own that nobody has to wait
for: it is a daemon, which Python's end does not wait for either.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 1.0
"""How long an answer that is on its way is waited for: a batch that was written counts as written."""


def stoppable(client: Any, stop: threading.Event) -> Any:
    """The same boto3 client, whose calls raise Interrupted once `stop` is set.

    Calls that begin after that are not made, retries neither; those under way have a second left.
    """
    client._make_api_call = _Calls(client._make_api_call, stop)  # noqa: SLF001 -- boto3 has no other place for all calls
    return client


@dataclass(frozen=True, slots=True)
class _Calls:
    make: Callable[[str, dict[str, Any]], Any]
    stop: threading.Event

    def __call__(self, operation: str, parameters: dict[str, Any]) -> Any:
        """Make a call, and wait for its answer. Raises Interrupted, and what the call raises."""
        if self.stop.is_set():
            raise Interrupted(operation)
        answer: Future[Any] = Future()
        threading.Thread(
            target=copy_context().run, args=(self._answer, answer, operation, parameters), name=operation, daemon=True
        ).start()
        while not wait([answer], _LOOK_SECONDS).done:
            if self.stop.is_set() and not wait([answer], _GRACE_SECONDS).done:
                raise Interrupted(operation)
        return answer.result()

    def _answer(self, answer: Future[Any], operation: str, parameters: dict[str, Any]) -> None:
        try:
            answer.set_result(self.make(operation, parameters))
        except BaseException as error:  # noqa: BLE001 -- raised by whoever waits
            answer.set_exception(error)
