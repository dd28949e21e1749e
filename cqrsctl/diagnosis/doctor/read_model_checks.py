"""Checks of the read model: its tables, and what was left in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.diagnosis.doctor.findings import Check, critical, note, warning
from cqrsctl.read_model.real_columns import how_to_restore, restoring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.diagnosis.doctor.findings import Finding
    from cqrsctl.diagnosis.facts import Facts
    from cqrsctl.read_model.inventory import StoredProjection


def missing(facts: Facts) -> Iterator[Finding]:
    """The read model does not exist yet.

    Fix: `project`.
    """
    there = {each.name for each in _made(facts)}
    if absent := [each.name for each in facts.environment.projections if each.name not in there]:
        yield note(
            f"There is no read model yet of {', '.join(absent)}.",
            "Queries find nothing.",
            "cqrsctl project --once, or cqrsctl read-model init",
        )


def schema(facts: Facts) -> Iterator[Finding]:
    """The tables are not as the projection is declared.

    Fix: `rebuild`.
    """
    for each in _made(facts):
        if each.all_differences:
            statements = restoring(each.narrowed)
            yield critical(
                f"The tables of projection {each.name} are not as it is declared: {'; '.join(each.all_differences)}.",
                "The projector refuses to write rows that do not fit.",
                how_to_restore(statements) if statements else "cqrsctl rebuild, or declare it as it was",
            )


def unfinished_rebuild(facts: Facts) -> Iterator[Finding]:
    """A rebuild is under way, or was left unfinished.

    Fix: `rebuild`, or `rebuild --discard`.
    """
    for each in _made(facts):
        if each.building is None:
            continue
        if each.building.held:
            said = f"Projection {each.name} is being rebuilt."
            yield note(said, "Every change is written twice until that ends.", "wait")
        else:
            yield note(
                f"A rebuild of projection {each.name} was left before its end.",
                "Every change is written twice, and tombstones cannot be purged.",
                "cqrsctl rebuild resumes it, cqrsctl rebuild --discard abandons it",
            )


def dead_letters(facts: Facts) -> Iterator[Finding]:
    """Dead letters wait.

    Fix: `dead-letter retry`.
    """
    for each in _made(facts):
        if each.dead_letters:
            yield warning(
                f"{each.dead_letters} dead letters of projection {each.name} wait.",
                "Their changes are not in the read model.",
                "cqrsctl dead-letter list; then cqrsctl dead-letter retry --all",
            )


def tombstones(facts: Facts) -> Iterator[Finding]:
    """Tombstones are older than 48 hours; a warning if they outnumber the live rows.

    Fix: `read-model purge`.
    """
    for name, counted in facts.counted().items() if facts.made() else ():
        if not counted.old_tombstones:
            continue
        said = (
            f"{counted.old_tombstones} tombstones of projection {name} are more than 48 h old "
            f"({counted.rows} rows are live).",
            "The stream holds no older change that they could keep away; they only take space and time.",
            "cqrsctl read-model purge",
        )
        yield warning(*said) if counted.old_tombstones > counted.rows else note(*said)


def _made(facts: Facts) -> tuple[StoredProjection, ...]:
    made = facts.made()
    return made.projections if made else ()


CHECKS = (
    Check("read_model_missing", "read model", missing),
    Check("read_model_schema", "read model", schema),
    Check("read_model_rebuild", "read model", unfinished_rebuild),
    Check("dead_letters", "read model", dead_letters),
    Check("tombstones", "read model", tombstones),
)
