"""A refusal of what AWS allowed before passes; one of what it never allowed does not."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cqrsctl.clock import SystemClock
from cqrsctl.denials import forgiving
from cqrsctl.errors import AwsError, ConfigurationError


class Clock(SystemClock):
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        super().__init__(threading.Event())
        self.passed = timedelta()

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += timedelta(seconds=seconds)


class Service:
    """A client's place of all calls: refuses by a list of codes, None lets a call through."""

    def __init__(self, answered: set[str] | None = None) -> None:
        self.codes: list[str | None] = []
        self.forever: str | None = None
        self.calls = 0
        self.clock = Clock()
        client = SimpleNamespace(
            _make_api_call=self._made, meta=SimpleNamespace(service_model=SimpleNamespace(service_name="rds"))
        )
        self.client = forgiving(client, set() if answered is None else answered, self.clock)

    def __call__(self, operation: str = "DescribeDBClusters", **parameters: Any) -> Any:
        return self.client._make_api_call(operation, parameters)

    def _made(self, operation: str, _: dict[str, Any]) -> str:
        self.calls += 1
        code = self.codes.pop(0) if self.codes else self.forever
        if code:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)
        return "answer"


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken"])
@pytest.mark.parametrize("first", [None, "DBClusterNotFoundFault"])
def test_a_question_that_was_answered_is_asked_again_until_it_is_allowed(
    first: str | None, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()
    service.codes = [first]
    if first:
        with pytest.raises(ClientError, match=first):
            service()
    else:
        service()
    service.codes = [code, code]

    assert service() == "answer"
    assert service.calls == 4
    assert [record.message for record in caplog.records] == [caplog.records[0].message]
    assert "rds DescribeDBClusters" in caplog.text


def test_after_two_minutes_the_refusal_is_an_error() -> None:
    service = Service()
    service()
    service.forever = "AccessDenied"

    with pytest.raises(AwsError, match="access denied"):
        service()
    assert timedelta(minutes=2) <= service.clock.passed < timedelta(minutes=2, seconds=15)
    service.forever = "ExpiredToken"
    with pytest.raises(ConfigurationError, match="credentials"):
        service()


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("DescribeDBClusters", {"DBClusterIdentifier": "another"}),
        ("CreateDBCluster", {}),
    ],
)
def test_another_question_and_a_change_are_refused_at_once(operation: str, parameters: dict[str, Any]) -> None:
    service = Service()
    service()
    service("CreateDBCluster")
    service.codes = ["AccessDenied"]

    with pytest.raises(ClientError, match="AccessDenied"):
        service(operation, **parameters)
    assert service.clock.passed == timedelta()


def test_a_throttled_question_was_not_answered() -> None:
    service = Service()
    service.codes = ["Throttling", "AccessDenied"]
    for code in ("Throttling", "AccessDenied"):
        with pytest.raises(ClientError, match=code):
            service()


def test_clients_of_a_command_share_what_was_answered() -> None:
    answered: set[str] = set()
    Service(answered)()
    service = Service(answered)
    service.codes = ["AccessDenied"]

    assert service() == "answer"


def test_a_command_that_is_to_stop_asks_no_more() -> None:
    service = Service()
    service()
    service.forever = "AccessDenied"
    service.clock.stop.set()

    with pytest.raises(AwsError, match="access denied"):
        service()
    assert service.clock.passed == timedelta()
