"""Running the projector: from the stream, from a file of change records, or only to see what it would do."""

from __future__ import annotations

import gc
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from cqrsctl import retries
from cqrsctl.change import Page, Position, stream_label_micros
from cqrsctl.codec import from_json
from cqrsctl.errors import ConfigurationError, CqrsctlError, UsageError
from cqrsctl.pipeline.change_clock import ChangeClock
from cqrsctl.pipeline.streams import certain_tip
from cqrsctl.projection.batch import Applied
from cqrsctl.projection.projector import Projector, Summary
from cqrsctl.projection.recovery import Applier, OnError
from cqrsctl.projection.tables import PhysicalTable, Tables
from cqrsctl.read_model import checkpoints, function_position
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.sink import MySqlSink, prepare
from cqrsctl.read_model.takeover import require_filled, unfilled
from cqrsctl.read_model.writing import TableWriter
from cqrsctl.stream.reader import Beginning, ReaderOptions, StreamReader
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from datetime import datetime

    from cqrsctl.change import ChangeRecord, Followers
    from cqrsctl.clock import SystemClock
    from cqrsctl.projection.batch import Batch
    from cqrsctl.projection.definition import Projection
    from cqrsctl.wiring import Wiring

_REPLAY_CHANGES = 1_000
_THREADS = 16
_OBJECTS_A_COLLECTION = 50_000


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the projector is given."""

    wiring: Wiring
    projections: tuple[Projection, ...]
    clock: SystemClock
    progress: Callable[[Summary], None]
    notice: Callable[[str], None]
    on_error: OnError = OnError.STOP
    loads_items: bool = False
    """Whether a rebuild loads the items themselves meanwhile."""


def chosen(projections: Sequence[Projection], names: Sequence[str]) -> tuple[Projection, ...]:
    """The projections of those names, all if none is named. Raises UsageError on an unknown name."""
    known = {projection.name: projection for projection in projections}
    for name in names:
        if name not in known:
            raise UsageError(f"There is no projection {name!r}.", hint=f"Declared are: {', '.join(known)}.")
    return tuple(projection for projection in projections if not names or projection.name in names)


def from_stream(run: Run, *, once: bool, beginning: Beginning, dry_run: bool) -> Summary:
    """Project the table's stream until stopped, or with `once` until caught up.

    Raises ConfigurationError if a projection's key is not the table's; and what Projector.run raises.
    """
    environment = run.wiring.environment
    described = table.describe(run.wiring.dynamodb, environment.table)
    stream_arn = table.require_stream(described)
    require_keys(run.projections, described)
    function = _state_of_function(run, stream_arn)

    sink = (
        DrySink(run.wiring, run.projections, stream_arn)
        if dry_run
        else MySqlSink(
            lambda: run.wiring.servers.refresh().writer,
            run.projections,
            stream_arn,
            run.clock.monotonic,
            beside_function=function is not None,
            reads_since=lambda: reads_since(run.wiring, stream_arn),
        )
    )

    def current_arn() -> str | None:
        return table.describe(run.wiring.dynamodb, environment.table).stream_arn

    options = ReaderOptions(
        beginning,
        tip=certain_tip(run.wiring),
        until=ChangeClock(run.wiring, run.clock.now).next_time() if once else None,
        current_arn=current_arn,
        notice=run.notice,
    )

    def open_source(followers: Followers) -> StreamReader:
        is_first = not any(followers.values())
        if is_first and not run.loads_items and (warning := table.unrecorded_items(described, run.clock.now())):
            run.notice(warning)
        return StreamReader(run.wiring.streams, stream_arn, followers, run.clock, executor, options)

    with _rarely_collected(), ThreadPoolExecutor(_THREADS, thread_name_prefix="shard") as executor:
        projector = Projector(sink, open_source, run.clock, run.progress, run.notice, run.on_error)
        summary = projector.run(once=once, stopped=run.clock.stop.is_set)
    if once and summary.caught_up:
        shards = "1 open shard" if summary.shards == 1 else f"{summary.shards} open shards"
        run.notice(f"Caught up: {shards}, {options.tip} in each, or a change made since the start.")
    return summary


def from_file(run: Run, lines: Iterable[str]) -> Summary:
    """Replay change records, as `stream tail -o jsonl` writes them. Checkpoints stay as they are.

    Each record carries its version, so a replayed one never overwrites a newer row. Raises CqrsctlError (`bad_input`)
    if one is not of this table, or of a later stream of it than there is: all changes to come would be stale then.
    """
    summary = Summary(caught_up=True)
    described = table.describe(run.wiring.dynamodb, run.wiring.environment.table)
    records = _records(lines, described)
    prepare(run.wiring.database, run.projections)
    with connect(run.wiring.database) as connection:
        again = retries.of_transactions(run.clock.sleep, run.clock.stop.is_set)
        applier = Applier(TableWriter(connection, run.projections), run.on_error, summary.count, again)
        while some := tuple(islice(records, _REPLAY_CHANGES)):
            applier.apply([Page(some)])
            run.progress(summary)
    return summary


def reads_since(wiring: Wiring, stream_arn: str) -> datetime | None:
    """Since when the projector function has been reading a stream without a problem; None if not, or unknown."""
    from cqrsctl.pipeline import function_operations  # noqa: PLC0415 -- much code for one question

    return function_operations.reads_since(wiring, stream_arn)


def require_keys(projections: Iterable[Projection], described: table.Table) -> None:
    """Raises ConfigurationError if a projection's key is not the table's."""
    key = {attribute for attribute, _ in described.key}
    for projection in projections:
        if projection.key_attributes != key:
            raise ConfigurationError(
                f"Table {described.name!r} has the key {' and '.join(sorted(key))}, but projection {projection.name} "
                f"the key {' and '.join(sorted(projection.key_attributes))}: it would make one row of several items.",
                hint="Declare a projection whose key columns are the table's key (key = true).",
                code="key_differs",
            )


def _state_of_function(run: Run, stream_arn: str) -> str | None:
    """The state of the mapping of the projector function, with a note if it reads now. None if there is none."""
    from cqrsctl.pipeline import function_operations  # noqa: PLC0415 -- much code for one question

    state = function_operations.mapping_state(run.wiring, stream_arn)
    if state == "Enabled":
        run.notice(
            "ProductHandlerFunction reads this stream too. Changes are applied once all the same, but AWS throttles "
            "more than two readers of a shard. Pause the function with: cqrsctl function pause"
        )
    return state


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Let Python look for garbage in cycles seldom: change records are many and in none, so looking finds nothing."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_OBJECTS_A_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class DrySink:
    """A sink that maps every change to its rows and writes nothing."""

    def __init__(self, wiring: Wiring, projections: tuple[Projection, ...], stream_arn: str) -> None:
        self._wiring = wiring
        self._projections = projections
        self._stream_arn = stream_arn

    def open(self) -> Followers:
        try:
            with connect(self._wiring.database) as connection:
                names = {projection.name for projection in self._projections}
                function_position.require_whole(function_position.gaps(connection, names))
                require_filled(unfilled(connection, names))
                return checkpoints.read(connection, self._projections, self._stream_arn)
        except ReadModelMissing:
            return {}

    def tables(self) -> Tables:
        """The tables as they would be made."""
        return Tables(tuple(PhysicalTable(projection, 1) for projection in self._projections))

    def apply(self, batch: Batch) -> Applied:
        return Applied(sum(len(rows) for rows in batch.rows.values()), 0)

    def beat(self) -> None:
        """There is nothing to report."""

    def mark_gap(self, position: Position, followers: Collection[str]) -> None:
        """The error alone reports the gap."""

    def close(self) -> None:
        """Nothing is open."""


def _require_ours(stream_arn: str, described: table.Table) -> None:
    """Raises ValueError if a stream is not the table's, or is a later one than its last."""
    of_table = stream_arn.partition("/stream/")[0]
    if of_table != described.arn:
        raise ValueError(f"it is of {of_table}, and this environment's table is {described.arn}")
    last = described.latest_stream_arn
    if last is None or stream_label_micros(stream_arn) > stream_label_micros(last):
        raise ValueError(f"its stream is {stream_arn}, and the table's last one is {last or 'none at all'}")


def _records(lines: Iterable[str], described: table.Table) -> Iterator[ChangeRecord]:
    number, known = 0, ""
    try:
        for line in lines:
            number += 1
            if line.strip():
                change = from_json(json.loads(line))
                if change.stream_arn != known:
                    _require_ours(change.stream_arn, described)
                    known = change.stream_arn
                yield change
    except (ValueError, RecursionError) as error:
        before = " The lines before it may be applied already." if number > 1 else ""
        raise CqrsctlError(
            f"Line {number} cannot be replayed: {error}.{before}",
            hint="The file must be what `cqrsctl stream tail -o jsonl` wrote in this environment.",
            code="bad_input",
        ) from error
