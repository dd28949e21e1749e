"""The functions' zip under AWS's own runtime client, with a real database: what Lambda will run, as it will run it."""

from __future__ import annotations

import json
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.clock import SystemClock
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.functions import package
from cqrsctl.functions.parts import COMMAND_HANDLER, PROJECTOR_HANDLER
from cqrsctl.pipeline import settling
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.read_model.connection import connect
from cqrsctl.write_model import table
from tests.aws.states import taking_its_time
from tests.integration.functions.lambda_runtime import Relay, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.wiring import Wiring
    from tests.integration.functions.lambda_runtime import Function

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AWS's runtime client is for Lambda's Linux only")

GOLDEN = Path(__file__).parents[2] / "unit" / "golden" / "lambda_event.json"
ARN = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/2024-03-01T10:00:00.000"
PRODUCT = default_product()
DETAILS = Projection(
    "details",
    "Details",
    (
        Column("ProductId", ColumnType.parse("bigint"), "ProductId", key=True, required=True),
        Column("Thumbnail", ColumnType.parse("varbinary(16)"), "Thumbnail"),
        Column("City", ColumnType.parse("varchar(40)"), "Maker.Address.City"),
        Column("Exact", ColumnType.parse("decimal(38,0)"), "Exact"),
        Column("Reviews", ColumnType.parse("json"), "Reviews"),
        Column("Tags", ColumnType.parse("json"), "Tags"),
    ),
)
COUNTS = ("Records", "Applied", "Stale", "DeadLettered")
SUCCESS: dict[str, Any] = {"batchItemFailures": []}


def golden() -> dict[str, Any]:
    event: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return event


def record(sequence: int, product_id: int, name: str = "Lamp") -> dict[str, Any]:
    """A record of an event: a product was put."""
    image = {"ProductId": {"N": str(product_id)}, "Name": {"S": name}, "Price": {"N": "1.5"}}
    return {
        "eventID": f"{sequence:032x}",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-central-1",
        "dynamodb": {
            "ApproximateCreationDateTime": int(time.time()),
            "Keys": {"ProductId": {"N": str(product_id)}},
            "NewImage": image,
            "SequenceNumber": str(10**27 + sequence),
            "SizeBytes": 60,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": ARN,
    }


def event(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}


def rows(wiring: Wiring, view: str = "Product") -> list[dict[str, Any]]:
    with connect(wiring.database) as connection:
        return connection.query(f"SELECT * FROM {view} ORDER BY ProductId")


def names(wiring: Wiring) -> dict[int, str]:
    return {row["ProductId"]: row["Name"] for row in rows(wiring)}


@pytest.fixture
def relay(wiring: Wiring) -> Iterator[Relay]:
    made = Relay(wiring.database.port)
    made.open()
    yield made
    made.close()


@pytest.fixture
def variables(wiring: Wiring, relay: Relay) -> dict[str, str]:
    """The function's environment: AWS is the emulator, which keeps the database's login as a secret."""
    database = wiring.database
    secrets = wiring.client("secretsmanager")
    login = {"username": database.login().user, "password": database.login().password}
    arn = secrets.create_secret(Name=database.database, SecretString=json.dumps(login))["ARN"]
    return {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "role",
        "AWS_SECRET_ACCESS_KEY": "of-the-role",
        "AWS_ENDPOINT_URL": secrets.meta.endpoint_url,
        "CQRSCTL_TABLE": "Products",
        "CQRSCTL_DATABASE_HOST": "127.0.0.1",
        "CQRSCTL_DATABASE_PORT": str(relay.port),
        "CQRSCTL_DATABASE_NAME": database.database,
        "CQRSCTL_DATABASE_SECRET": arn,
    }


@pytest.fixture
def projector(variables: dict[str, str], tmp_path: Path) -> Iterator[Function]:
    content = package.build([PRODUCT, DETAILS])
    with running(content, PROJECTOR_HANDLER, variables, tmp_path) as function:
        yield function


def test_the_golden_event_stands_in_the_read_model(projector: Function, wiring: Wiring) -> None:
    modified, removed = golden()["Records"]

    first = projector.invoke(event(modified))

    assert first.response == SUCCESS
    assert rows(wiring) == [{"ProductId": 7, "Name": "Lámpara 😀", "Price": Decimal("19.9000"), "OutOfStock": 0}]
    (details,) = rows(wiring, "Details")
    assert (details["Thumbnail"], details["City"]) == (b"\x00\x01\xfe\xff", "Ulm")
    assert details["Exact"] == Decimal(12345678901234567890123456789012345678)
    assert json.loads(details["Reviews"]) == ["good", 5, None, True, "AQ==", [], {}]
    assert json.loads(details["Tags"]) == ["brass", "oak"]
    assert first.measured(*COUNTS) == (1, 2, 0, 0)

    whole = projector.invoke(event(modified, removed))

    assert whole.response == SUCCESS
    assert (rows(wiring), rows(wiring, "Details")) == ([], [])
    assert whole.measured(*COUNTS) == (2, 2, 0, 0)


def test_an_invocation_tells_its_request_and_beats(projector: Function, wiring: Wiring) -> None:
    done = projector.invoke(event(record(1, 1)))

    (line,) = done.lines()
    assert line["requestId"] == done.request_id
    assert line["FunctionName"] == "ProductHandler"
    assert 0 <= line["LagSeconds"] < 60
    assert [metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]] == [
        *COUNTS,
        "LagSeconds",
        "Milliseconds",
    ]
    found = Facts(wiring, SystemClock()).inventory()
    last = found.last
    assert last is not None
    assert last.holder == f"Lambda function ProductHandler, request {done.request_id}"
    assert found.checkpoints == ()


