"""The cluster as it is: members with their lag, endpoints, autoscaling, and what AWS is about to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cqrsctl.aurora import autoscaling
from cqrsctl.errors import AwsError, ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.aurora.autoscaling import Autoscaling
    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.aurora.maintenance import PendingAction, Support
    from cqrsctl.aurora.operations import Aurora
    from cqrsctl.diagnosis.facts import Facts
    from cqrsctl.read_model.endpoints import Servers

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster with each reader's lag in seconds, what autoscaling does, and what AWS is about to do.

    A lag and the support of the engine's version are None if they are unknown.
    """

    cluster: Cluster
    lags: dict[str, float | None]
    autoscaling: Autoscaling
    activities: list[dict[str, Any]]
    maintenance: list[PendingAction]
    support: Support | None


def status(aurora: Aurora, facts: Facts) -> ClusterStatus:
    """Raises AwsError. What cannot be looked at besides the cluster and its autoscaling is unknown, with a note."""
    cluster, facts.aurora = aurora.cluster(), aurora
    return ClusterStatus(
        cluster,
        _lags(facts, aurora.note) if cluster.readers else {},
        autoscaling.describe(aurora.scaling, aurora.name),
        _known(facts.activities, "What autoscaling did lately", aurora.note) or [],
        _known(facts.maintenance, "Pending maintenance", aurora.note) or [],
        _known(facts.support, "The end of support", aurora.note),
    )


def endpoints(aurora: Aurora, servers: Servers) -> list[dict[str, Any]]:
    """Name, role and address of each endpoint; in an embedded stack those of its servers."""
    cluster = aurora.cluster()
    if aurora.embedded:
        topology = servers.refresh()
        roles = [("writer", topology.writer), *(("reader", reader) for reader in topology.readers)]
        return [{"name": at.name, "role": role, "address": f"{at.host}:{at.port}"} for role, at in roles]
    together = [("cluster", "writer", cluster.writer_host), ("cluster", "readers", cluster.reader_host)]
    each = [(member.name, member.role, member.host) for member in cluster.members if member.host]
    return [
        {"name": name, "role": role, "address": f"{host}:{cluster.port}"} for name, role, host in [*together, *each]
    ]


def _lags(facts: Facts, note: Callable[[str], None]) -> dict[str, float | None]:
    try:
        found = facts.readers()
    except (DatabaseError, ConfigurationError) as error:
        note(f"The lag is unknown: {error.message}")
        return {}
    for lag in found:
        if lag.lag_seconds is None:
            note(f"{lag.reader}: {lag.reason}")
    return {lag.reader: lag.lag_seconds for lag in found}


def _known(ask: Callable[[], Answer], what: str, note: Callable[[str], None]) -> Answer | None:
    try:
        return ask()
    except AwsError as error:
        note(f"{what} is unknown: {error.message}")
        return None
