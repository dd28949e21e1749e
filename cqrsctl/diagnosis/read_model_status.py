"""The read model as a whole: its tables, how far it is, and who projects. AWS is not asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cqrsctl.diagnosis.facts import Facts
    from cqrsctl.errors import StreamGap
    from cqrsctl.read_model.heartbeat import LastProjected


@dataclass(frozen=True, slots=True)
class ReadModelStatus:
    """What the database holds, ready to be shown. `last_projected` is None if nothing was ever projected."""

    projections: list[dict[str, Any]]
    checkpoints: list[dict[str, Any]]
    holder: str | None
    last_projected: LastProjected | None
    gaps: list[StreamGap]


def status(facts: Facts) -> ReadModelStatus:
    """Raises ReadModelMissing if nothing was made yet, DatabaseError."""
    found, counted = facts.inventory(), facts.counted()
    return ReadModelStatus(
        projections=[
            {
                "projection": each.name,
                "view": each.view,
                "table": each.table,
                "rows": counted[each.name].rows,
                "tombstones": counted[each.name].tombstones,
                "dead_letters": each.dead_letters,
                "differences": "; ".join(each.all_differences) or None,
            }
            for each in found.projections
        ],
        checkpoints=list(found.checkpoints),
        holder=found.holder,
        last_projected=found.last,
        gaps=found.gaps([each.name for each in found.projections], None),
    )
