"""How fast the projector drains a stream's backlog, beside what people write by hand and what the database can take.

`row at a time`: one INSERT and COMMIT a record on one open connection. `ceiling`: the same rows, ready in memory, by
the same guarded multi-row upsert, as PyMySQL does it with parameters; `sink alone`: as the sink does it, which writes
the values into the statement itself. The projector reads the same records from a loopback endpoint with a real botocore
client, decodes them, maps them, and commits them with its checkpoints.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from player import STREAM_ARN, TABLE, bodies, playing

from cqrsctl.change import Page, Position
from cqrsctl.clock import SystemClock
from cqrsctl.config import Flags, load
from cqrsctl.pipeline import project
from cqrsctl.projection.batch import batch_of
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare
from cqrsctl.read_model.writing import ROWS_A_STATEMENT, TableWriter
from cqrsctl.stream import shards
from cqrsctl.stream.reader import Beginning
from cqrsctl.wire import records_page
from cqrsctl.wiring import Wiring
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.projection.batch import Batch
    from cqrsctl.read_model.connection import Connection, Endpoint

SHARDS = 8
RECORDS = 100_000
BY_HAND_RECORDS = 5_000
PRODUCT = default_product()


@dataclass(frozen=True, slots=True)
class Drained:
    """One run of the projector in a process of its own."""

    records: int
    seconds: float
    peak_bytes: int

    @property
    def rate(self) -> float:
        return self.records / self.seconds


def compare(state: Path, rounds: int) -> dict[str, Any]:
    """Records a second of all four, the median of so many rounds, taken in turns."""
    by_hand, ceiling, sink, drained = [], [], [], []
    pages = [records_page({"Body": body}, STREAM_ARN).changes for body in _in_turns(SHARDS, RECORDS)]
    with playing(SHARDS, RECORDS) as url:
        for _ in range(rounds):
            by_hand.append(_row_at_a_time(state, pages))
            ceiling.append(_from_memory(state, pages, _with_parameters))
            sink.append(_from_memory(state, pages, _by_the_sink))
            drained.append(run(url, state))
    rates = {
        "row_at_a_time": median(by_hand),
        "projector": median(one.rate for one in drained),
        "ceiling": median(ceiling),
        "sink_alone": median(sink),
    }
    return {
        **{f"{name}_records_per_second": round(rate) for name, rate in rates.items()},
        "times_row_at_a_time": round(rates["projector"] / rates["row_at_a_time"], 1),
        "of_ceiling": round(rates["projector"] / rates["ceiling"], 2),
        "of_sink_alone": round(rates["projector"] / rates["sink_alone"], 2),
    }


def scale(state: Path, shards: list[int], records: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """The projector alone, by shards and records: the median rate and the highest peak of so many rounds."""
    for many in records:
        for count in shards:
            with playing(count, many) as url:
                drained = [run(url, state) for _ in range(rounds)]
            yield {
                "shards": count,
                "records": many,
                "records_per_second": round(median(one.rate for one in drained)),
                "peak_mb": round(max(one.peak_bytes for one in drained) / 1e6),
            }


def run(url: str, state: Path) -> Drained:
    """Drain what a player plays, in a process of its own."""
    command = [sys.executable, __file__, url, str(state)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Drained(**json.loads(done.stdout))


def _drain(url: str, state: Path) -> Drained:
    clock = SystemClock()
    wiring = Wiring(_environment(state, url))
    prepare(wiring.database, [PRODUCT])
    table.describe(wiring.dynamodb, TABLE)  # clients are open before the clock starts, as the others' connections are
    shards.describe(wiring.streams, STREAM_ARN)
    run = project.Run(wiring, (PRODUCT,), clock, lambda _: None, lambda _: None)
    begun = time.perf_counter()
    summary = project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)
    seconds = time.perf_counter() - begun
    return Drained(summary.changes, seconds, _peak_bytes())


def _peak_bytes() -> int:
    """The most memory that this process had. Linux counts in ru_maxrss what the process was forked from, too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


