"""Operating the Aurora cluster: create, extend, scale, shrink and delete it, in AWS or on the embedded stack."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cqrsctl import polling, retries
from cqrsctl.aurora import autoscaling, availability, cluster, readers
from cqrsctl.aws import attempts_before, error_code, make_in_order
from cqrsctl.errors import AwsError
from cqrsctl.kms import key_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqrsctl.aurora.autoscaling import Autoscaling, Wish
    from cqrsctl.aurora.cluster import Cluster, ClusterSpec, Instance
    from cqrsctl.aurora.readers import ReaderSpec
    from cqrsctl.aws import ApiCall
    from cqrsctl.clock import Clock


Result = TypeVar("Result")

_DONE_BEFORE = {
    "CreateDBCluster": "DBClusterAlreadyExistsFault",
    "CreateDBInstance": "DBInstanceAlreadyExists",
    "DeleteDBInstance": "DBInstanceNotFound",
    "DeleteDBCluster": "DBClusterNotFoundFault",
    "DeleteScalingPolicy": "ObjectNotFoundException",
    "DeregisterScalableTarget": "ObjectNotFoundException",
}
"""The refusal that a call meets if an earlier attempt, whose response was lost, was carried out."""

_WRONG_STATES = {"InvalidDBInstanceState", "InvalidDBClusterStateFault"}


class ServersBehind(Protocol):
    """The real servers that stand behind the API of an embedded environment."""

    def start(self) -> None:
        """Start what is not running."""

    def mirror(self, rds: Any) -> None:
        """Make the API's records as the servers are."""

    def add(self, name: str) -> None:
        """Start a reader."""

    def remove(self, name: str) -> None:
        """End a reader."""

    def promote(self, name: str) -> None:
        """Make a reader the writer."""

    def remove_all(self, rds: Any) -> None:
        """End all servers, with their data."""


