"""`cqrsctl stream`: what comes out of the table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cqrsctl import words
from cqrsctl.change import ChangeRecord, Event
from cqrsctl.cli import columns, render
from cqrsctl.cli.change_template import Template
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of, parse_duration
from cqrsctl.cli.layout import folded
from cqrsctl.cli.render import Output
from cqrsctl.codec import to_json
from cqrsctl.diagnosis import stream_status
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.errors import UsageError
from cqrsctl.pipeline import streams
from cqrsctl.pipeline.change_clock import ChangeClock
from cqrsctl.stream.reader import Beginning, ReaderOptions, StreamReader
from cqrsctl.stream.tail import Reading, Selection, differences
from cqrsctl.stream.tail import tail as tailed
from cqrsctl.write_model import table
from cqrsctl.write_model.product import product_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.change import Value
    from cqrsctl.cli.invocation import Invocation

app = group("Look at what comes out of the table.")

_COLOURS = {Event.INSERT: "green", Event.MODIFY: "yellow", Event.REMOVE: "red"}
_SHARD_COLUMNS = ("shard", "parent", "state", "read", "sequence_number", "record_time", "hours_left")
_CHANGE_COLUMNS = ("created_at", "event", "shard_id", "sequence_number", "keys", "old_image", "new_image")


_INDENT = 4


class EventName(StrEnum):
    """The kinds of change, as they are typed."""

    INSERT = "insert"
    MODIFY = "modify"
    REMOVE = "remove"


@app.command()
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the stream: ARN, view type, and every shard with its lineage, state and checkpoint.

    \b
    Example:
      cqrsctl stream status
    """
    found = stream_status.status(Facts(of(ctx).wiring, of(ctx).clock), of(ctx).note)
    if render.document(output, {**found.stream, "shards": found.shards}, _SHARD_COLUMNS, found.shards):
        return
    render.one(output, found.stream)
    render.line("")
    render.rows(output, _SHARD_COLUMNS, found.shards)


