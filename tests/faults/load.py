"""The load of the crash tests: products written in the background, and the comparison afterwards."""

from __future__ import annotations

import random
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from cqrsctl.read_model.connection import connect
from cqrsctl.write_model.product import Product
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

PRODUCTS = 300
"""Few enough that each is changed, deleted and put again many times."""
_BATCH = 25
_PAUSE_SECONDS = 0.1
_MOST_CHANGES = 100_000
_MOST_SECONDS = 250.0


class Writer:
    """Puts, changes, deletes and re-inserts products until stopped. What each became last is in `products`."""

    def __init__(self, wiring: Wiring, chance: random.Random) -> None:
        self.products: dict[int, Product] = {}
        self.changes = 0
        self._client = wiring.client("dynamodb")
        self._table = wiring.environment.table
        self._chance = random.Random(chance.randrange(2**32))
        self._stopped = threading.Event()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def fill(self) -> None:
        """Put every product once."""
        everything = list(range(1, PRODUCTS + 1))
        for first in range(0, PRODUCTS, _BATCH):
            self._write([self._put(number) for number in everything[first : first + _BATCH]])

    def write_some(self, batches: int) -> None:
        """Change products now, in the foreground."""
        for _ in range(batches):
            self._write_batch()

    def stop(self) -> None:
        """Stop writing. Raises what the background met."""
        self._stopped.set()
        self._thread.join()
        if self._failures:
            raise self._failures[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        deadline = time.monotonic() + _MOST_SECONDS
        try:
            while not self._stopped.wait(_PAUSE_SECONDS):
                assert self.changes < _MOST_CHANGES, "the writer was not stopped in time"
                assert time.monotonic() < deadline, "the writer was not stopped in time"
                self._write_batch()
        except BaseException as error:  # noqa: BLE001 -- raised by stop()
            self._failures.append(error)

    def _write_batch(self) -> None:
        chosen = self._chance.sample(range(1, PRODUCTS + 1), self._chance.randint(1, _BATCH))
        self._write([self._delete(number) if self._is_to_go(number) else self._put(number) for number in chosen])

    def _is_to_go(self, number: int) -> bool:
        return number in self.products and self._chance.random() < 0.3

    def _put(self, number: int) -> dict[str, Any]:
        # No two puts are equal: DynamoDB would make no change record of the second.
        self.changes += 1
        digits = self._chance.randint(1, 18)
        self.products[number] = Product(
            number,
            f"Änderung {self.changes} 💡",
            Decimal(self._chance.randrange(10**digits)).scaleb(-4),
            self._chance.random() < 0.5,
        )
        return {"PutRequest": {"Item": self.products[number].item()}}

    def _delete(self, number: int) -> dict[str, Any]:
        self.changes += 1
        del self.products[number]
        return {"DeleteRequest": {"Key": {"ProductId": {"N": str(number)}}}}

    def _write(self, requests: Sequence[dict[str, Any]]) -> None:
        answer = self._client.batch_write_item(RequestItems={self._table: requests})
        assert not answer["UnprocessedItems"]


def items(wiring: Wiring) -> dict[int, Product]:
    """The products of the table, by a client without cqrsctl's own decoding."""
    pages = (
        wiring.client("dynamodb")
        .get_paginator("scan")
        .paginate(TableName=wiring.environment.table, ConsistentRead=True)
    )
    return {
        int(item["ProductId"]["N"]): Product(
            int(item["ProductId"]["N"]), item["Name"]["S"], Decimal(item["Price"]["N"]), item["OutOfStock"]["BOOL"]
        )
        for page in pages
        for item in page["Items"]
    }


def rows(wiring: Wiring) -> dict[int, Product]:
    """The products of the view."""
    with connect(wiring.database) as connection:
        found = connection.query("SELECT ProductId, Name, Price, OutOfStock FROM Product")
    return {
        row["ProductId"]: Product(row["ProductId"], row["Name"], row["Price"], bool(row["OutOfStock"])) for row in found
    }


def wait_until_caught_up(wiring: Wiring, writer: Writer) -> None:
    """Wait until the view shows what was written last. The writer must have stopped."""
    try:
        wait_for(lambda: rows(wiring) == writer.products, "the view shows what was written", seconds=60)
    except AssertionError as late:
        there = rows(wiring)
        differing = [number for number in range(1, PRODUCTS + 1) if there.get(number) != writer.products.get(number)]
        late.add_note(f"It differs in the products {differing}.")
        raise


def assert_nothing_lost(cqrsctl: Cqrsctl, wiring: Wiring, writer: Writer) -> None:
    """Table and view hold exactly what was written. The writer and every projector must have stopped."""
    written = items(wiring)
    assert written == writer.products
    assert rows(wiring) == written
    assert "drift: 0" in cqrsctl.ok("verify").out
