"""All checks, and running them: one that cannot be made is reported, and the others are made all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.diagnosis.doctor import (
    cluster_checks,
    database_checks,
    function_checks,
    permission_checks,
    read_model_checks,
    stream_checks,
    table_checks,
)
from cqrsctl.diagnosis.doctor.findings import Diagnosis, Found, Severity, critical, note, warning
from cqrsctl.diagnosis.doctor.refusals import alike, unknown_operation
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.diagnosis.health import Health
from cqrsctl.diagnosis.status import judged
from cqrsctl.errors import CqrsctlError
from cqrsctl.stopping import Questions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cqrsctl.diagnosis.doctor.findings import Check

CHECKS: tuple[Check, ...] = (
    *table_checks.CHECKS,
    *stream_checks.CHECKS,
    *function_checks.CHECKS,
    *cluster_checks.CHECKS,
    *database_checks.CHECKS,
    *read_model_checks.CHECKS,
    *permission_checks.CHECKS,
)
_ASKED = (
    Facts.backlog,
    Facts.inventory,
    Facts.counted,
    Facts.server,
    Facts.readers,
    Facts.readers_of_stream,
    Facts.destinations,
    Facts.iterator_age_seconds,
    Facts.cluster,
    Facts.autoscaling,
    Facts.activities,
    Facts.maintenance,
    Facts.support,
)
"""What is asked at once, beside the checks, which wait for what they need."""
NOT_LOOKED = "not_looked"
"""The code of a finding that says what could not be looked at."""
PART_FAILING = "part_failing"
"""The code of a finding that says which part is failing, if no check says why."""
_PARTS = {
    "shards": {"stream"},
    "mapping": {"function"},
    "read model": {"read model", "stream"},
    "readers": {"cluster"},
    "autoscaling": {"cluster"},
}
"""The checks' parts whose findings say why a part of the status is failing; else it is called the same."""
_MORE = "cqrsctl status shows all parts"
_FEW = 3


def examine(facts: Facts, progress: Callable[[Check], None], checks: Sequence[Check] = CHECKS) -> Diagnosis:
    """Run the checks; what they found, the worst first.

    A part that `status` calls failing is a finding of its own if no check found what is critical there.
    """
    with Questions() as beside:
        if checks is CHECKS:
            beside.submit(facts.ask, *_ASKED)
        found = _run(facts, progress, checks)
    if checks is CHECKS:
        found += _failing(facts, found)
    order = list(Severity)
    return Diagnosis(tuple(sorted(found, key=lambda each: order.index(each.finding.severity))), len(checks))


def _run(facts: Facts, progress: Callable[[Check], None], checks: Sequence[Check]) -> list[Found]:
    """What the checks found. One that cannot be made is reported, and the others are made all the same."""
    found: list[Found] = []
    refused: dict[tuple[str, str], list[Check]] = {}
    errors: dict[tuple[str, str], CqrsctlError] = {}
    for check in checks:
        progress(check)
        try:
            found += [Found(check.code, check.part, finding) for finding in check.run(facts)]
        except CqrsctlError as error:
            errors.setdefault(alike(error), error)
            refused.setdefault(alike(error), []).append(check)
    return found + [_not_looked(error, refused[key]) for key, error in errors.items()]


def _failing(facts: Facts, found: Sequence[Found]) -> Iterator[Found]:
    explained = {each.part for each in found if each.finding.severity is Severity.CRITICAL}
    for part in judged(facts).parts:
        if part.health is Health.FAILING and part.looked_at and not explained & _PARTS.get(part.name, {part.name}):
            what = f"The {part.name} is failing: {part.reason}."
            yield Found(PART_FAILING, part.name, critical(what, "Changes do not arrive, or are not seen.", _MORE))


def _not_looked(error: CqrsctlError, checks: Sequence[Check]) -> Found:
    """What one refusal left unlooked at. An endpoint that does not know the operation is no harm."""
    parts = list(dict.fromkeys(check.part for check in checks))
    codes = [check.code for check in checks]
    what = ", ".join(codes) if len(codes) <= _FEW else f"{', '.join(parts)} ({len(codes)} checks)"
    say = note if unknown_operation(error) else warning
    finding = say(f"Could not look at {what}.", error.message, error.hint or "see more with: cqrsctl -vv doctor")
    return Found(NOT_LOOKED, parts[0] if len(parts) == 1 else "several", finding)
