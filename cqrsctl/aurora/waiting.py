"""Waiting for what RDS does in its own time: minutes for an instance, and it goes on when nobody waits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from cqrsctl.aurora.cluster import AVAILABLE, describe
from cqrsctl.errors import AwsError, TransientAwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cqrsctl.aurora.cluster import Cluster

_FIRST_POLL_SECONDS = 0.2
_LAST_POLL_SECONDS = 5.0
_PATIENCE = timedelta(minutes=45)
_FAILED = {
    "failed",
    "incompatible-network",
    "incompatible-parameters",
    "incompatible-restore",
    "inaccessible-encryption-credentials",
    "insufficient-capacity",
    "storage-full",
}


class Clock(Protocol):
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


def until_available(
    client: Any, cluster_name: str, members: Collection[str], clock: Clock, progress: Callable[[str], None]
) -> Cluster:
    """Wait until the cluster and these members of it are available. Raises AwsError where one of them fails."""

    def done(cluster: Cluster) -> bool:
        known = {member.name: member.status for member in cluster.members}
        states = {cluster.name: cluster.status, **{name: known.get(name, "missing") for name in members}}
        for name, state in states.items():
            if state in _FAILED:
                raise AwsError(f"{name!r} is {state}.", hint="See its events: aws rds describe-events", code="failed")
        progress(", ".join(f"{name} {state}" for name, state in states.items()))
        return set(states.values()) == {AVAILABLE}

    return until(client, cluster_name, done, clock, "available")


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


def until(client: Any, cluster_name: str, done: Callable[[Cluster], bool], clock: Clock, what: str) -> Cluster:
    """Wait until a cluster is as wanted. Raises AwsError where there is none, or where it takes too long."""
    deadline = clock.monotonic() + _PATIENCE.total_seconds()
    poll_seconds = _FIRST_POLL_SECONDS
    while True:
        try:
            cluster = describe(client, cluster_name)
        except TransientAwsError:
            if clock.monotonic() >= deadline:
                raise
        else:
            if done(cluster):
                return cluster
        if clock.monotonic() >= deadline:
            raise AwsError(
                f"Cluster {cluster_name!r} was not {what} within {_PATIENCE.total_seconds() / 60:.0f} minutes.",
                hint="AWS goes on by itself; look again with: cqrsctl aurora status",
                code="too_slow",
            )
        clock.sleep(poll_seconds)
        poll_seconds = min(2 * poll_seconds, _LAST_POLL_SECONDS)
