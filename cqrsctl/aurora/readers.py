"""The readers of a cluster: which names they get, and the calls that add and remove them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from cqrsctl.aurora.cluster import ENGINE, MOST_READERS, SERVERLESS_CLASS, create_instance_call, require_name
from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.aurora.cluster import Cluster, Instance


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """The requested readers. None leaves the choice to the writer's class, to AWS, or to the next free name."""

    name: str | None = None
    count: int = 1
    instance_class: str | None = None
    zone: str | None = None
    tier: int = 1

    def plan(self, cluster: Cluster) -> list[ApiCall]:
        """The calls that add the missing readers; none if the named reader already exists with these settings.

        Raises UsageError and AwsError: too many readers, a name that is taken, a class that does not go with the
        cluster.
        """
        if self.name is not None and self.count != 1:
            raise UsageError("A name goes with one reader only.", hint="Leave out the name, or --count.")
        if self.name is not None and (there := _member(cluster, require_name(self.name, "reader"))):
            _check_same(self, there)
            return []
        _check_room(cluster, self.count)
        names = [self.name.lower()] if self.name is not None else next_names(cluster, self.count)
        return [self._call(cluster, name) for name in names]

    def chosen_class(self, cluster: Cluster) -> str:
        """The class asked for, else the writer's. Raises UsageError, AwsError."""
        chosen = self.instance_class or (cluster.writer.instance_class if cluster.writer else "")
        if not chosen:
            raise UsageError(
                f"Cluster {cluster.name!r} has no writer whose class to take.",
                hint="Give --instance-class.",
            )
        if not chosen.startswith("db."):
            raise UsageError(
                f"{chosen!r} is not an instance class.", hint="One is db.r6g.large, another db.serverless."
            )
        if chosen == SERVERLESS_CLASS and cluster.capacity is None:
            raise AwsError(
                f"Cluster {cluster.name!r} has no range of capacity units, which db.serverless needs.",
                hint="Set it with: aws rds modify-db-cluster --serverless-v2-scaling-configuration",
                code="not_serverless",
            )
        return chosen

    def _call(self, cluster: Cluster, name: str) -> ApiCall:
        """A reader has the tags of its cluster."""
        chosen = self.chosen_class(cluster)
        return create_instance_call(name, cluster.name, chosen, self.tier, cluster.tags, self.zone)


def next_names(cluster: Cluster, count: int) -> list[str]:
    """The next free names, CLUSTER-reader-1 and so on."""
    taken = {member.name for member in cluster.members}
    names = (f"{cluster.name}-reader-{number}" for number in range(1, len(taken) + count + 1))
    return [name for name in names if name not in taken][:count]


def require_reader(cluster: Cluster, name: str) -> Instance:
    """The reader of a name. Raises AwsError if there is none, or if it is the writer."""
    member = _member(cluster, name.lower())
    if member is None:
        known = ", ".join(reader.name for reader in cluster.readers) or "none"
        raise AwsError(
            f"Cluster {cluster.name!r} has no reader {name!r}.", hint=f"Its readers: {known}.", code="reader_missing"
        )
    if member.is_writer:
        raise AwsError(
            f"{name!r} is the writer of cluster {cluster.name!r}, not a reader.",
            hint="Make another instance the writer first: cqrsctl aurora failover --to READER",
            code="is_writer",
        )
    return member


def require_free_name(client: Any, name: str) -> None:
    """Raises AwsError if another cluster's or database's instance has the name: they share one set of names."""
    try:
        found = ApiCall("rds", "DescribeDBInstances", {"DBInstanceIdentifier": name}).make(client)["DBInstances"]
    except AwsError as error:
        if error_code(error) in {"DBInstanceNotFound", "DBInstanceNotFoundFault"}:
            return
        raise
    owner = found[0].get("DBClusterIdentifier") if found else None
    whose = f"of cluster {owner!r}" if owner else "outside of any cluster"
    raise AwsError(f"The name {name!r} is taken by an instance {whose}.", hint="Choose another.", code="name_taken")


def require_offered(client: Any, instance_class: str, version: str, zone: str | None) -> None:
    """Raises AwsError if AWS does not offer a class for this engine, or not in the zone.

    An endpoint that offers nothing at all for the engine does not know what AWS offers; then nothing is checked.
    """
    zones = _offered_zones(client, {"Engine": ENGINE, "EngineVersion": version, "DBInstanceClass": instance_class})
    if not zones and not _offered_zones(client, {"Engine": ENGINE, "MaxRecords": 20}, pages=1):
        return
    if not zones:
        raise AwsError(
            f"AWS does not offer {instance_class} for Aurora MySQL {version} in this region.",
            hint="See what it offers: aws rds describe-orderable-db-instance-options --engine aurora-mysql",
            code="class_not_offered",
        )
    if zone and zone not in zones:
        raise AwsError(
            f"AWS does not offer {instance_class} in {zone}.",
            hint=f"It is offered in {', '.join(sorted(zones))}.",
            code="class_not_offered",
        )


def _offered_zones(client: Any, parameters: Mapping[str, Any], pages: int = 10) -> set[str]:
    asked = ApiCall("rds", "DescribeOrderableDBInstanceOptions", dict(parameters)).pages(client)
    return {
        zone["Name"]
        for page in islice(asked, pages)
        for option in page["OrderableDBInstanceOptions"]
        for zone in option["AvailabilityZones"]
    }


def _check_room(cluster: Cluster, count: int) -> None:
    there = len(cluster.readers)
    if there + count > MOST_READERS:
        raise AwsError(
            f"Cluster {cluster.name!r} has {there} readers; {count} more would be above Aurora's {MOST_READERS}.",
            hint="Remove one first: cqrsctl aurora remove-reader",
            code="too_many_readers",
        )


def _check_same(spec: ReaderSpec, there: Instance) -> None:
    if there.is_writer:
        raise AwsError(f"{there.name!r} is the cluster's writer.", hint="Choose another name.", code="name_taken")
    asked_and_there = [("class", spec.instance_class, there.instance_class), ("zone", spec.zone, there.zone)]
    found = [f"{what}: asked {asked}, is {has}" for what, asked, has in asked_and_there if asked and asked != has]
    if found:
        raise AwsError(
            f"Reader {there.name!r} exists, but differs: {'; '.join(found)}. Nothing was changed.",
            hint="Choose another name, or ask for what is there.",
            code="reader_differs",
        )


def _member(cluster: Cluster, name: str) -> Instance | None:
    return next((member for member in cluster.members if member.name == name), None)
