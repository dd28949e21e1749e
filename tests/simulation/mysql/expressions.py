"""MySQL's expressions, translated to SQLite's with their types: what is compared is brought to one type first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymysql.constants import ER

from tests.simulation.mysql.syntax import Reader
from tests.simulation.mysql.values import (
    ANY,
    DATETIME,
    INTEGER,
    TEXT,
    Kind,
    Now,
    SqlType,
    a_decimal,
    encode_decimal,
    error,
    literal_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.simulation.mysql.catalog import Relation, Table

NOW_MARK = 1
"""The number of the parameter that is the statement's time; its own parameters come after it."""
FIRST_MARK = 2
_COMPARISONS = {"=": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "<=>": "IS"}
_UNITS = {"MICROSECOND", "SECOND", "MINUTE", "HOUR", "DAY"}


@dataclass(frozen=True, slots=True)
class Argument:
    """The value of the statement's parameter of that number."""

    number: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that stands in the statement."""

    value: Any


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a statement in SQLite's words. `source` where it is a value by itself, `parts` where it is a row.

    `equal` are the columns that a condition wants to be equal to a value, whatever else it wants.
    """

    sql: str
    type: SqlType
    source: Argument | Constant | Now | None = None
    parts: tuple[Fragment, ...] = ()
    equal: tuple[tuple[str, Argument | Constant | Now], ...] = ()


@dataclass(slots=True)
class Source:
    """What stands in a FROM under a name."""

    alias: str
    columns: dict[str, tuple[str, SqlType]]
    """Name and type by the name in small letters."""
    table: Table | None = None

    def column(self, name: str) -> Fragment | None:
        found = self.columns.get(name.lower())
        return found and Fragment(f'"{self.alias}"."{found[0]}"', found[1])


@dataclass(slots=True)
class Scope:
    """What names mean in a query. `assigned` are columns that were given a new value before, further left."""

    sources: list[Source] = field(default_factory=list)
    aliases: dict[str, Fragment] = field(default_factory=dict)
    assigned: dict[str, Fragment] = field(default_factory=dict)
    inserted: Callable[[str], Fragment] | None = None