def test_a_poison_record_is_a_dead_letter_and_its_neighbours_are_applied(projector: Function, wiring: Wiring) -> None:
    done = projector.invoke(event(record(1, 1), record(2, 2, "x" * 300), record(3, 3)))

    assert done.response == SUCCESS
    assert done.measured(*COUNTS) == (3, 5, 0, 1)
    assert names(wiring) == {1: "Lamp", 3: "Lamp"}
    (letter,) = settling.listing(wiring)
    assert (letter.projection, letter.error) == ("product", "Name: 300 characters, where 255 fit")
    assert letter.change.keys == {"ProductId": Decimal(2)}


def test_a_batch_that_comes_twice_or_late_changes_nothing(projector: Function, wiring: Wiring) -> None:
    newer = event(record(5, 1, "new"), record(6, 2, "new"))
    assert projector.invoke(newer).measured(*COUNTS) == (2, 4, 0, 0)
    before = rows(wiring)

    assert projector.invoke(newer).measured(*COUNTS) == (2, 0, 4, 0)
    assert projector.invoke(event(record(3, 1, "old"), record(4, 2, "old"))).measured(*COUNTS) == (2, 0, 4, 0)

    assert rows(wiring) == before


def test_a_database_that_is_down_fails_the_invocation_and_the_next_one_goes_on(
    projector: Function, wiring: Wiring, relay: Relay
) -> None:
    relay.cut()
    failed = projector.invoke(event(record(1, 1)))
    assert failed.error is not None
    assert failed.error["errorType"] == "TransientDatabaseError"
    (line,) = failed.lines()
    assert (line["level"], line["code"], line["requestId"]) == ("ERROR", "database_unavailable", failed.request_id)

    relay.open()
    assert projector.invoke(event(record(1, 1))).response == SUCCESS

    relay.cut()
    again = projector.invoke(event(record(2, 2)))
    assert again.error is not None
    assert again.error["errorType"] == "TransientDatabaseError"

    relay.open()
    assert projector.invoke(event(record(2, 2))).response == SUCCESS
    assert names(wiring) == {1: "Lamp", 2: "Lamp"}


def test_a_kept_connection_that_broke_is_replaced_within_the_invocation(
    projector: Function, wiring: Wiring, relay: Relay
) -> None:
    assert projector.invoke(event(record(1, 1))).response == SUCCESS
    relay.cut_connections()

    done = projector.invoke(event(record(2, 2)))

    assert done.measured(*COUNTS) == (1, 2, 0, 0)
    assert names(wiring) == {1: "Lamp", 2: "Lamp"}


