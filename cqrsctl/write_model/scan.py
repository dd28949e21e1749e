"""The page-wise scan of a table: of all of it, or of one of the segments that are read side by side."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cqrsctl import retries
from cqrsctl.aws import ApiCall
from cqrsctl.wire import ScanPage, scan_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.change import Item

_ATTEMPTS = 30
"""About four minutes of pauses."""
_FIRST_PAGE_ITEMS = 100
_MOST_PAGE_ITEMS = 8_000
"""A page of 1 MB can hold tens of thousands of small items, which take twenty times that room once decoded."""


def scan(client: Any, table: str, sleep: Callable[[float], None]) -> Iterator[list[Item]]:
    """All items, a page at a time (eventually consistent, at most 1 MB a page). Raises AwsError."""
    for page in _pages(client, {"TableName": table}, sleep):
        yield page.items


def first_items(client: Any, table: str, count: int, sleep: Callable[[float], None]) -> list[Item]:
    """Up to `count` items, whichever come first (eventually consistent). Raises AwsError."""
    items: list[Item] = []
    for page in _pages(client, {"TableName": table, "Limit": count}, sleep):
        items += page.items
        if len(items) >= count:
            break
    return items[:count]


@dataclass(slots=True)
class ScanPace:
    """How much of the table's read capacity a scan may use, over all its segments; None: all there is."""

    units_a_second: float | None
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    _paid_until: float = 0.0
    _units_an_item: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def page_items(self) -> int:
        """How many items a page may have, so that no single one takes much memory, or more than a second's units."""
        if self.units_a_second is None:
            return _MOST_PAGE_ITEMS
        if self._units_an_item is None:
            return _FIRST_PAGE_ITEMS
        return max(1, min(_MOST_PAGE_ITEMS, int(self.units_a_second / self._units_an_item)))

    def used(self, units: float, items: int) -> None:
        """Wait until that many units are allowed."""
        if self.units_a_second is None:
            return
        with self._lock:
            now = self.monotonic()
            self._paid_until = max(self._paid_until, now) + units / self.units_a_second
            pause = self._paid_until - now
            if items:
                self._units_an_item = units / items
        self.sleep(pause)


def scan_segment(
    client: Any, table: str, segment: int, segments: int, after: dict[str, Any] | None, pace: ScanPace
) -> Iterator[ScanPage]:
    """The items of one of `segments` segments, from after a key on, by consistent reads. Raises AwsError."""
    parameters = {
        "TableName": table,
        "Segment": segment,
        "TotalSegments": segments,
        "ConsistentRead": True,
        "ReturnConsumedCapacity": "TOTAL",
    }
    if after is not None:
        parameters["ExclusiveStartKey"] = after
    return _pages(client, parameters, pace.sleep, pace)


def _pages(
    client: Any, parameters: dict[str, Any], sleep: Callable[[float], None], pace: ScanPace | None = None
) -> Iterator[ScanPage]:
    retrying = retries.of_calls(sleep, _ATTEMPTS)
    while True:
        if pace:
            parameters["Limit"] = pace.page_items
        page = retrying(_page, client, parameters)
        if pace and page.units is not None:
            pace.used(page.units, len(page.items))
        yield page
        if page.last_key is None:
            return
        parameters["ExclusiveStartKey"] = page.last_key


def _page(client: Any, parameters: dict[str, Any]) -> ScanPage:
    return scan_page(ApiCall("dynamodb", "Scan", parameters).make(client))
