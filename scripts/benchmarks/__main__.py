"""Benchmarks of cqrsctl, on a stack of their own that is removed at the end. Ratios within a run are what counts."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import drain
import latency
import rebuild
import startup
import typer
from own_stack import own_stack
from rich.console import Console
from rich.table import Table

from cqrsctl.local.database_server import server_program
from cqrsctl.local.engines import MARIADB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_err = Console(stderr=True, highlight=False)


class Benchmark(StrEnum):
    """What can be measured."""

    DRAIN = "drain"
    SCALE = "scale"
    LATENCY = "latency"
    STARTUP = "startup"
    REBUILD = "rebuild"
    VERIFY = "verify"
    ALL = "all"


def main(
    benchmark: Annotated[Benchmark, typer.Argument(help="What to measure.")] = Benchmark.ALL,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="drain: rounds, of which the median is shown.")] = 5,
    shards: Annotated[str, typer.Option(help="scale: numbers of shards.")] = "1,8,64,512",
    records: Annotated[str, typer.Option(help="scale: numbers of records.")] = "100000,1000000",
    scale_rounds: Annotated[int, typer.Option(min=1, help="scale: rounds of each.")] = 1,
    rates: Annotated[str, typer.Option(help="latency: puts a second.")] = "1,10,100",
    seconds: Annotated[int, typer.Option(min=2, help="latency: for how long at each rate.")] = 30,
    items: Annotated[int, typer.Option(min=1, help="rebuild, verify: items of the table.")] = 1_000_000,
    item_rounds: Annotated[int, typer.Option(min=1, help="rebuild, verify: rounds, of which the median is shown.")] = 1,
) -> None:
    """Measure how fast cqrsctl drains a backlog, scales, follows, starts, rebuilds and verifies."""
    measures: dict[Benchmark, Callable[[Path], Iterable[dict[str, Any]]]] = {
        Benchmark.DRAIN: lambda state: [drain.compare(state, rounds)],
        Benchmark.SCALE: lambda state: drain.scale(state, _numbers(shards), _numbers(records), scale_rounds),
        Benchmark.LATENCY: lambda state: latency.measure(state, _numbers(rates), seconds),
        Benchmark.STARTUP: lambda _: startup.measure(),
        Benchmark.REBUILD: lambda state: [rebuild.rebuild(state, items, item_rounds)],
        Benchmark.VERIFY: lambda state: [rebuild.verify(state, items, item_rounds)],
    }
    found: dict[str, Any] = {"machine": machine()}
    with own_stack() as state:
        for name, measure in measures.items():
            if benchmark not in {name, Benchmark.ALL}:
                continue
            found[name.value] = [_told(name, row) for row in measure(state)]
            if not as_json:
                _show(name, found[name.value])
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        _err.print(", ".join(f"{name}: {value}" for name, value in found["machine"].items()), soft_wrap=True)


def machine() -> dict[str, Any]:
    """What was measured on, and when."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "database": _server_version(),
    }


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _server_version() -> str:
    command = [server_program(MARIADB), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[2]


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers, such as 1,8,64") from None


def _told(name: Benchmark, row: dict[str, Any]) -> dict[str, Any]:
    _err.print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items()), style="dim", soft_wrap=True)
    return row


def _show(name: Benchmark, rows: list[dict[str, Any]]) -> None:
    if len(rows) == 1:
        rows = [{"what": key.replace("_", " "), "measured": value} for key, value in rows[0].items()]
    table = Table(title=str(name), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
