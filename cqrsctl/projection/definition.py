"""What a projection is: a view's declared columns and conditions. Pure: standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from cqrsctl.change import value_at
from cqrsctl.projection.fitting import FITTERS, Kind, Misfit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cqrsctl.change import Value
    from cqrsctl.projection.fitting import SqlValue

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
_ARGUMENTS = {Kind.DECIMAL: 2, Kind.VARCHAR: 1, Kind.VARBINARY: 1}
_INDEXED_BYTES = 3072
"""What InnoDB indexes of a column. MySQL refuses a longer one; MariaDB indexes its beginning only, with a note."""
_KEY_KINDS = {Kind.BIGINT, Kind.DECIMAL, Kind.VARCHAR, Kind.VARBINARY}


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type with its sizes: `decimal(18,4)` is Kind.DECIMAL with sizes (18, 4)."""

    kind: Kind
    sizes: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ColumnType:
        """Read `bigint`, `decimal(p,s)`, `varchar(n)`, … Raises ValueError, saying what is allowed."""
        match = re.fullmatch(r"\s*([a-z]+)\s*(?:\(\s*(\d+(?:\s*,\s*\d+)*)\s*\))?\s*", text)
        if match is None or match[1] not in set(Kind):
            raise ValueError(f"unknown type {text!r}; known are " + ", ".join(Kind))
        kind = Kind(match[1])
        sizes = tuple(int(size) for size in match[2].split(",")) if match[2] else ()
        if len(sizes) != _ARGUMENTS.get(kind, 0):
            raise ValueError(f"{kind} takes {_ARGUMENTS.get(kind, 0)} sizes, not {len(sizes)}: {text!r}")
        _check_sizes(kind, sizes)
        return cls(kind, sizes)

    def __str__(self) -> str:
        return f"{self.kind}({','.join(map(str, self.sizes))})" if self.sizes else str(self.kind)

    @property
    def bytes(self) -> int:
        """The most bytes that a text or binary value has; 0 for other types."""
        return {Kind.VARCHAR: 4, Kind.VARBINARY: 1}.get(self.kind, 0) * sum(self.sizes)

    def fit(self, value: Value) -> SqlValue:
        """The column's value for an attribute's value. Raises Misfit if it would have to be bent."""
        return FITTERS[self.kind](value, self.sizes)

    def default(self, declared: bool | int | str | None) -> Value:
        """A declared default as an attribute's value: a number may be written as text, to keep its digits."""
        if declared is None or isinstance(declared, bool):
            return declared
        if self.kind in {Kind.BIGINT, Kind.DECIMAL, Kind.DOUBLE} or isinstance(declared, int):
            try:
                number = Decimal(declared)
            except ArithmeticError:
                raise Misfit(f"{declared!r} is not a number") from None
            if not number.is_finite():
                raise Misfit(f"{declared!r} is not a number that a column holds")
            return number
        return declared


def _check_sizes(kind: Kind, sizes: tuple[int, ...]) -> None:
    match kind, sizes:
        case Kind.DECIMAL, (precision, scale) if not (1 <= precision <= 65 and 0 <= scale <= min(30, precision)):
            raise ValueError("decimal(p,s) needs 1 ≤ p ≤ 65 and 0 ≤ s ≤ 30, s ≤ p")
        case ((Kind.VARCHAR | Kind.VARBINARY), (length,)) if not 1 <= length <= 16_000:
            raise ValueError(f"{kind}(n) needs 1 ≤ n ≤ 16000")
        case _:
            pass


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `attribute` is a dotted path into the item; `default` stands in for an absent attribute. A key is
    always required.
    """

    name: str
    type: ColumnType
    attribute: str
    key: bool = False
    required: bool = False
    default: Value = field(default=None, compare=False)
    index: bool = False
    _typed_default: tuple[object, Value] = field(init=False, repr=False)
    """The default as two columns compare it: in Python True equals 1."""
    _first: str = field(init=False, repr=False, compare=False)
    _rest: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _fit: Callable[[Value, tuple[int, ...]], SqlValue] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _IDENTIFIER.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a column name (letters, digits and _, at most 48)")
        if self.key and self.type.kind not in _KEY_KINDS:
            raise ValueError(f"{self.name}: a key column cannot be {self.type.kind}")
        if self.index and self.type.kind in {Kind.TEXT, Kind.JSON}:
            raise ValueError(f"{self.name}: a {self.type.kind} column cannot be indexed")
        if (self.index or self.key) and self.type.bytes > _INDEXED_BYTES:
            raise ValueError(f"{self.name}: {self.type} is longer than the {_INDEXED_BYTES} bytes that an index holds")
        if self.default is not None:
            self.type.fit(self.default)
        if self.key:
            object.__setattr__(self, "required", True)
        object.__setattr__(self, "_typed_default", (type(self.default), self.default))
        first, *rest = self.attribute.split(".")
        object.__setattr__(self, "_first", first)
        object.__setattr__(self, "_rest", tuple(rest))
        object.__setattr__(self, "_fit", FITTERS[self.type.kind])

    def of(self, image: Mapping[str, Value]) -> SqlValue:
        """This column's value in an item. Raises Misfit, naming the column."""
        value = image.get(self._first)
        for part in self._rest:
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            value = self.default
            if value is None:
                if self.required:
                    raise Misfit(f"{self.name}: the attribute {self.attribute} is missing")
                return None
        try:
            fitted = self._fit(value, self.type.sizes)
        except Misfit as misfit:
            raise Misfit(f"{self.name}: {misfit}") from None
        if self.key and isinstance(fitted, str) and fitted.endswith(" "):
            # MySQL's collations that MariaDB has too pad with spaces: 'a' and 'a ' would be one key.
            raise Misfit(f"{self.name}: a text key cannot end with a space")
        return fitted


@dataclass(frozen=True, slots=True)
class Projection:
    """How one stream becomes the rows of one view."""

    name: str
    view: str
    columns: tuple[Column, ...]
    where: tuple[tuple[str, Value], ...] = field(default=(), compare=False)
    """Attributes (dotted paths) with the values that an item must have to be in the view."""
    _typed_where: tuple[tuple[str, object, Value], ...] = field(init=False, repr=False)
    """The conditions as two projections compare them: in Python True equals 1."""
    keys: tuple[Column, ...] = field(init=False, repr=False, compare=False)
    values: tuple[Column, ...] = field(init=False, repr=False, compare=False)
    key_attributes: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", self.name):
            raise ValueError(f"{self.name!r} is not a projection's name (a-z, 0-9 and _, at most 40)")
        if not _IDENTIFIER.fullmatch(self.view) or self.view.lower().startswith(("cqrs_", f"{self.name}_v")):
            raise ValueError(f"{self.view!r} cannot be the view's name")
        names = [column.name.lower() for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"projection {self.name}: two columns have the same name")
        keys = tuple(column for column in self.columns if column.key)
        if not keys:
            raise ValueError(f"projection {self.name}: no column is the key (key = true)")
        object.__setattr__(self, "_typed_where", tuple((path, type(value), value) for path, value in self.where))
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "values", tuple(column for column in self.columns if not column.key))
        object.__setattr__(self, "key_attributes", frozenset(column.attribute for column in keys))

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)

    def includes(self, image: Mapping[str, Value]) -> bool:
        """Whether an item belongs into the view."""
        return all(is_same(value_at(image, path), value) for path, value in self.where)


def unnamed(projections: Iterable[Projection], attributes: Iterable[str]) -> list[str]:
    """The attributes of items that no column or condition of the projections names, in order."""
    paths = [path for each in projections for path in (*(c.attribute for c in each.columns), *dict(each.where))]
    return sorted(set(attributes) - {path.partition(".")[0] for path in paths})


def is_same(value: object, other: object) -> bool:
    """Whether two values are equal and both booleans or neither, to the innermost member: in Python True equals 1."""
    match value, other:
        case dict(), dict():
            return value.keys() == other.keys() and all(is_same(value[name], other[name]) for name in value)
        case list(), list():
            return len(value) == len(other) and all(map(is_same, value, other))
        case _:
            return isinstance(value, bool) is isinstance(other, bool) and value == other


def default_product() -> Projection:
    """The projection of the Products table that applies if none is declared."""
    return Projection(
        name="product",
        view="Product",
        columns=(
            Column("ProductId", ColumnType.parse("bigint"), "ProductId", key=True, required=True),
            Column("Name", ColumnType.parse("varchar(255)"), "Name", required=True),
            Column("Price", ColumnType.parse("decimal(18,4)"), "Price", required=True),
            Column("OutOfStock", ColumnType.parse("boolean"), "OutOfStock", default=False),
        ),
    )
