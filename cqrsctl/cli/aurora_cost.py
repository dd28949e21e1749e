"""`cqrsctl aurora cost`: what the pipeline costs a month."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl.cli import render
from cqrsctl.cli.invocation import OutputOption, of
from cqrsctl.cli.render import Output
from cqrsctl.costs import quantities

if TYPE_CHECKING:
    from cqrsctl.costs.monthly import Capacity, CostLine, Estimate, PriceBook, Range
    from cqrsctl.costs.quantities import Costs

_MOST = 10**9
_MOST_DECIMALS = 9
_MOST_POLLS = 10
_SHOWN = ("what", "quantity", "unit", "price", "a_month", "source")
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
_SCOPE = "On demand, without free allowances, discounts and taxes; backups and data transfer are not counted."


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


def cost_command(capacity_of: Callable[[typer.Context], Capacity]) -> Callable[..., None]:
    """The command. `capacity_of` describes the cluster as it stands."""

    def cost(
        ctx: typer.Context,
        storage_gb: Annotated[Decimal | None, _option(_amount, "Stored in the cluster.  [default: CloudWatch]")] = None,
        io_millions: Annotated[
            Decimal | None, _option(_amount, "Storage I/O requests a month.  [default: CloudWatch]")
        ] = None,
        writes_millions: Annotated[
            Decimal | None, _option(_amount, "The table's write units a month.  [default: CloudWatch]")
        ] = None,
        shards: Annotated[
            int | None,
            typer.Option(
                min=0, max=10**6, metavar="N", help="Shards that are read.  [default: the stream's open ones]"
            ),
        ] = None,
        polls_per_second: Annotated[
            Decimal,
            _option(_polls, "Reads of a shard: 1 while it is quiet, 5 while changes come, 0 where only Lambda reads."),
        ] = Decimal(1),
        lambda_requests_millions: Annotated[
            Decimal | None, _option(_amount, "Invocations of the functions a month.  [default: CloudWatch]")
        ] = None,
        lambda_gb_seconds: Annotated[
            Decimal | None, _option(_amount, "Their memory times duration a month.  [default: CloudWatch]")
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show what the pipeline costs a month: as it stands, and with one reader more.

        Quantities are read from CloudWatch's last 30 days where they are not given; prices come from the AWS Price
        List, else from a dated table. What is not known is said, not guessed.

        \b
        Examples:
          cqrsctl aurora cost
          cqrsctl aurora cost --storage-gb 200 --io-millions 50 --polls-per-second 0 -o json
        """
        invocation = of(ctx)
        given = quantities.Given(
            polls_per_second=polls_per_second,
            storage_gb=storage_gb,
            io_millions=io_millions,
            writes_millions=writes_millions,
            shards=shards,
            lambda_requests_millions=lambda_requests_millions,
            lambda_gb_seconds=lambda_gb_seconds,
        )
        found = quantities.estimate(invocation.wiring, capacity_of(ctx), given, datetime.now(UTC))
        invocation.note(price_note(found.prices))
        invocation.note(_SCOPE)
        _show(output, found)

    return cost


def price_note(book: PriceBook) -> str:
    """Where prices come from, of which day and region, and why not from AWS itself."""
    dated = (
        f"{book.source}, {book.region}, {book.date}" if book.date else f"none; the {book.source} has no {book.region}"
    )
    return f"Prices: {dated}." + (f" Not from AWS: {book.reason.rstrip('.')}." if book.reason else "")


def amount(value: Range) -> str:
    """Dollars, or from the least to the most."""
    low, high = (f"${render.money(cents):,}" for cents in (value.low, value.high))
    return low if low == high else f"{low} – {high}"


def _show(output: Output, found: Costs) -> None:
    estimates = {"now": found.now, "with_reader": found.with_reader}
    if output is Output.TABLE:
        render.rows(output, _SHOWN, [_shown(line) for line in found.now.lines])
        render.line("")
        render.line(_total("now", found.now))
        if found.with_reader is None:
            render.line("with one reader more: unknown, the cluster has no writer")
        else:
            render.line(_total(f"with one reader more ({found.capacity.writer_class})", found.with_reader))
    elif output is Output.JSON:
        book = found.prices
        document = {
            "cluster": found.capacity.cluster_id,
            "region": found.capacity.region,
            "currency": "USD",
            "prices": {
                "source": book.source,
                "region": book.region,
                "date": str(book.date) if book.date else None,
                "reason": book.reason or None,
            },
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
    return {
        "what": line.what,
        "quantity": "unknown" if line.quantity is None else _quantity(line.quantity),
        "unit": line.unit,
        "price": "unknown" if line.unit_price is None else f"${render.money(line.unit_price)}",
        "a_month": "unknown" if line.monthly is None else amount(line.monthly),
        "source": "; ".join(filter(None, (line.source, line.reason))),
    }


def _total(what: str, estimate: Estimate) -> str:
    if not estimate.without:
        return f"{what}: {amount(estimate.total)} a month"
    return f"{what}: at least {amount(estimate.total)} a month, without {', '.join(estimate.without)}"


def _document(estimate: Estimate) -> dict[str, Any]:
    return {
        "lines": [_record(line) for line in estimate.lines],
        "total_low": estimate.total.low,
        "total_high": estimate.total.high,
        "without": estimate.without,
    }


def _lines(estimate: Estimate) -> list[dict[str, Any]]:
    total = {"what": "total", "monthly_low": estimate.total.low, "monthly_high": estimate.total.high}
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
