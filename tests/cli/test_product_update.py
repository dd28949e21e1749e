"""`cqrsctl product update`: what is named changes, all else stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.test_bad_input import error

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl


def test_an_update_changes_what_is_named_and_prints_the_product(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    cqrsctl.ok("table", "create")
    item = {"ProductId": {"N": "1"}, "Name": {"S": "Lamp"}, "Price": {"N": "5"}, "Colour": {"S": "red"}}
    wiring.dynamodb.put_item(TableName=wiring.environment.table, Item=item)

    planned = cqrsctl.ok("product", "update", "1", "--price", "19.90", "--dry-run", "-o", "json").json()
    priced = cqrsctl.ok("product", "update", "1", "--price", "19.90", "-o", "json")
    sold = cqrsctl.ok("product", "update", "1", "--out-of-stock", "--name", "Oak Lamp", "-o", "json").json()
    back = cqrsctl.ok("product", "update", "1", "--in-stock", "-o", "json").json()

    assert [call["operation"] for call in planned] == ["UpdateItem"]
    assert priced.err == "Product 1 is updated.\n"
    assert priced.json() == {"ProductId": 1, "Name": "Lamp", "Price": "19.90", "Colour": "red"}
    assert sold == {"ProductId": 1, "Name": "Oak Lamp", "Price": "19.90", "Colour": "red", "OutOfStock": True}
    assert back == sold | {"OutOfStock": False}


def test_a_product_that_does_not_exist_is_not_made_by_an_update(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")

    for more in ([], ["--dry-run"]):
        refused = cqrsctl("product", "update", "7", "--price", "1", "-o", "json", *more)
        assert refused.code == 1
        assert error(refused)["message"] == "Product 7 does not exist; nothing was changed."
        assert error(refused)["hint"] == "Create it, whole, with `cqrsctl product put`."
    assert cqrsctl("product", "get", "7").code == 1


def test_an_update_of_nothing_or_to_what_no_product_may_have_is_wrong_usage(cqrsctl: Cqrsctl) -> None:
    nothing = cqrsctl("product", "update", "1", "-o", "json")
    price = cqrsctl("product", "update", "1", "--price", "19,90", "-o", "json")
    name = cqrsctl("product", "update", "1", "--name", "", "-o", "json")

    assert (nothing.code, price.code, name.code) == (2, 2, 2)
    assert "--price" in error(nothing)["hint"]
    assert error(price)["message"].startswith("Price: '19,90' is not a number")
    assert error(name)["message"] == "Name: it is blank"


def test_an_update_can_wait_until_the_read_model_shows_it(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "1")
    cqrsctl.ok("project", "--once")

    late = cqrsctl("product", "update", "1", "--price", "2", "--wait", "--timeout", "0s", "-o", "json")

    assert late.code == 8
    cqrsctl.ok("project", "--once")
    assert (
        cqrsctl.ok("product", "update", "1", "--price", "2", "--wait", "writer", "-o", "json").json()["Price"] == "2.00"
    )
