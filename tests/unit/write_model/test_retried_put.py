"""A conditional put whose answer was lost, and that boto3 sent again: what the first one did counts."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from cqrsctl.write_model.product import Product
from cqrsctl.write_model.products import ConditionFailed, Existence, Put, PutOutcome

LAMP = Product(1, "Lamp", Decimal("19.9"))


class Raw(io.BytesIO):
    """A response's body as botocore reads it."""

    def stream(self, **_: Any) -> Any:
        yield self.read()


class Client:
    """Refuses a put by its condition, after a number of attempts, and holds an item.

    It has no GetItem: the function's role in the CloudFormation template allows PutItem only.
    """

    def __init__(self, attempts: int, item: dict[str, Any] | None) -> None:
        self.attempts = attempts
        self.item = item

    def put_item(self, **parameters: Any) -> Any:
        metadata = {"HTTPStatusCode": 400, "RetryAttempts": self.attempts}
        error = {"Code": "ConditionalCheckFailedException", "Message": "The conditional request failed"}
        response: Any = {"Error": error, "ResponseMetadata": metadata}
        if self.item and parameters.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
            response["Item"] = self.item
        raise ClientError(response, "PutItem")


def test_the_product_that_an_earlier_attempt_wrote_is_created() -> None:
    assert Put("Products", LAMP, Existence.ABSENT).make(Client(1, LAMP.item())) is PutOutcome.CREATED


def test_boto3_counts_its_attempts_in_the_error_and_hands_on_the_item() -> None:
    """Without a stand-in for the client: the first response is lost on the way, as a gateway's 500."""
    session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    client = session.client("dynamodb", config=Config(retries={"mode": "standard", "total_max_attempts": 3}))
    kind = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"
    refused = {"__type": kind, "message": "The conditional request failed", "Item": LAMP.item()}
    responses = iter([(500, b"{}"), (400, json.dumps(refused).encode())])

    def respond(request: Any, **_: Any) -> AWSResponse:
        status, body = next(responses)
        return AWSResponse(request.url, status, {"Content-Type": "application/x-amz-json-1.0"}, Raw(body))

    client.meta.events.register("before-send.dynamodb.PutItem", respond)

    assert Put("Products", LAMP, Existence.ABSENT).make(client) is PutOutcome.CREATED
    assert not list(responses)


@pytest.mark.parametrize("price", ["19.90", "5.00", "100", "0.0"])
def test_numbers_are_compared_by_value(price: str) -> None:
    """DynamoDB trims the zeros of 19.90 (Developer Guide, "Data types": numbers), and moto does not."""
    lamp = Product(1, "Lamp", Decimal(price))
    item = {**lamp.item(), "Price": {"N": format(Decimal(price).normalize(), "f")}}
    assert Put("Products", lamp, Existence.ABSENT).make(Client(1, item)) is PutOutcome.CREATED


def test_a_boolean_is_not_the_number_1() -> None:
    lamp = Product(1, "Lamp", Decimal(1), out_of_stock=True)
    item = {**lamp.item(), "OutOfStock": {"N": "1"}}
    with pytest.raises(ConditionFailed):
        Put("Products", lamp, Existence.ABSENT).make(Client(1, item))


def test_a_put_that_changes_no_value_is_unchanged_however_the_number_is_written() -> None:
    class Same:
        def put_item(self, **_: Any) -> Any:
            return {"Attributes": {**LAMP.item(), "Price": {"N": "19.9"}}}

    assert Put("Products", Product(1, "Lamp", Decimal("19.90"))).make(Same()) is PutOutcome.UNCHANGED


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
