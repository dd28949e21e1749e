"""The page-wise scan of a table, which verification compares the read model with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall
from cqrsctl.wire import scan_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.change import Item


def scan(client: Any, table: str) -> Iterator[list[Item]]:
    """All items, a page at a time (eventually consistent, at most 1 MB a page)."""
    parameters: dict[str, Any] = {"TableName": table}
    while True:
        page = scan_page(ApiCall("dynamodb", "Scan", parameters).make(client))
        yield page.items
        if page.last_key is None:
            return
        parameters["ExclusiveStartKey"] = page.last_key
