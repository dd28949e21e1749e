"""The file of all changes to the embedded stack's tables, from which the emulator makes them again.

One line holds what one request changed, as a JSON list of changes, and is written before the request is answered: a
killed emulator loses nothing that it confirmed. A line without its end was cut off by a kill, and is no change.
"""

from __future__ import annotations

import base64
import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_HEADER = {"cqrsctl tables": 1}
_TIME = "$time"
_BYTES = "$bytes"


class JournalDamaged(CqrsctlError):
    """The journal has a line that cannot be read, or that makes no sense."""

    code = "journal_damaged"

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(
            f"{path}, line {line}, cannot be read ({why}): the stack's tables cannot be restored.",
            hint="Put back an older copy of that file, or remove the stack with all its data: "
            "cqrsctl local down --wipe",
        )


class Journal:
    """An open journal. One process writes at a time."""

    def __init__(self, path: Path) -> None:
        """Open the journal, made if there is none, and cut off an unfinished last line."""
        self._path = path
        if not path.exists():
            self._write_new([])
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        os.ftruncate(self._descriptor, _finished_bytes(path))

    def append(self, changes: list[Any]) -> None:
        """Write what one request changed, whole or not at all. Raises OSError."""
        line = _line(changes)
        before = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) < len(line):
            os.ftruncate(self._descriptor, before)
            raise OSError(f"{self._path}: only a part of a line could be written")

    def replace(self, lines: Iterable[list[Any]]) -> None:
        """Write all lines again, whole or not at all."""
        self._write_new(lines)
        os.close(self._descriptor)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND)

    def close(self) -> None:
        os.close(self._descriptor)

    def _write_new(self, lines: Iterable[list[Any]]) -> None:
        new = self._path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_line(_HEADER))
            file.writelines(map(_line, lines))
        new.replace(self._path)


def read(path: Path) -> Iterator[tuple[int, list[Any]]]:
    """Each finished line's number and changes. Raises JournalDamaged."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                content = json.loads(line, object_hook=_restored if b'"$' in line else None)
            except ValueError as error:
                raise JournalDamaged(path, number, str(error)) from error
            if number > 1 and isinstance(content, list):
                yield number, content
            elif number > 1 or content != _HEADER:
                raise JournalDamaged(path, number, "it is no line of this version of cqrsctl")


def check(path: Path) -> None:
    """Raises JournalDamaged if a line cannot be read."""
    for _ in read(path) if path.exists() else ():
        pass


def counted(path: Path) -> tuple[int, int]:
    """How many tables the journal has, and items in them. Raises JournalDamaged."""
    keys: dict[str, list[str]] = {}
    items: dict[str, set[str]] = {}
    for _, changes in read(path) if path.exists() else ():
        for kind, arn, *details in changes:
            if kind == "table":
                settings = details[0]
                keys[arn] = [settings[name] for name in ("hash_key_attr", "range_key_attr") if settings[name]]
                items.setdefault(arn, set())
            elif kind == "gone":
                del items[arn]
            elif kind == "put":
                items[arn].add(str([details[0][name] for name in keys[arn]]))
            elif kind == "delete":
                items[arn].discard(str([key for key in details if key]))
    return len(items), sum(map(len, items.values()))


def _finished_bytes(path: Path) -> int:
    """The length of the file up to the end of its last finished line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 65_536)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0


def _line(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), default=plain).encode() + b"\n"


def plain(value: Any) -> Any:
    """What JSON has for a value that it does not know: a time, bytes, or moto's value in an item."""
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    return {value.type: value.value}


def _restored(found: dict[str, Any]) -> Any:
    """A time or bytes if one was written. An attribute of that name holds no text of its own, but a typed value."""
    if len(found) == 1:
        if isinstance(text := found.get(_TIME), str):
            return datetime.fromisoformat(text)
        if isinstance(text := found.get(_BYTES), str):
            return base64.b64decode(text)
    return found
