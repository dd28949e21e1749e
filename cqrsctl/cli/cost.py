"""`cqrsctl cost`: what the pipeline costs a month."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import columns, render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of, operated
from cqrsctl.cli.render import Output
from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.costs.estimates import Costs
    from cqrsctl.costs.monthly import Capacity, CostLine, Estimate, PriceBook, Range

app = group("Show what the pipeline costs a month.")

_MOST = 10**9
_MOST_DECIMALS = 9
_MOST_POLLS = 10
_SHOWN = ("what", "quantity_and_price", "a_month")
_COLUMNS = (
    "estimate",
    "what",
    "quantity_low",
    "quantity_high",
    "unit",
    "unit_price",
    "monthly_low",
    "monthly_high",
    "source",
    "reason",
)
_TERMS = "On demand, without free allowances, discounts and taxes."


def _amount(given: str | Decimal) -> Decimal:
    try:
        value = Decimal(str(given))
    except InvalidOperation:
        raise typer.BadParameter(f"{given!r} is not a number") from None
    if not value.is_finite() or not 0 <= value <= _MOST:
        raise typer.BadParameter(f"{given!r} is not in the range from 0 to {_MOST}")
    if value != round(value, _MOST_DECIMALS):
        raise typer.BadParameter(f"{given!r} has more than {_MOST_DECIMALS} decimals")
    return value


def _polls(given: str | Decimal) -> Decimal:
    value = _amount(given)
    if value > _MOST_POLLS:
        raise typer.BadParameter(f"{given!r} is more than AWS allows ({_MOST_POLLS}, of two readers)")
    return value


def _option(parser: Callable[[str | Decimal], Decimal], text: str) -> Any:
    return typer.Option(parser=parser, metavar="N", help=text)


@app.command()
def cost(
    ctx: typer.Context,
    budget: Annotated[
        Decimal | None,
        typer.Option(
            parser=_amount,
            metavar="AMOUNT",
            help="Exit 1 if a month costs more, in USD, or may cost more because a part is unknown.",
        ),
    ] = None,
    storage_gb: Annotated[Decimal | None, _option(_amount, "Stored in the cluster.  [default: CloudWatch]")] = None,
    io_millions: Annotated[
        Decimal | None, _option(_amount, "Storage I/O requests a month.  [default: CloudWatch]")
    ] = None,
    table_gb: Annotated[Decimal | None, _option(_amount, "Stored in the table.  [default: its size]")] = None,
    writes_millions: Annotated[
        Decimal | None, _option(_amount, "The table's write units a month.  [default: CloudWatch]")
    ] = None,
    reads_millions: Annotated[
        Decimal | None, _option(_amount, "The table's read units a month.  [default: CloudWatch]")
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(min=0, max=10**6, metavar="N", help="Shards that are read.  [default: the stream's open ones]"),
    ] = None,
    polls_per_second: Annotated[
        Decimal,
        _option(_polls, "Reads of a shard: 1 while it is quiet, 5 while changes come, 0 if only Lambda reads."),
    ] = Decimal(1),
    lambda_requests_millions: Annotated[
        Decimal | None, _option(_amount, "Invocations of the functions a month.  [default: CloudWatch]")
    ] = None,
    lambda_gb_seconds: Annotated[
        Decimal | None, _option(_amount, "Their memory times duration a month.  [default: CloudWatch]")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what the pipeline costs a month.

    It is priced as it stands, and with one reader more. Quantities that are not given are read from CloudWatch's last
    30 days and from the parts themselves; prices come from the AWS Price List, else from a dated table. What is unknown
    is called so, and what is not counted is named.

    `cqrsctl aurora cost` is the same command.

    \b
    Examples:
      cqrsctl cost
      cqrsctl -e prod cost --budget 500
      cqrsctl -e prod aurora cost --storage-gb 200 --io-millions 50 --polls-per-second 0 -o json
    """
    from cqrsctl.costs import estimates
    from cqrsctl.costs.quantities import Given

    invocation = of(ctx)
    if invocation.environment.embedded:
        found = estimates.OF_NOTHING
        invocation.note("An embedded environment costs nothing: it runs on this machine.")
    else:
        given = Given(
            polls_per_second=polls_per_second,
            storage_gb=storage_gb,
            io_millions=io_millions,
            table_gb=table_gb,
            writes_millions=writes_millions,
            reads_millions=reads_millions,
            shards=shards,
            lambda_requests_millions=lambda_requests_millions,
            lambda_gb_seconds=lambda_gb_seconds,
        )
        found = estimates.estimate(invocation.wiring, capacity(ctx), given, datetime.now(UTC))
        if found.prices:
            invocation.note(price_note(found.prices))
        invocation.note(f"{_TERMS} Not counted: {', '.join(found.not_counted)}.")
    _show(output, found, budget)
    _require(found.now, budget)


def capacity(ctx: typer.Context) -> Capacity:
    """What of the cluster costs money, as it stands; of none if the environment names none."""
    from cqrsctl.costs.estimates import capacity_of

    invocation = of(ctx)
    environment = invocation.environment
    region = invocation.wiring.client("rds").meta.region_name
    cluster = None if environment.own_cluster is None else operated(ctx).cluster()
    return capacity_of(cluster, environment.table, region)


