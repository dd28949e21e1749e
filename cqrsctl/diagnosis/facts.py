"""The questions to AWS, to the database and to the stream: each one a function with one answer, asked once a run.

What lag, status, doctor and the others say of a pipeline they judge from these answers, so they cannot disagree.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from cqrsctl.aurora import autoscaling, cluster, maintenance
from cqrsctl.diagnosis import servers
from cqrsctl.diagnosis.backlog import Backlog
from cqrsctl.errors import ConfigurationError, CqrsctlError, StreamGap
from cqrsctl.functions import function as functions
from cqrsctl.functions import mapping as mappings
from cqrsctl.functions import metrics, queue
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.pipeline import embedded
from cqrsctl.pipeline.streams import glanced_tip
from cqrsctl.read_model import checkpoints, function_position, inventory
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.takeover import lost, require_filled
from cqrsctl.stopping import Questions
from cqrsctl.stream import shards
from cqrsctl.stream.unread import Asking, unhandled, unread_shards
from cqrsctl.write_model import table as tables
from cqrsctl.write_model.scan import first_items

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cqrsctl.aurora.autoscaling import Autoscaling
    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.aurora.maintenance import PendingAction, Support
    from cqrsctl.aurora.operations import Aurora
    from cqrsctl.change import Followers
    from cqrsctl.clock import Clock
    from cqrsctl.config import Environment
    from cqrsctl.diagnosis.servers import DatabaseServer, ReaderLag
    from cqrsctl.functions.function import Function
    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.functions.queue import Queue
    from cqrsctl.read_model.inventory import Counted, Inventory
    from cqrsctl.stream.shards import Stream
    from cqrsctl.wiring import Wiring

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

TOLERATED_SECONDS = 1.0
"""A reader's age is read from a heartbeat that is no older than this, if there is one."""
_ATTEMPTS = 2
_MOST_PROBES = 16
_SAMPLED_ITEMS = 100


def fact(ask: Callable[[Facts], Answer]) -> Callable[[Facts], Answer]:
    """What was asked once is not asked again, and what was refused once is refused again at once."""

    @wraps(ask)
    def answer(facts: Facts) -> Answer:
        return facts.once(ask)

    return answer


def outcome(ask: Callable[[], Answer]) -> Answer | CqrsctlError:
    """The answer, or why there is none."""
    try:
        return ask()
    except CqrsctlError as error:
        return error


