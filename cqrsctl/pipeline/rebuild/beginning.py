"""Which rebuild to resume: the one that is under way, if it leads where it should, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl import retries
from cqrsctl.errors import Busy
from cqrsctl.pipeline.rebuild.snapshot import SEGMENTS
from cqrsctl.read_model import checkpoints, function_position, rebuilds, schema
from cqrsctl.read_model.function_position import Reason
from cqrsctl.read_model.rebuilds import RebuildState
from cqrsctl.read_model.sink import release_lock, take_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.rebuilds import Rebuild


@dataclass(frozen=True, slots=True)
class RebuildBeginning:
    """Begins a rebuild, or resumes it, through a connection that has its lock."""

    connection: Connection
    database: str
    projection: Projection
    stream_arn: str
    undo: bool
    sleep: Callable[[float], None]
    notice: Callable[[str], None]
    floor: Callable[[], datetime | None]
    """Returns a time that is later than all changes until now, as `rebuilds.begin` needs it."""
    stream_has_all: bool
    """Whether the stream goes back to the table's first item, so that a projector alone fills a new table."""

    def rebuild(self) -> Rebuild:
        """The rebuild to resume. Raises Busy if another one than the requested one is under way."""
        again = retries.of_transactions(self.sleep)
        found = rebuilds.under_way(self.connection, self.projection.name)
        if found is not None and found.state is RebuildState.CUTOVER and not self._is_asked_for(found):
            self.notice(f"The cutover to table {found.table.name} was cut short: it is finished first.")
            again(rebuilds.cut_over, self.connection, found)
            found = None
        if found is not None and found.undoing != self.undo:
            raise Busy(
                f"{'An undo' if found.undoing else 'A rebuild'} of projection {self.projection.name} is under way.",
                hint=f"Finish it with `cqrsctl rebuild{' --undo' if found.undoing else ''}`, or abandon it with "
                "`cqrsctl rebuild --discard`.",
            )
        if found is not None and (reason := self._unusable(found)):
            self.notice(f"A rebuild is under way, but {reason}: it begins again.")
            again(rebuilds.abandon, self.connection, found)
            found = None
        if found is not None:
            self.notice(f"A rebuild is under way: it resumes with table {found.table.name}.")
            return found
        if self.undo:
            return self._undo()
        schema.create_missing(self.connection, self.projection)
        if not self.stream_has_all:
            again(self._mark_unfilled)
        return again(rebuilds.begin, self.connection, self.projection, self.stream_arn, SEGMENTS, self.floor)

    def _mark_unfilled(self) -> None:
        """From now on the projection has checkpoints, which say nothing of the items that only a rebuild brings."""
        if function_position.is_unfilled(self.connection, self.projection.name):
            function_position.mark(self.connection, self.stream_arn, Reason.NEVER_LOADED, [self.projection.name])
        self.connection.commit()

    def _is_asked_for(self, found: Rebuild) -> bool:
        """Whether a rebuild leads where this one is to lead."""
        return (
            found.undoing == self.undo
            and found.stream_arn == self.stream_arn
            and (self.undo or found.table.projection == self.projection)
        )

    def _unusable(self, found: Rebuild) -> str | None:
        """Why a rebuild that is under way cannot be resumed."""
        if found.state is RebuildState.CUTOVER or found.undoing:
            return None
        if found.table.projection != self.projection:
            return "of another declaration"
        if found.stream_arn != self.stream_arn:
            return "of another stream"
        gaps = function_position.gaps(self.connection, {self.projection.name})
        never_followed = function_position.is_unfilled(self.connection, self.projection.name)
        if (
            (never_followed and not self.stream_has_all)
            or checkpoints.are_lost(self.connection, self.projection.name, self.stream_arn)
            or any(gap.marked_at.replace(tzinfo=None) >= found.begun_at for gap in gaps)
        ):
            return "changes left the stream before they came into its table"
        return None

    def _undo(self) -> Rebuild:
        """Nobody projects at that moment: a running projector would not notice that its checkpoints went back."""
        take_lock(self.connection, self.database, [self.projection])
        try:
            return rebuilds.begin_undo(self.connection, self.projection.name, self.stream_arn)
        finally:
            release_lock(self.connection, self.database, [self.projection])
