"""Reading many items by key as they are now. Apart from products.py, which Lambda runs too, without tenacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl import retries
from cqrsctl.aws import ApiCall
from cqrsctl.codec import decode_item
from cqrsctl.errors import TransientAwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqrsctl.change import Item

MOST_GETS = 100
"""BatchGetItem takes at most 100 keys (DynamoDB API reference)."""


def get_many(client: Any, table: str, keys: Sequence[dict[str, Any]], sleep: Callable[[float], None]) -> list[Item]:
    """The items of at most 100 different keys that exist now (consistent reads), in any order.

    What AWS leaves unprocessed is asked for again, with growing random pauses. Raises AwsError.
    """
    request: dict[str, Any] = {table: {"Keys": list(keys), "ConsistentRead": True}} if keys else {}
    found: list[Item] = []
    if request:
        retries.of_calls(sleep)(_get_some, client, request, found)
    return found


def _get_some(client: Any, request: dict[str, Any], found: list[Item]) -> None:
    """Read what is asked for, and leave in the request what was not processed."""
    answer = ApiCall("dynamodb", "BatchGetItem", {"RequestItems": dict(request)}).make(client)
    for items in answer["Responses"].values():
        found += map(decode_item, items)
    left = answer.get("UnprocessedKeys") or {}
    request.clear()
    request.update(left)
    if left:
        raise TransientAwsError(
            "AWS left keys unprocessed, time and again.",
            hint="The table's read capacity is used up: raise it, or try again later.",
            code="unprocessed_keys",
        )
