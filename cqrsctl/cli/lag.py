"""`cqrsctl lag`: how far the read model is behind."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl.cli import columns, render, watch
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of, parse_duration
from cqrsctl.cli.render import Output
from cqrsctl.diagnosis import lag as lags
from cqrsctl.diagnosis.facts import TOLERATED_SECONDS
from cqrsctl.diagnosis.looks import Looks
from cqrsctl.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cqrsctl.diagnosis.lag import Lag

app = group("Tell how far the read model is behind.")

_SHARD_COLUMNS = ("shard", "state", "lag", "hours_left")
_READER_COLUMNS = ("reader", "lag", "reason")
_MOST_SHARDS_WATCHED = 12
_LOOKS_KEPT = 60


@app.command()
def lag(
    ctx: typer.Context,
    max: Annotated[
        str | None, typer.Option("--max", metavar="DURATION", help="Exit 8 where the lag, or a reader's, is above.")
    ] = None,
    watched: Annotated[bool, typer.Option("--watch", help="Look every 2 s, until Ctrl-C.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Tell how far the read model is behind.

    The lag is the age of the oldest change that is not applied yet, 0 where there is none; HOURS LEFT is the time until
    the stream drops it. A reader's is how far it is behind the writer at most. Where the Lambda function projects, the
    lag is its iterator age. Times of changes are whole seconds, so --max counts only what is over it for certain; what
    is not known is over it.

    \b
    Examples:
      cqrsctl lag
      cqrsctl lag --max 30s
      cqrsctl lag --watch
    """
    limit = None if max is None else parse_duration(max)
    wiring, clock = of(ctx).wiring, of(ctx).clock
    if watched:
        if limit is not None:
            raise UsageError("--max is a check, --watch a view that does not end: they exclude one another.")
        watch.require_terminal(output)
        of(ctx).follows = True
        history: deque[float | None] = deque(maxlen=_LOOKS_KEPT)
        looks = Looks(wiring, clock)
        watch.watch(output, lambda: lags.measure_on(looks), lambda found: _drawn(found, history), record)
    if limit is None:
        return _show(lags.measure(wiring, clock), output)
    tolerated = min(TOLERATED_SECONDS, limit.total_seconds())
    found, too_slow = lags.check(lambda: lags.measure(wiring, clock, tolerated), limit, clock)
    _show(found, output)
    if too_slow is not None:
        raise too_slow
    return None


def record(found: Lag) -> dict[str, Any]:
    """The lag for machines: what is not known is null, with a reason."""
    return {
        "lag_seconds": _rounded(found.lag_seconds),
        "hours_left": found.hours_left,
        "source": found.source.value,
        "reason": found.reason,
        "iterator_age_seconds": _rounded(found.iterator_age_seconds),
        "shards": [
            {
                "shard": shard.shard,
                "state": shard.state,
                "lag_seconds": _rounded(shard.lag_seconds),
                "hours_left": shard.hours_left,
            }
            for shard in found.shards
        ],
        "readers": [
            {"reader": reader.reader, "lag_seconds": _rounded(reader.lag_seconds), "reason": reader.reason}
            for reader in found.readers
        ],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _show(found: Lag, output: Output) -> None:
    if output is not Output.TABLE or columns.chosen():
        return render.one(output, record(found))
    return render.show(*_contents(found))


def _drawn(found: Lag, history: deque[float | None]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    history.append(found.lag_seconds)
    line = Text(f"{render.sparkline(history, _LOOKS_KEPT)}\n", style="cyan")
    return Group(line, *_contents(found, _MOST_SHARDS_WATCHED))


def _contents(found: Lag, most_shards: int | None = None) -> list[RenderableType]:
    """A headline, the shards (of many only those furthest behind, if there is a limit), and the readers."""
    contents: list[RenderableType] = [_headline(found)]
    listed = list(found.shards)
    if most_shards is not None and len(listed) > most_shards:
        listed = sorted(listed, key=lambda shard: -(shard.lag_seconds or 0))[:most_shards]
    if listed:
        shown = [
            {"shard": each.shard, "state": each.state, "lag": render.age(each.lag_seconds), "hours_left": _hours(each)}
            for each in listed
        ]
        contents += ["", render.table(_SHARD_COLUMNS, shown)]
    if len(found.shards) > len(listed):
        contents.append(f"and {len(found.shards) - len(listed)} shards that are less behind")
    if found.readers:
        asked = [
            {"reader": each.reader, "lag": render.age(each.lag_seconds), "reason": each.reason}
            for each in found.readers
        ]
        names = _READER_COLUMNS if any(each.reason for each in found.readers) else _READER_COLUMNS[:-1]
        contents += ["", render.table(names, asked)]
    return contents


def _hours(shard: lags.ShardLag) -> str:
    return "" if shard.hours_left is None else f"{shard.hours_left:.1f}"


def _headline(found: Lag) -> RenderableType:
    from rich.text import Text

    text = Text("lag ").append(render.age(found.lag_seconds), style="bold")
    if found.source is lags.LagSource.ITERATOR_AGE:
        text.append(" (the iterator age of the Lambda function)")
    elif found.iterator_age_seconds is not None:
        text.append(f", iterator age of the Lambda function {render.age(found.iterator_age_seconds)}")
    if found.hours_left is not None:
        text.append(f", trimmed in {found.hours_left:.1f} h")
    if found.reason:
        text.append(f": {render.printable(found.reason)}")
    return text
