"""A projector by hand takes over from the Lambda function and gives back: nothing is lost, nothing repeated."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import Position, SequenceNumber, ShardState
from cqrsctl.functions.projector import ProjectorFunction
from cqrsctl.operations import functions, project
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import checkpoints, heartbeat
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import MySqlSink, prepare
from cqrsctl.stream.reader import Beginning
from cqrsctl.wiring import SystemClock
from cqrsctl.write_model import table
from cqrsctl.write_model.product import Product
from cqrsctl.write_model.products import Existence

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.read_model.connection import Login
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

PRODUCTS = 40


class KeptLogin:
    """The stack's login, kept for as long as nobody forgets it."""

    def __init__(self, login: Callable[[], Login]) -> None:
        self._login = login

    def __call__(self) -> Login:
        return self._login()

    def forget(self) -> None:
        """It does not change here."""


def deployed(wiring: Wiring) -> ProjectorFunction:
    """The projector function, as its entry point makes it."""
    login = KeptLogin(wiring.database.login)
    return ProjectorFunction(
        wiring.environment.table, (default_product(),), wiring.database, login, lambda: datetime.now(UTC)
    )


def records(wiring: Wiring) -> list[dict[str, Any]]:
    """All records of the table's stream, as Lambda hands them over."""
    streams, arn = (
        wiring.client("dynamodbstreams"),
        table.describe(wiring.dynamodb, wiring.environment.table).stream_arn,
    )
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    found = streams.get_records(ShardIterator=iterator["ShardIterator"], Limit=1_000)["Records"]
    return [{**record, "eventSource": "aws:dynamodb", "eventSourceARN": arn} for record in found]


def test_a_pause_with_a_projector_by_hand_loses_and_repeats_nothing(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    cqrsctl.ok("table", "create")
    lines = [f"{number},Lamp {number},{number}.25,false" for number in range(PRODUCTS)]
    cqrsctl.ok("product", "import", "-", "--workers", "1", stdin="ProductId,Name,Price,OutOfStock\n" + "\n".join(lines))
    function = deployed(wiring)
    written = records(wiring)

    before = function({"Records": written[:15]}, "Lambda").measures  # paused in the middle of the stream
    cqrsctl.ok("product", "put", "3", "--name", "Changed", "--price", "1")
    cqrsctl.ok("product", "delete", "4")
    by_hand = cqrsctl.ok("project", "--once", "-o", "json").json()
    cqrsctl.ok("product", "put", "5", "--name", "Later", "--price", "2")
    after = function({"Records": records(wiring)[15:]}, "Lambda").measures  # resumed where it was paused

    assert (before["Applied"], before["Stale"]) == (15, 0)
    assert by_hand["stale"] == 13  # of the function's fifteen, two were changed since
    assert by_hand["rows"] == PRODUCTS - 13
    assert (after["Applied"], after["DeadLettered"]) == (1, 0)
    assert cqrsctl.ok("verify", "-o", "json").json() == []
    assert cqrsctl.ok("project", "--once", "-o", "json").json()["rows"] == 0


@pytest.mark.parametrize(
    ("holder", "beside", "forgotten"),
    [("Lambda function X", True, True), ("Lambda function X", False, False), ("somebody@host, process 1", True, False)],
)
def test_checkpoints_that_the_function_left_behind_are_no_gap(
    wiring: Wiring, holder: str, beside: bool, forgotten: bool
) -> None:
    arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/2026-03-01T12:00:00.000"
    projections = [default_product()]
    prepare(wiring.database, projections)
    with connect(wiring.database) as connection:
        gap = Position("shard-2", None, SequenceNumber("8"), state=ShardState.GAP)
        checkpoints.write(connection, arn, {"product": [Position("shard-1", None, SequenceNumber("7")), gap]})
        heartbeat.write(connection, holder)
        connection.commit()
    sink = MySqlSink(lambda: wiring.database, projections, arn, lambda: 0.0, beside_function=beside)

    found = sink.open()
    sink.close()

    assert sorted(found["product"]) == (["shard-2"] if forgotten else ["shard-1", "shard-2"])


@pytest.mark.parametrize(("state", "said"), [("Enabled", True), ("Disabled", False), (None, False)])
def test_a_projector_by_hand_says_when_the_function_reads_too(
    cqrsctl: Cqrsctl, wiring: Wiring, monkeypatch: pytest.MonkeyPatch, state: str | None, said: bool
) -> None:
    cqrsctl.ok("table", "create")
    monkeypatch.setattr(functions, "mapping_state", lambda _: state)
    told: list[str] = []

    run = project.Run(wiring, (default_product(),), SystemClock(), lambda _: None, told.append)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)

    assert any("ProductHandlerFunction reads this stream too" in line for line in told) is said


def test_a_put_through_the_function_sends_what_it_takes() -> None:
    entry = Product(42, "Lamp", price=Decimal("19.90"), out_of_stock=True)

    call = functions.put_call(entry, Existence.ABSENT)

    assert (call.operation, call.parameters["FunctionName"]) == ("Invoke", "ProductCommandFunction")
    assert call.parameters["Payload"] == (
        '{"ProductId": 42, "Name": "Lamp", "Price": "19.90", "OutOfStock": true, "existence": "absent"}'
    )


def test_the_embedded_stack_runs_no_functions_and_says_so(cqrsctl: Cqrsctl) -> None:
    planned = cqrsctl.ok(
        "product", "put", "42", "--name", "Lamp", "--price", "19.90", "--via-function", "--dry-run", "-o", "json"
    ).json()

    refused = cqrsctl("product", "put", "42", "--name", "Lamp", "--price", "19.90", "--via-function")

    assert [call["operation"] for call in planned] == ["Invoke"]
    assert refused.code == 4
    assert "keeps functions, but runs none" in refused.err
