"""All checks, and running them: one that cannot be made is told, and takes no other along."""

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
from cqrsctl.diagnosis.doctor.findings import Diagnosis, Found, Severity, note, warning
from cqrsctl.diagnosis.doctor.refusals import alike, unknown_operation
from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqrsctl.diagnosis.doctor.findings import Check
    from cqrsctl.diagnosis.doctor.look import Look

CHECKS: tuple[Check, ...] = (
    *table_checks.CHECKS,
    *stream_checks.CHECKS,
    *function_checks.CHECKS,
    *cluster_checks.CHECKS,
    *database_checks.CHECKS,
    *read_model_checks.CHECKS,
    *permission_checks.CHECKS,
)
NOT_LOOKED = "not_looked"
"""The code of a finding that says what could not be looked at."""
_FEW = 3


def examine(look: Look, progress: Callable[[Check], None], checks: Sequence[Check] = CHECKS) -> Diagnosis:
    """Run the checks; what they found, the worst first."""
    found: list[Found] = []
    refused: dict[tuple[str, str], list[Check]] = {}
    errors: dict[tuple[str, str], CqrsctlError] = {}
    for check in checks:
        progress(check)
        try:
            found += [Found(check.code, check.part, finding) for finding in check.run(look)]
        except CqrsctlError as error:
            errors.setdefault(alike(error), error)
            refused.setdefault(alike(error), []).append(check)
    found += [_not_looked(error, refused[key]) for key, error in errors.items()]
    order = list(Severity)
    return Diagnosis(tuple(sorted(found, key=lambda each: order.index(each.finding.severity))), len(checks))


def _not_looked(error: CqrsctlError, checks: Sequence[Check]) -> Found:
    """What one refusal left unlooked at. An endpoint that does not know the operation is no harm."""
    parts = list(dict.fromkeys(check.part for check in checks))
    codes = [check.code for check in checks]
    what = ", ".join(codes) if len(codes) <= _FEW else f"{', '.join(parts)} ({len(codes)} checks)"
    say = note if unknown_operation(error) else warning
    finding = say(f"Could not look at {what}.", error.message, error.hint or "cqrsctl -vv doctor tells more")
    return Found(NOT_LOOKED, parts[0] if len(parts) == 1 else "several", finding)
