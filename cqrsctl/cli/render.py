"""The one place that knows tables, JSON, YAML, CSV, colours and progress. Data goes to stdout, all else to stderr."""

from __future__ import annotations

import base64
import csv
import json
import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import typer

from cqrsctl import words
from cqrsctl.cli import columns, yaml_text
from cqrsctl.cli.standard_streams import is_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.text import Text

    from cqrsctl.aws import ApiCall
    from cqrsctl.cli.messages import Messages
    from cqrsctl.errors import CqrsctlError

Record = TypeVar("Record")

_UNBOUNDED_WIDTH = 10**9
_BLOCKS = "▁▂▃▄▅▆▇█"


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    YAML = "yaml"

    @property
    def is_json(self) -> bool:
        return self in {Output.JSON, Output.JSONL}


def rows(output: Output, names: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Print records in the columns of these names, or those chosen by --columns; all but a table as they come.

    Raises UsageError if a chosen column does not exist.
    """
    if chosen := columns.chosen():
        first, records = peeked(records)
        names = picked = columns.resolved(chosen, [*names, *(first or ())])
        records = (columns.picked(record, picked) for record in records)
    records = takewhile(lambda _: is_read(), records)
    match output:
        case Output.TABLE:
            show(table(names, records))
        case Output.CSV:
            _csv(names, records)
        case Output.JSONL:
            for record in records:
                sys.stdout.write(to_json(record) + "\n")
                sys.stdout.flush()
        case Output.JSON:
            _json_array(records)
        case Output.YAML:
            _yaml_list(records)


def one(output: Output, record: Mapping[str, Any]) -> None:
    """Print one record: as a table, a name and value a line. Raises UsageError as `rows`."""
    if chosen := columns.chosen():
        record = columns.picked(record, columns.resolved(chosen, record))
    if output is Output.JSON:
        sys.stdout.write(json.dumps(record, default=_plain, ensure_ascii=False, indent=2) + "\n")
    elif output is Output.YAML:
        sys.stdout.writelines(f"{text}\n" for text in yaml_text.lines(json.loads(to_json(record))))
    elif output is Output.TABLE:
        from cqrsctl.cli import layout

        show(layout.block(record, _for_people, width()))
    else:
        _only(output, record)


def growing(names: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Print the chosen columns of records as they come, a line each. Raises UsageError as `rows`."""
    chosen = columns.chosen()
    for record in records:
        picked = columns.picked(record, columns.resolved(chosen, [*names, *record]))
        line("  ".join(map(cell, picked.values())))


def outcome(output: Output, record: Mapping[str, Any]) -> None:
    """Print what a command did, for machines: for a person a note says it already, unless columns are chosen."""
    if output is not Output.TABLE or columns.chosen():
        one(output, record)


def document(
    output: Output, whole: Mapping[str, Any], names: Sequence[str], records: Iterable[Mapping[str, Any]]
) -> bool:
    """Print a document whose main part is a list of records; False if the caller is to draw it.

    CSV has the records only, and so has every output if columns are chosen.
    """
    if output is Output.CSV or columns.chosen():
        rows(output, names, records)
    elif output is Output.TABLE:
        return False
    else:
        one(output, whole)
    return True


def planned(output: Output, calls: Sequence[ApiCall]) -> None:
    """Print the API calls that --dry-run leaves undone."""
    if not calls:
        note("Nothing to do.")
    if output is Output.TABLE and not columns.chosen():
        for call in calls:
            sys.stdout.write(
                f"{call.service} {call.operation} {json.dumps(call.parameters, default=_plain, indent=2)}\n"
            )
        return
    rows(
        output,
        ["service", "operation", "parameters"],
        [{"service": c.service, "operation": c.operation, "parameters": c.parameters} for c in calls],
    )


def error(failure: CqrsctlError, output: Output) -> None:
    """Print an error on stderr: what failed and how to fix it."""
    if output.is_json:
        content = {"code": failure.code, "message": failure.message, "hint": failure.hint}
        message(json.dumps({"error": content}, ensure_ascii=False))
        return
    _messages().write(_text("Error: ", "bold red") + _text(failure.message))
    if failure.hint:
        _messages().write(_text("Hint: ", "bold") + _text(failure.hint))


def note(message: str, style: str = "dim") -> None:
    """Print a remark on stderr."""
    _messages().write(_text(message, style))


def message(content: str) -> None:
    """Print on stderr what is written for machines, as it is."""
    from rich.text import Text

    _messages().write(Text(content))


def confirmed(question: str) -> bool:
    """Ask on stderr what is answered with yes or no."""
    return _messages().asked(lambda: typer.confirm(question, err=True))


def answered(question: str) -> str:
    """Ask on stderr for a line, which may be empty."""
    return str(_messages().asked(lambda: typer.prompt(question, default="", show_default=False, err=True)))


def _messages() -> Messages:
    from cqrsctl.cli.messages import messages

    return messages()


def line(text: Text | str) -> None:
    """Print a line of a table that grows, on stdout."""
    show([_text(text) if isinstance(text, str) else text])


def width() -> int:
    """How many characters a line has on stdout; if that is no terminal, more than any text."""
    return console(sys.stdout).width


def step(title: str, command: str) -> None:
    """Announce a step of several: what it is for, and the command."""
    line(_text(f"\n{title}", "bold"))
    line(_text(f"$ {command}", "cyan"))


@contextmanager
def live() -> Iterator[Callable[[str], None]]:
    """A line on stderr that changes in place; if stderr is no terminal, nothing is shown."""
    with _messages().live() as show:
        yield lambda text: show(_text(text, "cyan"))


@contextmanager
def screen() -> Iterator[Callable[[Iterable[Text]], None]]:
    """A place on stdout, a terminal, whose lines are replaced at each call; the last ones stay."""
    shown = console(sys.stdout)
    sys.stdout.write("\x1b[2J")

    def replace(lines: Iterable[Text]) -> None:
        with shown.capture() as drawn:
            for each in lines:
                shown.print(each, soft_wrap=True)
        sys.stdout.write("\x1b[H" + drawn.get().replace("\n", "\x1b[K\n") + "\x1b[J")
        sys.stdout.flush()

    yield replace


def show(lines: Iterable[Text]) -> None:
    """Print lines on stdout. Rich would print what a signal interrupted a second time, so it only draws."""
    shown = console(sys.stdout)
    with shown.capture() as drawn:
        for each in lines:
            shown.print(each, soft_wrap=True)
    sys.stdout.write(drawn.get())
    sys.stdout.flush()


def text(content: str) -> None:
    """Print text on stdout, folded at the width of a terminal."""
    from cqrsctl.cli import layout

    show(map(_text, layout.wrapped(content, width())))


def table(names: Sequence[str], records: Iterable[Mapping[str, Any]]) -> list[Text]:
    """Records as lines as wide as stdout: a table, or blocks of names and values."""
    from cqrsctl.cli import layout

    return layout.table(names, records, _for_people, width())


def _for_people(value: Any) -> str:
    """A value as it is shown in tables."""
    if isinstance(value, datetime):
        return words.moment(value, datetime.now(UTC))
    return "\n".join(map(printable, cell(value).split("\n")))


def sparkline(values: Sequence[float | None], width: int = 30) -> str:
    """The last values as blocks, each as high as its part of the highest; an unknown value is a gap."""
    last = list(values)[-width:]
    highest = max((value for value in last if value is not None), default=0.0)
    steps = len(_BLOCKS) - 1
    return "".join(
        " " if value is None else _BLOCKS[round(value / highest * steps) if highest else 0] for value in last
    )


def to_json(record: Any) -> str:
    """One line of JSON."""
    return json.dumps(record, default=_plain, ensure_ascii=False)


def money(value: Any) -> Any:
    """A decimal with all digits that count, and at least two after the point: 19.9000 is 19.90."""
    return words.money(value) if isinstance(value, Decimal) else value


def rfc3339(moment: datetime) -> str:
    """A time in UTC with Z; a time without a zone is UTC already."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat().replace("+00:00", "Z")


def printable(text: str) -> str:
    """Text without control characters that would act on the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def console(stream: TextIO) -> Console:
    """A console as wide as its terminal, or as COLUMNS says; else of any width. Rich honours NO_COLOR."""
    from rich.console import Console

    width = None if stream.isatty() or os.environ.get("COLUMNS", "").isdigit() else _UNBOUNDED_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _text(content: Any, style: str = "") -> Text:
    from rich.text import Text

    return Text("\n".join(map(printable, str(content).split("\n"))), style=style)


def _only(output: Output, record: Mapping[str, Any]) -> None:
    """One record as a line of JSON, or as CSV with its header."""
    if output is Output.JSONL:
        sys.stdout.write(to_json(record) + "\n")
        sys.stdout.flush()
    else:
        _csv(list(record), [record])


def _csv(names: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    """CSV with flat cells: each value inside of a nested one has a column, for which all records are needed first."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    first, records = peeked(records)
    if first and any(columns.is_nested(first.get(name)) for name in names):
        flat = [[columns.flattened({name: record.get(name)}) for name in names] for record in records]
        names = [name for cells in zip(*flat, strict=True) for name in _names_of(cells)]
        records = ({name: value for each in cells for name, value in each.items()} for cells in flat)
    writer.writerow(names)
    for record in records:
        writer.writerow([cell(record.get(name)) for name in names])


def _names_of(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that one column becomes: if any record has values inside, the empty ones need none of their own."""
    names = dict.fromkeys(name for each in cells for name in each)
    inside = [name for name in names if "." in name]
    return inside or list(names)


def peeked(records: Iterable[Record]) -> tuple[Record | None, Iterator[Record]]:
    """The first record, None if there is none, and all of them."""
    rest = iter(records)
    first = next(rest, None)
    return first, rest if first is None else chain([first], rest)


def _yaml_list(records: Iterable[Mapping[str, Any]]) -> None:
    empty = True
    for record in records:
        empty = False
        sys.stdout.writelines(f"{text}\n" for text in yaml_text.lines([json.loads(to_json(record))]))
        sys.stdout.flush()
    if empty:
        sys.stdout.write("[]\n")


def _json_array(records: Iterable[Mapping[str, Any]]) -> None:
    """An array written as its records come; closed also if the command is interrupted."""
    separator = "[\n"
    try:
        for record in records:
            sys.stdout.write(f"{separator}  {to_json(record)}")
            sys.stdout.flush()
            separator = ",\n"
    finally:
        sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")


def cell(value: Any) -> str:
    """A value as text: in a table's cell, in CSV, in a line of `tail`."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list() | frozenset():
            return to_json(value)
        case _:
            return str(value if isinstance(value, (str, int)) else _plain(value))


def _plain(value: Any) -> Any:  # noqa: PLR0911 -- one line a type
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return rfc3339(value)
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case frozenset():
            return sorted(value, key=str)
        case Enum():
            return value.value
        case _:
            return str(value)
