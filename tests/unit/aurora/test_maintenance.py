"""Pending maintenance of a cluster and its members, and the end of support of its version."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from cqrsctl.aurora import maintenance
from cqrsctl.aurora.maintenance import Support
from tests.paginated import Paginated
from tests.unit.aurora.test_aurora_cluster import CLUSTER, described

ARN = "arn:aws:rds:eu-west-1:123456789012"
FIRST, SECOND, LAST = (datetime(2026, 12, day, 3, tzinfo=UTC) for day in (1, 2, 3))


def action(name: str, **dates: datetime) -> dict[str, Any]:
    return {"Action": name, "Description": f"{name} is available", **dates}


class Rds(Paginated):
    """boto3's client, with maintenance by filter, two pages of it for the cluster, and the versions' lifecycles."""

    def __init__(self, *lifecycles: tuple[str, datetime]) -> None:
        self.lifecycles = lifecycles
        self.asked: list[dict[str, Any]] = []

    def describe_pending_maintenance_actions(self, **asked: Any) -> Any:
        self.asked.append(asked)
        (wanted,) = asked["Filters"]
        if wanted["Name"] == "db-instance-id":
            details = [action("os-upgrade"), action("system-update", ForcedApplyDate=SECOND)]
            return {
                "PendingMaintenanceActions": [
                    {"ResourceIdentifier": f"{ARN}:db:reports", "PendingMaintenanceActionDetails": details}
                ]
            }
        dates = {"AutoAppliedAfterDate": FIRST, "CurrentApplyDate": LAST} if "Marker" in asked else {}
        dates = dates or {"AutoAppliedAfterDate": FIRST}
        listed = {
            "ResourceIdentifier": f"{ARN}:cluster:products",
            "PendingMaintenanceActionDetails": [action("db-upgrade", **dates)],
        }
        return {"PendingMaintenanceActions": [listed], **({} if "Marker" in asked else {"Marker": "more"})}

    def describe_db_major_engine_versions(self, **asked: Any) -> Any:
        self.asked.append(asked)
        listed = [{"LifecycleSupportName": name, "LifecycleSupportEndDate": end} for name, end in self.lifecycles]
        return {"DBMajorEngineVersions": [{"Engine": "aurora-mysql", "SupportedEngineLifecycles": listed}]}


def test_maintenance_of_the_cluster_and_of_its_members_is_listed_by_its_date() -> None:
    client = Rds()

    found = maintenance.pending(client, CLUSTER)

    assert [(each.resource, each.action, each.applied_at) for each in found] == [
        ("products", "db-upgrade", FIRST),
        ("reports", "system-update", SECOND),
        ("products", "db-upgrade", LAST),
        ("reports", "os-upgrade", None),
    ]
    assert found[0].description == "db-upgrade is available"
    assert [asked["Filters"] for asked in client.asked] == [
        [{"Name": "db-cluster-id", "Values": ["products"]}],
        [{"Name": "db-cluster-id", "Values": ["products"]}],
        [{"Name": "db-instance-id", "Values": ["products-1", "reports"]}],
    ]


def test_a_cluster_without_members_asks_for_its_own_maintenance_only() -> None:
    client = Rds()

    assert len(maintenance.pending(client, described({}))) == 2
    assert {asked["Filters"][0]["Name"] for asked in client.asked} == {"db-cluster-id"}


def test_the_end_of_support_is_that_of_the_major_version() -> None:
    ends = datetime(2028, 4, 30, 23, 59, 59, tzinfo=UTC), datetime(2031, 7, 31, 23, 59, 59, tzinfo=UTC)
    client = Rds(("open-source-rds-standard-support", ends[0]), ("open-source-rds-extended-support", ends[1]))

    assert maintenance.support(client, CLUSTER) == Support(date(2028, 4, 30), date(2031, 7, 31))
    assert client.asked == [{"Engine": "aurora-mysql", "MajorEngineVersion": "8.0"}]


def test_a_version_without_lifecycles_has_no_known_end() -> None:
    assert maintenance.support(Rds(), CLUSTER) is None
