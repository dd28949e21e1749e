"""What the checks look at: each thing is asked for when the first check needs it, and once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cqrsctl.aurora import autoscaling, cluster
from cqrsctl.clock import SystemClock
from cqrsctl.diagnosis.doctor import survey
from cqrsctl.errors import CqrsctlError
from cqrsctl.functions import function as functions
from cqrsctl.functions import mapping as mappings
from cqrsctl.functions import metrics, queue
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.pipeline.function_operations import runs_nothing
from cqrsctl.pipeline.streams import glanced_tip
from cqrsctl.pipeline.unread_shards import unread_before
from cqrsctl.stream import shards
from cqrsctl.stream.unread import Asking
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cqrsctl.aurora.autoscaling import Autoscaling
    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.change import Checkpoints
    from cqrsctl.config import Environment
    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.functions.queue import Queue
    from cqrsctl.pipeline.unread_shards import UnreadShard
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.stream.shards import Stream
    from cqrsctl.wiring import Wiring

_Answer = TypeVar("_Answer")
_ATTEMPTS = 2
_MOST_PROBES = 16
CLOSE_TO_TRIMMING = timedelta(hours=18)
"""Six hours before the stream forgets a change it should be read."""


def remembered(ask: Callable[[Look], _Answer]) -> Callable[[Look], _Answer]:
    """What was asked once is not asked again, and what was refused once is refused again at once."""
    name = ask.__name__

    @wraps(ask)
    def answer(look: Look) -> _Answer:
        if name not in look.answers:
            try:
                look.answers[name] = ask(look)
            except CqrsctlError as refusal:
                look.answers[name] = refusal
        found = look.answers[name]
        if isinstance(found, CqrsctlError):
            raise found
        return cast(_Answer, found)

    return answer


class Look:
    """One look at the pipeline of an environment. Nothing is changed by it."""

    def __init__(self, wiring: Wiring, now: datetime, answers: dict[str, Any] | None = None) -> None:
        """`answers` are known already, by the name of what asks for them."""
        self.wiring = wiring
        self.now = now
        self.answers: dict[str, Any] = dict(answers or {})
        self._clients: dict[str, Any] = {}
        self._open = ExitStack()

    @property
    def environment(self) -> Environment:
        return self.wiring.environment

    def client(self, service: str) -> Any:
        """The client of a service; it soon gives up, as an endpoint may know no such service."""
        if service not in self._clients:
            self._clients[service] = self.wiring.client(service, attempts=_ATTEMPTS)
        return self._clients[service]

    @remembered
    def table(self) -> table.Table | None:
        """None where there is none."""
        return table.find(self.wiring.dynamodb, self.environment.table)

    @remembered
    def recovery(self) -> bool | None:
        """Whether the table's point-in-time recovery is on; None where the endpoint cannot tell."""
        return table.recovery_enabled(self.wiring.dynamodb, self.environment.table)

    @remembered
    def stream(self) -> Stream | None:
        """The table's stream with its shards; None where it is off."""
        found = self.table()
        return shards.describe(self.wiring.streams, found.stream_arn) if found and found.stream_arn else None

    @remembered
    def mappings(self) -> list[Mapping] | None:
        """What is mapped to the projector function, of whatever stream; None where there is no such function."""
        client = self.client("lambda")
        return mappings.of_function(client, PROJECTOR) if functions.find(client, PROJECTOR) else None

    @remembered
    def readers_of_stream(self) -> list[Mapping]:
        """The enabled mappings of the table's stream, to whatever function."""
        found = self.table()
        if found is None or found.stream_arn is None:
            return []
        return [each for each in mappings.of_stream(self.client("lambda"), found.stream_arn) if not each.paused]

    @remembered
    def destinations(self) -> dict[str, Queue | None]:
        """The queues that failed batches go to, by ARN; None where one is not there."""
        arns = {each.destination for each in self.mappings() or () if each.destination}
        found = {}
        for arn in sorted(arns):
            _, _, service, _, account, name = arn.split(":", 5)
            if service == "sqs":
                found[arn] = queue.find(self.client("sqs"), name, account)
        return found

    @remembered
    def iterator_age_seconds(self) -> float | None:
        """How old the oldest change was that the function read within the last hour; None: nothing tells."""
        if self.mappings() is None or runs_nothing(self.wiring):
            return None
        age = metrics.last_hour(self.client("cloudwatch"), PROJECTOR, self.now)["iterator_age_ms"]
        return None if age is None else age / 1_000

    @property
    def cluster_name(self) -> str | None:
        """The Aurora cluster that the environment names; the embedded stack's own is none."""
        return None if self.environment.embedded else self.environment.database.cluster

    @remembered
    def cluster(self) -> Cluster | None:
        """The cluster; None where there is none, or the environment names none."""
        return cluster.find(self.client("rds"), self.cluster_name) if self.cluster_name else None

    @remembered
    def autoscaling(self) -> Autoscaling | None:
        """None without a cluster, or where nothing scales it."""
        if self.cluster() is None or self.cluster_name is None:
            return None
        found = autoscaling.describe(self.client(autoscaling.SERVICE), self.cluster_name)
        return None if found.maximum is None else found

    @remembered
    def connection(self) -> Connection:
        """A connection to the writer; without a database of its own where that was not made yet."""
        return self._open.enter_context(survey.connection(self.wiring.database))

    @remembered
    def server(self) -> survey.Server:
        """The database server and the rights of this user there."""
        return survey.server(self.connection())

    @remembered
    def read_model(self) -> survey.ReadModel | None:
        """What the database holds of the projections; None where nothing was made yet."""
        return survey.read_model(self.connection(), self.environment.database.name, self.environment.projections)

    @remembered
    def positions(self) -> dict[str, Checkpoints]:
        """How far each projection that follows the table's stream has read its shards, by projection."""
        found = self.table()
        if found is None or found.stream_arn is None or self.read_model() is None:
            return {}
        return survey.positions(self.connection(), self.environment.projections, found.stream_arn)

    @remembered
    def unread(self) -> dict[str, list[UnreadShard]]:
        """The shards with changes that should have been read long ago, by projection; none where a function reads."""
        stream, made = self.stream(), self.read_model()
        if stream is None or made is None or made.by_function:
            return {}
        with ThreadPoolExecutor(_MOST_PROBES, thread_name_prefix="probe") as executor:
            asking = Asking(self.wiring.streams, executor, SystemClock(), glanced_tip(self.wiring))
            return {
                name: list(unread_before(asking, stream, positions, self.now - CLOSE_TO_TRIMMING))
                for name, positions in self.positions().items()
            }

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._open.close()
