"""The cluster as it is: members with their lag, endpoints, autoscaling and its activities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.aurora import autoscaling
from cqrsctl.errors import AwsError, ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.aurora.autoscaling import Autoscaling
    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.aurora.operations import Aurora
    from cqrsctl.diagnosis.facts import Facts
    from cqrsctl.read_model.endpoints import Servers


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster with each reader's lag in seconds (None: not known), and what autoscaling does."""

    cluster: Cluster
    lags: dict[str, float | None]
    autoscaling: Autoscaling
    activities: list[dict[str, Any]]


def status(aurora: Aurora, facts: Facts) -> ClusterStatus:
    """Raises AwsError. A database that cannot be reached from here is told by a note, and the lags are not known."""
    cluster, facts.aurora = aurora.cluster(), aurora
    return ClusterStatus(
        cluster,
        _lags(facts, aurora.note) if cluster.readers else {},
        autoscaling.describe(aurora.scaling, aurora.name),
        _activities(facts, aurora.note),
    )


def endpoints(aurora: Aurora, servers: Servers) -> list[dict[str, Any]]:
    """Name, role and address of each endpoint; in an embedded stack those of its servers."""
    cluster = aurora.cluster()
    if aurora.embedded:
        topology = servers.anew()
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
        note(f"The lag is not known: {error.message}")
        return {}
    for lag in found:
        if lag.lag_seconds is None:
            note(f"{lag.reader}: {lag.reason}")
    return {lag.reader: lag.lag_seconds for lag in found}


def _activities(facts: Facts, note: Callable[[str], None]) -> list[dict[str, Any]]:
    try:
        return facts.activities()
    except AwsError as error:
        note(f"What autoscaling did of late is not known: {error.message}")
        return []
