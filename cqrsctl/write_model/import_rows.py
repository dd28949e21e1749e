"""Rows of products in files: CSV and JSON lines, read one at a time, with the line where each stands."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

from cqrsctl.errors import CqrsctlError
from cqrsctl.write_model.product import FIELDS, InvalidProduct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

REJECT_FIELDS = ("Line", "Reason", "Text")
"""More columns of a rejects file; Text is the row itself where its form was at fault. An import leaves them out, so
that a mended rejects file can be imported."""


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
        """The row's fields. Raises InvalidProduct where the row is malformed."""
        if self.fault:
            raise InvalidProduct(self.fault)
        return self.content

    def rejected(self, reason: str) -> Reject:
        return Reject(self.line, reason, self.content)


def read(file: TextIO, form: Format) -> Iterator[SourceRow]:
    """The rows of a file opened with `newline=""`. Raises CqrsctlError where a CSV header is not of products."""
    return _read_csv(file) if form is Format.CSV else _read_jsonl(file)


def _read_csv(file: TextIO) -> Iterator[SourceRow]:
    lines = _Remembering(file)
    reader = csv.reader(lines, strict=True)
    header = _header(reader)
    while True:
        line = reader.line_num + 1
        lines.text = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield SourceRow(line, {"Text": lines.text}, f"not a CSV row: {error}")
            continue
        if len(cells) == len(header):
            content = dict(zip(header, cells, strict=True))
            yield SourceRow(line, {name: content[name] for name in header if name not in REJECT_FIELDS})
        elif cells:
            fault = f"{len(cells)} cells, where the header has {len(header)}"
            yield SourceRow(line, {"Text": lines.text}, fault)


class _Remembering:
    """Lines of a file, remembering the text since `text` was last emptied: that of the row being read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.text = ""

    def __iter__(self) -> _Remembering:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.text += line
        return line


def _header(reader: Any) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise CqrsctlError(f"Line 1 is not a CSV header: {error}.", code="bad_header") from error
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


def _read_jsonl(file: TextIO) -> Iterator[SourceRow]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            content = json.loads(text, parse_float=Decimal, parse_constant=str)
        except (ValueError, RecursionError) as error:
            yield SourceRow(line, {"Text": text.rstrip("\r\n")}, f"not JSON: {error}")
            continue
        if not isinstance(content, dict):
            yield SourceRow(line, {"Text": text.rstrip("\r\n")}, "not a JSON object")
            continue
        for field in REJECT_FIELDS:
            content.pop(field, None)
        yield SourceRow(line, content)


class RejectsFile:
    """The file of refused rows, in the format of the import, made when the first row is refused."""

    def __init__(self, path: Path, form: Format) -> None:
        self.path = path
        self._form = form
        self._file: TextIO | None = None
        self._write: Callable[[Reject], None] = self._write_csv if form is Format.CSV else self._write_jsonl

    def __enter__(self) -> RejectsFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def add(self, reject: Reject) -> None:
        """Add a row. Raises CqrsctlError where the file cannot be written."""
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
                if self._form is Format.CSV:
                    csv.writer(self._file, lineterminator="\n").writerow((*FIELDS, *REJECT_FIELDS))
            self._write(reject)
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