class Expressions(Reader):
    """Translates expressions."""

    def __init__(self, sql: str, catalog: Mapping[str, Relation]) -> None:
        super().__init__(sql)
        self.catalog = catalog
        self.scopes: list[Scope] = []
        self.dependencies: dict[str, Relation] = {}

    def subquery(self) -> Fragment:
        """A query in parentheses, of which the first is read already."""
        raise NotImplementedError

    def expression(self) -> Fragment:
        left = self._conjunction()
        while self.accept("OR"):
            left = _truth(f"({left.sql} OR {self._conjunction().sql})")
        return left

    def _conjunction(self) -> Fragment:
        left = self._negation()
        while self.accept("AND"):
            right = self._negation()
            left = Fragment(f"({left.sql} AND {right.sql})", INTEGER, equal=left.equal + right.equal)
        return left

    def _negation(self) -> Fragment:
        if self.accept("NOT"):
            return _truth(f"(NOT {self._negation().sql})")
        return self._predicate()

    def _predicate(self) -> Fragment:
        left = self._sum()
        while True:
            if self.next.kind == "sign" and self.next.text in _COMPARISONS:
                left = compared(left, _COMPARISONS[self.take().text], self._sum())
            elif self.accept("IS", "NOT", "NULL"):
                left = _truth(f"({left.sql} IS NOT NULL)")
            elif self.accept("IS", "NULL"):
                left = _truth(f"({left.sql} IS NULL)")
            elif (found := self._test(left)) is not None:
                left = found
            else:
                return left

    def _test(self, left: Fragment) -> Fragment | None:
        negated = "NOT " if self.at("NOT", "IN") or self.at("NOT", "LIKE") or self.at("NOT", "REGEXP") else ""
        if negated:
            self.take()
        if self.accept("IN"):
            return _truth(f"({negated}{self._in(left)})")
        if self.accept("BETWEEN"):
            least = compared(left, ">=", self._sum())
            self.expect("AND")
            return _truth(f"({least.sql} AND {compared(left, '<=', self._sum()).sql})")
        if self.accept("LIKE"):
            return _truth(f"({negated}mysql_like({left.sql}, {self._sum().sql}, {left.type.binary:d}))")
        if self.accept("REGEXP"):
            return _truth(f"({negated}mysql_regexp({left.sql}, {self._sum().sql}, {left.type.binary:d}))")
        return None

    def _in(self, left: Fragment) -> str:
        self.expect("(")
        if self.at("SELECT"):
            found = self.subquery()
            if left.parts or found.type.kind is not left.type.kind:
                raise self.unknown("IN a query of another type")
            return f"{left.sql} IN {found.sql}"
        members = self.list()
        if not left.parts:
            kind = common([left.type, *(member.type for member in members)])
            inside = ", ".join(coerced(member, kind).sql for member in members)
            return f"{coerced(left, kind).sql} IN ({inside})"
        rows = []
        for member in members:
            parts = [
                coerced(part, common([part.type, wanted.type]))
                for part, wanted in zip(member.parts, left.parts, strict=True)
            ]
            rows.append("(" + ", ".join(part.sql for part in parts) + ")")
        return f"{left.sql} IN (VALUES {', '.join(rows)})"

    def list(self) -> list[Fragment]:
        """Expressions up to the closing parenthesis."""
        found = [self.expression()]
        while self.accept(","):
            found.append(self.expression())
        self.expect(")")
        return found

    def _sum(self) -> Fragment:
        left = self._product()
        while self.next.kind == "sign" and self.next.text in {"+", "-"}:
            sign = self.take().text
            if self.accept("INTERVAL"):
                amount = self.expression()
                left = Fragment(
                    f"add_interval({coerced(left, DATETIME).sql}, {sign}({amount.sql}), '{self._unit()}')", DATETIME
                )
            else:
                left = calculated(left, sign, self._product())
        return left

    def _unit(self) -> str:
        unit = self.name().upper()
        if unit not in _UNITS:
            raise self.unknown(f"a unit of time: {unit}")
        return unit

    def _product(self) -> Fragment:
        left = self._primary()
        while self.accept("*"):
            left = calculated(left, "*", self._primary())
        return left

    def _primary(self) -> Fragment:
        token = self.take()
        match token.kind:
            case "text" | "number":
                return constant(literal_value(token.text))
            case "mark":
                number = int(token.text)
                return Fragment(f"?{FIRST_MARK + number}", ANY, Argument(number))
            case "variable":
                return self._variable(token.text)
            case "word" | "name":
                return self._word(token.text) if token.kind == "word" else self._column(token.text)
        if token.text == "(":
            return self._parenthesis()
        if token.text == "-":
            return calculated(constant(0), "-", self._primary())
        self.position -= 1
        raise self.unknown("an expression expected")

    def _variable(self, name: str) -> Fragment:
        return Fragment(f"session_variable('{name.lower().rpartition('.')[2].removeprefix('@@')}')", ANY)

    def _parenthesis(self) -> Fragment:
        if self.at("SELECT"):
            return self.subquery()
        parts = self.list()
        if len(parts) == 1:
            (only,) = parts
            return Fragment(f"({only.sql})", only.type, only.source, equal=only.equal)
        return Fragment(f"({', '.join(part.sql for part in parts)})", ANY, parts=tuple(parts))

    def _word(self, word: str) -> Fragment:
        upper = word.upper()
        if upper in {"NULL", "TRUE", "FALSE"}:
            return constant(literal_value(upper))
        if upper == "CASE":
            return self._case()
        if upper == "EXISTS" and self.accept("("):
            return _truth(f"EXISTS {self.subquery().sql}")
        if upper in {"_BINARY", "X"} and self.next.kind == "text":
            raise self.unknown("a binary text among others")
        if self.at("("):
            self.take()
            return self._call(upper)
        return self._column(word)

    def _case(self) -> Fragment:
        conditions, results = [], []
        while self.accept("WHEN"):
            conditions.append(self.expression())
            self.expect("THEN")
            results.append(self.expression())
        if not conditions:
            raise self.unknown("CASE of a value")
        other = self.expression() if self.accept("ELSE") else constant(None)
        self.expect("END")
        kind = common([result.type for result in [*results, other]])
        text = " ".join(
            f"WHEN {condition.sql} THEN {coerced(result, kind).sql}"
            for condition, result in zip(conditions, results, strict=True)
        )
        return Fragment(f"(CASE {text} ELSE {coerced(other, kind).sql} END)", kind)

    def _call(self, function: str) -> Fragment:
        if function == "VALUES":
            inserted = self.scopes[-1].inserted
            if inserted is None:
                raise self.unknown("VALUES() outside of ON DUPLICATE KEY UPDATE")
            name = self.name()
            self.expect(")")
            return inserted(name)
        if function in {"NOW", "CURRENT_TIMESTAMP"}:
            if self.take().text != "6":
                raise self.unknown("NOW() of other than 6 digits")
            self.expect(")")
            return Fragment(f"?{NOW_MARK}", DATETIME, Now.NOW)
        if function == "COUNT":
            return self._count()
        if function == "CAST":
            return self._cast()
        if function == "TIMESTAMPDIFF":
            unit = self._unit()
            self.expect(",")
            first, second = self.list()
            arguments = f"{coerced(first, DATETIME).sql}, {coerced(second, DATETIME).sql}"
            return Fragment(f"timestamp_difference('{unit}', {arguments})", INTEGER)
        arguments_ = [] if self.accept(")") else self.list()
        if (made := FUNCTIONS.get(function)) is None:
            raise self.unknown(f"the function {function}")
        return made(arguments_)

    def _count(self) -> Fragment:
        if self.accept("*", ")"):
            return Fragment("COUNT(*)", INTEGER)
        distinct = "DISTINCT " if self.accept("DISTINCT") else ""
        (counted,) = self.list()
        return Fragment(f"COUNT({distinct}{counted.sql})", INTEGER)

    def _cast(self) -> Fragment:
        cast = self.expression()
        self.expect("AS", "DECIMAL", "(")
        digits = self.take().text
        scale = self.take().text if self.accept(",") else "0"
        self.expect(")", ")")
        if cast.type.kind is Kind.DECIMAL:
            raise self.unknown("CAST of what is a DECIMAL")
        return Fragment(f"cast_decimal({cast.sql}, {int(digits)}, {int(scale)})", a_decimal(int(scale)))

    def _column(self, name: str) -> Fragment:
        if self.accept("."):
            return self._qualified(name, self.name())
        for scope in reversed(self.scopes):
            if (given := scope.assigned.get(name.lower())) is not None:
                return given
            found = [column for source in scope.sources if (column := source.column(name)) is not None]
            if len(found) > 1:
                raise error(ER.NON_UNIQ_ERROR, f"Column '{name}' in field list is ambiguous")
            if found:
                return found[0]
            if (alias := scope.aliases.get(name.lower())) is not None:
                return alias
        raise error(ER.BAD_FIELD_ERROR, f"Unknown column '{name}' in 'field list'")

    def _qualified(self, alias: str, name: str) -> Fragment:
        for scope in reversed(self.scopes):
            for source in scope.sources:
                if source.alias == alias and (column := source.column(name)) is not None:
                    return scope.assigned.get(name.lower(), column)
        raise error(ER.BAD_FIELD_ERROR, f"Unknown column '{alias}.{name}' in 'field list'")


