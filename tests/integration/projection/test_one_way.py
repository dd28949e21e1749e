"""The same change records down all four ways: they leave the same rows and letters, and count the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import ChangeRecord, Event, Page, Position, SequenceNumber
from cqrsctl.clock import SystemClock
from cqrsctl.codec import encode_item, to_json
from cqrsctl.functions.projector_function import ProjectorFunction
from cqrsctl.pipeline import project, settling
from cqrsctl.pipeline.settling import LetterOutcome
from cqrsctl.projection.batch import DeadLetter
from cqrsctl.projection.declaration import conditions
from cqrsctl.projection.definition import ColumnType, default_product
from cqrsctl.projection.projector import Projector
from cqrsctl.projection.recovery import OnError
from cqrsctl.read_model import dead_letters, rebuilds
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import MySqlSink, prepare
from cqrsctl.wiring import Wiring
from cqrsctl.write_model.table import describe
from tests.integration.functions.test_lambda_projector import Logins
from tests.pipelines import PRODUCT, execute, make_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.change import Item

GONE = replace(default_product(), name="gone", view="Gone", where=conditions({"OutOfStock": True}))
NARROW = replace(
    PRODUCT,
    columns=tuple(
        replace(column, type=ColumnType.parse("varchar(20)")) if column.name == "Name" else column
        for column in PRODUCT.columns
    ),
)
NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted on the way. Rows of letters that are tried again count as each letter does."""

    rows: int = 0
    stale: int = 0
    letters: int = 0


def change(number: int, product_id: int, name: str | None = "Lamp", *, out_of_stock: bool = False) -> ChangeRecord:
    keys: Item = {"ProductId": Decimal(product_id)}
    image: Item = {**keys, "Name": name, "Price": Decimal("1.5"), "OutOfStock": out_of_stock}
    event = Event.REMOVE if name is None else Event.MODIFY
    return ChangeRecord(
        "", SequenceNumber(str(10**20 + number)), event, keys, None, None if name is None else image, NOW
    )


LARGE = change(10, 8, "Large")
RECORDS = {
    "an insert": change(1, 1),
    "a change": change(2, 1, "Lamp, newer"),
    "a delete": change(3, 2, None),
    "a tombstone keeps an older change away": change(2, 2),
    "a change that does not fit": change(4, 3, "x" * 300),
    "one that the database refuses": change(5, 4, "refused"),
    "a stale one": change(1, 1, "older"),
    "one of an equal version": change(2, 1, "Lamp, newer"),
    "one of two projections": change(6, 5, out_of_stock=True),
    "one that leaves one of them": change(7, 5),
    "one that only the table being built cannot take": change(8, 6, "longer than twenty characters"),
    "a large one": LARGE._replace(new_image={**(LARGE.new_image or {}), "Text": "x" * 300_000}),
}


@pytest.fixture
def made(wiring: Wiring) -> Wiring:
    """Two projections, one of them with a constraint of one's own, and with a narrower table that a rebuild fills."""
    make_table(wiring)
    wiring = Wiring(replace(wiring.environment, projections=(PRODUCT, GONE)))
    prepare(wiring.database, wiring.environment.projections)
    execute(wiring, "ALTER TABLE product_v1 ADD CONSTRAINT own CHECK (Name <> 'refused')")
    with connect(wiring.database, bulk=True) as connection:
        rebuilds.begin(connection, NARROW, arn(wiring), 1)
    return wiring


def arn(wiring: Wiring) -> str:
    return describe(wiring.dynamodb, wiring.environment.table).stream_arn or ""


def records(wiring: Wiring) -> list[ChangeRecord]:
    return [record._replace(stream_arn=arn(wiring)) for record in RECORDS.values()]


class Source:
    """The pages of a shard, one record in each, and an empty one before the last."""

    def __init__(self, changes: list[ChangeRecord]) -> None:
        self.pages = [Page((each,), Position("s", None, each.sequence_number)) for each in changes]
        self.pages.insert(-1, Page((), self.pages[-2].position))
        self.shards_under_way = 1

    @property
    def caught_up(self) -> bool:
        return not self.pages

    def take(self) -> list[Page]:
        return [self.pages.pop(0)] if self.pages else []


def by_stream(wiring: Wiring) -> Counted:
    sink = MySqlSink(lambda: wiring.database, wiring.environment.projections, arn(wiring), SystemClock().monotonic)
    source = Source(records(wiring))
    projector = Projector(
        sink, lambda _: source, SystemClock(), lambda _: None, lambda _: None, on_error=OnError.DEAD_LETTER
    )
    found = projector.run(once=True, stopped=lambda: False)
    return Counted(found.rows, found.stale, found.dead_lettered)


