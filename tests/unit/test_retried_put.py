"""A conditional put whose answer was lost, and that boto3 sent again: what the first one did counts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cqrsctl.write_model.product import Product
from cqrsctl.write_model.products import ConditionFailed, Existence, Outcome, Put

LAMP = Product(1, "Lamp", Decimal("19.9"))


class Client:
    """Refuses a put by its condition, after a number of attempts, and holds an item."""

    def __init__(self, attempts: int, item: dict[str, Any] | None) -> None:
        self.attempts = attempts
        self.item = item

    def put_item(self, **_: Any) -> Any:
        metadata = {"HTTPStatusCode": 400, "RetryAttempts": self.attempts}
        error = {"Code": "ConditionalCheckFailedException", "Message": "The conditional request failed"}
        raise ClientError({"Error": error, "ResponseMetadata": metadata}, "PutItem")

    def get_item(self, **parameters: Any) -> Any:
        assert parameters["ConsistentRead"]
        return {"Item": self.item} if self.item else {}


def test_the_product_that_an_earlier_attempt_wrote_is_created() -> None:
    assert Put("Products", LAMP, Existence.ABSENT).make(Client(1, LAMP.item())) is Outcome.CREATED


@pytest.mark.parametrize(
    ("attempts", "item", "existence", "told"),
    [
        (0, LAMP.item(), Existence.ABSENT, "exists already"),
        (1, Product(1, "Desk", Decimal(5)).item(), Existence.ABSENT, "exists already"),
        (1, None, Existence.EXISTS, "does not exist"),
    ],
)
def test_anothers_product_is_not_taken_for_ones_own(
    attempts: int, item: dict[str, Any] | None, existence: Existence, told: str
) -> None:
    with pytest.raises(ConditionFailed, match=told):
        Put("Products", LAMP, existence).make(Client(attempts, item))
