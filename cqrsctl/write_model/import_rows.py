"""Rows of products in files: CSV and JSON lines, read one at a time, with the line where each stands."""

from __future__ import annotations

import csv
import json
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

from cqrsctl.codec import decode_item
from cqrsctl.errors import CqrsctlError
from cqrsctl.write_model.foreign_files import JSON_SUFFIXES, require_csv, require_json_lines, require_plain_text
from cqrsctl.write_model.product import FIELDS, MAX_NAME, InvalidProduct, product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

REJECT_FIELDS = ("Line", "Reason", "Text")
"""More columns of a rejects file; Text is the row itself if its form was at fault. An import leaves them out, so
that a corrected rejects file can be imported."""


class Format(StrEnum):
    """The formats of a products file."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was refused, with its reason. `fields` is what could be read of it."""

    line: int
    reason: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a file; what is wrong with its form shows when its fields are asked for."""

    line: int
    content: dict[str, object]
    fault: str | None = None

    def fields(self) -> dict[str, object]:
        """The row's fields. Raises InvalidProduct if the row is malformed."""
        if self.fault:
            raise InvalidProduct(self.fault)
        return self.content

    def rejected(self, reason: str) -> Reject:
        return Reject(self.line, reason, self.content)


def format_of(name: str) -> Format:
    """The format of a file by its ending; CSV if it has no ending that says otherwise."""
    return Format.JSONL if PurePath(name).suffix in JSON_SUFFIXES else Format.CSV


def read(file: TextIO, form: Format, name: str = "-") -> Iterator[SourceRow]:
    """The rows of a file opened with `newline=""` and `errors="surrogateescape"`.

    Raises CqrsctlError if the file is another kind of file, or its CSV header is not of products. `name` is what the
    file is called on the command line.
    """
    first = next(file, "").removeprefix("\ufeff")
    require_plain_text(first, name)
    second = next(file, "") if first.strip() == "{" else ""
    if form is Format.CSV:
        require_csv(first, second, name)
        return _read_csv(first, file)
    require_json_lines(first, second, name)
    return _read_jsonl(chain(filter(None, (first, second)), file))


def _read_csv(first: str, file: Iterable[str]) -> Iterator[SourceRow]:
    separator = _separator(first)
    header = _header(first, separator)
    lines = _Lines(file, lambda line: _is_product(line, header, separator), line=2)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield SourceRow(lines.line, {"Text": lines.row[0]}, _csv_fault(lines))
            lines.read_again()
            continue
        row = _row(lines.line, header, cells, "".join(lines.row))
        if row:
            yield row


def _row(line: int, header: list[str], cells: list[str], text: str) -> SourceRow | None:
    """The row of these cells; None if all are empty. Empty cells at the end are left out, as spreadsheets add them."""
    if not any(map(str.strip, cells)):
        return None
    while len(cells) > len(header) and not cells[-1].strip():
        cells.pop()
    if len(cells) != len(header):
        return SourceRow(line, {"Text": text}, f"{len(cells)} cells, where the header has {len(header)}")
    content = dict(zip(header, cells, strict=True))
    return SourceRow(line, {name: content[name] for name in header if name not in REJECT_FIELDS})


def _separator(header: str) -> str:
    """What separates the names of a header: spreadsheets write semicolons and tabs too."""
    return max(",;\t", key=lambda mark: sum(name.strip(' "\r\n') in FIELDS for name in header.split(mark)))


def _is_product(line: str, header: list[str], separator: str) -> bool:
    """Whether a line is a row of a valid product by itself."""
    try:
        row = _row(0, header, next(csv.reader([line], delimiter=separator, strict=True)), line)
        return row is not None and product(row.fields()) is not None
    except (csv.Error, InvalidProduct):
        return False


def _csv_fault(lines: _Lines) -> str:
    if lines.is_open or len(lines.row) > 1:
        return "not a CSV row: a quoted cell begins here that is not closed"
    if sum(map(len, lines.row)) > csv.field_size_limit():
        return "not a CSV row: a cell is too long"
    return "not a CSV row: text follows a quoted cell"


