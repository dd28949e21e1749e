"""What the pipeline costs: quantities from CloudWatch, the table and its stream; options win."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest
import typer
from botocore.exceptions import ClientError

from cqrsctl.aurora import autoscaling
from cqrsctl.aurora.autoscaling import Autoscaling
from cqrsctl.aurora.cluster import CapacityRange, ClusterSpec, create_instance_call
from cqrsctl.cli import cost
from cqrsctl.cli.invocation import Invocation
from cqrsctl.clock import SystemClock
from cqrsctl.config import Flags, load
from cqrsctl.costs import estimates
from cqrsctl.costs.monthly import Capacity, Range
from cqrsctl.costs.quantities import Given
from cqrsctl.errors import ConfigurationError, CqrsctlError
from cqrsctl.wiring import Wiring
from cqrsctl.write_model import table
from tests.aws.states import taking_its_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cqrsctl.config import Environment
    from cqrsctl.costs.estimates import Costs
    from cqrsctl.costs.monthly import CostLine

HANDLER = "ProductHandlerFunction"
NOTHING_GIVEN = Given(polls_per_second=Decimal(1))
ALL_GIVEN = Given(
    polls_per_second=Decimal("0.5"),
    storage_gb=Decimal(100),
    io_millions=Decimal(10),
    table_gb=Decimal(20),
    reads_millions=Decimal(8),
    writes_millions=Decimal(2),
    shards=4,
    lambda_requests_millions=Decimal(1),
    lambda_gb_seconds=Decimal(1000),
)


class Pipeline:
    """A table, a cluster's name, and metrics, in a region of the emulator that nobody else uses."""

    def __init__(self, environment: Environment, region: str) -> None:
        self.environment = replace(environment, region=region)
        self.wiring = Wiring(self.environment)
        self.now = datetime.now(UTC)
        self.capacity = Capacity(
            writer_class="db.r6g.large",
            reader_classes=(),
            serverless=None,
            storage_type="aurora",
            cluster_id=environment.table.lower(),
            table=environment.table,
            region="us-east-1",
        )

    def create_table(self, *, on_demand: bool = True, stream: bool = True) -> None:
        spec = table.TableSpec(self.environment.table, on_demand=on_demand, stream=stream)
        with taking_its_time():
            table.create(self.wiring.dynamodb, spec, lambda _: None, SystemClock())

    def put(self, namespace: str, name: str, dimension: tuple[str, str], hours_ago: float, value: float) -> None:
        datum = {
            "MetricName": name,
            "Dimensions": [{"Name": dimension[0], "Value": dimension[1]}],
            "Timestamp": self.now - timedelta(hours=hours_ago),
            "Value": value,
        }
        self.wiring.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[datum])

    def put_of_cluster(self, name: str, hours_ago: float, value: float) -> None:
        self.put("AWS/RDS", name, ("DBClusterIdentifier", self.environment.table.lower()), hours_ago, value)

    def deploy(self, architecture: str) -> None:
        role = self.wiring.client("iam").create_role(
            RoleName=f"{self.environment.table}-{architecture}", AssumeRolePolicyDocument="{}"
        )
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as package:
            package.writestr("handlers.py", "")
        self.wiring.client("lambda").create_function(
            FunctionName=HANDLER,
            Role=role["Role"]["Arn"],
            Runtime="python3.12",
            Handler="handlers.project",
            Code={"ZipFile": content.getvalue()},
            MemorySize=512,
            Architectures=[architecture],
        )

    def ran(self) -> None:
        for metric, value in (("Invocations", 1000), ("Duration", 40_000)):
            self.put("AWS/Lambda", metric, ("FunctionName", HANDLER), 72.5, value)

    def estimate(self, given: Given = NOTHING_GIVEN) -> Costs:
        return estimates.estimate(self.wiring, self.capacity, given, self.now)

    def lines(self, given: Given = NOTHING_GIVEN) -> dict[str, CostLine]:
        return {line.what: line for line in self.estimate(given).now.lines}


@pytest.fixture
def pipeline_in(environment: Environment) -> Callable[[str], Pipeline]:
    return lambda region: Pipeline(environment, region)