@app.command()
def tail(
    ctx: typer.Context,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="latest|horizon|SEQUENCE",
            help="Where to begin.  [default: latest, or horizon with --no-follow or --since]",
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="DURATION", help="Only changes of the last 15m, 2h, …")] = None,
    shard: Annotated[str | None, typer.Option(metavar="ID", help="Only this shard.")] = None,
    event: Annotated[list[EventName] | None, typer.Option(help="Only such changes; may be repeated.")] = None,
    id: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this product; may be repeated.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="ATTRIBUTE=VALUE", help="Only items with this value, new or old; may be repeated."),
    ] = None,
    follow: Annotated[bool, typer.Option(help="Wait for more, or stop once caught up.")] = True,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Stop after this number of changes.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="TEMPLATE", help="Print each change as this text, with {NAME} for its values."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show changes as they come: time, event, id, and what changed (old → new).

    `-o jsonl` prints whole change records, which `project --input` reads back. The names in a TEMPLATE are time, event,
    shard_id, sequence_number, and attributes: {Price} is the new value (of a removal the old one), {old.Price} the old.

    \b
    Examples:
      cqrsctl stream tail
      cqrsctl stream tail --no-follow --event remove -o jsonl > removed.jsonl
      cqrsctl stream tail --no-follow --where OutOfStock=true --format '{time} {ProductId} {Name}'
    """
    chosen = columns.chosen()
    if output is Output.CSV and follow and limit is None and not chosen:
        raise UsageError(
            "With -o csv every attribute is a column, and those of changes to come are unknown.",
            hint="Choose columns with --columns, or give --no-follow or --limit.",
        )
    if format is not None and (output is not Output.TABLE or chosen):
        raise UsageError("--format stands instead of --output and --columns.", hint="Give one of them.")
    template = Template(format) if format is not None else None
    wiring = of(ctx).wiring
    begin = from_ or ("latest" if follow and since is None else "horizon")
    selection = Selection(
        events=frozenset(Event(name.value.upper()) for name in event or ()),
        ids=frozenset(Decimal(product_id(number)) for number in id or ()),
        from_sequence=_sequence(begin),
        since=datetime.now(UTC).replace(microsecond=0) - parse_duration(since) if since else None,
        where=tuple(map(_condition, where or ())),
    )
    arn = table.require_stream(table.describe(wiring.dynamodb, wiring.environment.table))
    if shard is not None:
        streams.require_shard(wiring.streams, arn, shard)
    options = ReaderOptions(
        Beginning.LATEST if begin == "latest" else Beginning.HORIZON,
        only_shard=shard,
        tip=streams.certain_tip(wiring),
        until=None if follow else ChangeClock(wiring, of(ctx).clock.now).next_time(),
        notice=of(ctx).note,
    )
    with ThreadPoolExecutor(max_workers=16, thread_name_prefix="shard") as executor:
        reader = StreamReader(wiring.streams, arn, {}, of(ctx).clock, executor, options)
        with render.live() as show:
            watch = _Progress(of(ctx), selection, follow, show)
            _, changes = render.peeked(tailed(reader, selection, follow=follow, limit=limit, progress=watch))
        if output is not Output.TABLE:
            render.rows(output, _CHANGE_COLUMNS, _records(changes, output))
        elif chosen:
            render.growing(_CHANGE_COLUMNS, _records(changes, output))
        elif template:
            for shard_id, change in changes:
                render.line(template.filled(change, shard_id))
        else:
            for _, change in changes:
                render.show(folded(_line(change, of(ctx).clock.now()), render.width(), _INDENT))


@dataclass(slots=True)
class _Progress:
    """Shows how far a tail has read until it finds a change to show, and that it waits for more."""

    invocation: Invocation
    selection: Selection
    follow: bool
    show: Callable[[str], None]
    _waits: bool = False

    def __post_init__(self) -> None:
        if self.selection.since:
            since = words.moment(self.selection.since, self.invocation.clock.now())
            self.invocation.note(f"Reading the stream from its start for changes since {since}.")

    def __call__(self, reading: Reading) -> None:
        if not reading.caught_up:
            at = f", up to {words.moment(reading.at, self.invocation.clock.now())}" if reading.at else ""
            self.show(f"{words.count(reading.changes, 'change')} read{at}")
        elif self.follow and not self._waits:
            self._waits = True
            self.show("")
            self.invocation.note("Waiting for changes. Ctrl-C stops.")


def _condition(text: str) -> tuple[str, str]:
    attribute, equals, value = text.partition("=")
    if not (attribute and equals):
        raise UsageError(f"--where: {text!r} is not ATTRIBUTE=VALUE.", hint="For example: --where OutOfStock=true")
    return attribute, value


def _sequence(begin: str) -> int:
    if begin in {"latest", "horizon"}:
        return 0
    if not begin.isascii() or not begin.isdigit():
        raise UsageError(f"--from: {begin!r} is neither latest nor horizon nor a sequence number.")
    return int(begin)


def _records(changes: Iterator[tuple[str, ChangeRecord]], output: Output) -> Iterator[dict[str, Any]]:
    """Whole change records; in cells the values alone, without DynamoDB's names of their types."""
    for shard_id, change in changes:
        record = to_json(change, shard_id)
        if output in {Output.CSV, Output.TABLE}:
            record |= {"keys": change.keys, "old_image": change.old_image, "new_image": change.new_image}
        yield record


def _line(change: ChangeRecord, now: datetime) -> Text:
    """A change as a line: `12:04:25 UTC  MODIFY  7  Name: Tray · Price: 15.49 → 12.00`."""
    text = Text(f"{words.moment(change.created_at, now)}  ", style="dim")
    text.append(f"{change.event:<6}", style=f"not dim {_COLOURS[change.event]}")
    text.append("  " + ", ".join(_shown(value) for value in change.keys.values()), style="not dim bold")
    separator = "  "
    for name, old, new in differences(change):
        text.append(f"{separator}{render.printable(name)}: ", style="not dim")
        separator = " · "
        if change.old_image and name in change.old_image:
            text.append(_shown(old), style="not dim red")
        if change.event is Event.MODIFY:
            text.append(" → ", style="dim")
        if change.new_image and name in change.new_image:
            text.append(_shown(new), style="not dim green")
    if change.by_service:
        text.append("  (time to live)", style="dim")
    return text


def _shown(value: Value) -> str:
    return render.printable(render.cell(value))
