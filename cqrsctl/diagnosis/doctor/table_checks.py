"""Checks of the write model's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl import words
from cqrsctl.diagnosis.doctor.findings import Check, critical, note
from cqrsctl.projection.definition import unnamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.diagnosis.doctor.findings import Finding
    from cqrsctl.diagnosis.facts import Facts


def missing(facts: Facts) -> Iterator[Finding]:
    """The table does not exist.

    Fix: `table create`.
    """
    if facts.table() is None:
        yield critical(
            f"There is no table {facts.environment.table!r}.",
            "Products can be neither put nor projected.",
            "cqrsctl table create",
        )


def key(facts: Facts) -> Iterator[Finding]:
    """A projection's key is not the table's key.

    Fix: declare the table's key in the projection.
    """
    table = facts.table()
    if table is None:
        return
    there = {attribute for attribute, _ in table.key}
    for projection in facts.environment.projections:
        if projection.key_attributes != there:
            yield critical(
                f"The table has the key {' and '.join(sorted(there))}, but projection {projection.name} the key "
                f"{' and '.join(sorted(projection.key_attributes))}.",
                "Several items would become one row, so the projector refuses.",
                "declare the projection with the table's key (key = true)",
            )


def recovery(facts: Facts) -> Iterator[Finding]:
    """Point-in-time recovery is off.

    Fix: turn it on with the AWS CLI.
    """
    if facts.environment.embedded or facts.table() is None or facts.recovery() is not False:
        return
    yield note(
        "Point-in-time recovery of the table is off.",
        "What is deleted or overwritten by mistake cannot be had back; the read model is made from the table.",
        f"aws dynamodb update-continuous-backups --table-name {facts.environment.table} "
        "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=true",
    )


def protection(facts: Facts) -> Iterator[Finding]:
    """The table's deletion protection is off.

    Fix: turn it on with the AWS CLI.
    """
    table = facts.table()
    if table is not None and not table.deletion_protection and not facts.environment.embedded:
        yield note(
            "The table's deletion protection is off.",
            "One call deletes the table, and with it the source of the read model.",
            f"aws dynamodb update-table --table-name {table.name} --deletion-protection-enabled",
        )


def attributes(facts: Facts) -> Iterator[Finding]:
    """Items have attributes that no column names.

    Fix: declare columns for them, if queries need them.
    """
    if names := unnamed(facts.environment.projections, facts.attributes()):
        yield note(
            f"No column names these attributes of the items: {words.listed(names)}.",
            "They are in no view.",
            "declare columns for them, if queries need them",
        )


CHECKS = (
    Check("table_missing", "table", missing),
    Check("table_key", "table", key),
    Check("table_recovery", "table", recovery),
    Check("table_protection", "table", protection),
    Check("table_attributes", "table", attributes),
)