class _Lines:
    """Lines of a file for a CSV reader, with the lines that it took for the row that it is reading.

    A quoted cell may go over several lines; one that is never closed would go over all that follow. So it ends before
    a line that is a product by itself, and nothing but its first line is lost: the others are read again.
    """

    def __init__(self, lines: Iterable[str], is_product: Callable[[str], bool], line: int) -> None:
        self._lines = iter(lines)
        self._is_product = is_product
        self._again: deque[str] = deque()
        self.line = line
        """Where the row begins."""
        self.row: list[str] = []
        self.is_open = False
        """Whether the row's last cell continues in a line that it did not get."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.is_open = bool(self.row)
        if len(self.row) > MAX_NAME:  # no cell has more line breaks
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines)
        if self.row and self._is_product(line):
            self._again.appendleft(line)
            raise StopIteration
        self.is_open = False
        self.row.append(line)
        return line

    def begin_row(self) -> None:
        self.line += len(self.row)
        self.row = []

    def read_again(self) -> None:
        """Let all lines of the row but its first be read again."""
        self.is_open = False
        self._again.extendleft(reversed(self.row[1:]))
        del self.row[1:]


def _header(text: str, separator: str) -> list[str]:
    """The names in a header. Raises CqrsctlError if they are not those of products."""
    try:
        header = [name.strip() for name in next(csv.reader([text], delimiter=separator, strict=True), [])]
    except csv.Error as error:
        raise CqrsctlError(
            "Line 1 is not a CSV header: a quoted cell is not closed, or text follows it.",
            hint=f"The first line must be: {','.join(FIELDS)}",
            code="bad_header",
        ) from error
    while header and not header[-1]:
        header.pop()
    missing = [name for name in FIELDS if name not in header]
    unknown = [name for name in header if name not in FIELDS + REJECT_FIELDS]
    twice = {name for name in header if header.count(name) > 1}
    faults = [
        *([f"{', '.join(missing)} missing"] if missing else []),
        *([f"unknown: {', '.join(map(repr, unknown))}"] if unknown else []),
        *([f"twice: {', '.join(sorted(twice))}"] if twice else []),
    ]
    if faults:
        raise CqrsctlError(
            f"The header is not that of products ({'; '.join(faults)}). Nothing was imported.",
            hint=f"The first line must be: {','.join(FIELDS)}",
            code="bad_header",
        )
    return header


def _read_jsonl(file: Iterable[str]) -> Iterator[SourceRow]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            content = json.loads(text, parse_float=Decimal, parse_constant=str)
        except (ValueError, ArithmeticError, RecursionError) as error:
            yield SourceRow(line, {"Text": text.rstrip("\r\n")}, f"not JSON: {_json_fault(error)}")
            continue
        if not isinstance(content, dict):
            yield SourceRow(line, {"Text": text.rstrip("\r\n")}, "not a JSON object")
            continue
        for field in REJECT_FIELDS:
            content.pop(field, None)
        try:
            yield SourceRow(line, _plain(content))
        except ValueError as error:
            yield SourceRow(line, {"Text": text.rstrip("\r\n")}, f"not an item of DynamoDB: {error}")


def _json_fault(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"see character {error.pos + 1}"
        case RecursionError():
            return "it is nested too deeply"
        case _:
            return "a number has too many digits"


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of an object; DynamoDB's JSON (`{"Item": {"Name": {"S": "Lamp"}}}`, or the item alone) is decoded.

    Raises ValueError if a value of such an item is not of its type.
    """
    item = content["Item"] if content.keys() == {"Item"} else content
    typed = (
        isinstance(item, dict) and item and all(isinstance(value, dict) and len(value) == 1 for value in item.values())
    )
    return decode_item(item) if typed else content


class RejectsFile:
    """The file of refused rows, in the format of the import, made when the first row is refused.

    An import that is resumed adds to the file that is there.
    """

    def __init__(self, path: Path, form: Format, *, resumed: bool = False) -> None:
        self.path = path
        self._resumed = resumed
        self._form = form
        self._file: TextIO | None = None
        self._write: Callable[[Reject], None] = self._write_csv if form is Format.CSV else self._write_jsonl

    def __enter__(self) -> RejectsFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            with self._written():
                self._file.close()

    def add(self, reject: Reject) -> None:
        """Add a row. Raises CqrsctlError if the file cannot be written."""
        with self._written():
            if self._file is None:
                self._file = self.path.open(
                    "a" if self._resumed else "w", encoding="utf-8", errors="surrogateescape", newline=""
                )
                if self._form is Format.CSV and self._file.tell() == 0:
                    csv.writer(self._file, lineterminator="\n").writerow((*FIELDS, *REJECT_FIELDS))
            self._write(reject)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CqrsctlError(
                f"The rejects file {self.path} cannot be written: {error.strerror}.",
                hint="Choose another with --rejects.",
            ) from error

    def _write_csv(self, reject: Reject) -> None:
        cells = [reject.fields.get(name, "") for name in FIELDS]
        text = str(reject.fields.get("Text", "")).rstrip("\r\n")
        csv.writer(self._file_open(), lineterminator="\n").writerow((*cells, reject.line, reject.reason, text))

    def _write_jsonl(self, reject: Reject) -> None:
        content = {**reject.fields, "Line": reject.line, "Reason": reject.reason}
        self._file_open().write(json.dumps(content, default=str) + "\n")

    def _file_open(self) -> TextIO:
        if self._file is None:
            raise AssertionError("add() opens the file")
        return self._file
