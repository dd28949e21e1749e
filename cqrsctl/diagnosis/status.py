"""The whole pipeline at a glance: each part is judged by itself, and one that cannot be looked at leaves the others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cqrsctl.diagnosis import health_of_read_model as read_side
from cqrsctl.diagnosis import health_of_stream as stream_side
from cqrsctl.diagnosis.facts import Facts, outcome
from cqrsctl.diagnosis.health import Health, NotAsked, PartHealth, broken
from cqrsctl.diagnosis.health_of_stream import Mapped, Projecting
from cqrsctl.diagnosis.looks import Looks
from cqrsctl.errors import CqrsctlError
from cqrsctl.read_model.inventory import Inventory

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cqrsctl.clock import Clock
    from cqrsctl.diagnosis.backlog import Backlog
    from cqrsctl.diagnosis.facts import Answer
    from cqrsctl.stream.shards import Stream
    from cqrsctl.wiring import Wiring
    from cqrsctl.write_model.table import Table

_log = logging.getLogger(__name__)

_NOTHING_YET = Inventory(())


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """All parts, in the order of a change's way. Lag and rate are None if they are unknown."""

    environment: str
    at: datetime
    parts: tuple[PartHealth, ...]
    lag_seconds: float | None
    rows_per_second: float | None

    @property
    def health(self) -> Health:
        """That of the part that is worst."""
        order = list(Health)
        return max((part.health for part in self.parts), key=order.index)


class _Counted(NamedTuple):
    at: float
    found: Inventory


class Overview:
    """Looks at a pipeline, once or again and again: the rate is measured between two looks."""

    def __init__(self, wiring: Wiring, clock: Clock) -> None:
        """Raises CqrsctlError if nothing can be asked at all, as where no region is known."""
        self._looks = Looks(wiring, clock)
        self._clock = clock
        _ = wiring.dynamodb, wiring.streams
        self._before: _Counted | None = None

    def look(self) -> PipelineStatus:
        """Look at every part. What looking at one raises is that part's reason, and no other's."""
        facts = self._looks.next()
        facts.ask(
            Facts.backlog,
            Facts.inventory,
            Facts.readers,
            Facts.iterator_age_seconds,
            Facts.function,
            Facts.cluster,
            Facts.autoscaling,
            Facts.activities,
        )
        found = outcome(facts.made)
        return judged(facts, None if isinstance(found, CqrsctlError) else self._rate(found or _NOTHING_YET))

    def _rate(self, found: Inventory) -> float | None:
        """Rows a second that the database was written since the last look; 0 if no checkpoint moved meanwhile.

        Whoever wrote them, bookkeeping too. None at the first look, or if the server's counters were reset.
        """
        now = _Counted(self._clock.monotonic(), found)
        before, self._before = self._before, now
        if before is None or now.at <= before.at:
            return None
        if found.progressed_at == before.found.progressed_at:
            return 0.0
        rows = found.rows_written - before.found.rows_written
        return None if rows < 0 else rows / (now.at - before.at)


def judged(facts: Facts, rate: float | None = None) -> PipelineStatus:
    """What the facts say of each part. `rate` is in rows a second, None if it is unknown."""
    unread = _unread(facts)
    traces = outcome(facts.made)
    mapping = facts.known_mapping()
    projecting = Projecting(
        _NOTHING_YET if isinstance(traces, CqrsctlError) or traces is None else traces, unread, mapping, rate
    )
    waiting, age = projecting.waiting_seconds, facts.known_iterator_age()
    parts = (
        _part("table", facts.existing_table, stream_side.of_table),
        _part("stream", lambda: _stream(facts), lambda stream: stream_side.of_stream(stream, facts.clock.now())),
        _part("shards", lambda: _stream(facts), lambda stream: stream_side.of_shards(stream, unread)),
        _projector(projecting, unreachable=isinstance(traces, CqrsctlError)),
        _part("mapping", lambda: _mapped(facts, age, waiting), stream_side.of_mapping),
        *(
            _part("read model", facts.made, partial(_read_model, projection.name, _table(facts)))
            for projection in facts.environment.projections
        ),
        _part("cluster", facts.existing_cluster, read_side.of_cluster),
        _part("readers", facts.readers, read_side.of_readers),
        _part("autoscaling", facts.autoscaling, lambda found: read_side.of_autoscaling(found, _activities(facts))),
    )
    return PipelineStatus(facts.environment.name, facts.clock.now(), parts, age if waiting is None else waiting, rate)


def _stream(facts: Facts) -> Stream:
    if isinstance(outcome(facts.existing_table), CqrsctlError):
        raise NotAsked("unknown without the table")
    return facts.existing_stream()


def _unread(facts: Facts) -> Backlog | CqrsctlError:
    if isinstance(outcome(facts.existing_stream), CqrsctlError):
        return NotAsked("they are unknown without the stream")
    return outcome(facts.backlog)


def _projector(projecting: Projecting, *, unreachable: bool) -> PartHealth:
    if unreachable:
        return broken("projector", NotAsked("unknown without the database"))
    return stream_side.of_projector(projecting)


def _mapped(facts: Facts, age: float | None, waiting: float | None) -> Mapped:
    found, mapping, table = facts.function(), facts.mapping(), _table(facts)
    return Mapped(
        function=found,
        mapping=mapping,
        age=age,
        waiting=waiting,
        stream_arn=table.stream_arn if table else None,
        runs=facts.environment.runs_functions,
        elsewhere=mapping is None and bool(found and facts.mappings()),
    )


def _read_model(projection: str, table: Table | None, found: Inventory | None) -> PartHealth:
    items, stream_arn = (table.items, table.stream_arn) if table else (None, None)
    return read_side.of_read_model(projection, found, items, stream_arn)


def _table(facts: Facts) -> Table | None:
    """None, too, if it cannot be looked up: that is reported with the table."""
    found = outcome(facts.table)
    return None if isinstance(found, CqrsctlError) else found


def _activities(facts: Facts) -> list[dict[str, object]]:
    found = outcome(facts.activities)
    if isinstance(found, CqrsctlError):
        _log.info("what autoscaling did is unknown: %s", found.message)
        return []
    return found


def _part(name: str, ask: Callable[[], Answer], judge: Callable[[Answer], PartHealth]) -> PartHealth:
    found = outcome(ask)
    return broken(name, found) if isinstance(found, CqrsctlError) else judge(found)
