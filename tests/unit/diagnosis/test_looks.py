"""How often a view asks CloudWatch."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from cqrsctl.diagnosis.facts import Facts
from cqrsctl.diagnosis.looks import Looks
from cqrsctl.errors import AwsError
from cqrsctl.functions import metrics
from tests.pipelines import Clock

if TYPE_CHECKING:
    import pytest


def test_cloudwatch_is_asked_once_a_minute_and_its_answer_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = count(1)
    monkeypatch.setattr(Facts, "mapping", lambda _: "there is one")
    monkeypatch.setattr(Facts, "client", lambda *_: None)
    monkeypatch.setattr(metrics, "iterator_age_seconds", lambda *_: float(next(answers)))
    clock = Clock()
    wiring: Any = None
    looks = Looks(wiring, clock)

    ages = []
    for _ in range(60):
        ages.append(looks.next().iterator_age_seconds())
        clock.sleep(2)

    assert ages == [1.0] * 30 + [2.0] * 30


def test_a_refusal_is_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = count()

    def refuse(_: Facts) -> None:
        next(refused)
        raise AwsError("not now")

    monkeypatch.setattr(Facts, "mapping", refuse)
    wiring: Any = None
    looks = Looks(wiring, Clock())

    for _ in range(3):
        assert looks.next().known_iterator_age() is None
    assert next(refused) == 1
