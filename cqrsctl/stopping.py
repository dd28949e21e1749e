"""What holds up no command that is to stop, even if the network swallows what is sent.

A thread that waits for an answer cannot be ended. So calls of AWS, logins to the database, and questions to it beside
one another, are made by threads that nobody has to wait for: they are daemons, which Python's end does not wait for
either.
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cqrsctl.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")

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
        answer = _begun(copy_context().run, self.make, operation, parameters)
        while not wait([answer], _LOOK_SECONDS).done:
            if self.stop.is_set() and not wait([answer], _GRACE_SECONDS).done:
                raise Interrupted(operation)
        return answer.result()


def watched(look: Callable[[], None], call: Callable[..., Answer], *arguments: Any) -> Answer:
    """What a call returns. Until it does, `look` is called now and then: if that raises, nobody waits for the call."""
    answer = _begun(call, *arguments)
    while not wait([answer], _LOOK_SECONDS).done:
        look()
    return answer.result()


class Questions(Executor):
    """Asks each question in a thread of its own. Who leaves by an exception waits for no answer.

    Only for what changes nothing: a question may be cut off anywhere.
    """

    def __init__(self) -> None:
        self._asked: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin to ask."""
        asked = _begun(fn, *args, **kwargs)
        self._asked.append(asked)
        return asked

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            wait(self._asked)


def _begun(call: Callable[..., Answer], *arguments: Any, **named: Any) -> Future[Answer]:
    """What a call is going to return, in a thread that nobody has to wait for."""
    answer: Future[Answer] = Future()
    answer.set_running_or_notify_cancel()  # from now on nobody can cancel it: `map` tries to for those left behind

    def run() -> None:
        try:
            answer.set_result(call(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 -- raised by whoever waits for the answer
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer
