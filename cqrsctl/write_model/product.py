"""The product: what a valid one is, and how it stands in the table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIELDS = ("ProductId", "Name", "Price", "OutOfStock")

MAX_ID = 2**63 - 1
MAX_NAME = 255
PRICE_DIGITS = 14
"""Digits before the point; with PRICE_DECIMALS what the read model's DECIMAL(18,4) holds."""
PRICE_DECIMALS = 4

_FINEST = Decimal(1).scaleb(-PRICE_DECIMALS)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?", re.ASCII)
_TRUE = {"true", "1", "yes"}
_FALSE = {"false", "0", "no", ""}
_HINT = (
    "A product has ProductId (0 to 2⁶³-1), Name, Price (up to 4 decimals, like 19.90) and OutOfStock (true or false)."
)


class InvalidProduct(CqrsctlError):
    """A field is missing or not what a product may have. In a file it makes a reject; in an argument, wrong usage."""

    code = "invalid_product"
    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(message, hint=_HINT)


@dataclass(frozen=True, slots=True)
class Product:
    """A valid product. Made by `product()`, which checks; prices are exact."""

    product_id: int
    name: str
    price: Decimal
    out_of_stock: bool = False

    def item(self) -> dict[str, dict[str, Any]]:
        """The item as DynamoDB's API takes it."""
        return {
            "ProductId": {"N": str(self.product_id)},
            "Name": {"S": self.name},
            "Price": {"N": format(self.price, "f")},
            "OutOfStock": {"BOOL": self.out_of_stock},
        }

    def fields(self) -> dict[str, int | str | Decimal | bool]:
        return dict(zip(FIELDS, (self.product_id, self.name, self.price, self.out_of_stock), strict=True))


def product(fields: Mapping[str, object]) -> Product:
    """A product from fields as they come from a file or a command: text, numbers or booleans.

    Raises InvalidProduct, naming the field.
    """
    missing = [name for name in FIELDS[:3] if fields.get(name) is None or fields[name] == ""]
    if missing:
        raise InvalidProduct(f"{' and '.join(missing)} missing")
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise InvalidProduct(f"unknown field {unknown[0]!r}")
    return Product(
        product_id=product_id(fields["ProductId"]),
        name=_name(fields["Name"]),
        price=price(fields["Price"]),
        out_of_stock=_out_of_stock(fields.get("OutOfStock")),
    )


def attributes(fields: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Some attributes of a product, as DynamoDB's API takes them. Raises InvalidProduct, naming the field."""
    makers: dict[str, Callable[[object], dict[str, Any]]] = {
        "Name": lambda value: {"S": _name(value)},
        "Price": lambda value: {"N": format(price(value), "f")},
        "OutOfStock": lambda value: {"BOOL": _out_of_stock(value)},
    }
    return {name: makers[name](value) for name, value in fields.items()}


def product_id(value: object) -> int:
    """A ProductId: a whole number of 0 to 2⁶³-1. Raises InvalidProduct."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]+", text):
        raise InvalidProduct(f"ProductId: {_short(value)} is not a whole number")
    if len(text) > 40 or int(text) > MAX_ID:
        raise InvalidProduct(f"ProductId: {_short(value)} is larger than 2⁶³-1")
    return int(text)


def price(value: object, what: str = "Price") -> Decimal:
    """A price: zero or more, with up to 14 digits before the point and 4 after. Raises InvalidProduct with `what`."""
    text = str(value).strip()
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        hint = " (write a point, not a comma)" if re.fullmatch(r"\d+,\d+", text) else ""
        raise InvalidProduct(f"{what}: {_short(value)} is not a number{hint}")
    number = Decimal(text)
    if number < 0:
        raise InvalidProduct(f"{what}: {_short(value)} is negative")
    if number and number.adjusted() >= PRICE_DIGITS:
        raise InvalidProduct(f"{what}: {_short(value)} has more than {PRICE_DIGITS} digits before the point")
    if -_last_decimal(number) > PRICE_DECIMALS:
        raise InvalidProduct(f"{what}: {_short(value)} has more than {PRICE_DECIMALS} decimals")
    # 0e-999 and 1.5000000 are exact, but would be written with all their zeros.
    return abs(number) if int(number.as_tuple().exponent) >= -PRICE_DECIMALS else abs(number.quantize(_FINEST))


def _last_decimal(number: Decimal) -> int:
    """The exponent of the last digit that is not zero: -2 for 19.9500."""
    _, digits, exponent = number.as_tuple()
    trailing = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return int(exponent) + trailing if number else 0


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidProduct(f"Name: {_short(value)} is not text")
    if not value.strip():
        raise InvalidProduct("Name: it is blank")
    if len(value) > MAX_NAME:
        raise InvalidProduct(f"Name: {len(value)} characters, where {MAX_NAME} are allowed")
    if "\0" in value:
        raise InvalidProduct("Name: it contains a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidProduct("Name: it is not valid UTF-8")
    return value


def _out_of_stock(value: object) -> bool:
    text = str(value).strip().lower() if value is not None else ""
    if text not in _TRUE | _FALSE:
        raise InvalidProduct(f"OutOfStock: {_short(value)} is neither true nor false")
    return text in _TRUE


def _short(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "…")
