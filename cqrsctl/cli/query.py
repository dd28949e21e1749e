"""`cqrsctl query`: reads on the read model."""

from __future__ import annotations

import random
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl.cli import render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of, parse_duration
from cqrsctl.cli.render import Output
from cqrsctl.errors import CqrsctlError, UsageError
from cqrsctl.read_model import query
from cqrsctl.read_model.endpoints import Wanted, reading
from cqrsctl.write_model.product import price, product_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection

app = group("Query the read model.")

NameOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only names that contain this (or match it, with % in it).")
]
MinOption = Annotated[str | None, typer.Option(metavar="DECIMAL", help="Only from this price on.")]
MaxOption = Annotated[str | None, typer.Option(metavar="DECIMAL", help="Only up to this price.")]
StockOption = Annotated[
    bool | None, typer.Option("--out-of-stock/--in-stock", help="Only sold out, or only available.")
]


class Source(StrEnum):
    """Who answers."""

    READERS = "readers"
    WRITER = "writer"


FromOption = Annotated[
    Source, typer.Option("--from", help="Who answers: a reader, or the writer where there is none; or the writer.")
]
StalenessOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Only a reader that is no further behind than this, else the writer."),
]


@app.command("list")
def list_(
    ctx: typer.Context,
    name_like: NameOption = None,
    min_price: MinOption = None,
    max_price: MaxOption = None,
    out_of_stock: StockOption = None,
    sort: Annotated[str | None, typer.Option(metavar="COLUMN|-COLUMN", help="The order; - for descending.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many rows.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="TOKEN", help="Go on after the page that gave this.")] = None,
    from_: FromOption = Source.READERS,
    max_staleness: StalenessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List products, a page at a time; stderr names the token of the next page.

    \b
    Examples:
      cqrsctl query list --max-price 20 --in-stock --sort -Price --limit 10
      cqrsctl query list --name-like lamp -o json
    """
    projection = _projection(ctx)
    listing = query.ListQuery(
        projection=projection,
        filters=_filters(name_like, min_price, max_price, out_of_stock),
        sort=sort or projection.keys[0].name,
        limit=limit,
        after=after,
    )
    with _connected(ctx, from_, max_staleness) as connection:
        rows, token = listing.run(connection)
    render.rows(output, [column.name for column in projection.columns], map(_shown, rows))
    if token:
        of(ctx).note(f"There are more: --after {token}")


@app.command()
def get(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The ProductId.", show_default=False)],
    from_: FromOption = Source.READERS,
    max_staleness: StalenessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read one product from the read model.

    \b
    Example:
      cqrsctl query get 42 -o json
    """
    number = product_id(id)
    with _connected(ctx, from_, max_staleness) as connection:
        row = query.get(connection, _projection(ctx), number)
    if row is None:
        raise CqrsctlError(f"The read model has no product {number}.", code="not_found")
    render.one(output, _shown(row))


@app.command()
def count(
    ctx: typer.Context,
    name_like: NameOption = None,
    min_price: MinOption = None,
    max_price: MaxOption = None,
    out_of_stock: StockOption = None,
    from_: FromOption = Source.READERS,
    max_staleness: StalenessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Count products, with the same filters as `list`.

    \b
    Example:
      cqrsctl query count --out-of-stock
    """
    filters = _filters(name_like, min_price, max_price, out_of_stock)
    with _connected(ctx, from_, max_staleness) as connection:
        number = query.count(connection, _projection(ctx), filters)
    if output is Output.TABLE:
        render.line(str(number))
    else:
        render.one(output, {"count": number})


@app.command()
def sql(
    ctx: typer.Context,
    statement: Annotated[str, typer.Argument(metavar="SELECT", help="One query.", show_default=False)],
    from_: FromOption = Source.READERS,
    max_staleness: StalenessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run one query in SQL, in a read-only transaction.

    \b
    Example:
      cqrsctl query sql "SELECT OutOfStock, COUNT(*), AVG(Price) FROM Product GROUP BY OutOfStock"
    """
    with _connected(ctx, from_, max_staleness) as connection:
        results = query.read_only(connection, statement)
        names, _ = next(results)
        columns = _distinct(names)
        render.rows(output, columns, (dict(zip(columns, row, strict=True)) for _, row in results if row is not None))


@contextmanager
def _connected(ctx: typer.Context, source: Source, max_staleness: str | None) -> Iterator[Connection]:
    invocation = of(ctx)
    most = None if max_staleness is None else parse_duration(max_staleness).total_seconds()
    if most is not None and source is Source.WRITER:
        raise UsageError("--max-staleness is for readers: the writer is never stale.")
    wanted = Wanted(source is Source.WRITER, most)
    with reading(
        invocation.wiring.servers, wanted, random.SystemRandom(), measured=invocation.verbosity > 0
    ) as connection:
        yield connection


def _projection(ctx: typer.Context) -> Projection:
    """The projection that products are queried from: `product`, else the first declared."""
    projections = of(ctx).environment.projections
    return next((projection for projection in projections if projection.name == "product"), projections[0])


def _filters(
    name_like: str | None, min_price: str | None, max_price: str | None, out_of_stock: bool | None
) -> query.Filters:
    lowest = None if min_price is None else price(min_price, "--min-price")
    highest = None if max_price is None else price(max_price, "--max-price")
    if lowest is not None and highest is not None and lowest > highest:
        raise UsageError(f"--min-price {lowest} is above --max-price {highest}.")
    return query.Filters(name_like, lowest, highest, out_of_stock)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: render.money(value) for name, value in row.items()}


def _distinct(names: list[str]) -> list[str]:
    """Column names as keys of an object: a name that comes again gets a number."""
    return [name if name not in names[:index] else f"{name}_{index + 1}" for index, name in enumerate(names)]
