"""The Aurora cluster of the read model: what is asked for, what is there, and the API calls between the two."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENGINE = "aurora-mysql"
AVAILABLE = "available"
DELETING = "deleting"
SERVERLESS_CLASS = "db.serverless"
MOST_READERS = 15
AUTOSCALED_PREFIX = "application-autoscaling-"
"""So begin the names of the readers that autoscaling makes."""
_DEFAULT_VERSION = "8.0"
"""Aurora MySQL 3, in the minor version that is AWS's default."""
_DEFAULT_CLASS = "db.r6g.large"
_MASTER_USER = "admin"
_BACKUP_DAYS = 7
_NAME = re.compile(r"[A-Za-z](?:-?[A-Za-z0-9])*")
_NAME_LENGTH = 63
_CAPACITY = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")
_MOST_CAPACITY = 256.0


@dataclass(frozen=True, slots=True)
class CapacityRange:
    """The range of Aurora Serverless v2, in Aurora capacity units of about 2 GiB memory each."""

    least: float
    most: float

    @classmethod
    def parse(cls, text: str) -> CapacityRange:
        """`0.5-16`. Raises UsageError.

        Limits: 0 to 256 in steps of 0.5, the maximum at least 1. Source: ServerlessV2ScalingConfiguration, RDS API.
        """
        match = _CAPACITY.fullmatch(text)
        least, most = (float(match[1]), float(match[2])) if match else (-1.0, -1.0)
        if not 0 <= least <= most <= _MOST_CAPACITY or most < 1 or (least * 2) % 1 or (most * 2) % 1:
            raise UsageError(
                f"{text!r} is not a range of Aurora capacity units.",
                hint="Give MIN-MAX, from 0 to 256 in steps of 0.5, the maximum at least 1; for example 0.5-16.",
            )
        return cls(least, most)

    def __str__(self) -> str:
        return f"{self.least:g}-{self.most:g}"


@dataclass(frozen=True, slots=True)
class Instance:
    """A member of the cluster. `host` is empty while it is being made."""

    name: str
    is_writer: bool
    status: str
    instance_class: str
    zone: str
    tier: int
    host: str = ""

    @property
    def role(self) -> str:
        return "writer" if self.is_writer else "reader"

    @property
    def autoscaled(self) -> bool:
        return self.name.startswith(AUTOSCALED_PREFIX)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as RDS describes it."""

    name: str
    status: str
    engine: str
    version: str
    writer_host: str
    reader_host: str
    port: int
    capacity: CapacityRange | None
    storage_type: str
    encrypted: bool
    kms_key: str
    deletion_protection: bool
    iam_auth: bool
    backup_days: int
    subnet_group: str
    security_groups: tuple[str, ...]
    secret_arn: str | None
    members: tuple[Instance, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    """Those that a person gave: AWS keeps the prefix `aws:` for its own."""

    @property
    def writer(self) -> Instance | None:
        return next((member for member in self.members if member.is_writer), None)

    @property
    def readers(self) -> tuple[Instance, ...]:
        return tuple(member for member in self.members if not member.is_writer)

    @classmethod
    def of(cls, described: Mapping[str, Any], instances: Mapping[str, Mapping[str, Any]]) -> Cluster:
        capacity = described.get("ServerlessV2ScalingConfiguration") or {}
        return cls(
            name=described["DBClusterIdentifier"],
            status=described["Status"],
            engine=described["Engine"],
            version=described.get("EngineVersion", ""),
            writer_host=described.get("Endpoint", ""),
            reader_host=described.get("ReaderEndpoint", ""),
            port=described.get("Port", 3306),
            capacity=CapacityRange(capacity["MinCapacity"], capacity["MaxCapacity"]) if capacity else None,
            storage_type=described.get("StorageType", "aurora"),
            encrypted=bool(described.get("StorageEncrypted")),
            kms_key=described.get("KmsKeyId", ""),
            deletion_protection=bool(described.get("DeletionProtection")),
            iam_auth=bool(described.get("IAMDatabaseAuthenticationEnabled")),
            backup_days=described.get("BackupRetentionPeriod", 0),
            subnet_group=described.get("DBSubnetGroup", ""),
            security_groups=tuple(sorted(group["VpcSecurityGroupId"] for group in described["VpcSecurityGroups"])),
            secret_arn=(described.get("MasterUserSecret") or {}).get("SecretArn"),
            members=_members(described["DBClusterMembers"], instances),
            tags=tuple(
                (tag["Key"], tag["Value"]) for tag in described.get("TagList", []) if not tag["Key"].startswith("aws:")
            ),
        )


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """The requested cluster with its writer. None keeps the present value, or leaves the choice to AWS."""

    name: str
    database: str
    instance_class: str | None = None
    capacity: CapacityRange | None = None
    engine_version: str | None = None
    subnet_group: str | None = None
    security_groups: tuple[str, ...] = ()
    kms_key: str | None = None
    iam_auth: bool = False
    deletion_protection: bool = True
    tags: tuple[tuple[str, str], ...] = field(default=())

    @property
    def writer_name(self) -> str:
        return f"{self.name}-1"

    @property
    def writer_class(self) -> str:
        return self.instance_class or (SERVERLESS_CLASS if self.capacity else _DEFAULT_CLASS)

    def create_call(self) -> ApiCall:
        parameters: dict[str, Any] = {
            "DBClusterIdentifier": self.name,
            "Engine": ENGINE,
            "EngineVersion": self.engine_version or _DEFAULT_VERSION,
            "DatabaseName": self.database,
            "MasterUsername": _MASTER_USER,
            "ManageMasterUserPassword": True,
            "StorageEncrypted": True,
            "DeletionProtection": self.deletion_protection,
            "EnableIAMDatabaseAuthentication": self.iam_auth,
            "BackupRetentionPeriod": _BACKUP_DAYS,
            "CopyTagsToSnapshot": True,
        }
        if self.capacity:
            parameters["ServerlessV2ScalingConfiguration"] = {
                "MinCapacity": self.capacity.least,
                "MaxCapacity": self.capacity.most,
            }
        if self.subnet_group:
            parameters["DBSubnetGroupName"] = self.subnet_group
        if self.security_groups:
            parameters["VpcSecurityGroupIds"] = list(self.security_groups)
        if self.kms_key:
            parameters["KmsKeyId"] = self.kms_key
        if self.tags:
            parameters["Tags"] = [{"Key": key, "Value": value} for key, value in self.tags]
        return ApiCall("rds", "CreateDBCluster", parameters)

    def writer_call(self) -> ApiCall:
        """The first instance of a cluster becomes its writer."""
        return create_instance_call(self.writer_name, self.name, self.writer_class, 0, self.tags)

    def calls(self) -> list[ApiCall]:
        """All calls of a creation."""
        return [self.create_call(), self.writer_call()]


def require_name(name: str, what: str = "cluster") -> str:
    """A name that RDS takes, in lower case as RDS keeps it. Raises UsageError."""
    if not _NAME.fullmatch(name) or len(name) > _NAME_LENGTH:
        raise UsageError(
            f"{name!r} is not a {what}'s name.",
            hint="Letters, digits and single hyphens, beginning with a letter, not ending with a hyphen, at most 63.",
        )
    return name.lower()


def find(client: Any, name: str) -> Cluster | None:
    """The cluster with its instances, or None if there is none. Raises AwsError."""
    try:
        found = ApiCall("rds", "DescribeDBClusters", {"DBClusterIdentifier": name}).make(client)["DBClusters"][0]
    except AwsError as error:
        if error_code(error) == "DBClusterNotFoundFault":
            return None
        raise
    return Cluster.of(found, instances(client, name))


def instances(client: Any, cluster: str) -> dict[str, Mapping[str, Any]]:
    """The cluster's instances by name: also those that are being made, or failed, and are no members yet."""
    parameters: dict[str, Any] = {"Filters": [{"Name": "db-cluster-id", "Values": [cluster]}]}
    pages = ApiCall("rds", "DescribeDBInstances", parameters).pages(client)
    return {instance["DBInstanceIdentifier"]: instance for page in pages for instance in page["DBInstances"]}


