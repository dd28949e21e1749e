"""What was written, in order, and whether what a reader sees of it ever goes back. Pure, so that it can be tested.

Each change of a product has a number, higher than that of every change before it, and is noted here before it is made.
A product that is put carries the number in its name. One that is not there says nothing of itself: it was deleted, by
any of its deletions since the state in which it was seen last.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqrsctl.write_model.product import Product

_NUMBERED = re.compile(r"Änderung (\d+) 💡")
_NEVER_PUT = 0


@dataclass(slots=True)
class History:
    """Every state that a product was written to have."""

    _puts: dict[int, Product] = field(default_factory=dict)
    _deletions: dict[int, list[int]] = field(default_factory=dict)

    def put(self, change: int, product: Product) -> None:
        self._puts[change] = product

    def deleted(self, change: int, product_id: int) -> None:
        self._deletions.setdefault(product_id, []).append(change)

    def change_of(self, shown: Product) -> int | None:
        """The change that made a product what is shown; None where it was never written to be so."""
        numbered = _NUMBERED.fullmatch(shown.name)
        change = int(numbered[1]) if numbered else None
        return change if change is not None and self._puts.get(change) == shown else None

    def deletion_since(self, product_id: int, change: int) -> int | None:
        """The product's first deletion from that change on, that change included."""
        deletions = self._deletions.get(product_id, [])
        place = bisect_left(deletions, change)
        return deletions[place] if place < len(deletions) else None


@dataclass(slots=True)
class Judge:
    """Knows, for each product, the oldest state that it can be in by all that was seen of it."""

    history: History
    _oldest: dict[int, int] = field(default_factory=dict)

    def look(self, view: Iterable[Product]) -> list[str]:
        """What is wrong with a look at the view: older states than seen before, and such as were never written."""
        shown = {product.product_id: product for product in view}
        wrong = [found for product in shown.values() if (found := self._present(product))]
        absent = [product_id for product_id in self._oldest if product_id not in shown]
        return wrong + [found for product_id in absent if (found := self._absent(product_id))]

    def _present(self, product: Product) -> str | None:
        change = self.history.change_of(product)
        if change is None:
            return f"{product} was never written so"
        seen = self._oldest.get(product.product_id, _NEVER_PUT)
        if change < seen:
            return f"product {product.product_id} went back from change {seen} to {change}"
        self._oldest[product.product_id] = change
        return None

    def _absent(self, product_id: int) -> str | None:
        seen = self._oldest[product_id]
        deletion = self.history.deletion_since(product_id, seen)
        if deletion is None:
            return f"product {product_id} vanished, and was not deleted since change {seen}"
        self._oldest[product_id] = deletion
        return None
