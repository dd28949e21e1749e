"""Checks of the Aurora cluster. The embedded stack's servers are none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cqrsctl.diagnosis.doctor.findings import Check, critical, note, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.diagnosis.doctor.findings import Finding
    from cqrsctl.diagnosis.facts import Facts

_LEAST_BACKUP_DAYS = 2
_SUPPORT_NOTICE = timedelta(days=180)


def missing(facts: Facts) -> Iterator[Finding]:
    """The cluster does not exist.

    Fix: `aurora create`.
    """
    if facts.environment.own_cluster and facts.cluster() is None:
        yield critical(
            f"There is no cluster {facts.environment.own_cluster!r}.",
            "Without a database there is no read model.",
            "cqrsctl aurora create, or check database.cluster and --region",
        )


def readers(facts: Facts) -> Iterator[Finding]:
    """The cluster has no readers.

    Fix: `aurora add-reader`.
    """
    cluster = _cluster(facts)
    if cluster is not None and not cluster.readers:
        yield warning(
            "The cluster has no readers.",
            "All queries go to the writer; if it fails, a new one has to be made first, which takes minutes.",
            "cqrsctl aurora add-reader",
        )


def zones(facts: Facts) -> Iterator[Finding]:
    """The cluster has two or more readers, all in one zone.

    Fix: `aurora add-reader --zone`.
    """
    cluster = _cluster(facts)
    if cluster is None or len(cluster.readers) < 2:
        return
    there = {reader.zone for reader in cluster.readers}
    if len(there) == 1 and (zone := there.pop()):
        yield warning(
            f"All {len(cluster.readers)} readers are in one zone, {zone}.",
            "Where that zone fails, every reader does.",
            "cqrsctl aurora add-reader --zone ZONE, another one; cqrsctl aurora remove-reader NAME",
        )


def autoscaling_minimum(facts: Facts) -> Iterator[Finding]:
    """Autoscaling has the minimum 0; a warning if no other reader exists.

    Fix: `aurora autoscale set --min 1`.
    """
    cluster = _cluster(facts)
    scaling = facts.autoscaling() if cluster else None
    if scaling is None or scaling.minimum != 0 or cluster is None:
        return
    if all(reader.autoscaled for reader in cluster.readers):
        yield warning(
            "Autoscaling has the minimum 0, and there is no reader but its own.",
            "It goes by the readers' metrics: once there is none, it never adds one.",
            "cqrsctl aurora add-reader; cqrsctl aurora autoscale set --metric cpu --target 60 --min 1",
        )
    else:
        yield note(
            "Autoscaling has the minimum 0.",
            "It goes by the readers' metrics; if the reader that it did not make is removed, it never adds one.",
            "cqrsctl aurora autoscale set --metric cpu --target 60 --min 1",
        )


def backups(facts: Facts) -> Iterator[Finding]:
    """Backups are kept for less than two days.

    Fix: change it with the AWS CLI.
    """
    cluster = _cluster(facts)
    if cluster is not None and cluster.backup_days < _LEAST_BACKUP_DAYS:
        yield note(
            f"The cluster's backups are kept for {cluster.backup_days} day.",
            "The read model can be rebuilt from the table; dead letters and tables of your own cannot.",
            f"aws rds modify-db-cluster --db-cluster-identifier {cluster.name} --backup-retention-period 7",
        )


def protection(facts: Facts) -> Iterator[Finding]:
    """The cluster's deletion protection is off.

    Fix: turn it on with the AWS CLI.
    """
    cluster = _cluster(facts)
    if cluster is not None and not cluster.deletion_protection:
        yield warning(
            "The cluster's deletion protection is off.",
            "One call deletes the database.",
            f"aws rds modify-db-cluster --db-cluster-identifier {cluster.name} --deletion-protection",
        )


def pause(facts: Facts) -> Iterator[Finding]:
    """The serverless minimum is 0, so the cluster pauses.

    Fix: raise it with the AWS CLI.
    """
    cluster = _cluster(facts)
    if cluster is not None and cluster.capacity is not None and cluster.capacity.least == 0:
        yield note(
            "The cluster's serverless minimum is 0: it pauses when idle.",
            "The first query after a pause waits for some fifteen seconds. A running projector keeps it awake.",
            f"aws rds modify-db-cluster --db-cluster-identifier {cluster.name} "
            f"--serverless-v2-scaling-configuration MinCapacity=0.5,MaxCapacity={cluster.capacity.most:g}",
        )


def maintenance(facts: Facts) -> Iterator[Finding]:
    """Maintenance is pending; a warning if it has a date.

    Fix: schedule it with the AWS CLI.
    """
    if _cluster(facts) is None or not (pending := facts.maintenance()):
        return
    first = pending[0]
    named = ", ".join(
        f"{each.action} of {each.resource}" + (f" on {each.applied_at:%Y-%m-%d}" if each.applied_at else "")
        for each in pending
    )
    say = warning if first.applied_at else note
    yield say(
        f"Maintenance is pending: {named}.",
        "It may restart an instance or cause a failover, in which writes are refused for seconds.",
        f"aws rds apply-pending-maintenance-action --resource-identifier {first.resource_arn} "
        f"--apply-action {first.action} --opt-in-type next-maintenance",
    )


def support(facts: Facts) -> Iterator[Finding]:
    """Standard support of the engine version has ended, or ends within 180 days.

    Fix: upgrade the engine.
    """
    cluster = _cluster(facts)
    known = facts.support() if cluster else None
    today = facts.now.date()
    if cluster is None or known is None or known.standard_until > today + _SUPPORT_NOTICE:
        return
    ended = known.standard_until < today
    say = warning if ended else note
    yield say(
        f"The standard support of {cluster.version} {'ended' if ended else 'ends'} on {known.standard_until}.",
        "After that AWS charges for RDS Extended Support, and in the end upgrades the cluster.",
        f"aws rds describe-db-engine-versions --engine {cluster.engine} --engine-version {cluster.version} "
        "shows what it can be upgraded to",
    )


def _cluster(facts: Facts) -> Cluster | None:
    """The cluster in AWS; None if there is none, or the environment names none."""
    return facts.cluster() if facts.environment.own_cluster else None


CHECKS = (
    Check("cluster_missing", "cluster", missing),
    Check("cluster_readers", "cluster", readers),
    Check("cluster_zones", "cluster", zones),
    Check("cluster_autoscaling", "cluster", autoscaling_minimum),
    Check("cluster_backups", "cluster", backups),
    Check("cluster_protection", "cluster", protection),
    Check("cluster_pause", "cluster", pause),
    Check("cluster_maintenance", "cluster", maintenance),
    Check("cluster_support", "cluster", support),
)