class Facts:
    """One look at the pipeline of an environment. Nothing is changed by it. May be asked by several threads."""

    def __init__(
        self,
        wiring: Wiring,
        clock: Clock,
        tolerated_seconds: float = TOLERATED_SECONDS,
        known: dict[str, Any] | None = None,
    ) -> None:
        """`known` are answers and refusals by the name of what asks for them."""
        self.wiring = wiring
        self.clock = clock
        self.now = clock.now()
        self._tolerated_seconds = tolerated_seconds
        self._asked: dict[str, Future[Any]] = {}
        self._asking = threading.Lock()
        for name, there in (known or {}).items():
            self._asked[name] = Future()
            if isinstance(there, CqrsctlError):
                self._asked[name].set_exception(there)
            else:
                self._asked[name].set_result(there)
        self.clients: dict[str, Any] = {}

    def once(self, ask: Callable[[Facts], Answer]) -> Answer:
        """The answer to a question; who asks it while another thread does waits for that one."""
        with self._asking:
            asked = self._asked.get(ask.__name__)
            found: Future[Answer] = asked or self._asked.setdefault(ask.__name__, Future())
        if asked is None:
            try:
                found.set_result(ask(self))
            except BaseException as refusal:
                found.set_exception(refusal)  # for whoever waits for it, too
                raise
        return found.result()

    def ask(self, *questions: Callable[[Facts], Any]) -> None:
        """Ask several things at once; their answers and refusals are there when they are needed."""
        with Questions() as executor:
            list(executor.map(lambda question: outcome(lambda: question(self)), questions))

    @property
    def environment(self) -> Environment:
        return self.wiring.environment

    def client(self, service: str) -> Any:
        """The client of a service; it makes few attempts, since an endpoint may have no such service."""
        if service not in self.clients:
            self.clients[service] = self.wiring.client(service, attempts=_ATTEMPTS)
        return self.clients[service]

    @fact
    def table(self) -> tables.Table | None:
        """None if there is none."""
        return tables.find(self.wiring.dynamodb, self.environment.table)

    def existing_table(self) -> tables.Table:
        """The table. Raises AwsError (`table_missing`) if there is none."""
        return tables.existing(self.wiring.dynamodb, self.environment.table, self.table())

    @fact
    def recovery(self) -> bool | None:
        """Whether the table's point-in-time recovery is on; None if the endpoint does not report it."""
        return tables.recovery_enabled(self.wiring.dynamodb, self.environment.table)

    @fact
    def attributes(self) -> frozenset[str]:
        """The attributes that some of the table's items have."""
        if self.table() is None:
            return frozenset()
        items = first_items(self.wiring.dynamodb, self.environment.table, _SAMPLED_ITEMS, self.clock.sleep)
        return frozenset(name for item in items for name in item)

    @fact
    def stream(self) -> Stream | None:
        """The table's stream with its shards; None if it is off."""
        found = self.table()
        return shards.describe(self.wiring.streams, found.stream_arn) if found and found.stream_arn else None

    def existing_stream(self) -> Stream:
        """The table's stream. Raises AwsError if there is none that can be projected."""
        tables.require_stream(self.existing_table())
        found = self.stream()
        if found is None:
            raise AssertionError("its ARN is known")
        return found

    @fact
    def function(self) -> Function | None:
        """The projector function; None if there is none."""
        return functions.find(self.client("lambda"), PROJECTOR)

    @fact
    def mappings(self) -> list[Mapping] | None:
        """What is mapped to the projector function, of whatever stream; None if there is no such function."""
        return mappings.of_function(self.client("lambda"), PROJECTOR) if self.function() else None

    def mapping(self) -> Mapping | None:
        """What brings this table's changes to the projector function: of its stream now, else of an earlier one.

        None if there is none, or the endpoint runs no functions.
        """
        if not self.environment.runs_functions:
            return None
        described = outcome(self.table)
        arn = described.stream_arn if isinstance(described, tables.Table) else None
        return mappings.serving(self.mappings() or [], self.environment.table, arn)

    def known_mapping(self) -> Mapping | None:
        """As `mapping`, and None if it is unknown: an endpoint may have no functions."""
        return _known(self.mapping, "whether a function reads the stream")

    @fact
    def readers_of_stream(self) -> list[Mapping]:
        """The enabled mappings of the table's stream, to whatever function."""
        found = self.table()
        if found is None or found.stream_arn is None:
            return []
        return [each for each in mappings.of_stream(self.client("lambda"), found.stream_arn) if not each.paused]

    @fact
    def destinations(self) -> dict[str, Queue | None]:
        """The queues that failed batches go to, by ARN; None if one is not there."""
        arns = {each.destination for each in self.mappings() or () if each.destination}
        found = {}
        for arn in sorted(arns):
            _, _, service, _, account, name = arn.split(":", 5)
            if service == "sqs":
                found[arn] = queue.find(self.client("sqs"), name, account)
        return found

    @fact
    def iterator_age_seconds(self) -> float | None:
        """How old the changes are that the function was given last; None without a mapping, or without a number."""
        if self.mapping() is None:
            return None
        return metrics.iterator_age_seconds(self.client("cloudwatch"), PROJECTOR, self.now)

    def known_iterator_age(self) -> float | None:
        """As `iterator_age_seconds`, and None if CloudWatch does not report it, or is not there."""
        return _known(self.iterator_age_seconds, "the iterator age")

    @cached_property
    def aurora(self) -> Aurora | None:
        """The cluster to be asked; None if the environment names none."""
        try:
            return embedded.operated(self.wiring, self.clock, _log.info)
        except ConfigurationError as error:
            _log.info("%s", error.message)
            return None

    @fact
    def cluster(self) -> Cluster | None:
        """The cluster, also the embedded stack's; None if there is none, or the environment names none."""
        return self.aurora.find() if self.aurora else None

    def existing_cluster(self) -> Cluster | None:
        """The cluster that the environment names. Raises AwsError if it is not there, or of another engine."""
        if self.aurora is None:
            return None
        return cluster.existing(self.aurora.rds, self.aurora.name, self.cluster())

    @fact
    def autoscaling(self) -> Autoscaling | None:
        """What scales the cluster; None if the environment names none."""
        return autoscaling.describe(self.aurora.scaling, self.aurora.name) if self.aurora else None

    @fact
    def activities(self) -> list[dict[str, Any]]:
        """What autoscaling did of late, the newest first."""
        if self.aurora is None or self.aurora.embedded:
            return []  # the emulator scales nothing
        return autoscaling.activities(self.aurora.scaling, self.aurora.name)

    @fact
    def maintenance(self) -> list[PendingAction]:
        """What AWS is about to do to the cluster and its members, what comes first before."""
        found = self._cluster_in_aws()
        return maintenance.pending(self.client("rds"), found) if found else []

    @fact
    def support(self) -> Support | None:
        """How long the cluster's engine is supported; None if AWS does not say."""
        found = self._cluster_in_aws()
        return maintenance.support(self.client("rds"), found) if found else None

    def _cluster_in_aws(self) -> Cluster | None:
        return None if self.aurora is None or self.aurora.embedded else self.cluster()

    @fact
    def readers(self) -> list[ReaderLag]:
        """How far each reader is behind, asked side by side. One that does not answer has that as its reason."""
        return servers.lags(self.wiring.servers.now(), self._tolerated_seconds)

    @fact
    def server(self) -> DatabaseServer:
        """The database server and the rights of this user there; also if no database was made yet."""
        return servers.server(self.wiring.database)

    @fact
    def inventory(self) -> Inventory:
        """What the database holds. Raises ReadModelMissing if nothing was made yet."""
        endpoint = self.wiring.database
        with connect(endpoint) as connection:
            return inventory.read(connection, endpoint.database, self.environment.projections)

    def made(self) -> Inventory | None:
        """What the database holds; None if nothing was made yet."""
        try:
            return self.inventory()
        except ReadModelMissing:
            return None

    @fact
    def counted(self) -> dict[str, Counted]:
        """The rows of each projection's table, counted one by one. Raises ReadModelMissing."""
        stored = self.inventory().projections
        with connect(self.wiring.database) as connection:
            return inventory.counted(connection, stored)

    @fact
    def positions(self) -> Followers:
        """How far each projection has read the shards of the table's stream, by its name.

        Empty if nobody ever projected. Raises StreamGap if one followed another stream.
        """
        stream = self.existing_stream()
        if self.made() is None:
            return {}
        with connect(self.wiring.database) as connection:
            found = checkpoints.read(connection, self.environment.projections, stream.arn)
        return found if any(found.values()) else {}

    @fact
    def backlog(self) -> Backlog:
        """What is not applied yet. Raises StreamGap if changes were lost, AwsError, DatabaseError."""
        stream = self.existing_stream()
        following = self._following(stream.arn)
        if following is None:
            return self._left_by_function(stream)
        at = self.clock.now()
        with ThreadPoolExecutor(_MOST_PROBES, thread_name_prefix="probe") as executor:
            found = unread_shards(self._beside(executor), stream.arn, following, stream)
        unread = {shard_id: change.created_at if change else None for shard_id, change in found.first.items()}
        return Backlog(at, stream.shards, unread, found.childless)

    def _left_by_function(self, stream: Stream) -> Backlog:
        """What the function has certainly not handled; AWS keeps its positions.

        Its iterator age says more, if there is one: only what was invoked lately has one. Without it, a change after
        the newest that it handled waits; if there is none, and Lambda reads the stream without a problem, nothing does.
        """
        at, unknown = self.clock.now(), None
        if self.known_iterator_age() is not None:
            return Backlog(at, stream.shards, unknown)
        with connect(self.wiring.database) as connection:
            handled = function_position.newest(connection, stream.arn)
        with ThreadPoolExecutor(_MOST_PROBES, thread_name_prefix="probe") as executor:
            found = unhandled(self._beside(executor), stream, handled)
        if found.first and handled is not None:
            unread = {shard_id: change.created_at for shard_id, change in found.first.items() if change}
            return Backlog(at, stream.shards, unread, found.childless, by_function=True)
        if found.first or (handled is not None and self._reads_since(stream.arn) is None):
            return Backlog(at, stream.shards, unknown)
        return Backlog(at, stream.shards, dict.fromkeys(stream.shards), found.childless, by_function=True)

    def _beside(self, executor: ThreadPoolExecutor) -> Asking:
        return Asking(self.wiring.streams, executor, self.clock, glanced_tip(self.wiring))

    def gaps(self) -> list[StreamGap]:
        """Everything that was lost: what is marked, or else what a projector would find now."""
        found, described = self.made(), outcome(self.table)
        names = {projection.name for projection in self.environment.projections}
        arn = described.stream_arn if isinstance(described, tables.Table) else None
        if marked := found.gaps(names, arn) if found else []:
            return marked
        unmarked = outcome(self.backlog)
        return [unmarked] if isinstance(unmarked, StreamGap) else []

    def _following(self, stream_arn: str) -> Followers | None:
        """The checkpoints, empty if nobody ever projected; None if they mean nothing because the function projects.

        Raises StreamGap if the function left a gap, or a projector that took over from it now would find one.
        """
        made = self.made()
        if made is None:
            return {}
        names = {projection.name for projection in self.environment.projections}
        function_position.require_whole([gap for gap in made.function_gaps if gap.projection in names])
        require_filled(made.unfilled)
        with connect(self.wiring.database) as connection:
            gaps = lost(connection, stream_arn, names, lambda: self._reads_since(stream_arn))
        if found_here := [(name, reason) for reason, found in gaps.items() for name in found if name in names]:
            raise function_position.error(found_here)
        if made.by_function and self.known_mapping():
            for gap in made.gaps(names, stream_arn):  # the function looks at no checkpoints
                raise gap
            return None
        return self.positions() or (None if made.by_function else {})

    def _reads_since(self, stream_arn: str) -> datetime | None:
        found = self.known_mapping()
        return found.reads_since if found and found.stream_arn == stream_arn else None


def _known(ask: Callable[[], Answer | None], what: str) -> Answer | None:
    found = outcome(ask)
    if isinstance(found, CqrsctlError):
        _log.info("%s is unknown: %s", what, found.message)
        return None
    return found
