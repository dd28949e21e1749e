"""The whole life of a pipeline in two regions, twice, in an AWS that takes its time, throttles each third call, and
refuses for a while what it allowed a moment ago."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import boto3
import pytest
import trustme
from moto import mock_aws
from moto.awslambda.models import LambdaBackend
from moto.rds.models import DBCluster, RDSBackend

from cqrsctl.cli.app import run
from cqrsctl.cli.invocation import Invocation
from cqrsctl.clock import SystemClock
from cqrsctl.functions import mapping as mappings
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.local import emulator
from tests.aws.states import States
from tests.certified_server import administer, certified

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGIONS = {"eu": "eu-west-1", "us": "us-east-1"}
SETTINGS = """
[environments.{name}]
region = "{region}"
[environments.{name}.database]
cluster = "products"
name = "cqrs_{name}"
user = "app_{name}"
ca_bundle = "ca.pem"
connect_host = "127.0.0.1"
connect_port = {port}
"""
COUNT = 40
PASSWORD = "a-password-of-its-own"
OWN_USER = re.compile(r"set database\.user: (CREATE USER .+)$", re.MULTILINE)

UP = (
    "table create",
    "aurora create --subnet-group private --security-group {group} --yes",
    "aurora add-reader reports --yes",
    "aurora autoscale set --metric cpu --target 60 --min 1 --max 4",
    "read-model init",
    "function deploy",
)
"""What makes the pipeline; run again, it changes nothing."""
WORK = (
    f"product sample --count {COUNT}",
    "function pause",
    "project --once",
    "rebuild --all --yes",
    "verify",
    "function resume",
    "aurora failover --to reports --yes",
    "aurora failover --to products-1 --yes",
    "aurora autoscale set --metric connections --target 200",
    "aurora status",
    "function status",
    "table status",
)
DOWN = (
    "aurora autoscale off --yes",
    "read-model drop --yes",
    "function delete --yes --logs",
    "aurora delete --no-final-snapshot --yes",
    "table delete --unprotect --yes",
)
GONE = {"aurora delete --no-final-snapshot --yes": "No cluster", "table delete --unprotect --yes": "No table"}
LOOKS = ("Describe", "Get", "List", "Scan", "Query", "Filter")


class Operator:
    """Types commands, in this process: only here the time can be made to pass."""

    def __init__(self, states: States, capsys: pytest.CaptureFixture[str], home: Path, groups: dict[str, str]) -> None:
        self.states = states
        self.capsys = capsys
        self.home = home
        self.groups = groups
        self.users: set[str] = set()

    def types(self, environment: str, command: str, expected: int = 0) -> str:
        """Run a command; what it printed."""
        arguments = command.format(group=self.groups[environment]).split()
        self.states.begin_command()
        code = run(Invocation(), ["-e", environment, *arguments])
        told = self.capsys.readouterr()
        assert code == expected, f"{environment} {command}: {code}\n{told.out}\n{told.err}"
        return told.out + told.err

    def make_user(self, environment: str, told: str) -> None:
        """Run the SQL that a creation printed, as the administrator does; once is enough for a database that stays."""
        statements = OWN_USER.search(told)
        if statements and environment not in self.users:
            sql = statements[1].replace("'cqrsctl'@", f"'app_{environment}'@").replace("'…'", f"'{PASSWORD}'")
            administer(self.home, *sql.split("; "))
            self.users.add(environment)


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> Iterator[States]:
    passed = [0.0]
    monotonic = SystemClock.monotonic

    def sleep(_: SystemClock, seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(SystemClock, "sleep", sleep)
    monkeypatch.setattr(SystemClock, "monotonic", lambda clock: monotonic(clock) + passed[0])
    monkeypatch.setattr(LambdaBackend, "send_dynamodb_items", emulator._deliver_nothing)
    # moto keeps a deleted cluster's backups, and names them by the minute.
    monkeypatch.setattr(RDSBackend, "create_auto_cluster_snapshot", lambda *_: None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", "disabled")  # moto knows no stream's endpoint of an account
    found = States(denials=2)
    found.install(monkeypatch)
    found.throttle(monkeypatch, every=3)
    with mock_aws():
        yield found


@pytest.fixture
def operator(
    states: States, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Operator]:
    """Somebody at a terminal, in a folder with the settings of both regions; a tunnel leads to the database."""
    monkeypatch.setattr(
        DBCluster, "endpoint", property(lambda cluster: f"products.cluster-1.{cluster.region}.rds.amazonaws.com")
    )
    names = [f"products.cluster-1.{region}.rds.amazonaws.com" for region in REGIONS.values()]
    with certified(tmp_path, trustme.CA(), *names) as (port, _):
        settings = [SETTINGS.format(name=name, region=region, port=port) for name, region in REGIONS.items()]
        (tmp_path / "cqrsctl.toml").write_text("".join(settings))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("CQRSCTL_DATABASE_PASSWORD", PASSWORD)
        yield Operator(states, capsys, tmp_path, {name: private_network(region) for name, region in REGIONS.items()})


def private_network(region: str) -> str:
    """Two subnets of a VPC as a DB subnet group `private`; its security group."""
    ec2, rds = (boto3.client(service, region) for service in ("ec2", "rds"))
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"{region}{zone}")["Subnet"]
        for number, zone in enumerate("ab")
    ]
    rds.create_db_subnet_group(
        DBSubnetGroupName="private",
        DBSubnetGroupDescription="-",
        SubnetIds=[subnet["SubnetId"] for subnet in subnets],
    )
    group: str = ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
    return group


@pytest.mark.timeout(400)
def test_a_pipeline_lives_in_two_regions_twice(operator: Operator, states: States) -> None:
    live(operator, states, "us")
    for _ in range(2):
        live(operator, states, "eu")
        die(operator, "eu")
        assert "drift: 0" in operator.types("us", "verify")
    die(operator, "us")

    states.denials = 0
    assert [left_over(region) for region in REGIONS.values()] == [[], []]
    met = {"Throttling", "InvalidDBClusterStateFault", "InvalidParameterValueException", "OperationAbortedException"}
    met |= {"AccessDenied", "AccessDeniedException"}
    assert met <= states.refused.keys()


def live(operator: Operator, states: States, environment: str) -> None:
    """Make the pipeline, ask for it again, and work with it."""
    for command in UP:
        operator.make_user(environment, operator.types(environment, command))
    states.done.clear()
    for command in UP:
        operator.types(environment, command)
    assert [operation for operation in states.done if not operation.startswith(LOOKS)] == []
    for command in WORK:
        operator.types(environment, command)


def die(operator: Operator, environment: str) -> None:
    """Delete the pipeline, and be told that it is gone."""
    for command in DOWN:
        operator.types(environment, command)
    for command, words in GONE.items():
        assert words in operator.types(environment, command, expected=4)
    # Lambda may still be using the role for the network interfaces, so that is deleted by a second command.
    assert "role ProductHandlerFunctionRole" in operator.types(environment, "function delete --yes --logs")
    assert "deleted" not in operator.types(environment, "function delete --yes --logs")


def left_over(region: str) -> list[str]:
    """What is still there of a pipeline, by name; a secret is kept for some days."""
    tables, rds, functions, queues, logs, iam = (
        boto3.client(service, region) for service in ("dynamodb", "rds", "lambda", "sqs", "logs", "iam")
    )
    return [
        *tables.list_tables()["TableNames"],
        *(cluster["DBClusterIdentifier"] for cluster in rds.describe_db_clusters()["DBClusters"]),
        *(instance["DBInstanceIdentifier"] for instance in rds.describe_db_instances()["DBInstances"]),
        *(function["FunctionName"] for function in functions.list_functions()["Functions"]),
        *(mapping.uuid for mapping in mappings.of_function(functions, PROJECTOR)),
        *queues.list_queues().get("QueueUrls", []),
        *(group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]),
        *(role["RoleName"] for role in iam.list_roles()["Roles"] if role["RoleName"].endswith(region)),
    ]
