"""A pipeline in steps, in this process: its table, some products, a run of the projector, readers that are behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cqrsctl.clock import SystemClock
from cqrsctl.pipeline import project
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import heartbeat, locks
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.read_model.sink import prepare
from cqrsctl.stream.reader import Beginning
from cqrsctl.write_model.products import Put
from cqrsctl.write_model.sample import products
from cqrsctl.write_model.table import TableSpec
from tests.waiting import wait_for

if TYPE_CHECKING:
    from cqrsctl.read_model.connection import Endpoint
    from cqrsctl.wiring import Wiring

PRODUCT = default_product()

MARK_GAP = (
    "UPDATE cqrs_checkpoint SET state = 'gap', sequence_number = NULL, parent = 'shardId-00000000000000000001-trimmed'"
)
"""Marks a gap as a projector does that finds a shard whose parent came and went unread."""


class Clock:
    """The real time, some seconds ahead, and by every sleep further ahead."""

    def __init__(self, ahead_seconds: float = 0.0) -> None:
        self.ahead_seconds = ahead_seconds

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_seconds)

    def monotonic(self) -> float:
        return self.ahead_seconds

    def sleep(self, seconds: float) -> None:
        self.ahead_seconds += seconds


class HastyClock(SystemClock):
    """Time that passes twenty times as quickly, so that the tip of a stream is known for it soon."""

    def monotonic(self) -> float:
        return super().monotonic() * 20

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 20)


def make_table(wiring: Wiring) -> None:
    spec = TableSpec(wiring.environment.table, point_in_time_recovery=False, deletion_protection=False)
    spec.create_call().make(wiring.dynamodb)


def create_table_of_lines(wiring: Wiring, text_key: str, number_key: str) -> str:
    """Create the test's table with a key of two parts, a text and a number, and with its stream; the table's name."""
    name = wiring.environment.table
    wiring.dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[
            {"AttributeName": text_key, "AttributeType": "S"},
            {"AttributeName": number_key, "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": text_key, "KeyType": "HASH"},
            {"AttributeName": number_key, "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return name


def put(wiring: Wiring, count: int = 3, seed: int = 1) -> None:
    for entry in products(count, seed):
        Put(wiring.environment.table, entry).make(wiring.dynamodb)


def projected(wiring: Wiring) -> None:
    """Project what is there. The server releases the lock of a connection that was closed a moment later."""
    run = project.Run(wiring, (PRODUCT,), HastyClock(), lambda _: None, lambda _: None)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)
    lock = locks.of_projector(wiring.database.database, PRODUCT.name)
    with connect(wiring.database) as connection:
        wait_for(lambda: not locks.is_held(connection, lock), "the projector's lock is released")


def execute(wiring: Wiring, sql: str) -> None:
    with connect(wiring.database) as connection:
        connection.execute(sql)
        connection.commit()


def beat(endpoint: Endpoint, seconds_ago: float, holder: str = "a test") -> None:
    with connect(endpoint) as connection:
        heartbeat.write(connection, holder)
        connection.execute(
            "UPDATE cqrs_heartbeat SET beat_at = NOW(6) - INTERVAL %s SECOND, projected_at = beat_at", (seconds_ago,)
        )
        connection.commit()


def with_readers(wiring: Wiring, **ports: int | None) -> None:
    """Give a pipeline readers.

    Without a port one got nothing from the writer for a minute: it is a database of its own with an old heartbeat.
    With 0 it is the writer itself, and so always up to date; with another port it is nowhere.
    """
    writer = wiring.database
    prepare(writer, [PRODUCT])
    readers = []
    for name, port in ports.items():
        reader = replace(writer, name=name)
        if port is None:
            reader = replace(reader, database=f"{writer.database}_{name}")
            prepare(reader, [PRODUCT])
            beat(reader, 60)
        readers.append(replace(reader, port=port) if port else reader)
    beat(writer, 30)
    wiring.servers = Servers(lambda: Topology(writer, tuple(readers)))
