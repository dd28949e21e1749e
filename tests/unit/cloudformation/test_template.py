"""The CloudFormation template: valid, complete, and no permission without a reason."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from cqrsctl.aurora.autoscaling import DEFAULT_COOLDOWN_SECONDS, Metric
from cqrsctl.aurora.cluster import ClusterSpec
from cqrsctl.cloudformation.template import Settings, template
from cqrsctl.write_model.table import TableSpec

SETTINGS = Settings(table="Products", database="cqrs", cluster="products")
VARIANTS = {
    "defaults": SETTINGS,
    "other names": Settings(table="Shop.Products-2", database="shop_2", cluster="Shop-EU", port=3307),
    "serverless": Settings(table="Products", database="cqrs", cluster="products", instance_class="db.serverless"),
    "graviton": Settings(table="Products", database="cqrs", cluster="products", instance_class="db.r7g.xlarge"),
}
REGIONS = ["us-east-1", "eu-west-1", "eu-central-1", "ap-southeast-2"]

RESOURCES = template(SETTINGS)["Resources"]
EC2 = "arn:${AWS::Partition}:ec2:${AWS::Region}:${AWS::AccountId}:"
SECRET = {"Fn::GetAtt": ["Cluster", "MasterUserSecret.SecretArn"]}
ALL_OF_EC2 = {
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
}


def findings(content: dict[str, Any]) -> list[str]:
    """What cfn-lint says, with its informational rules too."""
    options = ManualArgs(regions=REGIONS, include_checks=["I"])
    return [f"{match.rule.id}: {match.message}" for match in lint(json.dumps(content), config=options)]


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = RESOURCES[name]["Properties"]
    return found


def statements(role: str) -> list[dict[str, Any]]:
    (policy,) = properties(role)["Policies"]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_cfn_lint_finds_nothing_in_it(settings: Settings) -> None:
    assert findings(template(settings)) == []


def test_it_is_short_enough_to_be_deployed_without_a_bucket_of_its_own() -> None:
    """51,200 bytes. Source: "CloudFormation quotas", AWS CloudFormation User Guide."""
    assert len(json.dumps(template(SETTINGS), indent=2).encode()) <= 51_200


@pytest.mark.parametrize(
    ("place", "value", "rule"),
    [
        (("Mapping", "EventSourceArn"), {"Fn::GetAtt": ["Table", "StreamArm"]}, "E1010"),
        (("CommandFunction", "MemorySize"), 64, "E3034"),
        (("CommandFunction", "Environment"), {"Variables": {"TABLE": {"Ref": "Tabel"}}}, "E1020"),
        (("Cluster", "Engine"), "aurora-mysqld", "E3690"),
    ],
)
def test_cfn_lint_would_find_a_wrong_name_or_number(place: tuple[str, str], value: Any, rule: str) -> None:
    broken = template(SETTINGS)
    broken["Resources"][place[0]]["Properties"][place[1]] = value

    assert any(finding.startswith(rule) for finding in findings(broken))


def test_the_environment_s_names_and_numbers_are_the_parameters_defaults() -> None:
    parameters = template(VARIANTS["other names"])["Parameters"]

    defaults = {name: parameter.get("Default") for name, parameter in parameters.items()}
    assert defaults["TableName"] == "Shop.Products-2"
    assert defaults["DatabaseName"] == "shop_2"
    assert defaults["DatabasePort"] == 3307
    assert defaults["ClusterName"] == "shop-eu", "RDS keeps the names of clusters in lower case"
    assert template(VARIANTS["serverless"])["Parameters"]["InstanceClass"]["Default"] == "db.serverless"


def test_only_the_code_s_place_and_the_network_must_be_given() -> None:
    parameters = template(SETTINGS)["Parameters"]

    required = {name for name, parameter in parameters.items() if "Default" not in parameter}
    assert required == {"CodeBucket", "CodeKey", "VpcId", "SubnetIds"}
    assert all(parameter["Description"] for parameter in parameters.values())


def test_the_table_is_as_table_create_makes_it_and_nothing_deletes_it_with_the_stack() -> None:
    table, spec = properties("Table"), TableSpec("Products")
    created = spec.create_call().parameters

    for name in ("AttributeDefinitions", "KeySchema", "BillingMode"):
        assert table[name] == created[name]
    assert table["StreamSpecification"]["StreamViewType"] == created["StreamSpecification"]["StreamViewType"]
    assert (
        table["PointInTimeRecoverySpecification"] == spec.backups_call().parameters["PointInTimeRecoverySpecification"]
    )
    assert table["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert RESOURCES["Table"]["UpdateReplacePolicy"] == "Retain"


def test_the_cluster_is_as_aurora_create_makes_it_and_leaves_a_snapshot() -> None:
    cluster, spec = properties("Cluster"), ClusterSpec("products", "cqrs")
    created = spec.create_call().parameters
    given_by_parameters = {
        "DBClusterIdentifier",
        "DatabaseName",
        "EngineVersion",
        "DeletionProtection",
        "EnableIAMDatabaseAuthentication",
    }

    assert {name: cluster[name] for name in created.keys() - given_by_parameters} == {
        name: value for name, value in created.items() if name not in given_by_parameters
    }
    parameters = template(SETTINGS)["Parameters"]
    assert parameters["EngineVersion"]["Default"] == created["EngineVersion"]
    assert parameters["InstanceClass"]["Default"] == spec.writer_class
    assert parameters["IamAuthentication"]["Default"] == "false"
    assert RESOURCES["Cluster"]["DeletionPolicy"] == RESOURCES["Cluster"]["UpdateReplacePolicy"] == "Snapshot"


def test_capacity_units_are_asked_for_with_serverless_only() -> None:
    content = template(SETTINGS)

    assert content["Conditions"]["Serverless"] == {"Fn::Equals": [{"Ref": "InstanceClass"}, "db.serverless"]}
    assert properties("Cluster")["ServerlessV2ScalingConfiguration"] == {
        "Fn::If": [
            "Serverless",
            {"MinCapacity": {"Ref": "ServerlessMinCapacity"}, "MaxCapacity": {"Ref": "ServerlessMaxCapacity"}},
            {"Ref": "AWS::NoValue"},
        ]
    }


def test_the_first_instance_is_the_writer_and_autoscaling_waits_for_the_reader() -> None:
    writer, reader = properties("Writer"), properties("Reader")

    assert (writer["PromotionTier"], reader["PromotionTier"]) == (0, 1)
    assert (writer["DBInstanceIdentifier"], reader["DBInstanceIdentifier"]) == (
        {"Fn::Sub": "${ClusterName}-1"},
        {"Fn::Sub": "${ClusterName}-2"},
    )
    assert not writer["PubliclyAccessible"]
    assert not reader["PubliclyAccessible"]
    assert RESOURCES["Reader"]["DependsOn"] == "Writer"
    assert "Reader" in RESOURCES["ReaderTarget"]["DependsOn"]


def test_autoscaling_follows_the_readers_cpu() -> None:
    configuration = properties("ReaderCpuPolicy")["TargetTrackingScalingPolicyConfiguration"]

    assert properties("ReaderTarget") == {
        "ServiceNamespace": "rds",
        "ScalableDimension": "rds:cluster:ReadReplicaCount",
        "ResourceId": {"Fn::Sub": "cluster:${Cluster}"},
        "MinCapacity": {"Ref": "ReaderMinimum"},
        "MaxCapacity": {"Ref": "ReaderMaximum"},
    }
    assert configuration == {
        "TargetValue": {"Ref": "ReaderCpuTarget"},
        "PredefinedMetricSpecification": {"PredefinedMetricType": Metric.CPU.predefined},
        "ScaleInCooldown": DEFAULT_COOLDOWN_SECONDS,
        "ScaleOutCooldown": DEFAULT_COOLDOWN_SECONDS,
    }


def test_the_database_lets_in_the_projector_and_the_clients_that_were_named() -> None:
    entrances = {
        name: (resource.get("Condition"), resource["Properties"]["SourceSecurityGroupId"])
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress"
    }

    assert entrances == {
        "DatabaseFromProjector": (None, {"Fn::GetAtt": ["ProjectorGroup", "GroupId"]}),
        "DatabaseFromClients": ("ClientGroupGiven", {"Ref": "ClientSecurityGroupId"}),
    }
    assert "SecurityGroupIngress" not in properties("DatabaseGroup")
    assert [(rule["FromPort"], rule["ToPort"]) for rule in properties("ProjectorGroup")["SecurityGroupEgress"]] == [
        (443, 443),
        ({"Ref": "DatabasePort"}, {"Ref": "DatabasePort"}),
    ]


def test_the_mapping_is_set_so_that_nothing_is_skipped_and_nothing_blocks_the_stream_for_ever() -> None:
    assert properties("Mapping") == {
        "EventSourceArn": {"Fn::GetAtt": ["Table", "StreamArn"]},
        "FunctionName": {"Ref": "ProjectorFunction"},
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 1_000,
        "MaximumBatchingWindowInSeconds": 1,
        "ParallelizationFactor": {"Ref": "Parallelization"},
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": {"Ref": "RetryAttempts"},
        "MaximumRecordAgeInSeconds": 86_400,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "MetricsConfig": {"Metrics": ["EventCount"]},
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["FailureQueue", "Arn"]}}},
    }
    assert properties("FailureQueue") == {"MessageRetentionPeriod": 1_209_600, "SqsManagedSseEnabled": True}
    retries = template(SETTINGS)["Parameters"]["RetryAttempts"]
    assert 0 <= retries["MinValue"] <= retries["Default"] <= retries["MaxValue"] == 10_000


@pytest.mark.parametrize(
    ("name", "handler", "function_name"),
    [
        ("CommandFunction", "command", "ProductCommandFunction"),
        ("ProjectorFunction", "projector", "ProductHandlerFunction"),
    ],
)
def test_both_functions_run_the_code_from_the_bucket_on_arm(name: str, handler: str, function_name: str) -> None:
    function = properties(name)
    parameter = function["FunctionName"]["Ref"]

    assert template(SETTINGS)["Parameters"][parameter]["Default"] == function_name
    assert function["Handler"] == f"cqrsctl.functions.handlers.{handler}"
    assert function["Code"] == {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}}
    assert function["Architectures"] == ["arm64"]
    assert int(function["Runtime"].removeprefix("python3.")) >= 12
    logs = properties(function["LoggingConfig"]["LogGroup"]["Ref"])
    assert logs == {
        "LogGroupName": {"Fn::Sub": f"/aws/lambda/${{{parameter}}}"},
        "RetentionInDays": {"Ref": "LogRetentionDays"},
    }


def test_the_projector_is_told_where_the_database_and_its_login_are_and_no_password() -> None:
    assert properties("ProjectorFunction")["Environment"]["Variables"] == {
        "CQRSCTL_TABLE": {"Ref": "TableName"},
        "CQRSCTL_DATABASE_HOST": {"Fn::GetAtt": ["Cluster", "Endpoint.Address"]},
        "CQRSCTL_DATABASE_PORT": {"Fn::GetAtt": ["Cluster", "Endpoint.Port"]},
        "CQRSCTL_DATABASE_NAME": {"Ref": "DatabaseName"},
        "CQRSCTL_DATABASE_SECRET": SECRET,
    }
    assert properties("CommandFunction")["Environment"]["Variables"] == {"CQRSCTL_TABLE": {"Ref": "TableName"}}
    assert "VpcConfig" in properties("ProjectorFunction")
    assert "VpcConfig" not in properties("CommandFunction")


def test_the_command_side_may_put_products_and_write_its_log() -> None:
    assert statements("CommandRole") == [
        {
            "Sid": "PutItems",
            "Effect": "Allow",
            "Action": ["dynamodb:PutItem"],
            "Resource": {"Fn::GetAtt": ["Table", "Arn"]},
        },
        {
            "Sid": "WriteLogs",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": {"Fn::GetAtt": ["CommandLogs", "Arn"]},
        },
    ]


def test_the_projector_may_do_what_it_does_and_no_more() -> None:
    permissions = {
        statement["Sid"]: (statement["Action"], statement["Resource"])
        for statement in statements("ProjectorRole")
        if statement["Effect"] == "Allow"
    }

    assert permissions == {
        "ReadStream": (
            ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
            {"Fn::GetAtt": ["Table", "StreamArn"]},
        ),
        "FindStream": (["dynamodb:ListStreams"], "*"),
        "ReadLogin": (["secretsmanager:GetSecretValue"], SECRET),
        "ReportFailures": (["sqs:SendMessage"], {"Fn::GetAtt": ["FailureQueue", "Arn"]}),
        "WriteLogs": (["logs:CreateLogStream", "logs:PutLogEvents"], {"Fn::GetAtt": ["ProjectorLogs", "Arn"]}),
        "MakeInterfaces": (
            ["ec2:CreateNetworkInterface"],
            [
                {"Fn::Sub": f"{EC2}network-interface/*"},
                {"Fn::Sub": f"{EC2}subnet/*"},
                {"Fn::Sub": f"{EC2}security-group/${{ProjectorGroup.GroupId}}"},
            ],
        ),
        "KeepInterfaces": (
            ["ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"],
            [{"Fn::Sub": f"{EC2}network-interface/*"}, {"Fn::Sub": f"{EC2}*/*"}],
        ),
        "LookAtNetwork": (["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"], "*"),
    }


def test_the_network_s_permissions_are_lambda_s_and_denied_to_the_code() -> None:
    (denial,) = [statement for statement in statements("ProjectorRole") if statement["Effect"] == "Deny"]

    assert set(denial["Action"]) == ALL_OF_EC2
    assert denial["Condition"] == {
        "ArnEquals": {
            "lambda:SourceFunctionArn": {
                "Fn::Sub": "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:"
                "function:${ProjectorFunctionName}"
            }
        }
    }


@pytest.mark.parametrize("role", ["CommandRole", "ProjectorRole"])
def test_everything_is_allowed_only_where_aws_knows_nothing_narrower(role: str) -> None:
    """By AWS's own list of actions and their resources, of which cfn-lint has a copy."""
    listed = json.loads((resources.files("cfnlint") / "data/AdditionalSpecs/Policies.json").read_text())

    for statement in statements(role):
        for action in statement["Action"]:
            service, _, operation = action.partition(":")
            narrower = (listed[service]["Actions"][operation.lower()] or {}).get("Resources")
            assert statement["Effect"] == "Deny" or (statement["Resource"] == "*") == (not narrower), action