def constant(value: Any) -> Fragment:
    """A value that stands in the statement."""
    if value is None:
        return Fragment("NULL", ANY, Constant(None))
    if isinstance(value, int):
        return Fragment(str(value), INTEGER, Constant(value))
    if isinstance(value, str):
        return Fragment("'" + value.replace("'", "''") + "'", TEXT, Constant(value))
    if isinstance(value, float):
        return Fragment(repr(value), SqlType(Kind.FLOAT), Constant(value))
    scale = max(0, -int(value.as_tuple().exponent))
    return Fragment(f"'{encode_decimal(value)}'", a_decimal(scale), Constant(value))


def _truth(sql: str) -> Fragment:
    return Fragment(sql, INTEGER)


def common(types: Sequence[SqlType]) -> SqlType:
    """The type in which values of these types are compared or mixed."""
    known = [kind for kind in types if kind.kind is not Kind.ANY]
    if not known:
        return ANY
    if all(kind == known[0] for kind in known):
        return known[0]
    kinds = {kind.kind for kind in known}
    if kinds <= {Kind.INTEGER, Kind.DECIMAL} and Kind.DECIMAL in kinds:
        return a_decimal(max(kind.scale for kind in known))
    if kinds <= {Kind.DATETIME, Kind.TEXT} and Kind.DATETIME in kinds:
        return DATETIME
    if kinds <= {Kind.INTEGER, Kind.FLOAT} and Kind.FLOAT in kinds:
        return SqlType(Kind.FLOAT)
    if len(kinds) == 1:
        return TEXT if Kind.TEXT in kinds else INTEGER if Kind.INTEGER in kinds else known[0]
    raise NotImplementedError(f"mixing {' and '.join(sorted(kinds))}")


