"""What the pipeline costs: quantities from CloudWatch, the table and its stream; options win."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import typer
from botocore.exceptions import ClientError

from cqrsctl.cli.aurora_cost import cost_command
from cqrsctl.cli.invocation import Invocation
from cqrsctl.clock import SystemClock
from cqrsctl.config import Flags, load
from cqrsctl.costs import quantities
from cqrsctl.costs.monthly import Capacity, Range
from cqrsctl.costs.quantities import Costs, Given
from cqrsctl.errors import ConfigurationError
from cqrsctl.wiring import Wiring
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cqrsctl.config import Environment
    from cqrsctl.costs.monthly import CostLine

HANDLER = "ProductHandlerFunction"
NOTHING_GIVEN = Given(polls_per_second=Decimal(1))
ALL_GIVEN = Given(
    polls_per_second=Decimal("0.5"),
    storage_gb=Decimal(100),
    io_millions=Decimal(10),
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
        self.put("AWS/RDS", name, ("DBClusterIdentifier", self.capacity.cluster_id), hours_ago, value)

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
        return quantities.estimate(self.wiring, self.capacity, given, self.now)

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
    own.put("AWS/DynamoDB", "ConsumedWriteCapacityUnits", ("TableName", "another"), 1, 10**12)
    own.deploy("arm64")
    own.ran()

    found = own.lines()

    hours = Decimal("72.5")
    assert found["storage"].quantity == Range.exactly(Decimal("12.5"))
    assert found["storage"].source.startswith("CloudWatch, 20")
    assert found["storage I/O"].quantity == Range.exactly(round(3 * 730 / hours, 6))
    assert found["storage I/O"].source == "CloudWatch, 3 days scaled to a month"
    assert found["DynamoDB writes (on demand)"].quantity == Range.exactly(round(Decimal("0.73") * 730 / hours, 6))
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
        "storage": "--storage-gb",
        "storage I/O": "--io-millions",
        "DynamoDB writes (on demand)": "--writes-millions",
        "Lambda requests": "--lambda-requests-millions",
        "Lambda duration (arm64)": "--lambda-gb-seconds",
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
        "1.25",
        "1.05",
        "0.20",
        "0.01",
    ]
    assert found.now.total == Range.exactly(Decimal("204.31"))
    assert found.now.lines[1].source == "--storage-gb"
    assert found.with_reader is not None
    assert found.with_reader.total == Range.exactly(Decimal("394.11"))


def test_where_cloudwatch_refuses_each_line_says_so(
    pipeline_in: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = pipeline_in("us-east-2")
    own.create_table()
    refusing(monkeypatch, own.wiring, "cloudwatch")

    found = own.lines(replace(NOTHING_GIVEN, io_millions=Decimal(0)))

    assert "cloudwatch GetMetricData: access denied. not for you; give --storage-gb" in found["storage"].reason
    assert "access denied" in found["Lambda duration (arm64)"].reason
    assert found["storage I/O"].monthly == Range.exactly(Decimal("0.00"))
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


def test_provisioned_writes_have_no_price_by_the_write(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("eu-south-1")
    own.create_table(on_demand=False)
    own.put("AWS/DynamoDB", "ConsumedWriteCapacityUnits", ("TableName", own.capacity.table), 2, 100)

    assert "provisioned capacity" in own.lines()["DynamoDB writes (on demand)"].reason


def test_a_function_on_another_architecture_has_no_price_here(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("sa-east-1")
    own.ran()
    assert "GetFunctionConfiguration" in own.lines()["Lambda duration (arm64)"].reason

    own.deploy("x86_64")
    assert "does not run on arm64" in own.lines()["Lambda duration (arm64)"].reason


def test_io_optimized_storage_asks_for_no_io(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("ap-east-1")
    own.capacity = replace(own.capacity, storage_type="aurora-iopt1")
    own.put_of_cluster("VolumeReadIOPs", 2, 10**9)

    found = own.estimate(replace(ALL_GIVEN, io_millions=None))

    assert [str(line.monthly.low) for line in found.now.lines if line.monthly][:2] == ["246.74", "22.50"]
    assert "storage I/O" not in {line.what for line in found.now.lines}


def test_one_reader_more_is_priced_alone(pipeline_in: Callable[[str], Pipeline]) -> None:
    own = pipeline_in("us-west-1")

    found = quantities.reader(own.wiring, own.capacity, "db.r7g.2xlarge", own.now)
    assert (found.line.what, found.line.monthly) == ("reader db.r7g.2xlarge", Range.exactly(Decimal("807.38")))
    assert found.prices.source == "table in cqrsctl"
    unknown = quantities.reader(own.wiring, own.capacity, "db.r99z.large", own.now)
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

    found = quantities.estimate(wiring, capacity, ALL_GIVEN, datetime.now(UTC))

    assert found.prices.source == "table in cqrsctl"
    assert "pricing GetProducts" in found.prices.reason
    assert found.now.total == Range.exactly(Decimal("204.31"))
    elsewhere = quantities.estimate(wiring, replace(capacity, region="xx-west-9"), ALL_GIVEN, datetime.now(UTC))
    assert elsewhere.now.total == Range.exactly(Decimal("0.00"))
    assert len(elsewhere.now.without) == len(elsewhere.now.lines)


@pytest.mark.usefixtures("credentials")
def test_the_price_lists_client_is_of_us_east_1_whatever_the_environments_region(
    environment: Environment, tmp_path: Path
) -> None:
    wiring = Wiring(replace(outside(environment, tmp_path), endpoint_url=None))

    client = wiring.client("pricing", "us-east-1")

    assert client.meta.endpoint_url == "https://api.pricing.us-east-1.amazonaws.com"
    assert wiring.client("cloudwatch").meta.region_name == "eu-west-1"


def run(own: Pipeline, *arguments: str) -> None:
    app = typer.Typer()
    app.command("cost")(cost_command(lambda _: own.capacity))
    command = typer.main.get_command(app)
    command.main(list(arguments), prog_name="cost", standalone_mode=False, obj=Invocation(preset=own.environment))


GIVEN = (
    "--storage-gb=100",
    "--io-millions=10",
    "--writes-millions=2",
    "--shards=4",
    "--polls-per-second=0.5",
    "--lambda-requests-millions=1",
    "--lambda-gb-seconds=1000",
)


def test_the_table_shows_lines_and_totals_and_stderr_where_prices_are_from(
    pipeline_in: Callable[[str], Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")

    run(own, *GIVEN)

    shown = capsys.readouterr()
    assert "WHAT" in shown.out
    assert "$0.0000133334" in shown.out
    assert shown.out.endswith("now: $204.31 a month\nwith one reader more (db.r6g.large): $394.11 a month\n")
    assert "Prices: table in cqrsctl, us-east-1, 2026-07-10. Not from AWS: an embedded stack" in shown.err


def test_the_table_says_at_least_and_names_what_it_leaves_out(
    pipeline_in: Callable[[str], Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")
    own.capacity = replace(own.capacity, writer_class=None)

    run(own, *GIVEN[1:])

    shown = capsys.readouterr().out
    assert "now: at least $4.51 a month, without storage\n" in shown
    assert "with one reader more: unknown, the cluster has no writer" in shown


def test_a_serverless_cluster_is_shown_from_its_least_to_its_most(
    pipeline_in: Callable[[str], Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")
    own.capacity = replace(own.capacity, writer_class="db.serverless", serverless=(Decimal("0.5"), Decimal(16)))

    run(own, *GIVEN)

    shown = capsys.readouterr().out
    assert "365 – 11,680" in shown
    assert "now: $58.31 – $1,416.11 a month" in shown


def test_json_is_one_document_with_exact_decimals_as_text(
    pipeline_in: Callable[[str], Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")

    run(own, *GIVEN, "-o", "json")

    document = json.loads(capsys.readouterr().out)
    assert document["prices"] == {
        "source": "table in cqrsctl",
        "region": "us-east-1",
        "date": "2026-07-10",
        "reason": "an embedded stack does not ask AWS",
    }
    assert (document["now"]["total_low"], document["with_reader"]["total_high"]) == ("204.31", "394.11")
    assert document["now"]["lines"][-1] == {
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
    pipeline_in: Callable[[str], Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    own = pipeline_in("me-south-1")

    run(own, *GIVEN, "-o", "jsonl")

    totals = [row for row in map(json.loads, capsys.readouterr().out.splitlines()) if row["what"] == "total"]
    assert [(row["estimate"], row["monthly_low"]) for row in totals] == [("now", "204.31"), ("with_reader", "394.11")]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--storage-gb", "-1"),
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
def test_absurd_quantities_are_refused(pipeline_in: Callable[[str], Pipeline], option: str, value: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        run(pipeline_in("me-south-1"), f"{option}={value}")

    assert caught.value.exit_code == 2
