"""Taking over a stream from the projector function, whose position AWS keeps: only its age is known here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.errors import StreamGap
from cqrsctl.read_model import checkpoints, function_position, heartbeat, locks, registry
from cqrsctl.read_model.function_position import STANDSTILL_LIMIT, Reason
from cqrsctl.read_model.locks import is_rebuilt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime

    from cqrsctl.read_model.connection import Connection


def take_over(
    connection: Connection,
    stream_arn: str,
    projections: Collection[str],
    *,
    beside_function: bool,
    reads_since: Callable[[], datetime | None],
) -> None:
    """Let a projector take over what was left to the function; a gap is marked and committed.

    If the function was the last to project and still exists (`beside_function`), the checkpoints are older than the
    read model: they are forgotten, and reading begins at the horizon. Raises StreamGap if a projection lacks changes,
    unless a process is at the rebuild that loads them.
    """
    mark_lost(connection, stream_arn, projections, reads_since)
    function_position.require_whole(
        [gap for gap in function_position.gaps(connection, projections) if not is_rebuilt(connection, gap.projection)]
    )
    require_filled(name for name in unfilled(connection, projections) if not is_rebuilt(connection, name))
    if beside_function and heartbeat.by_function(connection):
        _forget_checkpoints(connection, stream_arn, projections)


def _forget_checkpoints(connection: Connection, stream_arn: str, projections: Collection[str]) -> None:
    """Forget and commit where projections stand: these, and all others that nobody projects now.

    A projector that holds one knows its own position, and resumes there.
    """
    database = locks.database(connection)
    others = [name for name in registry.names(connection) if name not in projections]
    free = [name for name in others if locks.take(connection, locks.of_projector(database, name))]
    checkpoints.forget(connection, stream_arn, [*projections, *free])
    connection.commit()
    for name in free:
        locks.release(connection, locks.of_projector(database, name))


def mark_lost(
    connection: Connection,
    stream_arn: str,
    projections: Collection[str],
    reads_since: Callable[[], datetime | None],
) -> None:
    """Mark and commit the gaps that a projector which takes over now would find."""
    for reason, names in lost(connection, stream_arn, projections, reads_since).items():
        function_position.mark(connection, stream_arn, reason, names)
        connection.commit()


def lost(
    connection: Connection,
    stream_arn: str,
    projections: Collection[str],
    reads_since: Callable[[], datetime | None],
) -> dict[Reason, list[str]]:
    """Which projections a projector that takes over now would find a gap in, by reason.

    `reads_since`: since when the function has been reading the stream without a problem, None if it is not or
    that is unknown: it did not stand still if nothing changed. It is asked only if it matters.
    """
    names = function_position.left_to_function(connection, stream_arn, projections)
    if not names:
        return {}
    # A function from an earlier release did not write which stream it followed.
    known = bool(function_position.handled_streams(connection))
    behind = [name for name in function_position.behind_stream(connection, stream_arn) if known and name in names]
    if behind:
        return {Reason.STREAM_CHANGED: behind}
    return {Reason.STOOD_STILL: names} if _stood_still(connection, stream_arn, reads_since) else {}


def unfilled(connection: Connection, projections: Collection[str]) -> list[str]:
    """Which projections lack changes that left the stream until the rebuild that loads them is done.

    Such a rebuild has replaced their checkpoints, so those show no gap.
    """
    rows = connection.query(
        """
        SELECT projection FROM cqrs_rebuild
        WHERE state <> 'done' AND NOT undoing AND replaced_checkpoints IS NOT NULL
        ORDER BY projection
        """
    )
    return [row["projection"] for row in rows if row["projection"] in projections]


def require_filled(names: Iterable[str]) -> None:
    """Raises StreamGap if there are projections that lack changes until their rebuild is done."""
    if left := sorted(names):
        raise StreamGap(
            f"Changes left the stream before they came into {', '.join(left)}, and the rebuild that loads them is not "
            "done.",
            followers=frozenset(left),
        )


def _stood_still(connection: Connection, stream_arn: str, reads_since: Callable[[], datetime | None]) -> bool:
    """Whether the function handled nothing for so long that changes may have left the stream."""
    idle = function_position.standstill(connection, stream_arn)
    if idle is None or idle <= STANDSTILL_LIMIT:
        return False
    since = reads_since()
    if since is None:
        return True
    before = function_position.standstill(connection, stream_arn, since)
    return before is not None and before > STANDSTILL_LIMIT
