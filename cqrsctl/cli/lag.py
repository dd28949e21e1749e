"""`cqrsctl lag`: how far the read model is behind."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import columns, render, watch
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of, parse_duration
from cqrsctl.cli.render import Output
from cqrsctl.diagnosis import lag as lags
from cqrsctl.diagnosis.facts import TOLERATED_SECONDS
from cqrsctl.diagnosis.looks import Looks
from cqrsctl.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from rich.text import Text

    from cqrsctl.diagnosis.lag import Lag

app = group("Show how far the read model is behind.")

_SHARD_COLUMNS = ("shard", "state", "lag", "hours_left")
_READER_COLUMNS = ("reader", "lag", "reason")
_MOST_SHARDS_WATCHED = 12
_LOOKS_KEPT = 60


@app.command()
def lag(
    ctx: typer.Context,
    max: Annotated[
        str | None, typer.Option("--max", metavar="DURATION", help="Exit 8 if the lag, or a reader's, is above.")
    ] = None,
    watched: Annotated[bool, typer.Option("--watch", help="Look every 2 s, until Ctrl-C.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how far the read model is behind.

    The lag is the age of the oldest change that is not applied yet, 0 if there is none; HOURS LEFT is the time until
    the stream drops it. A reader's is how far it is behind the writer at most. Where the Lambda function projects, the
    lag is its iterator age. Times of changes are whole seconds, so --max counts only what is over it for certain; an
    unknown lag is over it.

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
        history: deque[tuple[datetime, float | None]] = deque(maxlen=_LOOKS_KEPT)
        looks = Looks(wiring, clock)
        watch.watch(output, lambda: lags.measure_on(looks), lambda found: _drawn(found, history, clock.now()), record)
    if limit is None:
        return _show(lags.measure(wiring, clock), output)
    tolerated = min(TOLERATED_SECONDS, limit.total_seconds())
    found, too_slow = lags.check(lambda: lags.measure(wiring, clock, tolerated), limit, clock)
    _show(found, output)
    if too_slow is not None:
        raise too_slow
    return None


def record(found: Lag) -> dict[str, Any]:
    """The lag for machines: what is unknown is null, with a reason."""
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
    return render.show(_contents(found))


def _drawn(found: Lag, history: deque[tuple[datetime, float | None]], now: datetime) -> list[Text]:
    from rich.text import Text

    history.append((now, found.lag_seconds))
    values = [seconds for _, seconds in history]
    most = words.duration(max((seconds for seconds in values if seconds is not None), default=None))
    between = f"max {most}, {words.moment(history[0][0], now)} – {words.moment(now, now)}"
    line = Text(render.sparkline(values, _LOOKS_KEPT), "cyan")
    return [line, Text(between, "dim"), Text(), *_contents(found, _MOST_SHARDS_WATCHED)]


def _contents(found: Lag, most_shards: int | None = None) -> list[Text]:
    """A headline, the shards (of many only those furthest behind, if there is a limit), and the readers."""
    from rich.text import Text

    contents = _headline(found)
    listed = list(found.shards)
    if most_shards is not None and len(listed) > most_shards:
        listed = sorted(listed, key=lambda shard: -(shard.lag_seconds or 0))[:most_shards]
    if listed:
        shown = [
            {
                "shard": each.shard,
                "state": each.state,
                "lag": words.duration(each.lag_seconds),
                "hours_left": None if each.hours_left is None else f"{each.hours_left:.1f}",
            }
            for each in listed
        ]
        contents += [Text(), *render.table(_SHARD_COLUMNS, shown)]
    if len(found.shards) > len(listed):
        contents.append(Text(f"and {words.count(len(found.shards) - len(listed), 'shard')} less behind"))
    if found.readers:
        asked = [
            {"reader": each.reader, "lag": words.duration(each.lag_seconds), "reason": each.reason}
            for each in found.readers
        ]
        names = _READER_COLUMNS if any(each.reason for each in found.readers) else _READER_COLUMNS[:-1]
        contents += [Text(), *render.table(names, asked)]
    return contents


def _headline(found: Lag) -> list[Text]:
    from rich.text import Text

    from cqrsctl.cli.layout import folded

    text = Text("lag ").append(words.duration(found.lag_seconds), style="bold")
    if found.source is lags.LagSource.ITERATOR_AGE:
        text.append(" (the iterator age of the Lambda function)")
    elif found.iterator_age_seconds is not None:
        text.append(f", iterator age of the Lambda function {words.duration(found.iterator_age_seconds)}")
    if found.hours_left is not None:
        text.append(f", trimmed in {words.duration(found.hours_left * 3_600)}")
    if found.reason:
        text.append(f": {render.printable(found.reason)}")
    return folded(text, render.width())
