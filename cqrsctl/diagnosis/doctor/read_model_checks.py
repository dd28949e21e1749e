"""Checks of the read model: its tables, and what was left in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.diagnosis.doctor.findings import Check, critical, note, warning
from cqrsctl.read_model.real_columns import how_to_restore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.diagnosis.doctor.findings import Finding
    from cqrsctl.diagnosis.doctor.look import Look


def missing(look: Look) -> Iterator[Finding]:
    made = look.read_model()
    there = {each.name for each in made.projections} if made else set()
    if absent := [each.name for each in look.environment.projections if each.name not in there]:
        yield note(
            f"There is no read model yet of {', '.join(absent)}.",
            "Queries find nothing.",
            "cqrsctl project --once, or cqrsctl read-model init",
        )


def schema(look: Look) -> Iterator[Finding]:
    made = look.read_model()
    for each in made.projections if made else ():
        if each.differences:
            yield critical(
                f"The tables of projection {each.name} are not as it is declared: {'; '.join(each.differences)}.",
                "The projector refuses to write rows that do not fit.",
                how_to_restore(each.restoring) if each.restoring else "cqrsctl rebuild, or declare it as it was",
            )


def unfinished_rebuild(look: Look) -> Iterator[Finding]:
    made = look.read_model()
    for name, at_work in made.rebuilding.items() if made else ():
        if at_work:
            yield note(f"Projection {name} is being rebuilt.", "Every change is written twice until that ends.", "wait")
        else:
            yield note(
                f"A rebuild of projection {name} was left before its end.",
                "Every change is written twice, and tombstones cannot be purged.",
                "cqrsctl rebuild goes on with it, cqrsctl rebuild --discard gives it up",
            )


def dead_letters(look: Look) -> Iterator[Finding]:
    made = look.read_model()
    for name, count in made.dead_letters.items() if made else ():
        if count:
            yield warning(
                f"{count} dead letters of projection {name} wait.",
                "Their changes are not in the read model.",
                "cqrsctl dead-letter list; then cqrsctl dead-letter retry --all",
            )


def tombstones(look: Look) -> Iterator[Finding]:
    made = look.read_model()
    for each in made.projections if made else ():
        old = made.old_tombstones.get(each.name, 0) if made else 0
        if not old:
            continue
        said = (
            f"{old} tombstones of projection {each.name} are more than 48 h old ({each.rows} rows are live).",
            "The stream holds no older change that they could keep away; they only take space and time.",
            "cqrsctl read-model purge",
        )
        yield warning(*said) if old > each.rows else note(*said)


CHECKS = (
    Check("read_model_missing", "read model", missing),
    Check("read_model_schema", "read model", schema),
    Check("read_model_rebuild", "read model", unfinished_rebuild),
    Check("dead_letters", "read model", dead_letters),
    Check("tombstones", "read model", tombstones),
)
