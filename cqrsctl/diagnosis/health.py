"""How well a part of the pipeline is, in a word and a reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cqrsctl.aws import error_code
from cqrsctl.errors import AwsError, ConfigurationError, CqrsctlError, TransientAwsError

_BESIDE = {"mapping", "cluster", "autoscaling"}
"""Parts that keep working when the API that describes them does not answer."""


class NotAsked(CqrsctlError):
    """What had to be looked at first is unknown."""

    code = "not_asked"


class Health(StrEnum):
    """How well a part is, from best to worst. `off`: it is not there, or not on, and nothing waits for it."""

    OFF = "off"
    OK = "ok"
    WARNING = "warning"
    UNKNOWN = "unknown"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class PartHealth:
    """A part of the pipeline: how well it is, what it is like, and what is wrong, with what fixes it.

    `looked_at`: it is judged from what was found, and not by an error.
    """

    name: str
    health: Health
    summary: str = ""
    reason: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    looked_at: bool = True


def broken(name: str, error: CqrsctlError) -> PartHealth:
    """A part that could not be looked at, or that says itself what is wrong.

    What an identity may not see, or an emulator does not have, may be well: its health is unknown.
    """
    refused = isinstance(error, AwsError) and bool(error_code(error)) and not isinstance(error, TransientAwsError)
    away = isinstance(error, TransientAwsError) and name in _BESIDE
    unknown = refused or away or isinstance(error, (ConfigurationError, NotAsked))
    reason = f"{error.message} {error.hint or ''}".strip()
    return PartHealth(name, Health.UNKNOWN if unknown else Health.FAILING, reason=reason, looked_at=False)