def coerced(fragment: Fragment, kind: SqlType) -> Fragment:
    """An expression brought to a type."""
    if fragment.type.kind is kind.kind or fragment.sql == "NULL":
        return fragment
    if kind.kind is Kind.DECIMAL:
        return Fragment(f"as_decimal({fragment.sql})", kind)
    if kind.kind is Kind.DATETIME:
        return Fragment(f"as_datetime({fragment.sql})", kind)
    return Fragment(fragment.sql, kind)


def compared(left: Fragment, sign: str, right: Fragment) -> Fragment:
    """A comparison, of rows too."""
    if left.parts:
        pairs = list(zip(left.parts, right.parts, strict=True))
        kinds = [common([one.type, other.type]) for one, other in pairs]
        lefts = ", ".join(coerced(one, kind).sql for (one, _), kind in zip(pairs, kinds, strict=True))
        rights = ", ".join(coerced(other, kind).sql for (_, other), kind in zip(pairs, kinds, strict=True))
        return _truth(f"(({lefts}) {sign} ({rights}))")
    kind = common([left.type, right.type])
    equal = ((left.sql, right.source),) if sign == "=" and right.source is not None else ()
    return Fragment(f"({coerced(left, kind).sql} {sign} {coerced(right, kind).sql})", INTEGER, equal=equal)


def calculated(left: Fragment, sign: str, right: Fragment) -> Fragment:
    """A sum, difference or product; exact where a DECIMAL is in it."""
    kinds = {left.type.kind, right.type.kind}
    if Kind.DECIMAL in kinds and Kind.FLOAT not in kinds:
        scales = left.type.scale, right.type.scale
        kind = a_decimal(sum(scales) if sign == "*" else max(scales))
        return Fragment(f"calculate({coerced(left, kind).sql}, '{sign}', {coerced(right, kind).sql})", kind)
    if not kinds <= {Kind.INTEGER, Kind.FLOAT, Kind.ANY}:
        raise NotImplementedError(f"{sign} of {' and '.join(sorted(kinds))}")
    kind = SqlType(Kind.FLOAT) if Kind.FLOAT in kinds else INTEGER
    return Fragment(f"({left.sql} {sign} {right.sql})", kind)


def _mixed(function: str) -> Callable[[list[Fragment]], Fragment]:
    """A function of SQLite whose arguments and result have one type."""

    def make(arguments: list[Fragment]) -> Fragment:
        kind = common([argument.type for argument in arguments])
        inside = ", ".join(coerced(argument, kind).sql for argument in arguments)
        return Fragment(f"{function}({inside})", kind)

    return make


def _fixed(function: str, kind: SqlType) -> Callable[[list[Fragment]], Fragment]:
    """A function with a result of one type, whatever its arguments."""
    return lambda arguments: Fragment(f"{function}({', '.join(argument.sql for argument in arguments)})", kind)


def _if(arguments: list[Fragment]) -> Fragment:
    condition, first, second = arguments
    kind = common([first.type, second.type])
    return Fragment(f"iif({condition.sql}, {coerced(first, kind).sql}, {coerced(second, kind).sql})", kind)


def _total(arguments: list[Fragment]) -> Fragment:
    (summed,) = arguments
    if summed.type.kind is Kind.FLOAT:
        return Fragment(f"SUM({summed.sql})", summed.type)
    return Fragment(f"decimal_sum({coerced(summed, a_decimal()).sql})", a_decimal(summed.type.scale))


FUNCTIONS: dict[str, Callable[[list[Fragment]], Fragment]] = {
    "IF": _if,
    "COALESCE": _mixed("coalesce"),
    "IFNULL": _mixed("coalesce"),
    "NULLIF": _mixed("nullif"),
    "GREATEST": _mixed("max"),
    "LEAST": _mixed("min"),
    "MAX": _mixed("max"),
    "MIN": _mixed("min"),
    "SUM": _total,
    "ABS": _fixed("abs", INTEGER),
    "CONCAT": _fixed("concat", TEXT),
    "CHAR_LENGTH": _fixed("length", INTEGER),
    "DATABASE": _fixed("current_database", TEXT),
    "CONNECTION_ID": _fixed("current_connection", INTEGER),
    "GET_LOCK": _fixed("get_lock", INTEGER),
    "RELEASE_LOCK": _fixed("release_lock", INTEGER),
    "IS_USED_LOCK": _fixed("is_used_lock", INTEGER),
}
