"""Deploying the functions through the API, against moto: every parameter that is sent, and what is not sent again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.errors import AwsError, CqrsctlError, UsageError
from cqrsctl.functions import function, policies
from cqrsctl.functions.deploy import Options
from cqrsctl.functions.parts import COMMAND, PROJECTOR, Place
from cqrsctl.pipeline.function_operations import Which, mapping_state
from cqrsctl.write_model.table import TableSpec
from tests.functions_world import (
    ACCOUNT,
    OTHER_ZIP,
    POLICY,
    QUEUE,
    SETTINGS,
    TAG,
    TAG_LIST,
    ZIP,
    Operated,
    changes,
    moto_for,
    operated,
    remake_table,
    secret_arn,
    stream_arn,
    with_table,
    writes,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("aws")


def test_every_parameter_of_the_functions_is_as_decided(functions: Operated) -> None:
    functions.deploy(Which.ALL, Options(), ZIP, wait=True)

    projector, command = functions.client("lambda").made("create_function")
    assert projector == {
        "FunctionName": "ProductHandlerFunction",
        "Role": f"arn:aws:iam::{ACCOUNT}:role/ProductHandlerFunctionRole-eu-west-1",
        "Runtime": "python3.13",
        "Handler": "cqrsctl.functions.handlers.projector",
        "Description": "Projects the changes of products into the read model.",
        "MemorySize": 256,
        "Timeout": 60,
        "Environment": {
            "Variables": {
                "CQRSCTL_TABLE": "Products",
                "CQRSCTL_DATABASE_HOST": "db.example",
                "CQRSCTL_DATABASE_PORT": "3306",
                "CQRSCTL_DATABASE_NAME": "cqrs",
                "CQRSCTL_DATABASE_USER": "projector",
                "CQRSCTL_DATABASE_SECRET": secret_arn(functions),
            }
        },
        "PackageType": "Zip",
        "Architectures": ["arm64"],
        "Code": {"ZipFile": ZIP},
        "Tags": TAG,
    }
    assert command == {
        **projector,
        "FunctionName": "ProductCommandFunction",
        "Role": f"arn:aws:iam::{ACCOUNT}:role/ProductCommandFunctionRole-eu-west-1",
        "Handler": "cqrsctl.functions.handlers.command",
        "Description": "Puts products into the write model.",
        "Timeout": 15,
        "Environment": {"Variables": {"CQRSCTL_TABLE": "Products"}},
    }


def test_every_parameter_of_the_mapping_is_as_decided(functions: Operated) -> None:
    functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    assert functions.client("lambda").made("create_event_source_mapping") == [
        {
            "EventSourceArn": stream_arn(functions),
            "FunctionName": "ProductHandlerFunction",
            "Enabled": True,
            "StartingPosition": "TRIM_HORIZON",
            "BatchSize": 1000,
            "MaximumBatchingWindowInSeconds": 1,
            "ParallelizationFactor": 1,
            "BisectBatchOnFunctionError": True,
            "MaximumRecordAgeInSeconds": 86400,
            "MaximumRetryAttempts": 1000,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
            "Tags": TAG,
        }
    ]


def test_every_parameter_of_roles_logs_queue_and_secret_is_as_decided(functions: Operated) -> None:
    functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    iam, logs = functions.client("iam"), functions.client("logs")
    (role,) = iam.made("create_role")
    assert json.loads(role.pop("AssumeRolePolicyDocument")) == policies.trust()
    assert role == {
        "RoleName": "ProductHandlerFunctionRole-eu-west-1",
        "Description": "Made by cqrsctl for ProductHandlerFunction in eu-west-1",
        "Tags": TAG_LIST,
    }
    (policy,) = iam.made("put_role_policy")
    statements = {each["Sid"]: each for each in json.loads(policy.pop("PolicyDocument"))["Statement"]}
    assert policy == {"RoleName": "ProductHandlerFunctionRole-eu-west-1", "PolicyName": "cqrsctl"}
    assert list(statements) == ["ReadStream", "FindStream", "ReadLogin", "WriteLogs", "ReportFailures"]
    assert statements["ReadLogin"]["Resource"] == secret_arn(functions)
    assert statements["ReportFailures"]["Resource"] == QUEUE
    group = "/aws/lambda/ProductHandlerFunction"
    assert logs.made("create_log_group") == [{"logGroupName": group, "tags": TAG}]
    assert logs.made("put_retention_policy") == [{"logGroupName": group, "retentionInDays": 30}]
    assert functions.client("sqs").made("create_queue") == [
        {
            "QueueName": "ProductHandlerFunction-failures",
            "Attributes": {"MessageRetentionPeriod": "1209600", "SqsManagedSseEnabled": "true"},
            "tags": TAG,
        }
    ]
    (secret,) = functions.client("secretsmanager").made("create_secret")
    assert json.loads(secret.pop("SecretString")) == {"username": "projector", "password": "s3cret"}
    assert secret == {
        "Name": "cqrsctl/prod/database",
        "Description": "The login of cqrsctl's projector.",
        "Tags": TAG_LIST,
    }


def test_no_password_is_in_any_call_but_the_secrets(functions: Operated) -> None:
    functions.deploy(Which.ALL, Options(), ZIP, wait=True)

    others = [api.calls for service, api in functions.clients.items() if service != "secretsmanager"]
    assert "s3cret" not in str(others)


def test_a_second_deployment_changes_nothing_and_says_so(deployed: Operated) -> None:
    parts = deployed.deploy(Which.ALL, Options(), ZIP, wait=True)

    assert set(changes(parts).values()) == {"unchanged"}
    assert len(parts) == 9
    assert writes(deployed) == []


def test_a_plan_makes_no_call_that_changes_something(functions: Operated) -> None:
    functions.client("dynamodb").forget()

    parts = functions.plan(Which.ALL, Options(), ZIP)

    assert set(changes(parts).values()) == {"created"}
    assert writes(functions) == []


def test_only_what_is_asked_otherwise_is_changed(deployed: Operated) -> None:
    options = Options(memory_mb=512, timeout_seconds=30, reserved_concurrency=7, batch_size=100, parallelization=4)

    parts = deployed.deploy(Which.PROJECTOR, options, OTHER_ZIP, wait=True)

    api = deployed.client("lambda")
    assert api.made("update_function_configuration") == [{"FunctionName": PROJECTOR, "MemorySize": 512, "Timeout": 30}]
    assert api.made("update_function_code") == [
        {"FunctionName": PROJECTOR, "ZipFile": OTHER_ZIP, "Architectures": ["arm64"]}
    ]
    assert api.made("put_function_concurrency") == [{"FunctionName": PROJECTOR, "ReservedConcurrentExecutions": 7}]
    (update,) = api.made("update_event_source_mapping")
    assert update == {"UUID": update["UUID"], "BatchSize": 100, "ParallelizationFactor": 4}
    found = changes(parts)
    assert found["function ProductHandlerFunction"] == (
        "updated: memory 256 MB → 512 MB, time-out 60 s → 30 s, code, reserved concurrency none → 7"
    )
    assert found["mapping of ProductHandlerFunction"] == "updated: BatchSize 1000 → 100, ParallelizationFactor 1 → 4"
    assert set(writes(deployed)) == {
        "update_function_configuration",
        "update_function_code",
        "put_function_concurrency",
        "update_event_source_mapping",
    }


def test_what_was_asked_for_once_stays(deployed: Operated) -> None:
    bucket = "arn:aws:s3:::failed-batches"
    asked = Options(512, 30, 7, ("subnet-1",), ("sg-1",), 100, 4, bucket)
    deployed.deploy(Which.PROJECTOR, asked, ZIP, wait=True)

    assert set(changes(deployed.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)).values()) == {"unchanged"}

    there = function.describe(deployed.client("lambda"), PROJECTOR)
    assert (there.memory_mb, there.timeout_seconds, there.reserved_concurrency) == (512, 30, 7)
    assert (there.subnets, there.security_groups) == (("subnet-1",), ("sg-1",))
    (mapping,) = deployed.mappings()
    assert (mapping.destination, mapping.settings["BatchSize"]) == (bucket, 100)


def test_a_policy_and_a_retention_that_somebody_changed_are_mended(deployed: Operated) -> None:
    deployed.client("iam")._client.put_role_policy(
        RoleName="ProductHandlerFunctionRole-eu-west-1", PolicyName="cqrsctl", PolicyDocument=POLICY
    )
    deployed.client("logs")._client.put_retention_policy(logGroupName=f"/aws/lambda/{PROJECTOR}", retentionInDays=1)
    url = deployed.client("sqs").get_queue_url(QueueName=QUEUE.rsplit(":", maxsplit=1)[-1])["QueueUrl"]
    deployed.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": "60"})

    found = changes(deployed.deploy(Which.ALL, Options(), ZIP, wait=True))

    assert {name: change for name, change in found.items() if change != "unchanged"} == {
        "role ProductHandlerFunctionRole-eu-west-1": "updated: policy",
        "log group /aws/lambda/ProductHandlerFunction": "updated: retention 1 days → 30 days",
        "queue ProductHandlerFunction-failures": "updated: MessageRetentionPeriod 60 → 1209600",
    }


def test_another_password_is_put_into_the_secret_and_nothing_else_changes(deployed: Operated, tmp_path: Path) -> None:
    changed = operated(tmp_path, variables={"CQRSCTL_DATABASE_PASSWORD": "an0ther"})

    found = changes(changed.deploy(Which.PROJECTOR, Options(), ZIP, wait=True))

    assert {name for name, change in found.items() if change != "unchanged"} == {"secret cqrsctl/prod/database"}
    value = changed.client("secretsmanager").get_secret_value(SecretId="cqrsctl/prod/database")["SecretString"]
    assert json.loads(value) == {"username": "projector", "password": "an0ther"}


def test_a_function_of_somebody_else_is_refused_before_anything_is_made(functions: Operated) -> None:
    iam = functions.client("iam")._client
    role = iam.create_role(RoleName="other", AssumeRolePolicyDocument=json.dumps(policies.trust()))["Role"]["Arn"]
    functions.client("lambda")._client.create_function(
        FunctionName=PROJECTOR, Runtime="python3.13", Role=role, Handler="a.b", Code={"ZipFile": ZIP}
    )

    with pytest.raises(AwsError, match="'ProductHandlerFunction' exists, but is not cqrsctl's") as caught:
        functions.deploy(Which.ALL, Options(), ZIP, wait=True)

    assert caught.value.code == "not_ours"
    assert set(writes(functions)) == {"create_table"}
    with pytest.raises(AwsError, match="not cqrsctl's"):
        functions.removals(with_logs=True)


def test_a_role_of_somebody_else_is_refused_before_anything_is_made(functions: Operated) -> None:
    iam = functions.client("iam")._client
    iam.create_role(RoleName=f"{COMMAND}Role-eu-west-1", AssumeRolePolicyDocument=json.dumps(policies.trust()))

    with pytest.raises(AwsError, match="Role 'ProductCommandFunctionRole-eu-west-1' exists, but is not cqrsctl's"):
        functions.deploy(Which.ALL, Options(), ZIP, wait=True)

    assert set(writes(functions)) == {"create_table"}


def test_another_pipelines_functions_are_left_to_it(deployed: Operated, tmp_path: Path) -> None:
    other = operated(tmp_path, SETTINGS.replace("[environments.prod]", '[environments.prod]\ntable = "Others"'))
    TableSpec("Others").create_call().make(other.client("dynamodb"))

    for act in (
        lambda: other.deploy(Which.ALL, Options(), ZIP, wait=True),
        lambda: other.switch(enabled=False, wait=True),
        lambda: other.removals(with_logs=False),
    ):
        with pytest.raises(AwsError, match="works on table 'Products', not 'Others'") as caught:
            act()
        assert caught.value.code == "function_taken"
    assert set(writes(other)) == {"create_table"}
    assert mapping_state(other.wiring, "") is None


def test_other_policies_of_a_role_are_said_and_stay(deployed: Operated) -> None:
    iam = deployed.client("iam")._client
    iam.put_role_policy(RoleName=f"{COMMAND}Role-eu-west-1", PolicyName="theirs", PolicyDocument=POLICY)
    arn = iam.create_policy(PolicyName="audit", PolicyDocument=POLICY)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=f"{COMMAND}Role-eu-west-1", PolicyArn=arn)

    parts = deployed.deploy(Which.COMMAND, Options(), ZIP, wait=True)

    (note,) = [part.note for part in parts if part.note]
    assert note == "Role ProductCommandFunctionRole-eu-west-1 has other policies too, which stay: audit, theirs."
    deployed.remove(deployed.removals(with_logs=False))
    assert any("is kept: it has other policies: audit, theirs" in line for line in deployed.notes)
    assert iam.list_role_policies(RoleName=f"{COMMAND}Role-eu-west-1")["PolicyNames"] == ["theirs"]


def test_a_role_that_somebody_gives_is_used_and_stays_and_none_is_made(functions: Operated) -> None:
    given = "arn:aws:iam::123456789012:role/team/pipeline"
    trust = json.dumps(policies.trust())
    functions.client("iam").create_role(RoleName="pipeline", Path="/team/", AssumeRolePolicyDocument=trust)
    parts = changes(functions.deploy(Which.ALL, Options(role=given), ZIP, wait=False))

    assert [name for name in parts if name.startswith("role ")] == ["role pipeline"]
    assert parts["role pipeline"] == "unchanged"
    roles_there = [role["RoleName"] for role in functions.client("iam").list_roles()["Roles"]]
    assert roles_there == ["pipeline"]
    for name in (PROJECTOR, COMMAND):
        assert functions.client("lambda").get_function_configuration(FunctionName=name)["Role"] == given

    again = functions.plan(Which.ALL, Options(), ZIP)
    assert {part.change for part in again} == {"unchanged"}
    assert any(f"has the role {given}" in part.note for part in again)

    own = Place("aws", "eu-west-1", "123456789012").role(PROJECTOR)
    back = changes(functions.deploy(Which.PROJECTOR, Options(role=own), ZIP, wait=False))
    assert back["role ProductHandlerFunctionRole-eu-west-1"] == "created"


def test_roles_that_are_made_have_the_boundary_that_is_asked_for(functions: Operated) -> None:
    boundary = "arn:aws:iam::123456789012:policy/bounds"

    def bounds() -> list[str | None]:
        iam = functions.client("iam")
        found = [iam.get_role(RoleName=f"{name}Role-eu-west-1")["Role"] for name in (PROJECTOR, COMMAND)]
        return [role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn") for role in found]

    anything = policies.document([{"Effect": "Allow", "Action": "*", "Resource": "*"}])
    functions.client("iam").create_policy(PolicyName="bounds", PolicyDocument=json.dumps(anything))
    functions.deploy(Which.ALL, Options(), ZIP, wait=False)
    assert bounds() == [None, None]
    parts = changes(functions.deploy(Which.ALL, Options(boundary=boundary), ZIP, wait=False))
    assert "permissions boundary" in parts["role ProductHandlerFunctionRole-eu-west-1"]
    assert bounds() == [boundary, boundary]
    functions.deploy(Which.ALL, Options(), ZIP, wait=False)
    assert bounds() == [boundary, boundary]


@pytest.mark.parametrize(
    "options",
    [
        Options(role="pipeline"),
        Options(role="arn:aws:iam::123456789012:policy/bounds"),
        Options(boundary="arn:aws:iam::123456789012:role/pipeline"),
    ],
)
def test_what_is_no_arn_of_a_role_or_a_policy_is_refused(functions: Operated, options: Options) -> None:
    with pytest.raises(UsageError, match="is not the ARN of a"):
        functions.plan(Which.ALL, options, ZIP)


def test_a_new_role_that_lambda_does_not_know_yet_is_waited_for(functions: Operated) -> None:
    functions.states.looks = 6

    functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    assert functions.states.refused["InvalidParameterValueException"] == 12  # the role, then its policy
    assert [mapping.state for mapping in functions.mappings()] == ["Enabled"]


def test_a_role_that_lambda_never_gets_to_know_ends_the_wait(functions: Operated) -> None:
    functions.client("lambda").refuse("create_function", "InvalidParameterValueException", "cannot be assumed")

    with pytest.raises(AwsError, match="cannot be assumed") as caught:
        functions.deploy(Which.COMMAND, Options(), ZIP, wait=True)

    assert "Done before that: CreateLogGroup (log group /aws/lambda/ProductCommandFunction)" in caught.value.message
    assert "CreateRole (role ProductCommandFunctionRole-eu-west-1)" in caught.value.message
    assert 120 <= functions.clock.monotonic() <= 130


def test_a_deployment_that_ended_half_way_goes_on_with_the_same_command(functions: Operated) -> None:
    functions.client("lambda").refuse("create_event_source_mapping")

    with pytest.raises(AwsError, match=r"access denied.*Done before that: .*CreateFunction") as caught:
        functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    assert caught.value.hint
    assert "same command resumes" in caught.value.hint
    del functions.client("lambda").instead["create_event_source_mapping"]
    found = changes(functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True))
    assert {name for name, change in found.items() if change == "created"} == {"mapping of ProductHandlerFunction"}


def answering(states: list[dict[str, str]]) -> Callable[..., Any]:
    """GetFunction with these states one after the other; the last one stays."""

    def answer(real: Any, **parameters: Any) -> Any:
        found = real(**parameters)
        found["Configuration"] |= states.pop(0) if len(states) > 1 else states[0]
        return found

    return answer


def test_a_deployment_waits_until_active_updated_and_enabled_and_tells_how_it_stands(functions: Operated) -> None:
    def delayed(real: Any, **parameters: Any) -> Any:
        answer = real(**parameters)
        for mapping in answer["EventSourceMappings"]:
            mapping["State"] = mapping_states.pop(0) if len(mapping_states) > 1 else mapping_states[0]
        return answer

    mapping_states = ["Creating", "Creating", "Enabling", "Enabled"]
    shown: list[str] = []
    functions.progress = shown.append
    busy = {"State": "Pending", "LastUpdateStatus": "InProgress"}
    ready = {"State": "Active", "LastUpdateStatus": "Successful"}
    functions.client("lambda").instead["list_event_source_mappings"] = delayed

    def pending(real: Any, **parameters: Any) -> Any:
        functions.client("lambda").instead["get_function"] = answering([busy, busy, ready])
        return real(**parameters)

    functions.client("lambda").instead["create_function"] = pending
    functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    assert f"{PROJECTOR} Pending, last update InProgress" in shown
    assert shown[-3:] == ["mapping Creating", "mapping Enabling", "mapping Enabled"]


def test_two_changes_of_a_function_are_made_one_after_the_other(deployed: Operated) -> None:
    busy, ready = {"LastUpdateStatus": "InProgress"}, {"LastUpdateStatus": "Successful"}
    api = deployed.client("lambda")

    def slow(real: Any, **parameters: Any) -> Any:
        api.instead["get_function"] = answering([busy, busy, busy, ready])
        return real(**parameters)

    api.instead["update_function_configuration"] = slow

    deployed.deploy(Which.COMMAND, Options(memory_mb=512), OTHER_ZIP, wait=False)

    names = [name for name, _ in api.calls]
    between = names[names.index("update_function_configuration") + 1 : names.index("update_function_code")]
    assert between == ["get_function"] * 4


def test_a_function_that_fails_ends_the_wait_with_its_reason(deployed: Operated) -> None:
    failed = {"State": "Failed", "StateReason": "Subnet subnet-1 has no free address."}
    deployed.client("lambda").instead["get_function"] = answering([failed])

    with pytest.raises(AwsError, match=r"failed: Subnet subnet-1 has no free address\."):
        deployed.deploy(Which.COMMAND, Options(), ZIP, wait=True)


def test_a_wait_has_an_end(deployed: Operated) -> None:
    deployed.client("lambda").instead["get_function"] = answering([{"State": "Pending"}])

    with pytest.raises(AwsError, match="was not active within 10 minutes") as caught:
        deployed.deploy(Which.COMMAND, Options(), ZIP, wait=True)

    assert caught.value.code == "too_slow"


@pytest.mark.parametrize("code", ["ThrottlingException", "TooManyRequestsException"])
def test_a_throttled_look_does_not_end_the_wait(deployed: Operated, code: str) -> None:
    api = deployed.client("lambda")
    api.refuse("list_event_source_mappings", code, "slower", times=2)

    real = api.instead.pop("list_event_source_mappings")

    def after_the_switch(client: Any, **parameters: Any) -> Any:
        api.instead["list_event_source_mappings"] = real
        return client(**parameters)

    api.instead["update_event_source_mapping"] = after_the_switch

    assert deployed.switch(enabled=False, wait=True)
    assert [mapping.state for mapping in deployed.mappings()] == ["Disabled"]


def test_throttled_changes_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_for(monkeypatch):
        found = with_table(tmp_path)
        for service, operation in (("iam", "create_role"), ("lambda", "create_function"), ("logs", "create_log_group")):
            found.client(service).refuse(operation, "Throttling", "Rate exceeded", times=3)

        found.deploy(Which.COMMAND, Options(), ZIP, wait=True)

        assert found.client("iam").names.count("create_role") == 4


def test_a_paused_projector_stays_paused_through_a_deployment(deployed: Operated) -> None:
    assert deployed.switch(enabled=False, wait=True)
    assert not deployed.switch(enabled=False, wait=True)

    deployed.deploy(Which.PROJECTOR, Options(batch_size=50), OTHER_ZIP, wait=True)

    assert mapping_state(deployed.wiring, "") == "Disabled"
    assert any("paused" in line for line in deployed.notes)
    assert deployed.switch(enabled=True, wait=True)
    assert mapping_state(deployed.wiring, "") == "Enabled"


@pytest.mark.parametrize("paused", [False, True])
def test_the_mapping_of_a_table_made_anew_is_replaced_and_its_settings_stay(deployed: Operated, paused: bool) -> None:
    deployed.deploy(Which.PROJECTOR, Options(batch_size=50), ZIP, wait=True)
    if paused:
        deployed.switch(enabled=False, wait=True)
    before = stream_arn(deployed)
    remake_table(deployed)

    parts = deployed.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    assert changes(parts)["mapping of ProductHandlerFunction"] == "replaced"
    assert f"The mapping of {before} is removed" in parts[-1].note
    (mapping,) = deployed.mappings()
    assert (mapping.stream_arn, mapping.settings["BatchSize"]) == (stream_arn(deployed), 50)
    assert mapping.state == ("Disabled" if paused else "Enabled")


CLUSTER = """
[environments.prod]
region = "eu-west-1"
[environments.prod.database]
cluster = "products"
"""


def in_a_vpc(tmp_path: Path, settings: str) -> tuple[Operated, dict[str, Any], list[str], str]:
    """Functions beside a cluster in two subnets, with its security group."""
    found = operated(tmp_path, settings, {})
    TableSpec("Products").create_call().make(found.client("dynamodb"))
    ec2 = found.wiring.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"eu-west-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for number, zone in enumerate("ab")
    ]
    group = ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
    rds = found.wiring.client("rds")
    rds.create_db_subnet_group(DBSubnetGroupName="private", DBSubnetGroupDescription="-", SubnetIds=subnets)
    cluster = rds.create_db_cluster(
        DBClusterIdentifier="products",
        Engine="aurora-mysql",
        EngineVersion="8.0.mysql_aurora.3.08.0",
        DatabaseName="cqrs",
        MasterUsername="admin",
        ManageMasterUserPassword=True,
        DBSubnetGroupName="private",
        VpcSecurityGroupIds=[group],
    )["DBCluster"]
    return found, cluster, sorted(subnets), group


def test_beside_a_cluster_its_network_and_the_secret_that_rds_manages_are_taken(tmp_path: Path) -> None:
    functions, cluster, subnets, group = in_a_vpc(tmp_path, CLUSTER)

    functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    (made,) = functions.client("lambda").made("create_function")
    assert made["VpcConfig"] == {"SubnetIds": subnets, "SecurityGroupIds": [group]}
    secret = cluster["MasterUserSecret"]["SecretArn"]
    assert made["Environment"]["Variables"] == {
        "CQRSCTL_TABLE": "Products",
        "CQRSCTL_DATABASE_HOST": cluster["Endpoint"],
        "CQRSCTL_DATABASE_PORT": "3306",
        "CQRSCTL_DATABASE_NAME": "cqrs",
        "CQRSCTL_DATABASE_SECRET": secret,
    }
    (policy,) = functions.client("iam").made("put_role_policy")
    statements = {each["Sid"]: each for each in json.loads(policy["PolicyDocument"])["Statement"]}
    assert list(statements)[-2:] == ["LookAtNetwork", "NotByCode"]
    assert statements["ReadLogin"]["Resource"] == secret
    assert functions.client("secretsmanager").made("create_secret") == []
    parts = functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)
    assert set(changes(parts).values()) == {"unchanged"}


def test_subnets_that_are_given_win_over_the_clusters(tmp_path: Path) -> None:
    functions, _, _, group = in_a_vpc(tmp_path, CLUSTER)

    functions.deploy(Which.PROJECTOR, Options(subnets=("subnet-9",)), ZIP, wait=True)

    (made,) = functions.client("lambda").made("create_function")
    assert made["VpcConfig"] == {"SubnetIds": ["subnet-9"], "SecurityGroupIds": [group]}


def test_a_subnet_group_that_is_gone_asks_for_subnets(tmp_path: Path) -> None:
    functions, *_ = in_a_vpc(tmp_path, CLUSTER)
    functions.client("rds").refuse("describe_db_subnet_groups", "DBSubnetGroupNotFoundFault")

    with pytest.raises(AwsError, match="subnet group 'private' of cluster 'products' is not there") as caught:
        functions.plan(Which.ALL, Options(), ZIP)

    assert caught.value.hint == "Give --subnet and --security-group."


def test_the_command_function_is_outside_of_any_vpc(tmp_path: Path) -> None:
    functions, *_ = in_a_vpc(tmp_path, CLUSTER)

    functions.deploy(Which.COMMAND, Options(), ZIP, wait=True)

    (made,) = functions.client("lambda").made("create_function")
    assert "VpcConfig" not in made


def test_with_iam_tokens_there_is_no_secret_and_the_role_may_log_in_as_one_user(tmp_path: Path) -> None:
    functions, cluster, *_ = in_a_vpc(tmp_path, CLUSTER + "iam_auth = true\nuser = 'projector'\n")

    functions.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    (made,) = functions.client("lambda").made("create_function")
    variables = made["Environment"]["Variables"]
    assert variables["CQRSCTL_DATABASE_IAM_AUTH"] == "true"
    assert variables["CQRSCTL_DATABASE_USER"] == "projector"
    assert "CQRSCTL_DATABASE_SECRET" not in variables
    (policy,) = functions.client("iam").made("put_role_policy")
    (statement,) = [each for each in json.loads(policy["PolicyDocument"])["Statement"] if each["Sid"] == "LogIn"]
    assert statement["Action"] == ["rds-db:connect"]
    user = f"dbuser:{cluster['DbClusterResourceId']}/projector"
    assert statement["Resource"] == f"arn:aws:rds-db:eu-west-1:{ACCOUNT}:{user}"


def test_a_secret_with_its_own_key_may_be_decrypted(functions: Operated, tmp_path: Path) -> None:
    key = functions.wiring.client("kms").create_key()["KeyMetadata"]["Arn"]
    arn = functions.wiring.client("secretsmanager").create_secret(Name="theirs", SecretString="{}", KmsKeyId=key)["ARN"]
    with_secret = operated(tmp_path, SETTINGS + 'secret = "theirs"\n', {})

    with_secret.deploy(Which.PROJECTOR, Options(), ZIP, wait=True)

    (policy,) = with_secret.client("iam").made("put_role_policy")
    statements = {each["Sid"]: each for each in json.loads(policy["PolicyDocument"])["Statement"]}
    assert statements["ReadLogin"]["Resource"] == arn
    assert statements["DecryptLogin"]["Resource"] == key
    assert writes(with_secret).count("create_secret") == 0


def test_a_database_without_any_login_is_a_matter_of_configuration(functions: Operated, tmp_path: Path) -> None:
    with pytest.raises(CqrsctlError, match="password") as nothing:
        operated(tmp_path, variables={}).plan(Which.PROJECTOR, Options(), ZIP)
    with pytest.raises(CqrsctlError, match="secret missing is not there") as missing:
        operated(tmp_path, SETTINGS + 'secret = "missing"\n', {}).plan(Which.PROJECTOR, Options(), ZIP)

    assert (nothing.value.exit_code, missing.value.exit_code) == (3, 3)


@pytest.mark.parametrize(
    ("which", "options", "message"),
    [
        (Which.ALL, Options(subnets=("subnet-1",)), "needs subnets and security groups"),
        (Which.ALL, Options(security_groups=("sg-1",)), "needs subnets and security groups"),
        (Which.ALL, Options(on_failure="here"), "is not the ARN of"),
        (Which.ALL, Options(batch_size=10_001), "not one of 1 to 10000"),
        (Which.ALL, Options(parallelization=11), "not one of 1 to 10"),
        (Which.COMMAND, Options(batch_size=1), "are the projector's"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    functions: Operated, which: Which, options: Options, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        functions.plan(which, options, ZIP)


def test_without_a_stream_there_is_nothing_to_map(tmp_path: Path) -> None:
    functions = operated(tmp_path)
    TableSpec("Products", stream=False).create_call().make(functions.client("dynamodb"))

    with pytest.raises(AwsError, match="stream of table 'Products' is off"):
        functions.plan(Which.ALL, Options(), ZIP)
