"""The words of a statement, and its shape: the statement without its values, by which it is known again."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.mysql.values import literal_value

if TYPE_CHECKING:
    from collections.abc import Sequence

_LITERAL = re.compile(
    r"('(?:[^'\\]|\\.|'')*'|\b_binary X'[0-9a-f]*'|\b(?:(?<!IS )(?<!NOT )NULL|TRUE|FALSE)\b"
    r"|(?:(?<=[(,=<>\s])-)?(?<![\w.`])(?<!NOW\()\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.`]))",
    re.DOTALL,
)
_CELL = re.compile(
    r"('(?:[^'\\]|\\.|'')*'|_binary X'[0-9a-f]*'|NULL|TRUE|FALSE|NOW\(6\)|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)", re.DOTALL
)
"""A literal among the rows of an INSERT, where no names are: found several times faster than a literal anywhere."""
_UPDATE = "\nON DUPLICATE KEY UPDATE"
_TOKEN = re.compile(
    r"""(?:\s|--\s[^\n]*)*(?:
        (?P<text>'(?:[^'\\]|\\.|'')*')
      | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | `(?P<name>(?:[^`]|``)*)`
      | (?P<variable>@@(?:\w+\.)?\w+)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<sign><=>|<>|!=|<=|>=|[-+*/%(),.=<>?])
      | (?P<end>$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_INSERTING = re.compile(r"\s*(?:INSERT|REPLACE)\b", re.IGNORECASE)


class Shaped(NamedTuple):
    """A statement as a shape with `?` for its values. `repeat`: how many rows have the shape of the first."""

    shape: str
    repeat: int
    values: Sequence[Any]


def shaped(sql: str, args: Sequence[Any] | None) -> Shaped:
    """A statement's shape and values; `args` are those of its %s, None where it has its values in its text."""
    if args is not None:
        return Shaped(*_with_marks(sql), args)
    head, values, rest = sql.partition("VALUES ") if _INSERTING.match(sql) else ("", "", sql)
    if values:
        rows, update, assignments = rest.rpartition(_UPDATE) if _UPDATE in rest else (rest, "", "")
        parts = _CELL.split(rows)
        shape, repeat = _folded("".join((head, values, "?".join(parts[::2]), update, assignments)))
    else:
        parts = _LITERAL.split(sql)
        shape, repeat = "?".join(parts[::2]), 1
    return Shaped(shape, repeat, list(map(literal_value, parts[1::2])))


@lru_cache(maxsize=4_096)
def _with_marks(sql: str) -> tuple[str, int]:
    return _folded(sql.replace("%s", "?").replace("%%", "%"))


@lru_cache(maxsize=4_096)
def _folded(shape: str) -> tuple[str, int]:
    """The shape with one row where an INSERT has many that are alike, and how many it has."""
    start = shape.find("VALUES ") + len("VALUES ")
    if start < len("VALUES ") or not _INSERTING.match(shape):
        return shape, 1
    end = _end_of_row(shape, start)
    row = shape[start:end]
    for separator in (",\n", ", "):
        count, position, step = 1, end, separator + row
        while shape.startswith(step, position):
            count += 1
            position += len(step)
        if count > 1 and not shape.startswith(",", position):
            return shape[:end] + shape[position:], count
    return shape, 1


def _end_of_row(shape: str, start: int) -> int:
    depth = 0
    for position in range(start, len(shape)):
        depth += {"(": 1, ")": -1}.get(shape[position], 0)
        if depth == 0:
            return position + 1
    raise NotImplementedError(shape)


class Token(NamedTuple):
    """A word of a statement. `kind` is a group of _TOKEN; a `?` has its number as text."""

    kind: str
    text: str
    start: int
    end: int


@lru_cache(maxsize=4_096)
def tokens(sql: str) -> tuple[Token, ...]:
    """All tokens, the last of kind `end`. Raises NotImplementedError where something is none."""
    found: list[Token] = []
    position = marks = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(sql, position)
        if match is None or match.lastgroup is None:
            raise NotImplementedError(f"{sql[position : position + 20]!r} in: {sql}")
        kind, text = match.lastgroup, match[match.lastgroup]
        if text == "?" and kind == "sign":
            kind, text, marks = "mark", str(marks), marks + 1
        found.append(Token(kind, text.replace("``", "`"), match.start(kind) if kind != "mark" else 0, match.end()))
        position = match.end()
    return tuple(found)


class Reader:
    """Reads a statement token by token."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.tokens = tokens(sql)
        self.marks = sum(token.kind == "mark" for token in self.tokens)
        self.position = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def unknown(self, what: str = "") -> NotImplementedError:
        """The error of a statement that is not understood, at the next token."""
        return NotImplementedError(f"{what or 'not understood'} at {self.next.text!r} in: {self.sql}")

    def take(self) -> Token:
        token = self.next
        self.position += 1
        return token

    def at(self, *words: str) -> bool:
        """Whether these words or signs come next."""
        for word, token in zip(words, self.tokens[self.position :], strict=False):
            if token.kind not in {"word", "sign"} or token.text.upper() != word:
                return False
        return True

    def accept(self, *words: str) -> bool:
        """Go past these words or signs if they come next."""
        if not self.at(*words):
            return False
        self.position += len(words)
        return True

    def expect(self, *words: str) -> None:
        if not self.accept(*words):
            raise self.unknown(f"{' '.join(words)} expected")

    def name(self) -> str:
        """An identifier."""
        if self.next.kind not in {"word", "name"}:
            raise self.unknown("a name expected")
        return self.take().text

    def names(self) -> tuple[str, ...]:
        """Identifiers in parentheses."""
        self.expect("(")
        found = [self.name()]
        while self.accept(","):
            found.append(self.name())
        self.expect(")")
        return tuple(found)

    def finish(self) -> None:
        if self.next.kind != "end":
            raise self.unknown("the end expected")

    def text_between(self, first: int, last: int) -> str:
        """The statement's text from one token up to another."""
        return self.sql[self.tokens[first].start : self.tokens[last - 1].end]
