"""Calls of AWS of a command that is to stop."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.errors import Interrupted
from cqrsctl.stopping import Questions, stoppable

if TYPE_CHECKING:
    from collections.abc import Callable


def calling(make: Callable[[str, dict[str, Any]], Any], stop: threading.Event) -> Callable[[str, dict[str, Any]], Any]:
    """The place of all calls in a boto3 client."""
    call: Callable[[str, dict[str, Any]], Any] = stoppable(SimpleNamespace(_make_api_call=make), stop)._make_api_call
    return call


def test_an_answer_and_an_error_come_as_ever() -> None:
    def make(operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "PutItem":
            raise ValueError("refused")
        return operation, parameters

    call = calling(make, threading.Event())

    assert call("GetItem", {"Key": 1}) == ("GetItem", {"Key": 1})
    with pytest.raises(ValueError, match="refused"):
        call("PutItem", {})


def test_once_it_is_to_stop_no_call_begins() -> None:
    stop, made = threading.Event(), []
    stop.set()

    with pytest.raises(Interrupted, match="Stopped before AWS answered GetItem"):
        calling(lambda *call: made.append(call), stop)("GetItem", {})
    assert made == []


def test_an_answer_that_is_on_its_way_counts() -> None:
    stop = threading.Event()

    def make(*_: Any) -> str:
        stop.set()
        return "written"

    assert calling(make, stop)("BatchWriteItem", {}) == "written"


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    stop, over = threading.Event(), threading.Event()

    def make(*_: Any) -> None:
        stop.set()
        over.wait(20)

    with pytest.raises(Interrupted):
        calling(make, stop)("GetRecords", {})
    over.set()


def test_a_question_whose_answer_nobody_waits_for_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """`map` cancels what is left when one question fails."""
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    others, go_on = set(threading.enumerate()), threading.Event()

    def ask(number: int) -> int:
        if number == 0:
            raise ValueError("refused")
        go_on.wait(20)
        return number

    with pytest.raises(ValueError, match="refused"), Questions() as questions:
        list(questions.map(ask, range(3)))
    go_on.set()
    for thread in set(threading.enumerate()) - others:
        thread.join(20)
    assert failures == []