def _require(estimate: Estimate, budget: Decimal | None) -> None:
    """Raises CqrsctlError unless the budget is kept for certain."""
    if budget is None or (kept := estimate.keeps(budget)) is True:
        return
    limit = words.dollars(budget)
    if kept is False:
        raise CqrsctlError(
            f"The pipeline costs {a_month(estimate)}, more than the budget of {limit}.", code="over_budget"
        )
    known = "no part of the pipeline has a price" if estimate.total is None else f"it costs {a_month(estimate)}"
    raise CqrsctlError(
        f"Whether the pipeline keeps the budget of {limit} is unknown: {known}.",
        hint="Give the quantities that are unknown, for example: cqrsctl cost --storage-gb 20",
        code="budget_unknown",
    )


def price_note(book: PriceBook) -> str:
    """Where prices come from, of which day and region, and why not from AWS itself."""
    dated = (
        f"{book.source}, {book.region}, {book.date}" if book.date else f"none; the {book.source} has no {book.region}"
    )
    return f"Prices: {dated}." + (f" Not from AWS: {book.reason.rstrip('.')}." if book.reason else "")


def amount(value: Range) -> str:
    """Dollars, or from the least to the most."""
    low, high = words.dollars(value.low), words.dollars(value.high)
    return low if low == high else f"{low} – {high}"


def a_month(estimate: Estimate) -> str:
    """The total in words, with what is unknown of it."""
    if estimate.total is None:
        return "unknown"
    without = f", without {', '.join(estimate.without)}" if estimate.without else ""
    return f"{'at least ' if without else ''}{amount(estimate.total)} a month{without}"


def _show(output: Output, found: Costs, budget: Decimal | None) -> None:
    estimates = {"now": found.now, "with_reader": found.with_reader}
    if output is Output.TABLE and not columns.chosen():
        if found.now.lines:
            render.rows(output, _SHOWN, [_shown(line) for line in found.now.lines])
            render.text(f"\n{_sources(found.now.lines)}\n")
        render.text(f"now: {a_month(found.now)}")
        if found.with_reader and found.capacity:
            render.text(f"with one reader more ({found.capacity.writer_class}): {a_month(found.with_reader)}")
        elif found.capacity and found.capacity.cluster_id:
            render.text("with one reader more: unknown, the cluster has no writer")
    elif output in {Output.JSON, Output.YAML} and not columns.chosen():
        document = {
            "cluster": found.capacity.cluster_id if found.capacity else None,
            "region": found.capacity.region if found.capacity else None,
            "currency": "USD",
            "prices": _source(found.prices) if found.prices else None,
            "not_counted": found.not_counted,
            **({} if budget is None else {"budget": budget, "budget_kept": found.now.keeps(budget)}),
            **{name: _document(estimate) if estimate else None for name, estimate in estimates.items()},
        }
        render.one(output, document)
    else:
        render.rows(
            output,
            _COLUMNS,
            [
                {"estimate": name, **line}
                for name, estimate in estimates.items()
                if estimate
                for line in _lines(estimate)
            ],
        )


def _shown(line: CostLine) -> dict[str, Any]:
    quantity = "unknown" if line.quantity is None else _quantity(line.quantity)
    price = "unknown price" if line.unit_price is None else words.dollars(line.unit_price)
    return {
        "what": line.what,
        "quantity_and_price": f"{quantity} {line.unit} × {price}",
        "a_month": "unknown" if line.monthly is None else amount(line.monthly),
    }


def _sources(lines: Sequence[CostLine]) -> str:
    """Where the quantities come from, and what of them is unknown, each with the lines that it is about."""
    about: dict[str, list[str]] = {}
    for line in lines:
        about.setdefault("; ".join(filter(None, (line.source, line.reason))), []).append(line.what)
    return "\n".join(f"{', '.join(named)}: {source}" for source, named in about.items() if source)


def _source(book: PriceBook) -> dict[str, Any]:
    return {
        "source": book.source,
        "region": book.region,
        "date": str(book.date) if book.date else None,
        "reason": book.reason or None,
    }


def _document(estimate: Estimate) -> dict[str, Any]:
    return {
        "lines": [_record(line) for line in estimate.lines],
        "total_low": estimate.total.low if estimate.total else None,
        "total_high": estimate.total.high if estimate.total else None,
        "without": estimate.without,
    }


def _lines(estimate: Estimate) -> list[dict[str, Any]]:
    low, high = (estimate.total.low, estimate.total.high) if estimate.total else (None, None)
    total = {"what": "total", "monthly_low": low, "monthly_high": high}
    reason = f"without {', '.join(estimate.without)}" if estimate.without else None
    return [*map(_record, estimate.lines), {**dict.fromkeys(_COLUMNS[1:]), **total, "reason": reason}]


def _record(line: CostLine) -> dict[str, Any]:
    return {
        "what": line.what,
        "quantity_low": _trimmed(line.quantity.low) if line.quantity else None,
        "quantity_high": _trimmed(line.quantity.high) if line.quantity else None,
        "unit": line.unit,
        "unit_price": render.money(line.unit_price),
        "monthly_low": line.monthly.low if line.monthly else None,
        "monthly_high": line.monthly.high if line.monthly else None,
        "source": line.source or None,
        "reason": line.reason or None,
    }


def _quantity(value: Range) -> str:
    low, high = (f"{_trimmed(number):,}" for number in (value.low, value.high))
    return low if low == high else f"{low} – {high}"


def _trimmed(value: Decimal) -> Decimal:
    """Without zeros that say nothing, and without an exponent."""
    text = format(value, "f")
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)
