"""Commands on products: put, update, get, delete."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall, attempts_before, error_code, refused_item
from cqrsctl.errors import AwsError, CqrsctlError
from cqrsctl.write_model.table import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.write_model.product import Product


class Existence(StrEnum):
    """What must hold for a put to be done."""

    ANY = "any"
    ABSENT = "absent"
    EXISTS = "exists"


class PutOutcome(StrEnum):
    """What a put did."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class ConditionFailed(CqrsctlError):
    """The product is there where it must not be, or is not where it must."""

    code = "condition_failed"


@dataclass(frozen=True, slots=True)
class Put:
    """A product to be put."""

    table: str
    product: Product
    existence: Existence = Existence.ANY

    def call(self) -> ApiCall:
        parameters: dict[str, Any] = {
            "TableName": self.table,
            "Item": self.product.item(),
            "ReturnValues": "ALL_OLD",
        }
        if self.existence is not Existence.ANY:
            function = "attribute_not_exists" if self.existence is Existence.ABSENT else "attribute_exists"
            parameters["ConditionExpression"] = f"{function}({KEY})"
        if self.existence is Existence.ABSENT:
            parameters["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"  # needs no right to GetItem
        return ApiCall("dynamodb", "PutItem", parameters)

    def check(self, client: Any) -> None:
        """Raises what `make` would raise as the product is now: ConditionFailed, or AwsError."""
        is_there = get(client, self.table, self.product.product_id) is not None
        if self.existence is not Existence.ANY and is_there is not (self.existence is Existence.EXISTS):
            raise self._condition_failed()

    def _condition_failed(self) -> ConditionFailed:
        state = "exists already" if self.existence is Existence.ABSENT else "does not exist"
        return ConditionFailed(f"Product {self.product.product_id} {state}; nothing was changed.")

    def make(self, client: Any, *, sent_before: bool = False) -> PutOutcome:
        """Put the product. Raises ConditionFailed, or AwsError.

        `sent_before` says that the same put was made before, and that its outcome is unknown.
        """
        try:
            old = self.call().make(client).get("Attributes")
        except AwsError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                if self._was_done_before(error, sent_before):
                    return PutOutcome.CREATED
                raise self._condition_failed() from error
            raise _without_table(error, self.table) from error
        if old is None:
            return PutOutcome.CREATED
        return PutOutcome.UNCHANGED if self._is_in(old) else PutOutcome.REPLACED

    def _was_done_before(self, error: AwsError, sent_before: bool) -> bool:
        """Whether the refused put was sent again, and an earlier attempt, whose response was lost, wrote the product.

        A product that must exist already cannot be our own doing: the put failed because there is no item.
        """
        if self.existence is not Existence.ABSENT or not (sent_before or attempts_before(error)):
            return False
        item = refused_item(error)
        return item is not None and self._is_in(item)

    def _is_in(self, item: Mapping[str, Any]) -> bool:
        """Whether an item holds exactly this product."""
        return _by_value(item) == _by_value(self.product.item())


def _by_value(item: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """The attributes by type and value: DynamoDB trims the zeros of numbers, 19.90 comes back as 19.9."""
    return {
        name: (kind, Decimal(value) if kind == "N" else value)
        for name, attribute in item.items()
        for kind, value in attribute.items()
    }


@dataclass(frozen=True, slots=True)
class Update:
    """Attributes to be set of a product that exists; its others stay as they are."""

    table: str
    product_id: int
    attributes: dict[str, dict[str, Any]]

    def call(self) -> ApiCall:
        return ApiCall(
            "dynamodb",
            "UpdateItem",
            {
                "TableName": self.table,
                "Key": _key(self.product_id),
                "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in self.attributes),
                "ConditionExpression": f"attribute_exists({KEY})",
                "ExpressionAttributeNames": {f"#{name}": name for name in self.attributes},  # Name is a reserved word
                "ExpressionAttributeValues": {f":{name}": value for name, value in self.attributes.items()},
                "ReturnValues": "ALL_NEW",
            },
        )

    def check(self, client: Any) -> None:
        """Raises what `make` would raise as the product is now: ConditionFailed, or AwsError."""
        if get(client, self.table, self.product_id) is None:
            raise self._condition_failed()

    def make(self, client: Any) -> dict[str, Any]:
        """Update the product, and return its item as it is then. Raises ConditionFailed, or AwsError."""
        try:
            item: dict[str, Any] = self.call().make(client)["Attributes"]
        except AwsError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                raise self._condition_failed() from error
            raise _without_table(error, self.table) from error
        return item

    def _condition_failed(self) -> ConditionFailed:
        return ConditionFailed(
            f"Product {self.product_id} does not exist; nothing was changed.",
            hint="Create it, whole, with `cqrsctl product put`.",
        )


def get(client: Any, table: str, product_id: int) -> dict[str, Any] | None:
    """The item as DynamoDB holds it now (a consistent read), or None."""
    call = ApiCall("dynamodb", "GetItem", {"TableName": table, "Key": _key(product_id), "ConsistentRead": True})
    try:
        item: dict[str, Any] | None = call.make(client).get("Item")
    except AwsError as error:
        raise _without_table(error, table) from error
    return item


def delete_call(table: str, product_id: int) -> ApiCall:
    return ApiCall("dynamodb", "DeleteItem", {"TableName": table, "Key": _key(product_id), "ReturnValues": "ALL_OLD"})


def delete(client: Any, table: str, product_id: int) -> bool:
    """Delete a product; False if there was none."""
    try:
        return "Attributes" in delete_call(table, product_id).make(client)
    except AwsError as error:
        raise _without_table(error, table) from error


def _key(product_id: int) -> dict[str, dict[str, str]]:
    return {KEY: {"N": str(product_id)}}


def _without_table(error: AwsError, table: str) -> AwsError:
    """AWS says only "Requested resource not found" of a missing table."""
    if error_code(error) != "ResourceNotFoundException":
        return error
    return AwsError(
        f"There is no table {table!r} here.",
        hint="Create it with `cqrsctl table create`, or check --region, --endpoint-url and --env.",
        code="table_missing",
    )