def test_only_lambda_may_take_the_roles() -> None:
    for role in ("CommandRole", "ProjectorRole"):
        (statement,) = properties(role)["AssumeRolePolicyDocument"]["Statement"]
        assert statement == {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }


def test_alarms_tell_of_a_late_failing_or_stopped_projector_of_batches_given_up_and_of_dead_letters() -> None:
    alarms = {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    projector = {"Name": "FunctionName", "Value": {"Ref": "ProjectorFunction"}}
    queue = {"Name": "QueueName", "Value": {"Fn::GetAtt": ["FailureQueue", "QueueName"]}}

    mapping = {"Name": "EventSourceMappingUUID", "Value": {"Ref": "Mapping"}}
    watched = {
        name: (alarm["Namespace"], alarm["MetricName"], alarm["Dimensions"], alarm["Statistic"], alarm["Threshold"])
        for name, alarm in alarms.items()
    }
    assert watched == {
        "IteratorAgeAlarm": (
            "AWS/Lambda",
            "IteratorAge",
            [projector],
            "Maximum",
            {"Ref": "IteratorAgeAlarmMilliseconds"},
        ),
        "MappingAlarm": ("AWS/Lambda", "PolledEventCount", [mapping], "SampleCount", 1),
        "ProjectorErrorAlarm": ("AWS/Lambda", "Errors", [projector], "Sum", 0),
        "FailureQueueAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", [queue], "Maximum", 0),
        "DeadLetterAlarm": ("cqrsctl", "DeadLettered", [projector], "Sum", 0),
    }
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == {
            "Fn::If": ["AlarmTopicGiven", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]
        }
    judged = {name: (alarm["ComparisonOperator"], alarm["TreatMissingData"]) for name, alarm in alarms.items()}
    assert judged.pop("MappingAlarm") == ("LessThanThreshold", "breaching")
    assert set(judged.values()) == {("GreaterThanThreshold", "notBreaching")}


