"""How well the read model is, its cluster and its readers: judged from what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl import words
from cqrsctl.aurora.cluster import AVAILABLE
from cqrsctl.diagnosis.health import Health, PartHealth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.aurora.autoscaling import Autoscaling
    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.diagnosis.servers import ReaderLag
    from cqrsctl.read_model.inventory import Inventory

NO_CLUSTER = "the environment names no Aurora cluster"
_READER_BEHIND_SECONDS = 10.0
_READER_LOST_SECONDS = 60.0
_DOWN = ("stopp", "deleting", "failed", "inaccessible", "incompatible", "migration-failed", "storage-full")
"""So begin the states of clusters and instances that do not come back by themselves."""


def of_read_model(
    projection: str, found: Inventory | None, items: int | None, stream_arn: str | None = None
) -> PartHealth:
    """A projection's table. `items`: about how many items the write model has; None if that is unknown."""
    stored = found.of(projection) if found else None
    if found is None or stored is None:
        return PartHealth("read model", Health.OFF, f"there is none yet of {projection}: cqrsctl read-model init")
    building = stored.building
    gaps = len(list(found.lost_shards({projection}, stream_arn)))
    function_gap = next((gap for gap in found.function_gaps if gap.projection == projection), None)
    facts: dict[str, Any] = {
        "projection": projection,
        "table": stored.table,
        "rows": stored.rows,
        "bytes": stored.bytes,
        "building": building.table if building else None,
        "built_items": building.items if building else None,
        "dead_letters": stored.dead_letters,
        "gaps": gaps,
        "narrowed": [str(column) for column in stored.narrowed],
        "function_gap": function_gap.reason.value if function_gap else None,
    }
    if stored.rows is None or stored.bytes is None:
        return PartHealth(
            "read model",
            Health.FAILING,
            stored.table,
            "its table is gone: cqrsctl read-model drop, then cqrsctl rebuild",
            facts,
        )
    summary = f"{stored.table}: about {words.count(stored.rows, 'row')}, {words.size(stored.bytes)}"
    if building and building.held:
        of = f" of about {items}" if items else ""
        summary += f"; {building.table} is being built, {building.items}{of} items loaded"
    health, reasons = Health.OK, []
    if building and not building.held:
        health = Health.WARNING
        reasons.append(
            f"a rebuild was stopped with {building.items} items in {building.table}: resume it with cqrsctl rebuild"
        )
    if stored.dead_letters:
        health = Health.WARNING
        reasons.append(f"{words.count(stored.dead_letters, 'dead letter')}: cqrsctl dead-letter list")
    if stored.differences:
        health = Health.FAILING
        reasons.append("its table was made from another declaration: cqrsctl rebuild")
    if stored.narrowed:
        health = Health.FAILING
        reasons.append(f"nothing is written, as columns were narrowed ({'; '.join(facts['narrowed'])}): cqrsctl doctor")
    if gaps:
        health = Health.FAILING
        reasons.append(f"changes of {words.count(gaps, 'shard')} were trimmed before they were read: cqrsctl rebuild")
    if function_gap:
        health = Health.FAILING
        reasons.append(f"{function_gap.why}: cqrsctl rebuild")
    return PartHealth("read model", health, summary, "; ".join(reasons) or None, facts)


def of_cluster(cluster: Cluster | None) -> PartHealth:
    if cluster is None:
        return PartHealth("cluster", Health.OFF, NO_CLUSTER)
    readers = len(cluster.readers)
    summary = f"{cluster.name}, {cluster.status}, writer {cluster.writer.name if cluster.writer else 'none'}, "
    summary += f"{words.count(readers, 'reader')}"
    facts = {"cluster": cluster.name, "status": cluster.status, "version": cluster.version, "readers": readers}
    states = [(f"cluster {cluster.name}", cluster.status), *((m.name, m.status) for m in cluster.members)]
    unwell = [(name, state) for name, state in states if state != AVAILABLE]
    reasons = [f"{name} is {state}" for name, state in unwell]
    if cluster.writer is None:
        reasons.append("it has no writer")
    down = cluster.writer is None or any(state.startswith(_DOWN) for _, state in unwell)
    health = Health.FAILING if down else Health.WARNING if reasons else Health.OK
    return PartHealth("cluster", health, summary, "; ".join(reasons) or None, facts)


def of_readers(readers: Sequence[ReaderLag]) -> PartHealth:
    if not readers:
        return PartHealth("readers", Health.OFF, "none: queries go to the writer", None, {"readers": []})
    judged = [_judged_reader(reader) for reader in readers]
    order = list(Health)
    facts = {"readers": [{"reader": r.reader, "lag_seconds": r.lag_seconds} for r in readers]}
    well = [
        f"{reader.reader} {words.duration(reader.lag_seconds)}"
        for reader, (health, _) in zip(readers, judged, strict=True)
        if reader.lag_seconds is not None and health is Health.OK
    ]
    summary = f"behind by at most: {', '.join(well)}" if well else f"{len(readers)}, none of them well"
    reason = "; ".join(reason for _, reason in judged if reason) or None
    return PartHealth("readers", max((health for health, _ in judged), key=order.index), summary, reason, facts)


def _judged_reader(reader: ReaderLag) -> tuple[Health, str | None]:
    if reader.lag_seconds is None:
        return Health.UNKNOWN if reader.answers else Health.FAILING, f"{reader.reader}: {reader.reason}"
    if reader.lag_seconds <= _READER_BEHIND_SECONDS:
        return Health.OK, None
    health = Health.FAILING if reader.lag_seconds > _READER_LOST_SECONDS else Health.WARNING
    return health, f"{reader.reader} is {words.duration(reader.lag_seconds)} behind"


def of_autoscaling(found: Autoscaling | None, activities: Sequence[dict[str, Any]]) -> PartHealth:
    if found is None:
        return PartHealth("autoscaling", Health.OFF, NO_CLUSTER)
    if found.maximum is None or not found.policies:
        return PartHealth("autoscaling", Health.OFF, "no policy")
    targets = ", ".join(f"{policy.metric} {policy.target:g}" for policy in found.policies)
    facts = {"minimum": found.minimum, "maximum": found.maximum, "suspended": found.suspended}
    summary = f"{found.minimum} to {found.maximum} readers by {targets}"
    if found.suspended:
        return PartHealth("autoscaling", Health.WARNING, summary, "it is suspended", facts)
    if activities and activities[0]["status"] == "Failed":
        reason = f"its last act failed: {activities[0]['cause']}"
        return PartHealth("autoscaling", Health.WARNING, summary, reason, facts)
    return PartHealth("autoscaling", Health.OK, summary, None, facts)
