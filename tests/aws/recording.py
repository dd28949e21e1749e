"""What code asks of AWS while it runs: each call with its parameters, whoever answers it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from botocore.client import BaseClient

from cqrsctl.aws import ApiCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = dict[str, Any]


@contextmanager
def recorded(answers: dict[str, Answer | Callable[..., Answer]] | None = None) -> Iterator[list[ApiCall]]:
    """The calls of all clients until this ends, in their order.

    `answers` are those of operations, or functions of their parameters that make them; other calls are made.
    """
    calls: list[ApiCall] = []
    made = BaseClient._make_api_call

    def call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        calls.append(ApiCall(client.meta.service_model.service_name, operation, parameters))
        if answers is None or operation not in answers:
            return made(client, operation, parameters)
        answer = answers[operation]
        return answer(**parameters) if callable(answer) else answer

    with mock.patch.object(BaseClient, "_make_api_call", call):
        yield calls
