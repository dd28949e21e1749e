"""In the simulator a deployment's calls carry the function itself, so they are not held to Lambda's description."""

from __future__ import annotations

import pytest

from cqrsctl.aws import ApiCall
from tests.aws import service_model


@pytest.fixture(autouse=True)
def _calls_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiCall, "__init__", service_model.UNJUDGED)
