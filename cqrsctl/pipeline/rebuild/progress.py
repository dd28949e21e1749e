"""What a rebuild is asked for, how far it is, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unfit(StrEnum):
    """What to do with what does not fit the columns."""

    STOP = "stop"
    SKIP = "skip"


class Phase(StrEnum):
    """What a rebuild is at."""

    LOADING = "loading"
    CATCHING_UP = "catching up"
    CUTOVER = "cutover"


@dataclass(slots=True)
class RebuildProgress:
    """How far a rebuild is. `about`: how many items the table has, as AWS last counted; `resumed`: loaded before."""

    projection: str
    phase: Phase = Phase.LOADING
    items: int = 0
    about: int = 0
    resumed: int = 0
    left_out: int = 0
    seconds: float = 0.0
    loading_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Items loaded a second, by this run."""
        return (self.items - self.resumed) / self.loading_seconds if self.loading_seconds else 0.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A rebuild that came to its end: the view shows `table` now, `former` is kept until the next one."""

    progress: RebuildProgress
    table: str
    former: str
    undone: bool
    can_undo: bool
    """Whether `--undo` would be accepted now."""
    changed: bool
    """Whether the table is declared otherwise than the former one."""
    projected: bool
    """Whether the rebuild projected itself, so that nobody may be doing it now."""
