"""Waiting for RDS: an instance takes minutes, and RDS continues its work even if nobody waits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cqrsctl import polling
from cqrsctl.aurora.cluster import AVAILABLE, describe
from cqrsctl.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.clock import Clock

PATIENCE = timedelta(minutes=45)
_FAILED = {
    "cloning-failed",
    "failed",
    "insufficient-capacity",
    "migration-failed",
    "restore-error",
    "stopped",
    "storage-full",
}
_FAILED_PREFIXES = ("incompatible-", "inaccessible-encryption-credentials")
"""States that do not pass by themselves. Source: "Viewing cluster status", Aurora User Guide."""


def until_available(
    client: Any, cluster_name: str, members: Collection[str], clock: Clock, progress: Callable[[str], None]
) -> Cluster:
    """Wait until the cluster and these members of it are available. Raises AwsError if one of them fails."""

    def done(cluster: Cluster) -> bool:
        known = {member.name: member.status for member in cluster.members}
        states = {cluster.name: cluster.status, **{name: known.get(name, "missing") for name in members}}
        require_recoverable(states)
        progress(", ".join(f"{name} {state}" for name, state in states.items()))
        return set(states.values()) == {AVAILABLE}

    return until(client, cluster_name, done, clock, "available")


def changing(cluster: Cluster) -> dict[str, str]:
    """The states of the cluster and its members, by name, in which RDS refuses a change until another one is done.

    None are if one of them is in a state that does not pass by itself.
    """
    states = {cluster.name: cluster.status, **{member.name: member.status for member in cluster.members}}
    found = {name: state for name, state in states.items() if state != AVAILABLE}
    return {} if any(map(_is_final, found.values())) else found


def require_recoverable(states: Mapping[str, str]) -> None:
    """Raises AwsError if a cluster or a member, by name, is in a state that does not pass by itself."""
    for name, state in states.items():
        if _is_final(state):
            raise AwsError(f"{name!r} is {state}.", hint="See its events: aws rds describe-events", code="failed")


def until_gone(
    client: Any, cluster_name: str, members: Collection[str] | None, clock: Clock, progress: Callable[[str], None]
) -> None:
    """Wait until these members of a cluster are deleted; with None, the cluster itself."""

    def done(cluster: Cluster) -> bool:
        left = {member.name: member.status for member in cluster.members if members is None or member.name in members}
        progress(", ".join(f"{name} {state}" for name, state in left.items()) or f"{cluster.name} {cluster.status}")
        return members is not None and not left

    try:
        until(client, cluster_name, done, clock, "gone")
    except AwsError as error:
        if error.code != "cluster_missing":
            raise


def _is_final(state: str) -> bool:
    return state in _FAILED or state.startswith(_FAILED_PREFIXES)


def until(client: Any, cluster_name: str, done: Callable[[Cluster], bool], clock: Clock, what: str) -> Cluster:
    """Wait until a cluster is as wanted. Raises AwsError if there is none, or if it takes too long."""
    return polling.until(
        lambda: describe(client, cluster_name),
        done,
        clock,
        PATIENCE,
        f"Cluster {cluster_name!r} was not {what}",
        "cqrsctl aurora status",
    )