def test_an_event_of_another_table_fails_and_touches_nothing(projector: Function, wiring: Wiring, relay: Relay) -> None:
    relay.cut()
    odd = record(1, 1)
    odd["eventSourceARN"] = ARN.replace("table/Products", "table/Orders")

    refused = projector.invoke(event(odd))

    assert refused.error is not None
    assert refused.error["errorType"] == "EventRefused"
    assert refused.error["errorMessage"] == "The event is of table 'Orders'; this function projects 'Products'."
    assert projector.invoke(event()).measured(*COUNTS) == (0, 0, 0, 0)


def test_ten_thousand_records_are_one_invocation(projector: Function, wiring: Wiring) -> None:
    done = projector.invoke(event(*(record(number, number) for number in range(1, 10_001))))

    assert done.measured(*COUNTS) == (10_000, 20_000, 0, 0)
    assert len(names(wiring)) == 10_000


def test_a_login_that_was_changed_is_got_anew_and_never_told(
    projector: Function, wiring: Wiring, variables: dict[str, str], relay: Relay
) -> None:
    secrets, arn = wiring.client("secretsmanager"), variables["CQRSCTL_DATABASE_SECRET"]
    right = secrets.get_secret_value(SecretId=arn)["SecretString"]
    wrong = json.dumps({"username": "cqrsctl", "password": "rotten-password"})

    secrets.put_secret_value(SecretId=arn, SecretString=wrong)
    refused = projector.invoke(event(record(1, 1)))
    assert refused.error is not None
    assert refused.lines()[0]["code"] == "database_login"
    secrets.put_secret_value(SecretId=arn, SecretString=right)
    assert projector.invoke(event(record(1, 1))).response == SUCCESS

    output = projector.output.read_text()
    assert "rotten-password" not in output + json.dumps(refused.error)
    assert wiring.database.login().password not in output
    assert "of-the-role" not in output


def test_settings_that_are_missing_fail_each_invocation_and_say_which(
    variables: dict[str, str], tmp_path: Path
) -> None:
    del variables["CQRSCTL_DATABASE_HOST"]
    with running(package.build([PRODUCT]), PROJECTOR_HANDLER, variables, tmp_path) as function:
        for _ in range(2):
            failed = function.invoke(event(record(1, 1)))
            assert failed.error is not None
            assert failed.error["errorType"] == "ConfigurationError"
            assert "CQRSCTL_DATABASE_HOST" in failed.error["errorMessage"]


def test_a_handler_that_is_not_in_the_zip_is_an_error_of_the_start(tmp_path: Path) -> None:
    with running(package.build([PRODUCT]), "cqrsctl.cli.app.main", {}, tmp_path) as function:
        path, content = function.outcome()
    assert path == "init/error"
    assert content["errorType"] == "Runtime.ImportModuleError"


def test_the_command_function_puts_products(variables: dict[str, str], wiring: Wiring, tmp_path: Path) -> None:
    name = wiring.environment.table
    with taking_its_time():
        table.create(wiring.dynamodb, table.TableSpec(name), lambda _: None, SystemClock())
    lamp = {"ProductId": 42, "Name": "Lámpara 😀", "Price": "19.90", "OutOfStock": False}
    variables["CQRSCTL_TABLE"] = name
    with running(package.build([PRODUCT]), COMMAND_HANDLER, variables, tmp_path) as function:
        assert function.invoke(lamp).response == {**lamp, "outcome": "created"}
        refused = function.invoke({**lamp, "existence": "absent"})
        assert refused.error is not None
        assert (refused.error["errorType"], refused.error["errorMessage"]) == (
            "ConditionFailed",
            "Product 42 exists already; nothing was changed.",
        )
        wrapped = {"requestContext": {}, "headers": {"If-Match": "*"}, "body": json.dumps({**lamp, "Price": 20.5})}
        answer = function.invoke(wrapped).response
        assert (answer["statusCode"], json.loads(answer["body"])["outcome"]) == (200, "replaced")
    item = wiring.client("dynamodb").get_item(TableName=name, Key={"ProductId": {"N": "42"}})["Item"]
    assert (item["Name"], item["Price"]) == ({"S": "Lámpara 😀"}, {"N": "20.5"})
