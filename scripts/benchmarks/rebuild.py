"""How fast a table of many items becomes a read model, and is verified, beside what the database can take.

`ceiling`: the same rows, written to a file beforehand in the order of the scan, by one LOAD DATA LOCAL INFILE on one
connection into an empty table of the same shape. The installed commands read the items from a loopback endpoint; what
they take is counted with their start. The view that comes out is compared with what was played.
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import items
import measured
import pymysql

from cqrsctl.config import Flags, load
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.schema import drop
from cqrsctl.read_model.sink import prepare
from cqrsctl.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.read_model.connection import Connection

COMMAND = str(Path(sys.executable).parent / "cqrsctl")
PRODUCT = default_product()
Checksum = tuple[int, int]
"""How many rows, and the sum of their CRC-32."""


def rebuild(state: Path, count: int, rounds: int) -> dict[str, Any]:
    """Rows a second of `cqrsctl rebuild` and of raw loading, the medians of so many rounds, taken in turns."""
    file = state / "products.tsv"
    played = _write(file, count)
    ceiling, commands, loading = [], [], []
    with items.playing(count) as url:
        for _ in range(rounds):
            with _read_model(state, url) as (variables, _):
                ceiling.append(_load(variables, state, file))
            with _read_model(state, url) as (variables, connection):
                done = measured.run([COMMAND, "rebuild", "--all", "--yes", "-o", "json"], variables, state)
                _require_equal(connection, played)
            commands.append(done)
            loading += [report["loading_seconds"] for report in json.loads(done.out)]
    rates = {
        "ceiling": count / median(ceiling),
        "rebuild": count / median(one.seconds for one in commands),
        "loading": count / median(loading),
    }
    return {
        "items": count,
        **{f"{name}_rows_per_second": round(rate) for name, rate in rates.items()},
        "rebuild_of_ceiling": round(rates["rebuild"] / rates["ceiling"], 2),
        "loading_of_ceiling": round(rates["loading"] / rates["ceiling"], 2),
        "cpu_seconds": round(median(one.cpu_seconds for one in commands), 1),
        "peak_mb": round(max(one.peak_bytes for one in commands) / 1e6),
    }


def verify(state: Path, count: int, rounds: int) -> dict[str, Any]:
    """Items a second that `cqrsctl verify` compares, both ways, where nothing differs; the median of so many rounds."""
    file = state / "products.tsv"
    played = _write(file, count)
    with items.playing(count) as url, _read_model(state, url) as (variables, connection):
        _load(variables, state, file)
        _require_equal(connection, played)
        commands = [measured.run([COMMAND, "verify"], variables, state) for _ in range(rounds)]
    return {
        "items": count,
        "items_per_second": round(count / median(one.seconds for one in commands)),
        "cpu_seconds": round(median(one.cpu_seconds for one in commands), 1),
        "peak_mb": round(max(one.peak_bytes for one in commands) / 1e6),
    }


def _write(file: Path, count: int) -> Checksum:
    """Write the rows for LOAD DATA; their checksum."""
    total = 0
    with file.open("w", encoding="utf-8") as out:
        for product_id, name, price, out_of_stock in items.products(count):
            out.write(f"{product_id}\t{name}\t{price}\t{out_of_stock:d}\n")
            total += zlib.crc32(f"{product_id}|{name}|{price:.4f}|{out_of_stock:d}".encode())
    return count, total


@contextmanager
def _read_model(state: Path, url: str) -> Iterator[tuple[dict[str, str], Connection]]:
    """An empty read model, dropped afterwards: the variables that name it, and a connection."""
    variables = {
        "CQRSCTL_STATE_DIR": str(state),
        "CQRSCTL_ENDPOINT_URL": url,
        "CQRSCTL_TABLE": items.TABLE,
        "CQRSCTL_DATABASE_NAME": f"cqrs_{uuid4().hex[:12]}",
    }
    endpoint = Wiring(load(Flags(), variables, state)).database
    prepare(endpoint, [PRODUCT])
    with connect(endpoint) as connection:
        connection.execute("SET SESSION wait_timeout = 3600")
        yield variables, connection
        drop(connection, [PRODUCT])


def _load(variables: dict[str, str], state: Path, file: Path) -> float:
    """Load the rows into the active table; the seconds it took."""
    endpoint = Wiring(load(Flags(), variables, state)).database
    login = endpoint.login()
    raw = pymysql.connect(
        host=endpoint.host,
        port=endpoint.port,
        user=login.user,
        password=login.password,
        database=endpoint.database,
        charset="utf8mb4",
        local_infile=True,
    )
    with raw, raw.cursor() as cursor:
        begun = time.perf_counter()
        cursor.execute(
            f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE product_v1 CHARACTER SET utf8mb4"
            " (ProductId, Name, Price, OutOfStock)"
            " SET _version = 0, _deleted = FALSE, _changed_at = NOW(6), _applied_at = NOW(6)"
        )
        raw.commit()
        return time.perf_counter() - begun


def _require_equal(connection: Connection, played: Checksum) -> None:
    (found,) = connection.query(
        "SELECT COUNT(*) AS n, SUM(CRC32(CONCAT_WS('|', ProductId, Name, Price, OutOfStock))) AS total FROM Product"
    )
    connection.commit()
    there = (found["n"], int(found["total"] or 0))
    assert there == played, f"the view is not what was played: {there}, should be {played}"