def describe(client: Any, name: str) -> Cluster:
    """The cluster. Raises AwsError if there is none (`cluster_missing`), or it is no Aurora MySQL 3."""
    return existing(client, name, find(client, name))


def existing(client: Any, name: str, found: Cluster | None) -> Cluster:
    """What was found under a name. Raises AwsError if that is nothing (`cluster_missing`), or no Aurora MySQL 3."""
    if found is None:
        raise AwsError(
            f"No cluster {name!r} in {client.meta.region_name} ({client.meta.endpoint_url}).",
            hint="Create it with `cqrsctl aurora create`, or check database.cluster, --region and --env.",
            code="cluster_missing",
        )
    require_mysql(found)
    return found


def require_mysql(cluster: Cluster) -> None:
    """Raises AwsError if a cluster is not Aurora MySQL 3 (MySQL 8.0)."""
    if cluster.engine != ENGINE or not (cluster.version == "8.0" or cluster.version.startswith("8.0.")):
        raise AwsError(
            f"Cluster {cluster.name!r} runs {cluster.engine} {cluster.version}, not Aurora MySQL 3 (MySQL 8.0).",
            hint="Name the read model's cluster: database.cluster, or CQRSCTL_DATABASE_CLUSTER.",
            code="cluster_engine",
        )


def require_available(cluster: Cluster) -> None:
    """Raises AwsError if a cluster is being created, modified or deleted: it takes no changes then."""
    if cluster.status != AVAILABLE:
        raise AwsError(
            f"Cluster {cluster.name!r} is {cluster.status}; it takes no changes now.",
            hint="Look again with `cqrsctl aurora status`, and try again when it is available.",
            code="cluster_not_available",
        )