def by_function(wiring: Wiring) -> Counted:
    name, found = wiring.environment.table, Counted()
    login = Logins(wiring.database.login())
    function = ProjectorFunction(name, wiring.environment.projections, wiring.database, login, lambda: NOW)
    for record in [*records(wiring), None]:
        measures = function({} if record is None else {"Records": [event_record(record)]}, "a test").measures
        found = Counted(
            found.rows + int(measures["Applied"]),
            found.stale + int(measures["Stale"]),
            found.letters + int(measures["DeadLettered"]),
        )
    assert function.connection is not None
    function.connection.close()
    return found


def event_record(record: ChangeRecord) -> dict[str, Any]:
    images = {"NewImage": encode_item(record.new_image)} if record.new_image else {}
    return {
        "eventName": record.event.value,
        "eventSource": "aws:dynamodb",
        "eventSourceARN": record.stream_arn,
        "dynamodb": {
            "ApproximateCreationDateTime": int(record.created_at.timestamp()),
            "Keys": encode_item(record.keys),
            "SequenceNumber": str(record.sequence_number),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **images,
        },
    }


def by_replay(wiring: Wiring) -> Counted:
    found = Counted()
    run = project.Run(
        wiring, wiring.environment.projections, SystemClock(), lambda _: None, lambda _: None, OnError.DEAD_LETTER
    )
    for record in [*records(wiring), None]:
        lines = ["\n"] if record is None else [json.dumps(to_json(record, "s"), default=datetime.isoformat)]
        summary = project.from_file(run, lines)
        found = Counted(found.rows + summary.rows, found.stale + summary.stale, found.letters + summary.dead_lettered)
    return found


def by_retry(wiring: Wiring) -> Counted:
    """Each change is a letter of each projection."""
    outcomes = []
    for record in records(wiring):
        with connect(wiring.database) as connection:
            before = set(dead_letters.numbers(connection))
            for projection in wiring.environment.projections:
                dead_letters.write(connection, [DeadLetter(projection.name, "s", record, "a test")])
            connection.commit()
            new = [number for number in dead_letters.numbers(connection) if number not in before]
        outcomes += list(settling.retry(wiring, new))
    return Counted(
        rows=sum(each.outcome is LetterOutcome.APPLIED for each in outcomes),
        stale=sum(each.outcome is LetterOutcome.STALE for each in outcomes),
        letters=sum(each.error is not None for each in outcomes),
    )


def left(wiring: Wiring) -> dict[str, Any]:
    """The rows of every table, and the letters."""
    columns = "ProductId, Name, Price, OutOfStock, _version, _deleted, _changed_at"
    with connect(wiring.database) as connection:
        found: dict[str, Any] = {
            name: connection.query(f"SELECT {columns} FROM {name} ORDER BY ProductId")
            for name in ("product_v1", "product_v2", "gone_v1")
        }
        found["letters"] = sorted(
            (letter.projection, letter.change.sequence_number, letter.error)
            for letter in dead_letters.listing(connection)
        )
    return found


@pytest.mark.parametrize("way", [by_stream, by_function, by_replay, by_retry])
def test_every_way_leaves_the_same(made: Wiring, way: Callable[[Wiring], Counted]) -> None:
    assert len(RECORDS) == 12
    counted = way(made)
    found = left(made)

    newest, deleted, refused_too, left_gone, long, large = (10**20 + number for number in (2, 3, 5, 7, 8, 10))
    assert [(row["ProductId"], row["Name"], number(row), bool(row["_deleted"])) for row in found["product_v1"]] == [
        (1, "Lamp, newer", newest, False),
        (2, None, deleted, True),
        (5, "Lamp", left_gone, False),
        (6, "longer than twenty characters", long, False),
        (8, "Large", large, False),
    ]
    assert [(row["ProductId"], row["Name"], bool(row["_deleted"])) for row in found["product_v2"]] == [
        (1, "Lamp, newer", False),
        (2, None, True),
        (3, None, True),
        (4, "refused", False),
        (5, "Lamp", False),
        (6, None, True),
        (8, "Large", False),
    ]
    assert {row["ProductId"]: bool(row["_deleted"]) for row in found["gone_v1"]} == dict.fromkeys(
        (1, 2, 3, 4, 5, 6, 8), True
    )
    assert [(name, at) for name, at, _ in found["letters"]] == [
        ("product", 10**20 + 4),
        ("product", refused_too),
        ("product", long),
    ]
    assert counted == Counted(rows=16, stale=6, letters=3)


def number(row: dict[str, Any]) -> int:
    """The sequence number in a row's version."""
    return int(row["_version"]) % 10**40