def _environment(state: Path, url: str | None = None) -> Any:
    """The embedded stack's database, with a schema of this run's own."""
    variables = {
        "CQRSCTL_STATE_DIR": str(state),
        "CQRSCTL_TABLE": TABLE,
        "CQRSCTL_DATABASE_NAME": f"cqrs_{uuid4().hex[:12]}",
    }
    return load(Flags(endpoint_url=url), variables, state)


def _in_turns(shards: int, records: int) -> Iterator[bytes]:
    """The shards' pages as a projector meets them: one of each, then the next of each."""
    of_shard: list[list[bytes]] = [[] for _ in range(shards)]
    for shard, body in bodies(shards, records):
        of_shard[shard].append(body)
    return (body for turn in zip_longest(*of_shard) for body in turn if body is not None)


@contextmanager
def _read_model(state: Path) -> Iterator[Connection]:
    endpoint: Endpoint = Wiring(_environment(state)).database
    prepare(endpoint, [PRODUCT])
    with connect(endpoint) as connection:
        yield connection


def _row_at_a_time(state: Path, pages: list[Any]) -> float:
    changes = list(islice((change for page in pages for change in page), BY_HAND_RECORDS))
    with _read_model(state) as connection:
        begun = time.perf_counter()
        for change in changes:
            image = change.new_image
            connection.execute(
                "INSERT INTO product_v1 (ProductId, Name, Price, OutOfStock, _version, _deleted, _changed_at,"
                " _applied_at) VALUES (%s, %s, %s, %s, %s, FALSE, %s, NOW(6))"
                " ON DUPLICATE KEY UPDATE Name = VALUES(Name), Price = VALUES(Price), OutOfStock = VALUES(OutOfStock),"
                " _version = VALUES(_version), _changed_at = VALUES(_changed_at), _applied_at = VALUES(_applied_at)",
                (
                    image["ProductId"],
                    image["Name"],
                    image["Price"],
                    image["OutOfStock"],
                    change.version,
                    change.created_at,
                ),
            )
            connection.commit()
        return len(changes) / (time.perf_counter() - begun)


def _from_memory(state: Path, pages: list[Any], upsert: Callable[[Connection, Batch], None]) -> float:
    groups = [pages[begin : begin + SHARDS] for begin in range(0, len(pages), SHARDS)]
    batches = [batch_of([Page(changes, Position("", None)) for changes in group], [PRODUCT]) for group in groups]
    with _read_model(state) as connection:
        begun = time.perf_counter()
        for batch in batches:
            upsert(connection, batch)
            connection.commit()
        return sum(batch.changes for batch in batches) / (time.perf_counter() - begun)


def _by_the_sink(connection: Connection, batch: Batch) -> None:
    TableWriter(connection, [PRODUCT]).apply_rows(batch)


def _with_parameters(connection: Connection, batch: Batch) -> None:
    rows = batch.rows[PRODUCT.name]
    for begin in range(0, len(rows), ROWS_A_STATEMENT):
        some = rows[begin : begin + ROWS_A_STATEMENT]
        parameters: list[Any] = []
        for row in some:
            parameters += (*row.key, *row.values, row.version, row.deleted, row.changed_at)
        connection.execute(
            "INSERT INTO product_v1 (ProductId, Name, Price, OutOfStock, _version, _deleted, _changed_at, _applied_at)"
            f" VALUES {', '.join(['(%s, %s, %s, %s, %s, %s, %s, NOW(6))'] * len(some))}"
            " ON DUPLICATE KEY UPDATE "
            + ", ".join(
                f"{name} = IF(VALUES(_version) > _version, VALUES({name}), {name})"
                for name in ("Name", "Price", "OutOfStock", "_deleted", "_changed_at", "_applied_at", "_version")
            ),
            parameters,
        )


if __name__ == "__main__":
    found = _drain(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.write(json.dumps({"records": found.records, "seconds": found.seconds, "peak_bytes": found.peak_bytes}))
