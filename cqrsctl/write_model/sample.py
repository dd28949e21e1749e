"""Made-up products that look like real ones, for trying things out. The same seed makes the same products."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING

from cqrsctl.write_model.product import Product

if TYPE_CHECKING:
    from collections.abc import Iterator

_MATERIALS = (
    "Oak",
    "Walnut",
    "Linen",
    "Wool",
    "Brass",
    "Steel",
    "Ceramic",
    "Glass",
    "Cotton",
    "Bamboo",
    "Cork",
    "Leather",
)
_THINGS = (
    "Desk Lamp", "Bookshelf", "Cutting Board", "Teapot", "Armchair", "Coat Hook", "Blanket", "Mirror", "Side Table",
    "Notebook", "Plant Pot", "Tray", "Candle Holder", "Door Mat", "Stool", "Basket", "Wall Clock", "Picture Frame",
)  # fmt: skip
_SIZES = ("Mini", "Small", "Medium", "Large", "XL")
_COLOURS = ("white", "black", "natural", "grün", "blue", "rosé", "grey", "terracotta")
_ENDINGS = ("99", "95", "90", "49", "00")


def products(count: int, seed: int = 1) -> Iterator[Product]:
    """`count` products with the ids 1 to count."""
    chance = random.Random(seed)  # noqa: S311 -- samples, not secrets
    for product_id in range(1, count + 1):
        name = (
            f"{chance.choice(_MATERIALS)} {chance.choice(_THINGS)}, {chance.choice(_SIZES)}, {chance.choice(_COLOURS)}"
        )
        euros = min(int(chance.lognormvariate(3.4, 0.9)) + 1, 9_999)
        yield Product(
            product_id=product_id,
            name=name,
            price=Decimal(f"{euros}.{chance.choice(_ENDINGS)}"),
            out_of_stock=chance.random() < 0.08,
        )