class Aurora:
    """The cluster of one environment, and what can be done with it."""

    def __init__(
        self,
        name: str,
        client: Callable[[str], Any],
        clock: Clock,
        note: Callable[[str], None],
        progress: Callable[[str], None] = lambda _: None,
        embedded: ServersBehind | None = None,
    ) -> None:
        """`client` makes the client of a service. Raises UsageError if RDS takes no such name."""
        self.name = cluster.require_name(name)
        self.clock = clock
        self.note = note
        self.progress = progress
        self.embedded = embedded
        self._client = client

    @cached_property
    def rds(self) -> Any:
        return self._client("rds")

    @cached_property
    def scaling(self) -> Any:
        return self._client(autoscaling.SERVICE)

    def find(self) -> Cluster | None:
        """The cluster as it is now; None if there is none."""
        if self.embedded:
            self.embedded.mirror(self.rds)
        return cluster.find(self.rds, self.name)

    def cluster(self) -> Cluster:
        """The cluster as it is now. Raises AwsError if there is none, or another engine runs it."""
        return cluster.existing(self.rds, self.name, self.find())

    def plan(self, spec: ClusterSpec) -> list[ApiCall]:
        """The calls that create the cluster and its writer, or what is missing of them; none if nothing is.

        Raises AwsError (`cluster_differs`) listing the differences if it exists but differs.
        """
        return self._missing(spec, self.find())

    def create(self, spec: ClusterSpec, *, wait: bool) -> bool:
        """Create the cluster and its writer, or what is missing of them; False if nothing was.

        Raises what `plan` raises; nothing is changed then.
        """
        if self.embedded:
            self.embedded.start()
        found = self.find()
        calls = self._missing(spec, found)
        self.make(calls)
        if wait:
            writer = found.members[0].name if found and found.members else spec.writer_name
            availability.until_available(self.rds, spec.name, [writer], self.clock, self.progress)
        return bool(calls)

    def _missing(self, spec: ClusterSpec, found: Cluster | None) -> list[ApiCall]:
        if found is None:
            return spec.calls()
        cluster.require_mysql(found)
        if found.status == cluster.DELETING:
            cluster.require_available(found)
        key = key_asked(spec.kms_key, found.kms_key, lambda: self._client("kms"), self.note, "the cluster")
        if differing := cluster.differences(spec, found, key):
            raise AwsError(
                f"Cluster {spec.name!r} exists, but differs: {'; '.join(differing)}. Nothing was changed.",
                hint="Ask for what is there, or change the cluster first.",
                code="cluster_differs",
            )
        return [] if found.members else [spec.writer_call()]

    def plan_readers(self, spec: ReaderSpec) -> list[ApiCall]:
        """The calls that add the readers asked for, none if they are there. Raises AwsError, UsageError."""
        found = self.cluster()
        cluster.require_available(found)
        calls = spec.plan(found)
        for call in calls:
            readers.require_free_name(self.rds, call.parameters["DBInstanceIdentifier"])
        if calls and not self.embedded:
            readers.require_offered(self.rds, spec.chosen_class(found), found.version, spec.zone)
        return calls

    def add_readers(self, calls: Sequence[ApiCall], *, wait: bool) -> None:
        """Make planned calls, and wait until the new readers take connections."""
        names = [call.parameters["DBInstanceIdentifier"] for call in calls]
        if self.embedded:
            for name in names:
                self.embedded.add(name)
        self.make(calls)
        if wait:
            availability.until_available(self.rds, self.name, names, self.clock, self.progress)

    def reader(self, name: str) -> tuple[Instance, Cluster]:
        """A reader, to be removed. Raises AwsError if there is none of that name."""
        found = self.cluster()
        return readers.require_reader(found, name), found

    def remove_reader(self, reader: Instance) -> None:
        """Delete a reader, and wait until it is gone; if it is being deleted already, only wait."""
        self.make(cluster.delete_instance_calls(reader))
        if self.embedded:
            self.embedded.remove(reader.name)
        availability.until_gone(self.rds, self.name, [reader.name], self.clock, self.progress)

    def autoscaling(self) -> Autoscaling:
        """What is in force."""
        return autoscaling.describe(self.scaling, self.cluster().name)

    def plan_autoscaling(self, wish: Wish) -> tuple[list[ApiCall], list[ApiCall]]:
        """The calls that add the first reader, which autoscaling does not make itself, and those that set it."""
        found = self.cluster()
        cluster.require_available(found)
        now = autoscaling.describe(self.scaling, self.name)
        calls = wish.calls(now)
        minimum = now.minimum or 0 if wish.minimum is None else wish.minimum
        first = readers.ReaderSpec().plan(found) if minimum >= 1 and not found.readers else []
        return first, calls

    def set_autoscaling(self, first: Sequence[ApiCall], calls: Sequence[ApiCall]) -> None:
        """Make planned calls: the reader, then the target and policies."""
        if first:
            self.note("There is no reader yet, and autoscaling would make the first one only as its alarms fire.")
            self.add_readers(first, wait=True)
        self.make(calls)

    def delete_calls(self, final_snapshot: str | None) -> list[ApiCall]:
        """All calls that delete the cluster: autoscaling first, or it would make readers while they are removed."""
        found = self.cluster()
        off = autoscaling.off_calls(autoscaling.describe(self.scaling, self.name))
        return [*off, *cluster.delete_calls(found, final_snapshot)]

    def delete(self, final_snapshot: str | None, *, wait: bool) -> None:
        """Delete the cluster with all its instances.

        Once autoscaling is off, the cluster is looked at again: a reader may have been on its way. A deletion that is
        under way is joined.
        """
        self.make(autoscaling.off_calls(self.again(autoscaling.describe, self.scaling, self.name)))
        found = self.again(cluster.describe, self.rds, self.name)
        if found.status == cluster.DELETING:
            self.note(f"Cluster {found.name} is being deleted already, with or without a snapshot as it was begun.")
        self.make(cluster.delete_calls(found, final_snapshot))
        if self.embedded:
            self.embedded.remove_all(self.rds)
        if wait:
            availability.until_gone(self.rds, self.name, None, self.clock, self.progress)

    def again(self, step: Callable[..., Result], *arguments: Any) -> Result:
        """Take a step in the midst of a command; what AWS throttles is tried again for about a minute."""
        return retries.of_calls(self.clock.sleep)(step, *arguments)

    def make(self, calls: Sequence[ApiCall]) -> None:
        """Make calls in order; if one fails, the error names what was made before."""
        make_in_order(((call.parameters.get("DBInstanceIdentifier", self.name), call) for call in calls), self._make)

    def _make(self, call: ApiCall) -> None:
        """Make a call; again, while another change of the cluster is under way."""
        polling.until(
            lambda: self._make_once(call),
            lambda _: True,
            self.clock,
            availability.PATIENCE,
            f"{call.operation} was not made",
            "cqrsctl aurora status",
            passes=lambda error: error_code(error) in _WRONG_STATES and self._is_changing(call),
        )

    def _is_changing(self, call: ApiCall) -> bool:
        found = self.again(cluster.find, self.rds, self.name)
        states = availability.changing(found) if found else {}
        if states:
            self.progress(", ".join(f"{name} {state}" for name, state in states.items()) + f"; {call.operation} waits")
        return bool(states)

    def _make_once(self, call: ApiCall) -> None:
        again = retries.of_calls(self.clock.sleep)
        try:
            again(call.make, self.scaling if call.service == autoscaling.SERVICE else self.rds)
        except AwsError as error:
            was_sent_before = again.statistics["attempt_number"] > 1 or attempts_before(error) > 0
            is_done = was_sent_before and error_code(error) == _DONE_BEFORE.get(call.operation)
            if not is_done and not self._is_being_deleted(call, error):
                raise

    def _is_being_deleted(self, call: ApiCall, error: AwsError) -> bool:
        """Whether a deletion was refused because another one, from a moment ago, is under way."""
        if error_code(error) not in _WRONG_STATES or not call.operation.startswith("Delete"):
            return False
        found = self.again(cluster.find, self.rds, self.name)
        if found is None or found.status == cluster.DELETING:
            return True
        name = call.parameters.get("DBInstanceIdentifier")
        return name is not None and all(m.status == cluster.DELETING for m in found.members if m.name == name)
