"""The template's table, and its Aurora cluster with the network around it."""

from __future__ import annotations

from typing import Any

from cqrsctl.cloudformation import template_alarms
from cqrsctl.cloudformation.intrinsics import attribute, ref, sub, when
from cqrsctl.write_model.table import KEY, VIEW_TYPE

SERVERLESS_CLASS = "db.serverless"
_ENGINE = "aurora-mysql"
_BACKUP_DAYS = 7
_COOLDOWN_SECONDS = 300
_HTTPS = 443


def resources() -> dict[str, Any]:
    return {"Table": _table(), **_network(), **_cluster(), **_autoscaling()}


def _table() -> dict[str, Any]:
    """The table, which outlives its stack, but not a creation that failed: the next try would meet it.

    Source: "DeletionPolicy attribute", AWS CloudFormation Template Reference.
    """
    return {
        "Type": "AWS::DynamoDB::Table",
        "DeletionPolicy": "RetainExceptOnCreate",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "TableName": ref("TableName"),
            "AttributeDefinitions": [{"AttributeName": KEY, "AttributeType": "N"}],
            "KeySchema": [{"AttributeName": KEY, "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
            "StreamSpecification": {"StreamViewType": VIEW_TYPE},
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            "DeletionProtectionEnabled": ref("DeletionProtection"),
            "SSESpecification": {"SSEEnabled": True},
        },
    }


def _network() -> dict[str, Any]:
    """A group for the projector and one for the database, which lets in the projector and the clients only."""
    return {
        "DatabaseGroup": _group(
            "Database of the read model",
            "ClusterName",
            # Without any rule for what leaves it, EC2 would let everything out.
            {"Description": "Nothing leaves", "IpProtocol": "-1", "CidrIp": "127.0.0.1/32"},
        ),
        "ProjectorGroup": _group(
            "Projector of the read model",
            "ProjectorFunctionName",
            {
                **_port("Secrets Manager, by NAT or an interface endpoint", _HTTPS),
                "CidrIp": "0.0.0.0/0",
            },
            {
                **_port("Database of the read model", ref("DatabasePort")),
                "DestinationSecurityGroupId": attribute("DatabaseGroup", "GroupId"),
            },
        ),
        "DatabaseFromProjector": _entrance("Projector", attribute("ProjectorGroup", "GroupId")),
        "DatabaseFromClients": {
            "Condition": "ClientGroupGiven",
            **_entrance("Applications that query", ref("ClientSecurityGroupId")),
        },
        "SubnetGroup": {
            "Type": "AWS::RDS::DBSubnetGroup",
            "Properties": {
                "DBSubnetGroupDescription": "Where the instances of the read model are",
                "SubnetIds": ref("SubnetIds"),
            },
        },
    }


def _group(description: str, name: str, *egress: dict[str, Any]) -> dict[str, Any]:
    """A security group. EC2 takes no apostrophe in its description and in its rules'."""
    return {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": description,
            "VpcId": ref("VpcId"),
            "SecurityGroupEgress": list(egress),
            "Tags": [{"Key": "Name", "Value": ref(name)}],
        },
    }


def _entrance(description: str, group: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::EC2::SecurityGroupIngress",
        "Properties": {
            **_port(description, ref("DatabasePort")),
            "GroupId": attribute("DatabaseGroup", "GroupId"),
            "SourceSecurityGroupId": group,
        },
    }


def _port(description: str, port: Any) -> dict[str, Any]:
    return {"Description": description, "IpProtocol": "tcp", "FromPort": port, "ToPort": port}


def _cluster() -> dict[str, Any]:
    """The first instance of a cluster becomes its writer, so the reader waits for it.

    A snapshot that a failed creation leaves has a name of its own, so the next try does not meet it.
    """
    return {
        "Cluster": {
            "Type": "AWS::RDS::DBCluster",
            "DeletionPolicy": "Snapshot",
            "UpdateReplacePolicy": "Snapshot",
            "Properties": {
                "DBClusterIdentifier": ref("ClusterName"),
                "Engine": _ENGINE,
                "EngineVersion": ref("EngineVersion"),
                "DatabaseName": ref("DatabaseName"),
                "Port": ref("DatabasePort"),
                "MasterUsername": "admin",
                "ManageMasterUserPassword": True,
                "StorageEncrypted": True,
                "DeletionProtection": ref("DeletionProtection"),
                "BackupRetentionPeriod": _BACKUP_DAYS,
                "CopyTagsToSnapshot": True,
                "EnableIAMDatabaseAuthentication": ref("IamAuthentication"),
                "DBSubnetGroupName": ref("SubnetGroup"),
                "VpcSecurityGroupIds": [attribute("DatabaseGroup", "GroupId")],
                "ServerlessV2ScalingConfiguration": when(
                    "Serverless",
                    {"MinCapacity": ref("ServerlessMinCapacity"), "MaxCapacity": ref("ServerlessMaxCapacity")},
                ),
            },
        },
        "Writer": _instance(1, tier=0),
        "Reader": {"DependsOn": "Writer", **_instance(2, tier=1)},
    }


def _instance(number: int, tier: int) -> dict[str, Any]:
    """An instance; it holds no data of its own, the cluster does."""
    return {
        "Type": "AWS::RDS::DBInstance",
        "DeletionPolicy": "Delete",
        "UpdateReplacePolicy": "Delete",
        "Properties": {
            "DBInstanceIdentifier": sub(f"${{ClusterName}}-{number}"),
            "DBClusterIdentifier": ref("Cluster"),
            "DBInstanceClass": ref("InstanceClass"),
            "Engine": _ENGINE,
            "PromotionTier": tier,
            "PubliclyAccessible": False,
        },
    }


def _autoscaling() -> dict[str, Any]:
    """Readers by their CPU. Without a reader there is no CPU to measure, so the target waits for one.

    It also waits for everything else that may fail: a rollback does not delete readers that autoscaling added, and RDS
    refuses to delete a cluster that has some.
    """
    return {
        "ReaderTarget": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "DependsOn": ["Reader", "CommandFunction", "DatabaseFromProjector", *template_alarms.resources()],
            "Properties": {
                "ServiceNamespace": "rds",
                "ScalableDimension": "rds:cluster:ReadReplicaCount",
                "ResourceId": sub("cluster:${Cluster}"),
                "MinCapacity": ref("ReaderMinimum"),
                "MaxCapacity": ref("ReaderMaximum"),
            },
        },
        "ReaderCpuPolicy": {
            "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
            "Properties": {
                "PolicyName": sub("${ClusterName}-cpu"),
                "PolicyType": "TargetTrackingScaling",
                "ScalingTargetId": ref("ReaderTarget"),
                "TargetTrackingScalingPolicyConfiguration": {
                    "TargetValue": ref("ReaderCpuTarget"),
                    "PredefinedMetricSpecification": {"PredefinedMetricType": "RDSReaderAverageCPUUtilization"},
                    "ScaleInCooldown": _COOLDOWN_SECONDS,
                    "ScaleOutCooldown": _COOLDOWN_SECONDS,
                },
            },
        },
    }