def refusing(monkeypatch: pytest.MonkeyPatch, wiring: Wiring, service: str, code: str = "AccessDenied") -> None:
    """Let every operation of a service be refused."""
    make = wiring.client
    error: Any = {"Error": {"Code": code, "Message": "not for you"}}

    def refuse(**_: Any) -> None:
        raise ClientError(error, "Operation")

    def client(name: str, region_name: str | None = None) -> Any:
        made = make(name, region_name)
        if name == service:
            made.meta.events.register("before-call", refuse)
        return made

    monkeypatch.setattr(wiring, "client", client)


def test_what_was_used_is_read_from_cloudwatch_and_scaled_to_a_month(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("ca-central-1")
    own.now = own.now.replace(minute=30, second=0, microsecond=0)
    own.create_table()
    own.put_of_cluster("VolumeBytesUsed", 50, 9 * 2**30)
    own.put_of_cluster("VolumeBytesUsed", 2, 12.5 * 2**30)
    for hours_ago, reads in ((72.5, 1_000_000), (1, 500_000)):
        own.put_of_cluster("VolumeReadIOPs", hours_ago, reads)
    own.put_of_cluster("VolumeWriteIOPs", 24, 1_500_000)
    own.put_of_cluster("VolumeWriteIOPs", 24 * 40, 10**12)
    own.put("AWS/DynamoDB", "ConsumedWriteCapacityUnits", ("TableName", own.capacity.table), 72.5, 730_000)
    own.put("AWS/DynamoDB", "ConsumedReadCapacityUnits", ("TableName", own.capacity.table), 72.5, 1_460_000)
    own.put("AWS/DynamoDB", "ConsumedWriteCapacityUnits", ("TableName", "another"), 1, 10**12)
    own.deploy("arm64")
    own.ran()

    found = own.lines()

    hours = Decimal("72.5")
    assert found["Aurora storage"].quantity == Range.exactly(Decimal("12.5"))
    assert found["Aurora storage"].source.startswith("CloudWatch, 20")
    assert found["Aurora I/O"].quantity == Range.exactly(round(3 * 730 / hours, 6))
    assert found["Aurora I/O"].source == "CloudWatch, 3 days scaled to a month"
    assert found["DynamoDB writes (on demand)"].quantity == Range.exactly(round(Decimal("0.73") * 730 / hours, 6))
    assert found["DynamoDB reads (on demand)"].quantity == Range.exactly(round(Decimal("1.46") * 730 / hours, 6))
    assert found["DynamoDB stream reads"].quantity == Range.exactly(Decimal("2.628"))
    assert found["DynamoDB stream reads"].source == "1 shard × 1 a second"
    assert found["Lambda requests"].quantity == Range.exactly(round(Decimal("0.001") * 730 / hours, 6))
    assert found["Lambda duration (arm64)"].quantity == Range.exactly(round(20 * 730 / hours, 6))
    assert own.estimate().now.without == ()


def test_without_data_a_quantity_is_unknown_and_its_option_is_named(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("ap-south-1")
    own.create_table()

    found = own.lines()

    unknown = {
        "Aurora storage": "--storage-gb",
        "Aurora I/O": "--io-millions",
        "DynamoDB writes (on demand)": "--writes-millions",
        "DynamoDB reads (on demand)": "--reads-millions",
    }
    for what, option in unknown.items():
        line = found[what]
        assert (line.quantity, line.monthly) == (None, None)
        assert "CloudWatch has no data" in line.reason
        assert line.reason.endswith(option)
    assert own.estimate().now.without == tuple(unknown)


def test_options_win_over_what_is_there_and_then_nothing_is_asked(
    pipeline_in: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pipeline_in("us-west-2")
    own.create_table(on_demand=False)
    own.put_of_cluster("VolumeBytesUsed", 2, 10**15)
    for service in ("cloudwatch", "lambda", "dynamodb", "dynamodbstreams"):
        refusing(monkeypatch, own.wiring, service)

    found = own.estimate(ALL_GIVEN)

    assert [str(line.monthly.low) for line in found.now.lines if line.monthly] == [
        "189.80",
        "10.00",
        "2.00",
        "5.00",
        "1.25",
        "1.00",
        "1.05",
        "0.20",
        "0.01",
        "0.00",
        "0.00",
    ]
    assert found.now.total == Range.exactly(Decimal("210.31"))
    assert found.now.lines[1].source == "--storage-gb"
    assert found.with_reader is not None
    assert found.with_reader.total == Range.exactly(Decimal("400.11"))


def test_where_cloudwatch_refuses_each_line_says_so(
    pipeline_in: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pipeline_in("us-east-2")
    own.create_table()
    refusing(monkeypatch, own.wiring, "cloudwatch")

    found = own.lines(replace(NOTHING_GIVEN, io_millions=Decimal(0)))

    assert "cloudwatch GetMetricData: access denied. not for you; give --storage-gb" in found["Aurora storage"].reason
    assert "access denied" in found["DynamoDB reads (on demand)"].reason
    assert found["Aurora I/O"].monthly == Range.exactly(Decimal("0.00"))
    assert found["DynamoDB stream reads"].monthly == Range.exactly(Decimal("0.53"))


def test_credentials_that_aws_does_not_accept_stop_it(
    pipeline_in: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pipeline_in("us-east-2")
    refusing(monkeypatch, own.wiring, "cloudwatch", "ExpiredTokenException")

    with pytest.raises(ConfigurationError, match="does not accept the credentials"):
        own.estimate()


def test_without_a_table_or_a_stream_the_shards_are_unknown_unless_given(
    pipeline_in: Callable[[str], Pipeline],
) -> None:
    own = pipeline_in("eu-north-1")
    assert own.lines()["DynamoDB stream reads"].reason.endswith("give --shards")

    own.create_table(stream=False)
    assert "is off" in own.lines()["DynamoDB stream reads"].reason
    given = own.lines(replace(NOTHING_GIVEN, shards=2))["DynamoDB stream reads"]
    assert (given.quantity, given.source) == (Range.exactly(Decimal("5.256")), "2 shards × 1 a second")


def test_where_the_stream_cannot_be_listed_its_shards_are_unknown(
    pipeline_in: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pipeline_in("eu-west-3")
    own.create_table()
    refusing(monkeypatch, own.wiring, "dynamodbstreams")

    assert "access denied. not for you; give --shards" in own.lines()["DynamoDB stream reads"].reason


def test_reads_by_lambda_alone_cost_nothing(pipeline_in: Callable[[str], Pipeline]) -> None:
    found = pipeline_in("eu-west-2").lines(Given(polls_per_second=Decimal(0)))["DynamoDB stream reads"]

    assert (found.quantity, found.monthly) == (Range.exactly(Decimal(0)), Range.exactly(Decimal("0.00")))


def test_provisioned_capacity_costs_by_the_hour_whatever_was_used(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("eu-south-1")
    own.create_table(on_demand=False)
    own.put("AWS/DynamoDB", "ConsumedWriteCapacityUnits", ("TableName", own.capacity.table), 2, 100)

    found = own.lines()

    written, read = (found[f"DynamoDB {what} capacity (provisioned)"] for what in ("write", "read"))
    assert (written.quantity, written.monthly) == (Range.exactly(Decimal(3650)), Range.exactly(Decimal("2.37")))
    assert (read.quantity, read.monthly) == (Range.exactly(Decimal(3650)), Range.exactly(Decimal("0.47")))
    assert "DynamoDB writes (on demand)" not in found


def test_a_table_stores_its_items_with_a_hundred_bytes_each(
    pipeline_in: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pipeline_in("eu-south-1")
    own.create_table()
    stored = replace(table.describe(own.wiring.dynamodb, own.capacity.table), items=10**8, bytes=10**10)
    monkeypatch.setattr(table, "describe", lambda *_: stored)

    found = own.lines()["DynamoDB storage"]
    assert (found.quantity, found.monthly) == (
        Range.exactly(Decimal("18.626451")),
        Range.exactly(Decimal("4.66")),
    )

    stored = replace(stored, table_class="STANDARD_INFREQUENT_ACCESS")
    lines = own.lines()
    for what in ("DynamoDB storage", "DynamoDB writes (on demand)", "DynamoDB reads (on demand)"):
        assert "has the class STANDARD_INFREQUENT_ACCESS" in lines[what].reason


def test_secrets_are_counted_once_each_without_those_that_are_being_deleted(
    pipeline_in: Callable[[str], Pipeline],
) -> None:
    own = pipeline_in("ca-west-1")
    client = own.wiring.client("secretsmanager")
    arns = [
        client.create_secret(Name=name, SecretString="{}")["ARN"]
        for name in ("rds!cluster-1", "mine", "cqrsctl/local/database")
    ]
    own.capacity = replace(own.capacity, secret=arns[0])
    database = replace(own.environment.database, secret="mine")
    own.wiring = Wiring(replace(own.environment, database=database))

    assert own.lines()["secrets"].monthly == Range.exactly(Decimal("1.20"))
    client.delete_secret(SecretId=arns[2])
    assert own.lines()["secrets"].monthly == Range.exactly(Decimal("0.80"))
    same = replace(own.environment.database, secret=arns[0])
    own.wiring = Wiring(replace(own.environment, database=same))
    assert own.lines()["secrets"].quantity == Range.exactly(Decimal(1))


def test_secrets_that_may_not_be_looked_at_are_unknown(
    pipeline_in: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pipeline_in("ca-west-1")
    refusing(monkeypatch, own.wiring, "secretsmanager")

    assert "access denied" in own.lines()["secrets"].reason


def test_the_alarms_of_scaling_policies_are_counted(
    pipeline_in: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pipeline_in("ca-west-1")
    assert own.lines()["autoscaling's alarms"].quantity == Range.exactly(Decimal(0))

    monkeypatch.setattr(autoscaling, "describe", lambda *_: Autoscaling("products", alarms=4))
    assert own.lines()["autoscaling's alarms"].monthly == Range.exactly(Decimal("0.40"))


def test_functions_that_are_not_deployed_cost_nothing(pipeline_in: Callable[[str], Pipeline]) -> None:
    found = pipeline_in("eu-central-2").lines()

    for what in ("Lambda requests", "Lambda duration (arm64)"):
        assert (found[what].monthly, found[what].source) == (
            Range.exactly(Decimal("0.00")),
            "no function is deployed",
        )


def test_without_a_cluster_the_rest_is_counted_and_the_server_is_named(
    pipeline_in: Callable[[str], Pipeline],
) -> None:
    own = pipeline_in("eu-central-2")
    own.capacity = estimates.capacity_of(None, own.capacity.table, "us-east-1")

    found = own.estimate(ALL_GIVEN)

    assert found.now.total == Range.exactly(Decimal("8.51"))
    assert not [line.what for line in found.now.lines if "Aurora" in line.what or "writer" in line.what]
    assert found.not_counted[-1].startswith("the database server")


def test_a_new_cluster_costs_its_writer_and_its_secret(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("us-west-1")
    spec = ClusterSpec("products", "cqrs", capacity=CapacityRange(0.5, 16))

    month, book = estimates.creation(
        own.wiring, estimates.capacity_asked(spec, own.capacity.table, "us-east-1"), own.now
    )

    assert month.total == Range(Decimal("44.20"), Decimal("1402.00"))
    assert book.source == "table in cqrsctl"


def test_a_function_on_another_architecture_has_no_price_here(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("sa-east-1")
    own.ran()
    own.deploy("x86_64")
    assert "is not on arm64" in own.lines()["Lambda duration (arm64)"].reason


def test_io_optimized_storage_asks_for_no_io(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("ap-east-1")
    own.capacity = replace(own.capacity, storage_type="aurora-iopt1")
    own.put_of_cluster("VolumeReadIOPs", 2, 10**9)

    found = own.estimate(replace(ALL_GIVEN, io_millions=None))

    assert [str(line.monthly.low) for line in found.now.lines if line.monthly][:2] == ["246.74", "22.50"]
    assert "Aurora I/O" not in {line.what for line in found.now.lines}


def test_one_reader_more_is_priced_alone(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("us-west-1")

    found = estimates.reader(own.wiring, own.capacity, "db.r7g.2xlarge", own.now)
    assert (found.line.what, found.line.monthly) == ("reader db.r7g.2xlarge", Range.exactly(Decimal("807.38")))
    assert found.prices.source == "table in cqrsctl"
    unknown = estimates.reader(own.wiring, own.capacity, "db.r99z.large", own.now)
    assert (unknown.line.monthly, unknown.line.reason) == (
        None,
        "the table in cqrsctl has no price of db.r99z.large in us-east-1",
    )


def outside(environment: Environment, directory: Path) -> Environment:
    """An environment that is not embedded, but has the emulator as its endpoint."""
    (directory / "cqrsctl.toml").write_text('[environments.prod]\nregion = "eu-west-1"\n')
    url = Wiring(environment).client("cloudwatch").meta.endpoint_url
    return replace(load(Flags(env="prod"), {}, directory), endpoint_url=url)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.usefixtures("credentials")
def test_an_endpoint_without_a_price_list_leaves_it_to_the_table(
    environment: Environment, tmp_path: Path, pipeline_in: Callable[[str], Pipeline]
) -> None:
    wiring = Wiring(outside(environment, tmp_path))
    capacity = pipeline_in("eu-west-1").capacity

    found = estimates.estimate(wiring, capacity, ALL_GIVEN, datetime.now(UTC))

    assert found.prices is not None
    assert found.prices.source == "table in cqrsctl"
    assert "pricing GetProducts" in found.prices.reason
    assert found.now.total == Range.exactly(Decimal("210.31"))
    elsewhere = estimates.estimate(wiring, replace(capacity, region="xx-west-9"), ALL_GIVEN, datetime.now(UTC))
    assert elsewhere.now.total is None
    assert len(elsewhere.now.without) == len(elsewhere.now.lines)


@pytest.mark.usefixtures("credentials")
def test_the_price_lists_client_is_of_us_east_1_whatever_the_environments_region(
    environment: Environment, tmp_path: Path
) -> None:
    wiring = Wiring(replace(outside(environment, tmp_path), endpoint_url=None))

    client = wiring.client("pricing", "us-east-1")

    assert client.meta.endpoint_url == "https://api.pricing.us-east-1.amazonaws.com"
    assert wiring.client("cloudwatch").meta.region_name == "eu-west-1"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, credentials: None) -> Callable[..., None]:
    """Run the command for a pipeline in AWS, for which the emulator answers; it has no price list."""

    def run(own: Pipeline, *arguments: str) -> None:
        url = own.wiring.client("cloudwatch").meta.endpoint_url
        environment = replace(own.environment, embedded=False, endpoint_url=url)
        monkeypatch.setattr(cost, "capacity", lambda _: own.capacity)
        command = typer.main.get_command(cost.app)
        command.main(list(arguments), prog_name="cost", standalone_mode=False, obj=Invocation(preset=environment))

    return run


GIVEN = (
    "--storage-gb=100",
    "--io-millions=10",
    "--table-gb=20",
    "--reads-millions=8",
    "--writes-millions=2",
    "--shards=4",
    "--polls-per-second=0.5",
    "--lambda-requests-millions=1",
    "--lambda-gb-seconds=1000",
)


def test_the_cluster_that_the_environment_names_is_priced_with_its_readers(
    environment: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str], credentials: None
) -> None:
    name = environment.table.lower()
    prod = replace(outside(environment, tmp_path), region="us-east-1", table=environment.table)
    named = replace(prod, database=replace(prod.database, cluster=name))
    client = Wiring(named).client("rds")
    ClusterSpec(name, "cqrs").create_call().make(client)
    for member in ("1", "2"):
        create_instance_call(f"{name}-{member}", name, "db.r6g.large", 1, ()).make(client)

    priced = document_of(named, capsys)
    without = document_of(prod, capsys)

    assert (priced["cluster"], priced["region"]) == (name, "us-east-1")
    assert [line["what"] for line in priced["now"]["lines"][:2]] == ["writer db.r6g.large", "reader db.r6g.large"]
    assert without["cluster"] is None
    assert without["not_counted"][-1].startswith("the database server")


def document_of(environment: Environment, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the command prints for an environment."""
    command = typer.main.get_command(cost.app)
    command.main(["-o", "json"], prog_name="cost", standalone_mode=False, obj=Invocation(preset=environment))
    return json.loads(capsys.readouterr().out)


def test_the_table_shows_lines_and_totals_and_stderr_where_prices_are_from(
    pipeline_in: Callable[[str], Pipeline], run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")

    run(own, *GIVEN)

    shown = capsys.readouterr()
    assert "WHAT" in shown.out
    assert "$0.0000133334" in shown.out
    assert shown.out.endswith("now: $210.31 a month\nwith one reader more (db.r6g.large): $400.11 a month\n")
    assert "Prices: table in cqrsctl, us-east-1, 2026-07-10. Not from AWS: pricing GetProducts" in shown.err
    assert "Not counted: backups and snapshots, data transfer, NAT gateways and VPC endpoints, KMS" in shown.err


def test_the_table_says_at_least_and_names_what_it_leaves_out(
    pipeline_in: Callable[[str], Pipeline], run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")
    own.capacity = replace(own.capacity, writer_class=None)

    run(own, *GIVEN[1:])

    shown = capsys.readouterr().out
    assert "now: at least $10.51 a month, without Aurora storage\n" in shown
    assert "with one reader more: unknown, the cluster has no writer" in shown


def test_a_serverless_cluster_is_shown_from_its_least_to_its_most(
    pipeline_in: Callable[[str], Pipeline], run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")
    own.capacity = replace(own.capacity, writer_class="db.serverless", serverless=(Decimal("0.5"), Decimal(16)))

    run(own, *GIVEN)

    shown = capsys.readouterr().out
    assert "365 – 11,680" in shown
    assert "now: $64.31 – $1,422.11 a month" in shown


def test_json_is_one_document_with_exact_decimals_as_text(
    pipeline_in: Callable[[str], Pipeline], run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")

    run(own, *GIVEN, "-o", "json")

    document = json.loads(capsys.readouterr().out)
    assert document["prices"] == {
        "source": "table in cqrsctl",
        "region": "us-east-1",
        "date": "2026-07-10",
        "reason": ANY,
    }
    assert "backups and snapshots" in document["not_counted"]
    assert (document["now"]["total_low"], document["with_reader"]["total_high"]) == ("210.31", "400.11")
    assert document["now"]["lines"][-3] == {
        "what": "Lambda duration (arm64)",
        "quantity_low": "1000",
        "quantity_high": "1000",
        "unit": "GB seconds",
        "unit_price": "0.0000133334",
        "monthly_low": "0.01",
        "monthly_high": "0.01",
        "source": "--lambda-gb-seconds",
        "reason": None,
    }


def test_json_lines_end_each_estimate_with_its_total(
    pipeline_in: Callable[[str], Pipeline], run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")

    run(own, *GIVEN, "-o", "jsonl")

    totals = [row for row in map(json.loads, capsys.readouterr().out.splitlines()) if row["what"] == "total"]
    assert [(row["estimate"], row["monthly_low"]) for row in totals] == [("now", "210.31"), ("with_reader", "400.11")]


@pytest.mark.parametrize(
    ("budget", "left_out", "message"),
    [
        ("300", "", None),
        ("210.31", "", None),
        ("210.30", "", "costs $210.31 a month, more than the budget of $210.30."),
        ("1,000", "", "not a number"),
        (
            "300",
            "--table-gb=20",
            "keeps the budget of $300.00 is unknown: it costs at least $205.31",
        ),
        ("200", "--table-gb=20", "costs at least $205.31 a month, without DynamoDB storage, more than the budget"),
    ],
)
def test_a_budget_that_is_exceeded_or_may_be_is_an_error(
    pipeline_in: Callable[[str], Pipeline],
    run: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    budget: str,
    left_out: str,
    message: str | None,
) -> None:
    own = pipeline_in("me-south-1")
    arguments = [f"--budget={budget}", *(given for given in GIVEN if given != left_out), "-o", "json"]
    if message is None:
        run(own, *arguments)
        assert json.loads(capsys.readouterr().out)["budget_kept"] is True
        return

    with pytest.raises((CqrsctlError, typer.BadParameter), match=re.escape(message)) as caught:
        run(own, *arguments)

    if isinstance(caught.value, CqrsctlError):
        assert caught.value.exit_code == 1
        assert json.loads(capsys.readouterr().out)["budget_kept"] is (None if "unknown" in message else False)


def test_where_nothing_has_a_price_the_total_is_unknown(
    pipeline_in: Callable[[str], Pipeline], run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")
    own.capacity = replace(own.capacity, region="xx-west-9")

    run(own, *GIVEN)
    assert "now: unknown\n" in capsys.readouterr().out
    run(own, *GIVEN, "-o", "json")
    assert json.loads(capsys.readouterr().out)["now"]["total_low"] is None
    run(own, *GIVEN, "-o", "csv")
    assert "$" not in capsys.readouterr().out
    with pytest.raises(CqrsctlError, match="is unknown: no part of the pipeline has a price"):
        run(own, *GIVEN, "--budget=1000000")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--storage-gb", "-1"),
        ("--budget", "-1"),
        ("--io-millions", "nan"),
        ("--writes-millions", "inf"),
        ("--writes-millions", "1e300"),
        ("--lambda-gb-seconds", "1e-300"),
        ("--lambda-requests-millions", "many"),
        ("--shards", "-1"),
        ("--shards", "1.5"),
        ("--shards", "99999999"),
        ("--polls-per-second", "11"),
        ("--polls-per-second", "-0.1"),
    ],
)
def test_absurd_quantities_are_refused(
    pipeline_in: Callable[[str], Pipeline], run: Callable[..., None], option: str, value: str
) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        run(pipeline_in("me-south-1"), f"{option}={value}")

    assert caught.value.exit_code == 2
