"""`cqrsctl query`: reads on the read model."""

from __future__ import annotations

import random
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import columns, render
from cqrsctl.cli.completion import column_names
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of, parse_duration
from cqrsctl.cli.render import Output
from cqrsctl.cli.view_options import (
    PRODUCT,
    ProjectionOption,
    WhereOption,
    chosen_projection,
    column_of,
    conditions,
)
from cqrsctl.errors import CqrsctlError, UsageError
from cqrsctl.read_model import paging, query
from cqrsctl.read_model.conditions import Comparison, Condition, pattern_of, value_of
from cqrsctl.read_model.endpoints import Wanted, reading
from cqrsctl.write_model.product import price

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection

app = group("Query the read model.")

NameOption = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Only products whose name contains this, or matches it if it has a %."),
]
MinOption = Annotated[str | None, typer.Option(metavar="DECIMAL", help="Only products of this price or more.")]
MaxOption = Annotated[str | None, typer.Option(metavar="DECIMAL", help="Only products of this price or less.")]
StockOption = Annotated[
    bool | None, typer.Option("--out-of-stock/--in-stock", help="Only products that are sold out, or available.")
]


class Source(StrEnum):
    """Which servers are queried."""

    READERS = "readers"
    WRITER = "writer"


FromOption = Annotated[
    Source, typer.Option("--from", help="Query a reader (the writer if there is none), or always the writer.")
]
StalenessOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Only a reader that is no further behind than this, else the writer."),
]


@app.command("list")
def list_(
    ctx: typer.Context,
    projection: ProjectionOption = None,
    where: WhereOption = None,
    name_like: NameOption = None,
    min_price: MinOption = None,
    max_price: MaxOption = None,
    out_of_stock: StockOption = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|-COLUMN",
            help="The order; - for descending.  [default: by key]",
            autocompletion=column_names,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="The most rows of a page.")] = 50,
    after: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="The next page, by the token that the page before it printed.")
    ] = None,
    from_: FromOption = Source.READERS,
    max_staleness: StalenessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List a view's rows, a page at a time; stderr names the token of the next page.

    Text other than keys is compared without regard to case.

    \b
    Examples:
      cqrsctl query list --max-price 20 --in-stock --sort -Price --limit 10
      cqrsctl query list --where "Price<=20" --where OutOfStock=false -o json
      cqrsctl query list --projection product --where Name= --sort Name
    """
    view = chosen_projection(of(ctx).environment.projections, projection)
    wanted = conditions(view, where or ()) + _of_products(view, name_like, min_price, max_price, out_of_stock)
    order = paging.Order(view.keys[0])
    if sort is not None:
        order = paging.Order(column_of(view, sort.removeprefix("-"), "--sort"), sort.startswith("-"))
    with _connected(ctx, from_, max_staleness) as connection:
        rows, token = paging.PageQuery(view, wanted, order, limit, after).run(connection)
    render.rows(output, [column.name for column in view.columns], map(_shown, rows))
    if token:
        of(ctx).note(f"There are more: --after {token}")


@app.command()
def get(
    ctx: typer.Context,
    key: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY", help="The value of each key column, in order; after -- if negative.", show_default=False
        ),
    ],
    projection: ProjectionOption = None,
    from_: FromOption = Source.READERS,
    max_staleness: StalenessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read one row of a view by its key.

    \b
    Examples:
      cqrsctl query get 42 -o json
      cqrsctl query get 42 --projection product --from writer
    """
    view = chosen_projection(of(ctx).environment.projections, projection)
    if len(key) != len(view.keys):
        names = ", ".join(column.name for column in view.keys)
        raise UsageError(
            f"The key of view {view.view} is {names}: {words.count(len(view.keys), 'value')}, not {len(key)}."
        )
    values = [value_of(column, text) for column, text in zip(view.keys, key, strict=True)]
    with _connected(ctx, from_, max_staleness) as connection:
        row = paging.get(connection, view, values)
    if row is None:
        named = ", ".join(f"{column.name} {text}" for column, text in zip(view.keys, key, strict=True))
        raise CqrsctlError(f"View {view.view} has no row with {named}.", code="not_found")
    render.one(output, _shown(row))


@app.command()
def count(
    ctx: typer.Context,
    projection: ProjectionOption = None,
    where: WhereOption = None,
    name_like: NameOption = None,
    min_price: MinOption = None,
    max_price: MaxOption = None,
    out_of_stock: StockOption = None,
    from_: FromOption = Source.READERS,
    max_staleness: StalenessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Count a view's rows, with the same conditions as `list`.

    \b
    Examples:
      cqrsctl query count --out-of-stock
      cqrsctl query count --where "Price>100"
    """
    view = chosen_projection(of(ctx).environment.projections, projection)
    wanted = conditions(view, where or ()) + _of_products(view, name_like, min_price, max_price, out_of_stock)
    with _connected(ctx, from_, max_staleness) as connection:
        number = paging.count(connection, view, wanted)
    if output is Output.TABLE and not columns.chosen():
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
        distinct = _distinct(names)
        render.rows(output, distinct, (dict(zip(distinct, row, strict=True)) for _, row in results if row is not None))


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


def _of_products(
    view: Projection, name_like: str | None, min_price: str | None, max_price: str | None, out_of_stock: bool | None
) -> list[Condition]:
    """The conditions of the options that are for products. Raises UsageError if the view is of something else."""
    lowest = None if min_price is None else price(min_price, "--min-price")
    highest = None if max_price is None else price(max_price, "--max-price")
    if lowest is not None and highest is not None and lowest > highest:
        raise UsageError(f"--min-price {lowest} is above --max-price {highest}.")
    given = [
        ("--name-like", "Name", Comparison.LIKE, None if name_like is None else pattern_of(name_like)),
        ("--min-price", "Price", Comparison.AT_LEAST, lowest),
        ("--max-price", "Price", Comparison.AT_MOST, highest),
        ("--out-of-stock" if out_of_stock else "--in-stock", "OutOfStock", Comparison.EQUAL, out_of_stock),
    ]
    used = [each for each in given if each[-1] is not None]
    if used and view.name != PRODUCT:
        raise UsageError(
            f"{used[0][0]} is for projection {PRODUCT}, not {view.name}.",
            hint=f"Use --where with a column: {', '.join(column.name for column in view.columns)}.",
        )
    return [Condition(column_of(view, name, option), comparison, value) for option, name, comparison, value in used]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _with_digits(value) for name, value in row.items()}


def _with_digits(value: Any) -> Any:
    """A decimal without the zeros that only fill its column, but two decimals if the column has them: 19.90."""
    has_cents = isinstance(value, Decimal) and int(value.as_tuple().exponent) <= -2
    return render.money(value) if has_cents else value


def _distinct(names: list[str]) -> list[str]:
    """Column names as keys of an object: a name that comes again gets a number."""
    return [name if name not in names[:index] else f"{name}_{index + 1}" for index, name in enumerate(names)]
