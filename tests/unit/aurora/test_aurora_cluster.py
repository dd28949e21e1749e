"""The cluster as asked for, the calls that make it, and how it differs from one that is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cqrsctl.aurora.cluster import (
    CapacityRange,
    Cluster,
    ClusterSpec,
    delete_calls,
    differences,
    require_mysql,
    require_name,
)
from cqrsctl.aurora.readers import ReaderSpec, next_names, require_reader
from cqrsctl.errors import AwsError, UsageError

SPEC = ClusterSpec("products", "cqrs")


def described(members: dict[str, str], **more: Any) -> Cluster:
    """A cluster as the API describes it; members by name, each with its role and class."""
    content = {
        "DBClusterIdentifier": "products",
        "Status": "available",
        "Engine": "aurora-mysql",
        "EngineVersion": "8.0.mysql_aurora.3.08.2",
        "StorageEncrypted": True,
        "DeletionProtection": True,
        "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-2"}, {"VpcSecurityGroupId": "sg-1"}],
        "DBClusterMembers": [
            {"DBInstanceIdentifier": name, "IsClusterWriter": role == "writer", "PromotionTier": 1}
            for name, role in members.items()
        ],
        **more,
    }
    instances = {
        name: {"DBInstanceClass": "db.r6g.large", "DBInstanceStatus": "available", "AvailabilityZone": "eu-west-1a"}
        for name in members
    }
    return Cluster.of(content, instances)


CLUSTER = described({"products-1": "writer", "reports": "reader"})


def test_a_creation_sends_all_that_makes_a_cluster_safe() -> None:
    spec = ClusterSpec(
        name="products",
        database="shop",
        instance_class="db.r7g.xlarge",
        capacity=None,
        engine_version="8.0.mysql_aurora.3.08.2",
        subnet_group="private",
        security_groups=("sg-1", "sg-2"),
        kms_key="arn:aws:kms:eu-west-1:1:key/2",
        iam_auth=True,
        deletion_protection=True,
        tags=(("team", "shop"),),
    )

    cluster, writer = spec.calls()

    assert (cluster.service, cluster.operation, cluster.parameters) == (
        "rds",
        "CreateDBCluster",
        {
            "DBClusterIdentifier": "products",
            "Engine": "aurora-mysql",
            "EngineVersion": "8.0.mysql_aurora.3.08.2",
            "DatabaseName": "shop",
            "MasterUsername": "admin",
            "ManageMasterUserPassword": True,
            "StorageEncrypted": True,
            "DeletionProtection": True,
            "EnableIAMDatabaseAuthentication": True,
            "BackupRetentionPeriod": 7,
            "CopyTagsToSnapshot": True,
            "DBSubnetGroupName": "private",
            "VpcSecurityGroupIds": ["sg-1", "sg-2"],
            "KmsKeyId": "arn:aws:kms:eu-west-1:1:key/2",
            "Tags": [{"Key": "team", "Value": "shop"}],
        },
    )
    assert (writer.service, writer.operation, writer.parameters) == (
        "rds",
        "CreateDBInstance",
        {
            "DBInstanceIdentifier": "products-1",
            "DBClusterIdentifier": "products",
            "DBInstanceClass": "db.r7g.xlarge",
            "Engine": "aurora-mysql",
            "PromotionTier": 0,
            "PubliclyAccessible": False,
            "Tags": [{"Key": "team", "Value": "shop"}],
        },
    )


def test_a_serverless_cluster_has_its_range_and_a_serverless_writer() -> None:
    cluster, writer = replace(SPEC, capacity=CapacityRange.parse("0.5-16")).calls()

    assert cluster.parameters["ServerlessV2ScalingConfiguration"] == {"MinCapacity": 0.5, "MaxCapacity": 16.0}
    assert writer.parameters["DBInstanceClass"] == "db.serverless"


@pytest.mark.parametrize("text", ["", "4", "4-2", "0-0.5", "0.3-4", "1-257", "-1-4", "a-b", "1-2-3", "nan-4", "1-inf"])
def test_an_impossible_range_of_capacity_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="range of Aurora capacity units"):
        CapacityRange.parse(text)


@pytest.mark.parametrize("name", ["", "1abc", "a--b", "a-", "a_b", "ä", "a" * 64, "a b"])
def test_a_name_that_rds_would_refuse_is_refused_before(name: str) -> None:
    with pytest.raises(UsageError, match="is not a cluster's name"):
        require_name(name)


def test_names_are_kept_in_lower_case_as_rds_keeps_them() -> None:
    assert require_name("Products-EU1") == "products-eu1"


def test_a_cluster_as_asked_for_has_no_differences() -> None:
    asked = replace(SPEC, instance_class="db.r6g.large", security_groups=("sg-2", "sg-1"), engine_version="8.0")

    assert differences(asked, CLUSTER) == []
    assert differences(SPEC, CLUSTER) == []


def test_differences_are_told_one_by_one() -> None:
    asked = replace(
        SPEC,
        deletion_protection=False,
        iam_auth=True,
        engine_version="8.0.mysql_aurora.3.04.0",
        instance_class="db.r6g.xlarge",
        capacity=CapacityRange(1, 4),
        subnet_group="private",
        security_groups=("sg-3",),
        kms_key="alias/own",
    )

    assert differences(asked, CLUSTER, "alias/own") == [
        "deletion protection: asked off, is on",
        "IAM authentication: asked on, is off",
        "engine version: asked 8.0.mysql_aurora.3.04.0, is 8.0.mysql_aurora.3.08.2",
        "serverless range: asked 1-4, is None",
        "writer's class: asked db.r6g.xlarge, is db.r6g.large",
        "subnet group: asked private, is ",
        "security groups: asked sg-3, is sg-1, sg-2",
        "KMS key: asked alias/own, is ",
    ]


def test_a_subnet_group_is_the_same_in_any_case_as_rds_keeps_it_in_lower_case() -> None:
    asked, there = replace(SPEC, subnet_group="Private-EU"), replace(CLUSTER, subnet_group="private-eu")

    assert differences(asked, there) == []
    assert differences(replace(asked, subnet_group="public"), there) == ["subnet group: asked public, is private-eu"]


def test_storage_without_encryption_is_a_difference() -> None:
    assert differences(SPEC, replace(CLUSTER, encrypted=False)) == ["storage encryption: asked on, is off"]


@pytest.mark.parametrize(
    ("engine", "version"),
    [("aurora-postgresql", "16.4"), ("aurora-mysql", "5.7.mysql_aurora.2.11.2"), ("mysql", "8.0")],
)
def test_another_engine_is_refused_by_name(engine: str, version: str) -> None:
    with pytest.raises(AwsError, match=f"runs {engine} {version}, not Aurora MySQL 3"):
        require_mysql(replace(CLUSTER, engine=engine, version=version))


def test_an_instance_that_is_being_made_is_there_although_it_is_no_member_yet() -> None:
    made = {"DBInstanceStatus": "creating", "DBInstanceClass": "db.r6g.large", "PromotionTier": 3}
    content = {"DBClusterIdentifier": "products", "Status": "available", "Engine": "aurora-mysql"}
    cluster = Cluster.of({**content, "VpcSecurityGroups": [], "DBClusterMembers": []}, {"reports": made})

    assert [(member.name, member.role, member.status, member.tier) for member in cluster.members] == [
        ("reports", "reader", "creating", 3)
    ]


def test_a_deletion_takes_the_protection_first_and_the_writer_last() -> None:
    calls = delete_calls(CLUSTER, "products-last")

    assert [(call.operation, call.parameters) for call in calls] == [
        ("ModifyDBCluster", {"DBClusterIdentifier": "products", "DeletionProtection": False, "ApplyImmediately": True}),
        ("DeleteDBInstance", {"DBInstanceIdentifier": "reports", "SkipFinalSnapshot": True}),
        ("DeleteDBInstance", {"DBInstanceIdentifier": "products-1", "SkipFinalSnapshot": True}),
        (
            "DeleteDBCluster",
            {
                "DBClusterIdentifier": "products",
                "SkipFinalSnapshot": False,
                "FinalDBSnapshotIdentifier": "products-last",
            },
        ),
    ]
    assert delete_calls(CLUSTER, None)[-1].parameters == {"DBClusterIdentifier": "products", "SkipFinalSnapshot": True}


def test_a_reader_is_of_the_writers_class_unless_asked_otherwise() -> None:
    (plain,) = ReaderSpec("R2").plan(CLUSTER)
    (asked,) = ReaderSpec("r2", instance_class="db.r6g.xlarge", zone="eu-west-1b", tier=15).plan(CLUSTER)

    assert plain.operation == "CreateDBInstance"
    assert plain.parameters == {
        "DBInstanceIdentifier": "r2",
        "DBClusterIdentifier": "products",
        "DBInstanceClass": "db.r6g.large",
        "Engine": "aurora-mysql",
        "PromotionTier": 1,
        "PubliclyAccessible": False,
    }
    assert asked.parameters == {
        "DBInstanceIdentifier": "r2",
        "DBClusterIdentifier": "products",
        "DBInstanceClass": "db.r6g.xlarge",
        "Engine": "aurora-mysql",
        "PromotionTier": 15,
        "PubliclyAccessible": False,
        "AvailabilityZone": "eu-west-1b",
    }
    (tagged,) = ReaderSpec("r3").plan(replace(CLUSTER, tags=(("team", "shop"),)))
    assert tagged.parameters["Tags"] == [{"Key": "team", "Value": "shop"}]


def test_readers_without_a_name_get_the_next_free_ones() -> None:
    cluster = described({"products-1": "writer", "products-reader-2": "reader"})

    assert next_names(cluster, 3) == ["products-reader-1", "products-reader-3", "products-reader-4"]
    assert [call.parameters["DBInstanceIdentifier"] for call in ReaderSpec(count=2).plan(cluster)] == [
        "products-reader-1",
        "products-reader-3",
    ]


def test_a_reader_that_is_there_as_asked_needs_no_call() -> None:
    assert ReaderSpec("Reports").plan(CLUSTER) == []
    assert ReaderSpec("reports", zone="eu-west-1a").plan(CLUSTER) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ReaderSpec("reports", instance_class="db.r6g.xlarge"), "class: asked db.r6g.xlarge, is db.r6g.large"),
        (ReaderSpec("reports", zone="eu-west-1c"), "zone: asked eu-west-1c, is eu-west-1a"),
        (ReaderSpec("products-1"), "is the cluster's writer"),
        (ReaderSpec(count=15), "has 1 readers; 15 more would be above Aurora's 15"),
        (ReaderSpec("r2", instance_class="db.serverless"), "no range of capacity units"),
    ],
)
def test_a_reader_that_cannot_be_is_refused(spec: ReaderSpec, message: str) -> None:
    with pytest.raises(AwsError, match=message):
        spec.plan(CLUSTER)


@pytest.mark.parametrize(
    "spec", [ReaderSpec("r2", count=2), ReaderSpec("r_2"), ReaderSpec("r2", instance_class="r6g.large")]
)
def test_a_reader_asked_for_wrongly_is_wrong_usage(spec: ReaderSpec) -> None:
    with pytest.raises(UsageError):
        spec.plan(CLUSTER)


def test_a_cluster_without_writer_needs_a_class_for_its_readers() -> None:
    with pytest.raises(UsageError, match="no writer"):
        ReaderSpec().plan(described({}))


def test_only_a_reader_can_be_removed() -> None:
    assert require_reader(CLUSTER, "Reports").name == "reports"
    with pytest.raises(AwsError, match="has no reader 'other'"):
        require_reader(CLUSTER, "other")
    with pytest.raises(AwsError, match="is the writer"):
        require_reader(CLUSTER, "products-1")
