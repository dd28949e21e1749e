"""From put to visible: products are put at a steady rate while the installed projector follows, and looked for.

Each put is a new product. The time runs from the moment before the call of PutItem until a reader of the view sees it,
on the embedded stack; the view is looked at every 2 ms.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cqrsctl.clock import SystemClock
from cqrsctl.config import Flags, load
from cqrsctl.read_model.connection import connect
from cqrsctl.wiring import Wiring
from cqrsctl.write_model.table import TableSpec, create

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = str(Path(sys.executable).parent / "cqrsctl")
LOOK_SECONDS = 0.002
LONGEST_SECONDS = 60.0


def measure(state: Path, rates: list[int], seconds: int) -> Iterator[dict[str, Any]]:
    """p50 and p99 of put to visible at each rate of puts a second."""
    variables = {
        "CQRSCTL_STATE_DIR": str(state),
        "CQRSCTL_TABLE": f"Products-{uuid4().hex[:12]}",
        "CQRSCTL_DATABASE_NAME": f"cqrs_{uuid4().hex[:12]}",
    }
    wiring = Wiring(load(Flags(), variables, state))
    create(wiring.dynamodb, TableSpec(wiring.environment.table), lambda _: None, SystemClock())
    with _following(variables, state):
        _put(wiring, 0)
        _first_seen(wiring, range(1), threading.Event())  # the projector is up
        first = 1
        for rate in rates:
            count = rate * seconds
            taken = _at_rate(wiring, range(first, first + count), rate)
            first += count
            percent = quantiles(taken, n=100)
            yield {
                "puts_per_second": rate,
                "puts": count,
                "p50_ms": round(percent[49] * 1_000),
                "p99_ms": round(percent[98] * 1_000),
            }


def _at_rate(wiring: Wiring, ids: range, rate: int) -> list[float]:
    """Put one product after the other at a steady rate, in threads; seconds until each was seen."""
    begun = time.perf_counter()
    ended = threading.Event()

    def put(number: int) -> tuple[int, float]:
        due = begun + (number - ids.start) / rate
        time.sleep(max(due - time.perf_counter(), 0))
        return _put(wiring, number)

    with ThreadPoolExecutor(1) as looker, ThreadPoolExecutor(8) as writers:
        looking = looker.submit(_first_seen, wiring, ids, ended)
        try:
            moments = dict(writers.map(put, ids))
            seen = looking.result()
        finally:
            ended.set()  # or a run that is broken off would look on for products that nobody puts any more
    return [seen[number] - moments[number] for number in ids]


def _put(wiring: Wiring, number: int) -> tuple[int, float]:
    begun = time.perf_counter()
    wiring.dynamodb.put_item(
        TableName=wiring.environment.table,
        Item={"ProductId": {"N": str(number)}, "Name": {"S": f"Product {number}"}, "Price": {"N": "1.50"}},
    )
    return number, begun


def _first_seen(wiring: Wiring, ids: range, ended: threading.Event) -> dict[int, float]:
    """When each product was first seen in the view; of fewer where it was ended."""
    seen: dict[int, float] = {}
    with connect(wiring.database) as connection:
        deadline = time.perf_counter() + LONGEST_SECONDS
        while len(seen) < len(ids) and not ended.is_set():
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{len(ids) - len(seen)} products were not seen within {LONGEST_SECONDS:.0f} s")
            rows = connection.query(
                "SELECT ProductId FROM Product WHERE ProductId >= %s AND ProductId < %s", (ids.start, ids.stop)
            )
            connection.commit()
            now = time.perf_counter()
            for row in rows:
                seen.setdefault(row["ProductId"], now)
            time.sleep(LOOK_SECONDS)
    return seen


@contextmanager
def _following(variables: dict[str, str], state: Path) -> Iterator[None]:
    """The installed projector, following."""
    subprocess.run([COMMAND, "read-model", "init"], check=True, env={**os.environ, **variables}, capture_output=True)
    with subprocess.Popen(
        [COMMAND, "project"], env={**os.environ, **variables}, cwd=state, stderr=subprocess.DEVNULL
    ) as projector:
        try:
            yield
        finally:
            projector.terminate()
