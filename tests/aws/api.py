"""A boto3 client for tests: it remembers, takes its time as AWS does, and answers otherwise if a test wants it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.aws.states import Call, States
from tests.paginated import Paginated

if TYPE_CHECKING:
    from collections.abc import Callable


class Api(Paginated):
    """A client whose calls go through `states`; those made with `_client` are carried out at once."""

    def __init__(self, client: Any, states: States) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        """All calls, also those that were refused."""
        self.instead: dict[str, Callable[..., Any]] = {}
        self.states = states
        self._client = client
        self._done: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._client, operation) if operation == "meta" else partial(self._call, operation)

    @property
    def names(self) -> list[str]:
        """What was called, in order."""
        return [name for name, _ in self.calls]

    def made(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of the calls that were carried out."""
        return [parameters for name, parameters in self._done if name == operation]

    def forget(self) -> None:
        """Remember no call until now."""
        self.calls.clear()
        self._done.clear()

    def refuse(
        self, operation: str, code: str = "AccessDenied", message: str = "not allowed", times: int | None = None
    ) -> None:
        """Refuse a number of calls, or all."""
        left = [times]

        def refused(real: Any, **parameters: Any) -> Any:
            if left[0] == 0:
                return real(**parameters)
            left[0] = None if left[0] is None else left[0] - 1
            raise ClientError({"Error": {"Code": code, "Message": message}}, operation)

        self.instead[operation] = refused

    def _call(self, operation: str, **parameters: Any) -> Any:
        self.calls.append((operation, parameters))
        if operation in self.instead:
            answer = self.instead[operation](partial(self._real, operation), **parameters)
        else:
            answer = self._real(operation, **parameters)
        self._done.append((operation, parameters))
        return answer

    def _real(self, operation: str, **parameters: Any) -> Any:
        meta = self._client.meta
        api_name = meta.method_to_api_mapping[operation]
        service = meta.service_model.service_name
        proceed = partial(getattr(self._client, operation), **parameters)
        return self.states.answer(Call(service, meta.region_name, api_name, parameters, proceed))
