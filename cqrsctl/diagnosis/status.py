"""The whole pipeline at a glance: every part is looked at beside the others, and one that fails leaves them alone."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cqrsctl.aurora import autoscaling
from cqrsctl.diagnosis import health_of_read_model as read_side
from cqrsctl.diagnosis import health_of_stream as stream_side
from cqrsctl.diagnosis.backlog import backlog, iterator_age
from cqrsctl.diagnosis.health import Health, NotAsked, Part, broken
from cqrsctl.diagnosis.health_of_stream import Projecting
from cqrsctl.diagnosis.lag import reader_lags
from cqrsctl.errors import AwsError, ConfigurationError, CqrsctlError
from cqrsctl.functions import function as lambdas
from cqrsctl.functions import mapping as mappings
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.pipeline import function_operations
from cqrsctl.pipeline.cluster_operations import Aurora
from cqrsctl.read_model import traces
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.traces import ProjectorTraces
from cqrsctl.stream import shards
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from datetime import datetime

    from cqrsctl.clock import Clock
    from cqrsctl.diagnosis.backlog import Backlog
    from cqrsctl.diagnosis.lag import ReaderLag
    from cqrsctl.functions.function import Function
    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.traces import StoredProjection
    from cqrsctl.stream.shards import Stream
    from cqrsctl.wiring import Wiring
    from cqrsctl.write_model.table import Table

_log = logging.getLogger(__name__)

_THREADS = 12
_NOBODY_YET = ProjectorTraces(False, None, False, None, None, 0)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Status:
    """All parts, in the order of a change's way. Lag and rate are None where they are not known."""

    environment: str
    at: datetime
    parts: tuple[Part, ...]
    lag_seconds: float | None
    rows_per_second: float | None

    @property
    def health(self) -> Health:
        """That of the part that is worst."""
        order = list(Health)
        return max((part.health for part in self.parts), key=order.index)


class _Counted(NamedTuple):
    at: float
    traces: ProjectorTraces


class _Mapped(NamedTuple):
    function: Function | None = None
    mapping: Mapping | None = None
    iterator_age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """The questions of one look, which are asked at once. Those that need another's answer wait for it."""

    table: Future[Table]
    stream: Future[Stream]
    mapped: Future[_Mapped]
    backlog: Future[Backlog]
    traces: Future[ProjectorTraces]
    stored: tuple[tuple[Projection, Future[StoredProjection]], ...]
    readers: Future[list[ReaderLag]]
    cluster: Future[Part]
    autoscaling: Future[Part]


