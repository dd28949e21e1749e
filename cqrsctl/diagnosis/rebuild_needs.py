"""Which projections need a rebuild, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.diagnosis.facts import outcome
from cqrsctl.errors import CqrsctlError, StreamGap
from cqrsctl.read_model import rebuilds
from cqrsctl.read_model.connection import connect
from cqrsctl.write_model import table as tables

if TYPE_CHECKING:
    from collections.abc import Collection

    from cqrsctl.diagnosis.facts import Facts
    from cqrsctl.read_model.inventory import Inventory

_LOST = "changes left the stream before it read them"


def rebuild_needs(facts: Facts) -> dict[str, str]:
    """Why projections need a rebuild, by name; those that need none are left out. Raises AwsError, DatabaseError."""
    stream_arn = tables.require_stream(facts.existing_table())
    names = [projection.name for projection in facts.environment.projections]
    made = facts.made()
    if made is None:
        return dict.fromkeys(names, "there is no read model yet")
    needs = {name: reason for name in names if (reason := _recorded(made, name, stream_arn))}
    whole = [name for name in names if name not in needs]
    if all(made.of(name) for name in names):  # beside a new projection nobody projects the others
        needs |= dict.fromkeys(_lost_unnoticed(facts, whole), _LOST)
    needs |= dict.fromkeys(
        _never_loaded(facts, [name for name in whole if name not in needs]),
        "items from before its first change were never loaded",
    )
    return {name: needs[name] for name in names if name in needs}


def _recorded(made: Inventory, name: str, stream_arn: str) -> str | None:
    """The reason that the database itself records."""
    stored = made.of(name)
    if stored is None:
        return "it has no table yet"
    if stored.all_differences:
        return f"its table differs from its declaration: {', '.join(stored.all_differences)}"
    if stored.building is not None:
        return f"a rebuild is under way, with {stored.building.items} items in {stored.building.table}"
    if made.gaps({name}, stream_arn):
        return _LOST
    followed = {row["stream"] for row in made.checkpoints if row["projection"] == name}
    if followed and stream_arn not in followed:
        return "it followed another stream than the table has now"
    return "its items were never loaded" if name in made.unfilled else None


def _lost_unnoticed(facts: Facts, names: Collection[str]) -> Collection[str]:
    """The projections in which a projector would find a gap now."""
    unread = outcome(facts.backlog) if names else None
    if isinstance(unread, StreamGap):
        return [name for name in names if name in unread.followers] if unread.followers else names
    if isinstance(unread, CqrsctlError):
        raise unread
    return ()


def _never_loaded(facts: Facts, names: Collection[str]) -> Collection[str]:
    """The projections that have only what the stream brought, though it does not go back to the table's creation."""
    if not names or facts.existing_table().recorded_since(facts.now) is None:
        return ()
    with connect(facts.wiring.database) as connection:
        return [name for name in names if rebuilds.find(connection, name) is None]


def undoable(facts: Facts) -> list[str]:
    """The projections whose last rebuild can be undone, or is being undone. Raises DatabaseError."""
    with connect(facts.wiring.database) as connection:
        return [
            projection.name
            for projection in facts.environment.projections
            if rebuilds.way_back(connection, projection.name) is not None
            or ((under_way := rebuilds.under_way(connection, projection.name)) and under_way.undoing)
        ]
