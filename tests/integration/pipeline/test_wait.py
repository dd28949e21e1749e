"""Waiting until a write is visible on the writer, on every reader, in every view; and who is behind where it is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.clock import SystemClock
from cqrsctl.codec import decode_item
from cqrsctl.errors import CqrsctlError, DatabaseError, TooSlow
from cqrsctl.local.ports import free_port
from cqrsctl.pipeline.wait import Shown, Waiting, Where
from cqrsctl.projection.definition import ColumnType, default_product
from cqrsctl.projection.rows import snapshot_rows
from cqrsctl.projection.tables import PhysicalTable
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.read_model.sink import prepare
from cqrsctl.read_model.writing import upserts
from cqrsctl.wiring import Wiring
from cqrsctl.write_model import products
from cqrsctl.write_model.product import Product
from cqrsctl.write_model.table import TableSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Endpoint
    from tests.conftest import Cqrsctl

PRODUCT = default_product()
SOLD_OUT = replace(PRODUCT, name="sold", view="SoldOut", where=(("OutOfStock", True),))
LAMP = Product(1, "Lamp", Decimal("19.90"), out_of_stock=True)


class Clock(SystemClock):
    """Time that goes on only where it is slept for; then something happens."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.at: dict[int, Callable[[], None]] = {}
        """What is done in which pause, counted from 1."""

    def monotonic(self) -> float:
        return sum(self.pauses)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.at.get(len(self.pauses), lambda: None)()


