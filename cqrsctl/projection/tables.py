"""The physical tables that changes become rows of: those behind the views, and those that rebuilds fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from cqrsctl.projection.definition import Projection


@dataclass(frozen=True, slots=True)
class PhysicalTable:
    """A projection's table of one version. `projection` is as it was declared when the table was made.

    `since`: changes from before that time are in the snapshot that it was filled with; None if there was none.
    """

    projection: Projection
    version: int
    since: datetime | None = None

    @property
    def name(self) -> str:
        return f"{self.projection.name}_v{self.version}"


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of some projections as they are now: each has one behind its view, some have one being built."""

    active: tuple[PhysicalTable, ...]
    building: tuple[PhysicalTable, ...] = ()
