"""The sampler of the rebuild's tests: it finds what goes back, and has nothing to say where all is well."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.read_model.connection import connect
from cqrsctl.write_model.product import Product
from tests.faults.rebuild_history import History, Judge
from tests.faults.rebuild_sampler import NotingWriter, Sampler
from tests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

# Product 1 is put by the changes 1, 3, 6, 9 and deleted by 4, 5 (it was gone already) and 7; product 2 is put once.
PUTS = (1, 3, 6, 9)
DELETIONS = (4, 5, 7)
GONE = None


def put(change: int, product_id: int = 1) -> Product:
    return Product(product_id, f"Änderung {change} 💡", Decimal(change), out_of_stock=change % 2 == 0)


@pytest.fixture
def judge() -> Judge:
    history = History()
    for change in PUTS:
        history.put(change, put(change))
    for change in DELETIONS:
        history.deleted(change, 1)
    history.put(2, put(2, product_id=2))
    return Judge(history)


def looks(judge: Judge, *states: int | None) -> list[list[str]]:
    """What is said to a row of looks at product 1, each by the change that is shown, or gone."""
    return [judge.look([] if state is GONE else [put(state)]) for state in states]


@pytest.mark.parametrize(
    "states",
    [
        (1, 3, GONE, 6, GONE, 9),
        (1, 1, GONE, GONE, 6, 6, 9, 9),
        (1, 9),  # what lies between was not looked at
        (1, GONE, GONE, 9),
        (3, GONE, 6),
        (GONE, 1, GONE, 6, 9),  # not projected yet, at first
        (GONE, GONE, 9),
    ],
)
def test_what_goes_forward_is_right(judge: Judge, states: tuple[int | None, ...]) -> None:
    assert looks(judge, *states) == [[]] * len(states)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((3, 1), "product 1 went back from change 3 to 1"),
        ((9, 6), "product 1 went back from change 9 to 6"),
        ((3, GONE, 3), "product 1 went back from change 4 to 3"),  # it came back
        ((6, GONE, 6), "product 1 went back from change 7 to 6"),
        ((1, GONE, 9, 6), "product 1 went back from change 9 to 6"),
        ((9, GONE), "product 1 vanished, and was not deleted since change 9"),
        ((6, GONE, 9, GONE), "product 1 vanished, and was not deleted since change 9"),
    ],
)
def test_what_goes_back_is_found(judge: Judge, states: tuple[int | None, ...], said: str) -> None:
    *before, last = looks(judge, *states)

    assert before == [[]] * len(before)
    assert last == [said]


@pytest.mark.parametrize(
    "shown",
    [
        put(8),  # no such change was made
        put(4),  # it was a deletion
        put(3, product_id=2),  # of another product
        replace(put(3), price=Decimal(6)),  # half of one state, half of another
        replace(put(3), name="Desk Lamp"),
    ],
)
def test_a_state_that_was_never_written_is_found(judge: Judge, shown: Product) -> None:
    assert judge.look([shown]) == [f"{shown} was never written so"]


def test_products_are_judged_each_by_itself(judge: Judge) -> None:
    assert judge.look([put(3), put(2, product_id=2)]) == []
    assert judge.look([put(2, product_id=2)]) == []
    assert judge.look([put(1)]) == [
        "product 1 went back from change 4 to 1",
        "product 2 vanished, and was not deleted since change 2",
    ]


def test_a_view_that_is_swapped_for_an_older_table_is_seen(
    cqrsctl: Cqrsctl, wiring: Wiring, chance: random.Random
) -> None:
    cqrsctl.ok("table", "create")
    writer = NotingWriter(wiring, chance)
    writer.fill()
    cqrsctl.ok("project", "--once")
    with connect(wiring.database) as connection:
        connection.execute("CREATE TABLE product_v9 AS SELECT * FROM product_v1")
        with Sampler(wiring, writer.history) as sampler:
            writer.write_some(5)
            cqrsctl.ok("project", "--once")
            sampler.look_on()
            sampler.assert_nothing_went_back()
            view = connection.query("SHOW CREATE VIEW Product")[0]["Create View"]
            connection.execute(view.replace("CREATE", "CREATE OR REPLACE", 1).replace("product_v1", "product_v9"))
            wait_for(lambda: bool(sampler.complaints), "the sampler sees older states")

        with pytest.raises(AssertionError, match=r"went back|vanished"):
            sampler.assert_nothing_went_back()


def test_a_view_that_cannot_be_read_is_seen(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    cqrsctl.ok("read-model", "init")
    with connect(wiring.database) as connection, Sampler(wiring, History()) as sampler:
        sampler.look_on()
        sampler.assert_nothing_went_back()
        connection.execute("DROP VIEW Product")
        wait_for(lambda: bool(sampler.complaints), "the sampler sees that the view is gone")

    with pytest.raises(AssertionError, match="could not be read"):
        sampler.assert_nothing_went_back()