def test_nothing_in_it_is_of_one_partition_only() -> None:
    text = json.dumps(template(SETTINGS)).replace('"lambda.amazonaws.com"', "")

    assert "arn:aws:" not in text
    assert "amazonaws.com" not in text


def test_the_outputs_are_what_an_environment_is_declared_with() -> None:
    assert set(template(SETTINGS)["Outputs"]) == {
        "StreamArn",
        "WriterEndpoint",
        "ReaderEndpoint",
        "SecretArn",
        "CommandFunction",
        "ProjectorFunction",
        "FailureQueueUrl",
    }


IMPORT = (Path(__file__).parents[3] / "docs" / "import-table.md").read_text()


def test_the_table_can_be_imported_as_the_documentation_describes() -> None:
    kept = re.search(r"jq '(.*)' pipeline", IMPORT)
    imported = re.search(r"--resources-to-import '(.*)'", IMPORT)
    assert kept is not None
    assert imported is not None
    (resource,) = json.loads(imported[1])
    found = template(SETTINGS)

    parameters = {name: found["Parameters"][name] for name in re.findall(r"TableName|DeletionProtection", kept[1])}
    alone = {
        "AWSTemplateFormatVersion": found["AWSTemplateFormatVersion"],
        "Parameters": parameters,
        "Resources": {resource["LogicalResourceId"]: found["Resources"][resource["LogicalResourceId"]]},
    }
    assert kept[1].endswith(f"Resources: (.Resources | {{{resource['LogicalResourceId']}}})}}")
    assert findings(alone) == []
    table = alone["Resources"]["Table"]
    assert table["Type"] == resource["ResourceType"]
    assert table["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resource["ResourceIdentifier"] == {"TableName": parameters["TableName"]["Default"]}
