"""Records as lines of a given width: a table, or blocks of `name: value`. Nothing is cut, and no value is split.

Text folds at its spaces. A word, a time, an address or a record stays whole: if it does not fit its cell, the table
becomes blocks; if it does not fit a line, it has a line of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_GAP = "  "
_WORD = re.compile(r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d(?::\d\d)? UTC\S*|\S+")
"""What is not split: a time of several words is one."""
_READABLE = 24
"""The narrowest column of text that is still readable; below it the table becomes blocks."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """A value's text; `whole` if it does not fold at its spaces."""

    text: str
    whole: bool

    @property
    def width(self) -> int:
        return max(map(cell_len, self.text.split("\n")))

    @property
    def least(self) -> int:
        """The least width at which nothing is split, and text is readable."""
        longest = max(map(cell_len, _WORD.findall(self.text)), default=0)
        return self.width if self.whole else max(longest, min(self.width, _READABLE))

    def lines(self, width: int) -> list[str]:
        return [self.text] if self.whole else wrapped(self.text, width)


def table(
    names: Sequence[str], records: Iterable[Mapping[str, Any]], shown: Callable[[Any], str], width: int
) -> list[Text]:
    """Records as a table, or as blocks if they do not fit. `shown` makes the text of a value."""
    listed = [{name: record.get(name) for name in names} for record in records]
    rows = [[_cell(value, shown) for value in record.values()] for record in listed]
    headings = [heading(name) for name in names]
    widths = _widths(headings, rows, width)
    if widths is None:
        return [line for record in listed for line in [*block(record, shown, width), Text()]][:-1]
    right = [bool(listed) and all(_is_number(record[name]) for record in listed) for name in names]
    lines = [_line(headings, widths, right, "bold")]
    for row in rows:
        folded = [cell.lines(room) for cell, room in zip(row, widths, strict=True)]
        lines += [_line(cells, widths, right) for cells in zip_longest(*folded, fillvalue="")]
    return lines


def block(record: Mapping[str, Any], shown: Callable[[Any], str], width: int) -> list[Text]:
    """A record as lines of `name: value`."""
    indent = max((cell_len(label(name)) for name in record), default=0) + 1 + len(_GAP)
    return [
        line
        for name, value in record.items()
        for line in hung(
            Text(f"{label(name)}:", "bold"), map(Text, _cell(value, shown).lines(width - indent)), indent, width
        )
    ]


def hung(head: Text, lines: Iterable[Text], indent: int, width: int) -> list[Text]:
    """Lines beside a head; one that is too long stands below, as far to the left as it needs."""
    hanging: list[Text] = []
    for line in lines:
        fits = indent + line.cell_len <= width
        if not hanging and fits:
            space = " " * (indent - head.cell_len) if line else ""
            hanging.append(Text.assemble(head, space, line))
            continue
        if not hanging:
            hanging.append(head)
        room = indent if fits else max(0, min(len(_GAP), width - line.cell_len))
        hanging.append(Text.assemble(" " * room, line))
    return hanging or [head]


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text that folds at spaces; a longer word has a line of its own."""
    return [each[start:end] for each in text.split("\n") for start, end in _spans(each, width)]


def folded(text: Text, width: int, indent: int = 0) -> list[Text]:
    """The lines of a styled text, all but the first indented."""
    (start, end), *others = _spans(text.plain, width, width - indent)
    return [text[start:end], *(Text.assemble(" " * indent, text[start:end]) for start, end in others)]


def heading(name: str) -> str:
    """A column's name above it; names of data, as ProductId, stay as they are."""
    return name.upper().replace("_", " ") if name.islower() else name


def label(name: str) -> str:
    """A column's name before its value."""
    return name.replace("_", " ") if name.islower() else name


def _spans(text: str, width: int, later: int | None = None) -> Iterator[tuple[int, int]]:
    """Where each line of a text starts and ends; `later` is the width of all but the first."""
    start = end = 0
    for word in _WORD.finditer(text):
        if end and cell_len(text[start : word.end()]) > width:
            yield start, end
            start, width = word.start(), width if later is None else later
        end = word.end()
    yield start, end


def _widths(headings: Sequence[str], rows: Sequence[Sequence[_Cell]], width: int) -> list[int] | None:
    """How wide each column is; None if they do not fit. The widest text is narrowed first."""
    columns = [[row[at] for row in rows] for at in range(len(headings))]
    heads = [cell_len(each) for each in headings]
    least = [max([head, *(cell.least for cell in column)]) for head, column in zip(heads, columns, strict=True)]
    widths = [max([head, *(cell.width for cell in column)]) for head, column in zip(heads, columns, strict=True)]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    if sum(widths) - sum(least) < over:
        return None
    for _ in range(over):
        widest = max((at for at in range(len(widths)) if widths[at] > least[at]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool], style: str = "") -> Text:
    padded = []
    for cell, width, to_the_right in zip(cells, widths, right, strict=True):
        space = " " * (width - cell_len(cell))
        padded.append(space + cell if to_the_right else cell + space)
    return Text(_GAP.join(padded).rstrip(), style)


def _cell(value: Any, shown: Callable[[Any], str]) -> _Cell:
    return _Cell(shown(value), whole=isinstance(value, (dict, list, tuple, frozenset, datetime)))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, Decimal)) and not isinstance(value, bool))