class Overview:
    """Looks at a pipeline, once or again and again: the rate is measured between two looks."""

    def __init__(self, wiring: Wiring, clock: Clock) -> None:
        """Raises CqrsctlError where nothing can be asked at all, as where no region is known."""
        self._wiring = wiring
        self._clock = clock
        self._dynamodb, self._streams = wiring.dynamodb, wiring.streams
        self._before: _Counted | None = None

    def look(self) -> Status:
        """Look at every part. What looking at one raises is that part's reason, and no other's."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="part") as executor:
            return self._judged(self._ask(executor))

    def _ask(self, executor: ThreadPoolExecutor) -> _Asked:
        """Those that wait for another come after it, so that it has a thread before them."""
        wiring, environment = self._wiring, self._wiring.environment
        described = executor.submit(table.describe, self._dynamodb, environment.table)
        stream = executor.submit(self._stream, described)
        mapped = executor.submit(self._mapped)
        return _Asked(
            table=described,
            stream=stream,
            mapped=mapped,
            backlog=executor.submit(self._backlog, stream, mapped),
            traces=executor.submit(self._traces),
            stored=tuple((each, executor.submit(self._stored, each)) for each in environment.projections),
            readers=executor.submit(lambda: reader_lags(wiring.servers.now())),
            cluster=executor.submit(self._cluster),
            autoscaling=executor.submit(self._autoscaling),
        )

    def _stream(self, described: Future[Table]) -> Stream:
        found = _outcome(described)
        if isinstance(found, CqrsctlError):
            raise NotAsked("it is not known without the table")
        return shards.describe(self._streams, table.require_stream(found))

    def _mapped(self) -> _Mapped:
        if function_operations.runs_nothing(self._wiring):
            return _Mapped()
        function = lambdas.find(self._lambda, PROJECTOR)
        there = mappings.of_function(self._lambda, PROJECTOR) if function else []
        marker = f":table/{self._wiring.environment.table}/stream/"
        mapping = next((each for each in there if marker in each.stream_arn), None)
        age = iterator_age(self._wiring, self._clock.now()) if mapping else None
        return _Mapped(function, mapping, age)

    @cached_property
    def _lambda(self) -> Any:
        return self._wiring.client("lambda", attempts=2)  # an endpoint may know no functions

    def _backlog(self, stream: Future[Stream], mapped: Future[_Mapped]) -> Backlog:
        found, functions_found = _outcome(stream), _outcome(mapped)
        if isinstance(found, CqrsctlError):
            raise NotAsked("they are not known without the stream")
        known = not isinstance(functions_found, CqrsctlError) and functions_found.mapping is not None
        return backlog(self._wiring, found.arn, self._clock, mapped=known, listed=found)

    def _traces(self) -> ProjectorTraces:
        endpoint = self._wiring.database
        try:
            with connect(endpoint) as connection:
                return traces.of_projector(connection, endpoint.database, self._wiring.environment.projections)
        except ReadModelMissing:
            return _NOBODY_YET

    def _stored(self, projection: Projection) -> StoredProjection:
        endpoint = self._wiring.database
        with connect(endpoint) as connection:
            return traces.of_projection(connection, endpoint.database, projection)

    @cached_property
    def _aurora(self) -> Aurora | None:
        """The cluster to be asked; None where the environment names none."""
        try:
            return Aurora(self._wiring, self._clock, _log.info)
        except ConfigurationError as error:
            _log.info("%s", error.message)
            return None

    def _cluster(self) -> Part:
        if self._aurora is None:
            return Part("cluster", Health.OFF, "the environment names no Aurora cluster")
        return read_side.of_cluster(self._aurora.cluster())

    def _autoscaling(self) -> Part:
        if self._aurora is None:
            return Part("autoscaling", Health.OFF, "the environment names no Aurora cluster")
        found = autoscaling.describe(self._aurora.scaling, self._aurora.name)
        return read_side.of_autoscaling(found, self._activities(self._aurora))

    def _activities(self, aurora: Aurora) -> list[dict[str, Any]]:
        if aurora.embedded:
            return []  # the emulator scales nothing
        try:
            return autoscaling.activities(aurora.scaling, aurora.name)
        except AwsError as error:
            _log.info("what autoscaling did is not known: %s", error.message)
            return []

    def _judged(self, asked: _Asked) -> Status:
        unread, mapped, found_traces = _outcome(asked.backlog), _outcome(asked.mapped), _outcome(asked.traces)
        function = _Mapped() if isinstance(mapped, CqrsctlError) else mapped
        rate = None if isinstance(found_traces, CqrsctlError) else self._rate(found_traces)
        projecting = Projecting(
            _NOBODY_YET if isinstance(found_traces, CqrsctlError) else found_traces,
            unread,
            function.mapping,
            rate,
        )
        waiting = projecting.waiting_seconds
        parts = (
            _part("table", asked.table, stream_side.of_table),
            _part("stream", asked.stream, stream_side.of_stream),
            _part("shards", asked.stream, lambda stream: stream_side.of_shards(stream, unread)),
            self._projector(found_traces, projecting),
            _part("mapping", asked.mapped, lambda found: stream_side.of_mapping(*found, waiting)),
            *(self._read_model(projection, stored, asked.table) for projection, stored in asked.stored),
            _part("cluster", asked.cluster, lambda part: part),
            _part("readers", asked.readers, read_side.of_readers),
            _part("autoscaling", asked.autoscaling, lambda part: part),
        )
        lag = function.iterator_age_seconds if waiting is None else waiting
        return Status(self._wiring.environment.name, self._clock.now(), parts, lag, rate)

    def _projector(self, found: ProjectorTraces | CqrsctlError, projecting: Projecting) -> Part:
        if isinstance(found, CqrsctlError):
            return broken("projector", NotAsked("it is not known without the database"))
        return stream_side.of_projector(projecting)

    def _read_model(self, projection: Projection, stored: Future[StoredProjection], described: Future[Table]) -> Part:
        there = _outcome(described)
        items = None if isinstance(there, CqrsctlError) else there.items
        return _part("read model", stored, lambda found: read_side.of_read_model(projection.name, found, items))

    def _rate(self, found: ProjectorTraces) -> float | None:
        """Rows a second that the database was written since the last look; 0 where no checkpoint moved meanwhile.

        Whoever wrote them, bookkeeping too. None at the first look, or where the server began to count anew.
        """
        now = _Counted(self._clock.monotonic(), found)
        before, self._before = self._before, now
        if before is None or now.at <= before.at:
            return None
        if found.progressed_at == before.traces.progressed_at:
            return 0.0
        rows = found.rows_written - before.traces.rows_written
        return None if rows < 0 else rows / (now.at - before.at)


def _outcome(asked: Future[Answer]) -> Answer | CqrsctlError:
    try:
        return asked.result()
    except CqrsctlError as error:
        return error


def _part(name: str, asked: Future[Answer], judge: Callable[[Answer], Part]) -> Part:
    found = _outcome(asked)
    return broken(name, found) if isinstance(found, CqrsctlError) else judge(found)
