"""A failover that is watched: who writes afterwards, and for how long nobody could."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cqrsctl.aurora import availability, cluster, readers
from cqrsctl.errors import AwsError, CqrsctlError, TransientAwsError, TransientDatabaseError
from cqrsctl.read_model.connection import connect

if TYPE_CHECKING:
    from types import TracebackType

    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.aurora.operations import Aurora
    from cqrsctl.read_model.endpoints import Servers

_PROBE_SECONDS = 0.1
_LOOK_UP_SECONDS = 1.0
"""RDS is asked less often than the database: other programs share its rate."""
_PATIENCE_SECONDS = 300.0
_END_SECONDS = 1.0
"""How long the probe's last question is waited for; it changes nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is the writer, and who shall be; `to` None leaves that to AWS."""

    cluster: str
    before: str
    to: str | None


@dataclass(frozen=True, slots=True)
class FailoverOutcome:
    """Who was the writer and who is, and for how long writes were refused; None if that could not be seen."""

    before: str
    after: str
    refused_seconds: float | None


def plan(aurora: Aurora, to: str | None) -> Plan:
    """What a failover would do. Raises AwsError if there is no reader that could become the writer."""
    found = aurora.cluster()
    cluster.require_available(found)
    writer = found.writer
    if to is not None and writer and to.lower() == writer.name:
        raise AwsError(f"{to!r} is the writer already.", hint="Name one of the readers.", code="is_writer")
    if writer is None or not found.readers:
        raise AwsError(
            f"Cluster {found.name!r} has no reader that could become the writer.",
            hint="Add one first: cqrsctl aurora add-reader",
            code="no_reader",
        )
    if to is not None:
        reader = readers.require_reader(found, to)
        _require_ready(reader.name, reader.status)
        return Plan(found.name, writer.name, reader.name)
    # AWS chooses by tier; the embedded stack leaves the choice to us.
    first = min(found.readers, key=lambda reader: (reader.tier, reader.name))
    return Plan(found.name, writer.name, first.name if aurora.embedded else None)


def run(aurora: Aurora, servers: Servers, planned: Plan) -> FailoverOutcome:
    """Promote a reader, and wait until the new writer takes writes. Raises AwsError, DatabaseError."""
    with WriteProbe(servers, 0.0 if aurora.embedded else _LOOK_UP_SECONDS) as probe:
        if aurora.embedded and planned.to:
            aurora.embedded.promote(planned.to)
        aurora.again(_begin, aurora, planned)

        def done(found: Cluster) -> bool:
            writer = found.writer.name if found.writer else "none"
            availability.require_recoverable({found.name: found.status})
            aurora.progress(f"{found.name} {found.status}, writer {writer}")
            return found.status == cluster.AVAILABLE and writer not in {"none", planned.before}

        found = availability.until(aurora.rds, planned.cluster, done, aurora.clock, "failed over")
        refused_seconds = probe.settled()
    return FailoverOutcome(planned.before, found.writer.name if found.writer else "", refused_seconds)


def _begin(aurora: Aurora, planned: Plan) -> None:
    """Ask for the failover, unless an earlier attempt, whose response was lost, did: a second one would lead back."""
    found = cluster.describe(aurora.rds, planned.cluster)
    if found.status == cluster.AVAILABLE and found.writer and found.writer.name == planned.before:
        cluster.failover_call(planned.cluster, planned.to).make(aurora.rds)


@dataclass
class WriteProbe:
    """Asks the writer, again and again and over new connections, whether it takes writes."""

    servers: Servers
    look_up_seconds: float = 0.0
    """How long the writer's address is remembered at least."""
    _gap_seconds: float = 0.0
    _answered: list[float] = field(default_factory=list)
    _fault: CqrsctlError | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None

    def __enter__(self) -> WriteProbe:
        self._thread = threading.Thread(target=self._run, name="write-probe", daemon=True)
        self._thread.start()
        with self._news:
            self._news.wait_for(lambda: self._answered or self._fault, _PATIENCE_SECONDS)
        return self

    def settled(self) -> float | None:
        """Wait until the writer takes writes now; the longest time for which it did not, None if none ever did."""
        now = time.monotonic()
        with self._news:
            if not self._answered:
                return None
            if not self._news.wait_for(lambda: self._answered[-1] > now, _PATIENCE_SECONDS):
                raise AwsError(
                    f"The new writer took no writes for {_PATIENCE_SECONDS:.0f} s.",
                    hint="Look at it with: cqrsctl aurora status",
                    code="too_slow",
                )
            return self._gap_seconds

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        failed_since: float | None = None
        writer, look_up_at = None, 0.0
        while not self._stop.wait(_PROBE_SECONDS):
            asked = time.monotonic()
            try:
                if writer is None or asked >= look_up_at:
                    look_up_at = asked + self.look_up_seconds
                    writer = self.servers.refresh().writer
                with connect(writer) as connection:
                    connection.require_writable()
            except (TransientDatabaseError, TransientAwsError) as error:
                failed_since = failed_since or asked
                self._report(error)
            except CqrsctlError as error:  # no access from here: nothing can be measured, and it is unknown
                self._report(error)
                return
            else:
                if failed_since is not None:
                    self._gap_seconds = max(self._gap_seconds, time.monotonic() - failed_since)
                failed_since = None
                self._report(None)

    def _report(self, error: CqrsctlError | None) -> None:
        with self._news:
            self._fault = error
            if error is None:
                self._answered.append(time.monotonic())
            self._news.notify_all()


def _require_ready(name: str, status: str) -> None:
    if status != cluster.AVAILABLE:
        raise AwsError(
            f"Reader {name!r} is {status}; it cannot become the writer now.",
            hint="Look again with: cqrsctl aurora status",
            code="reader_not_available",
        )