class Pipeline:
    """A table with two views over it, and somebody who waits."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = Wiring(replace(wiring.environment, projections=(PRODUCT, SOLD_OUT)))
        self.writer = replace(self.wiring.database, name="the-writer")
        self.clock = Clock()
        self.notices: list[str] = []
        self._version = 0
        name = wiring.environment.table
        TableSpec(name, point_in_time_recovery=False, deletion_protection=False).create_call().make(wiring.dynamodb)
        prepare(self.writer, self.wiring.environment.projections)
        self.with_readers()

    def with_readers(self, *readers: Endpoint) -> None:
        self.wiring.servers = Servers(lambda: Topology(self.writer, readers))

    def put(self, product: Product) -> None:
        products.Put(self.wiring.environment.table, product).make(self.wiring.dynamodb)

    def apply(self, product: Product, *projections: Projection, to: Endpoint | None = None) -> None:
        """What a projector does, to the writer, or replication to a reader."""
        self._version += 1
        with connect(to or self.writer) as connection:
            for projection in projections or (PRODUCT, SOLD_OUT):
                rows, _ = snapshot_rows(projection, [decode_item(product.item())], datetime.now(UTC))
                for sql, _ in upserts(
                    PhysicalTable(projection, 1), [row._replace(version=self._version) for row in rows]
                ):
                    connection.execute(sql)
            connection.commit()

    def wait(self, where: Where = Where.WRITER, seconds: float = 5, product_id: int = 1) -> float:
        return self.shown(where, seconds, product_id).seconds

    def shown(self, where: Where, seconds: float = 5, product_id: int = 1) -> Shown:
        return Waiting(self.wiring, product_id, self.clock, seconds, self.notices.append).until_shown(where)


@pytest.fixture
def shop(wiring: Wiring) -> Pipeline:
    return Pipeline(wiring)


def behind(shop: Pipeline, name: str) -> Endpoint:
    """A reader that has what is applied to it only: a database of its own plays it."""
    reader = replace(shop.writer, database=f"{shop.writer.database}_{name}", name=name)
    prepare(reader, shop.wiring.environment.projections)
    return reader


def test_a_write_is_waited_for_in_every_view(shop: Pipeline) -> None:
    shop.put(LAMP)
    shop.clock.at = {3: lambda: shop.apply(LAMP, PRODUCT), 6: lambda: shop.apply(LAMP, SOLD_OUT)}

    assert shop.wait() == sum(shop.clock.pauses)
    assert len(shop.clock.pauses) == 6


def test_what_is_there_already_is_not_waited_for(shop: Pipeline) -> None:
    shop.put(LAMP)
    shop.apply(LAMP)

    assert shop.wait() == 0
    assert shop.clock.pauses == []


def test_a_deleted_product_is_to_be_gone_and_one_that_a_view_leaves_out_is_not_to_be_there(shop: Pipeline) -> None:
    assert shop.wait(product_id=2) == 0
    in_stock = replace(LAMP, out_of_stock=False)
    shop.put(in_stock)
    shop.apply(in_stock, PRODUCT)
    assert shop.wait() == 0

    products.delete(shop.wiring.dynamodb, shop.wiring.environment.table, 1)
    with pytest.raises(TooSlow, match=r"not applied it: the writer still shows product 1\."):
        shop.wait(seconds=1)


def test_an_older_state_is_called_one(shop: Pipeline) -> None:
    shop.put(LAMP)
    shop.apply(LAMP)
    shop.put(replace(LAMP, name="Lantern"))
    with pytest.raises(TooSlow, match=r"the writer shows product 1 as it was before\."):
        shop.wait(seconds=1)


def test_a_time_out_names_the_projector_and_is_asked_for_ever_more_seldom_before(shop: Pipeline) -> None:
    shop.put(LAMP)

    with pytest.raises(
        TooSlow, match=r"after 5 s the projector has not applied it: the writer does not show product 1 yet\."
    ) as caught:
        shop.wait()

    assert caught.value.exit_code == 8
    assert "The write is done and stays" in caught.value.message
    pauses = shop.clock.pauses
    assert sum(pauses) == pytest.approx(5)
    assert pauses[0] == 0.02
    assert max(pauses) == 0.25
    assert pauses[:-1] == sorted(pauses[:-1])


def test_every_reader_is_waited_for(shop: Pipeline) -> None:
    first, second = behind(shop, "r1"), behind(shop, "r2")
    shop.with_readers(first, second)
    shop.put(LAMP)
    shop.apply(LAMP)
    shop.clock.at = {2: lambda: shop.apply(LAMP, to=second), 4: lambda: shop.apply(LAMP, to=first)}

    assert shop.shown(Where.READERS).readers == 2

    assert len(shop.clock.pauses) == 4
    assert shop.notices == []


def test_a_time_out_names_the_readers_that_are_behind_and_only_those(shop: Pipeline) -> None:
    level = behind(shop, "r1")
    gone = replace(shop.writer, name="r3", port=free_port())
    shop.with_readers(level, behind(shop, "r2"), gone)
    shop.put(LAMP)
    shop.apply(LAMP)
    shop.apply(LAMP, to=level)

    with pytest.raises(
        TooSlow,
        match=r"after 1 s r2 does not show product 1 yet and r3 does not answer \(.*\); the writer shows the write\.",
    ):
        shop.wait(Where.READERS, seconds=1)


def test_readers_that_are_behind_because_the_writer_is_are_not_blamed(shop: Pipeline) -> None:
    shop.with_readers(behind(shop, "r1"))
    shop.put(LAMP)

    with pytest.raises(TooSlow, match="the projector has not applied it"):
        shop.wait(Where.READERS, seconds=1)


def test_without_readers_the_writer_is_waited_for_and_that_is_said(shop: Pipeline) -> None:
    shop.put(LAMP)
    shop.apply(LAMP)

    assert shop.shown(Where.READERS) == Shown(0, readers=0)
    assert shop.notices == ["There are no readers: waiting for the writer."]


def test_a_product_that_fits_no_row_is_told_at_once(shop: Pipeline) -> None:
    price = replace(PRODUCT.columns[2], type=ColumnType.parse("decimal(4,2)"))
    narrow = replace(PRODUCT, name="narrow", view="Narrow", columns=(*PRODUCT.columns[:2], price))
    prepare(shop.writer, [narrow])
    shop.wiring = Wiring(replace(shop.wiring.environment, projections=(PRODUCT, narrow)))
    shop.put(replace(LAMP, price=Decimal(100)))

    with pytest.raises(
        CqrsctlError, match=r"does not fit projection narrow.*Price: 100 has more than 2 digits"
    ) as told:
        shop.wait()

    assert told.value.exit_code == 1
    assert shop.clock.pauses == []


def test_without_a_read_model_and_with_another_declaration_that_is_said(shop: Pipeline) -> None:
    wiring = shop.wiring
    shop.wiring = Wiring(replace(wiring.environment, projections=(replace(PRODUCT, columns=PRODUCT.columns[:3]),)))
    with pytest.raises(DatabaseError) as differs:
        shop.wait()
    assert differs.value.code == "schema_differs"

    shop.wiring = Wiring(replace(wiring.environment, projections=(replace(PRODUCT, name="other", view="Other"),)))
    with pytest.raises(ReadModelMissing):
        shop.wait()


def test_the_command_writes_first_and_exits_8_where_nobody_projects(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    lamp = ("product", "put", "1", "--name", "Lamp")

    without = cqrsctl(*lamp, "--wait", "--price", "5", "-o", "json")
    cqrsctl.ok("project", "--once")
    there = cqrsctl.ok(*lamp, "--wait", "--price", "5")
    late = cqrsctl("product", "delete", "1", "--wait=readers", "--timeout", "0.1s")

    assert without.code == 5
    assert without.json()["Price"] == "5.00"
    assert "read_model_missing" in without.err
    assert "The writer shows the write after 0." in there.err
    assert late.code == 8
    assert "Product 1 is deleted." in late.err
    assert "There are no readers" in late.err
    assert "the projector has not applied it: the writer still shows product 1." in late.err
    assert cqrsctl(*lamp, "--price", "5", "--wait=nobody").code == 2
    assert cqrsctl(*lamp, "--price", "5", "--timeout", "1s").code == 2
    assert cqrsctl.ok(*lamp, "--price", "5", "--wait", "--dry-run", "-o", "json").json()[0]["operation"] == "PutItem"
