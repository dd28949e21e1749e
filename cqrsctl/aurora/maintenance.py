"""What AWS does to a cluster of its own accord: pending maintenance, and the end of support of the engine's version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date, datetime

    from cqrsctl.aurora.cluster import Cluster

_STANDARD = "open-source-rds-standard-support"
_EXTENDED = "open-source-rds-extended-support"


@dataclass(frozen=True, slots=True)
class PendingAction:
    """Maintenance of the cluster or of a member. `applied_at` is None as long as nobody and nothing asks for it.

    Source: PendingMaintenanceAction, RDS API reference.
    """

    resource_arn: str
    action: str
    description: str
    applied_at: datetime | None

    @property
    def resource(self) -> str:
        return self.resource_arn.rpartition(":")[2]

    @classmethod
    def of(cls, arn: str, described: Mapping[str, Any]) -> PendingAction:
        dates = (described.get(name) for name in ("CurrentApplyDate", "AutoAppliedAfterDate", "ForcedApplyDate"))
        return cls(
            resource_arn=arn,
            action=described["Action"],
            description=described.get("Description", ""),
            applied_at=next(filter(None, dates), None),
        )


@dataclass(frozen=True, slots=True)
class Support:
    """The last days of an engine version's standard support, and of the extended one, which is paid for besides."""

    standard_until: date
    extended_until: date | None


def pending(client: Any, cluster: Cluster) -> list[PendingAction]:
    """The maintenance that waits for the cluster and its members, what comes first before. Raises AwsError."""
    found = [*_pending(client, "db-cluster-id", [cluster.name])]
    if names := [member.name for member in cluster.members]:
        found += _pending(client, "db-instance-id", names)
    return sorted(found, key=lambda each: (each.applied_at is None, each.applied_at and each.applied_at.timestamp()))


def support(client: Any, cluster: Cluster) -> Support | None:
    """How long the cluster's major version is supported; None if AWS does not say. Raises AwsError.

    Source: "Viewing support dates for engine versions in Amazon RDS Extended Support", Aurora User Guide.
    """
    major = ".".join(cluster.version.split(".")[:2])
    asked = {"Engine": cluster.engine, "MajorEngineVersion": major}
    ends = {
        lifecycle["LifecycleSupportName"]: lifecycle["LifecycleSupportEndDate"].date()
        for page in ApiCall("rds", "DescribeDBMajorEngineVersions", asked).pages(client)
        for version in page["DBMajorEngineVersions"]
        for lifecycle in version.get("SupportedEngineLifecycles", [])
    }
    return Support(ends[_STANDARD], ends.get(_EXTENDED)) if _STANDARD in ends else None


def _pending(client: Any, of: str, names: list[str]) -> Iterator[PendingAction]:
    asked = {"Filters": [{"Name": of, "Values": names}]}
    for page in ApiCall("rds", "DescribePendingMaintenanceActions", asked).pages(client):
        for resource in page["PendingMaintenanceActions"]:
            for action in resource["PendingMaintenanceActionDetails"]:
                yield PendingAction.of(resource["ResourceIdentifier"], action)