def differences(spec: ClusterSpec, cluster: Cluster, key: str | None = None) -> list[str]:
    """How the cluster differs from what was requested, in words. What was not requested may be anything.

    `key` is the KMS key asked for, as the cluster would name it; None if it is not to be compared.
    """
    writer = cluster.writer
    asked_and_there: list[tuple[str, Any, Any]] = [
        ("deletion protection", _on(spec.deletion_protection), _on(cluster.deletion_protection)),
        ("IAM authentication", _on(spec.iam_auth), _on(cluster.iam_auth)),
        ("storage encryption", "on", _on(cluster.encrypted)),
    ]
    if spec.engine_version and not _same_version(spec.engine_version, cluster.version):
        asked_and_there.append(("engine version", spec.engine_version, cluster.version))
    if spec.capacity or (cluster.capacity and spec.instance_class):
        asked_and_there.append(("serverless range", str(spec.capacity), str(cluster.capacity)))
    if spec.instance_class and writer:
        asked_and_there.append(("writer's class", spec.instance_class, writer.instance_class))
    if spec.subnet_group and spec.subnet_group.lower() != cluster.subnet_group.lower():  # RDS keeps it in lower case
        asked_and_there.append(("subnet group", spec.subnet_group, cluster.subnet_group))
    if spec.security_groups:
        asked_and_there.append(
            ("security groups", ", ".join(sorted(spec.security_groups)), ", ".join(cluster.security_groups))
        )
    if key and key != cluster.kms_key:
        asked_and_there.append(("KMS key", spec.kms_key or key, cluster.kms_key))
    return [f"{what}: asked {asked}, is {there}" for what, asked, there in asked_and_there if asked != there]


def delete_calls(cluster: Cluster, final_snapshot: str | None) -> list[ApiCall]:
    """The calls that delete a cluster: first the protection, then its readers, its writer, and the cluster itself.

    `final_snapshot` None: the data is gone for good. What is being deleted already is left out: RDS would refuse it.
    """
    if cluster.status == DELETING:
        return []
    calls = []
    if cluster.deletion_protection:
        parameters = {"DBClusterIdentifier": cluster.name, "DeletionProtection": False, "ApplyImmediately": True}
        calls.append(ApiCall("rds", "ModifyDBCluster", parameters))
    members = (*cluster.readers, *filter(None, [cluster.writer]))
    calls += [call for member in members for call in delete_instance_calls(member)]
    kept = {"FinalDBSnapshotIdentifier": final_snapshot} if final_snapshot else {}
    parameters = {"DBClusterIdentifier": cluster.name, "SkipFinalSnapshot": final_snapshot is None, **kept}
    return [*calls, ApiCall("rds", "DeleteDBCluster", parameters)]


def create_instance_call(
    name: str,
    cluster_name: str,
    instance_class: str,
    tier: int,
    tags: Iterable[tuple[str, str]],
    zone: str | None = None,
) -> ApiCall:
    """A member of a cluster. It has no public address: without that said, one in the default VPC gets one."""
    parameters: dict[str, Any] = {
        "DBInstanceIdentifier": name,
        "DBClusterIdentifier": cluster_name,
        "DBInstanceClass": instance_class,
        "Engine": ENGINE,
        "PromotionTier": tier,
        "PubliclyAccessible": False,
    }
    if zone:
        parameters["AvailabilityZone"] = zone
    if listed := [{"Key": key, "Value": value} for key, value in tags]:
        parameters["Tags"] = listed
    return ApiCall("rds", "CreateDBInstance", parameters)


def delete_instance_calls(member: Instance) -> list[ApiCall]:
    """None if the member is being deleted already."""
    return [] if member.status == DELETING else [delete_instance_call(member.name)]


def delete_instance_call(name: str) -> ApiCall:
    """An Aurora instance holds no data of its own, so there is no snapshot to take."""
    return ApiCall("rds", "DeleteDBInstance", {"DBInstanceIdentifier": name, "SkipFinalSnapshot": True})


def failover_call(cluster: str, to: str | None) -> ApiCall:
    """Make another instance the writer; without a name AWS takes the reader of the lowest tier."""
    target = {"TargetDBInstanceIdentifier": to} if to else {}
    return ApiCall("rds", "FailoverDBCluster", {"DBClusterIdentifier": cluster, **target})


def _members(listed: Iterable[Mapping[str, Any]], instances: Mapping[str, Mapping[str, Any]]) -> tuple[Instance, ...]:
    """The writer first. An instance that is being made may not be listed as a member yet."""
    found = {member["DBInstanceIdentifier"]: member for member in listed}
    members = [
        Instance(
            name=name,
            is_writer=bool(found.get(name, {}).get("IsClusterWriter")),
            status=described.get("DBInstanceStatus", "unknown"),
            instance_class=described.get("DBInstanceClass", ""),
            zone=described.get("AvailabilityZone", ""),
            tier=found.get(name, described).get("PromotionTier", 1),
            host=(described.get("Endpoint") or {}).get("Address", ""),
        )
        for name in sorted({*found, *instances})
        for described in [instances.get(name, {})]
    ]
    return tuple(sorted(members, key=lambda member: not member.is_writer))


def _same_version(asked: str, there: str) -> bool:
    """`8.0` asks for any of its versions."""
    return there == asked or there.startswith(asked + ".")


def _on(value: bool) -> str:
    return "on" if value else "off"
