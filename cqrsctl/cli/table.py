"""`cqrsctl table`: the write model's table and its stream."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cqrsctl.cli import render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import DryRunOption, OutputOption, YesOption, of
from cqrsctl.cli.render import Output
from cqrsctl.write_model import table as tables
from cqrsctl.write_model import table_changes

app = group("Create and manage the write model's table.")


class Billing(StrEnum):
    """How DynamoDB charges for the table."""

    ON_DEMAND = "on-demand"
    PROVISIONED = "provisioned"


@app.command()
def create(
    ctx: typer.Context,
    billing: Annotated[Billing, typer.Option(help="How capacity is paid for.")] = Billing.ON_DEMAND,
    read_capacity: Annotated[int, typer.Option(min=1, help="Read units a second (provisioned).")] = 5,
    write_capacity: Annotated[int, typer.Option(min=1, help="Write units a second (provisioned).")] = 5,
    stream: Annotated[bool, typer.Option(help="Switch the stream on, with new and old images.")] = True,
    pitr: Annotated[bool, typer.Option(help="Keep backups of the last 35 days, to the second.")] = True,
    deletion_protection: Annotated[
        bool | None, typer.Option(help="Protect the table from deletion.  [default: on, off in an embedded stack]")
    ] = None,
    kms_key: Annotated[str | None, typer.Option(metavar="ARN", help="Encrypt with this KMS key.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; may be repeated.")] = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create the table, with its stream; does nothing if it already exists with these settings.

    \b
    Examples:
      cqrsctl table create
      cqrsctl -e prod table create --tag team=shop --dry-run
    """
    invocation = of(ctx)
    environment = invocation.environment
    spec = tables.TableSpec(
        name=environment.table,
        on_demand=billing is Billing.ON_DEMAND,
        read_capacity=read_capacity,
        write_capacity=write_capacity,
        stream=stream,
        point_in_time_recovery=pitr,
        deletion_protection=not environment.embedded if deletion_protection is None else deletion_protection,
        kms_key=kms_key,
        tags=tuple(parse_tag(text) for text in tag or ()),
    )
    client, note = invocation.wiring.dynamodb, invocation.note

    def kms() -> Any:
        return invocation.wiring.client("kms")

    if dry_run:
        return render.planned(output, tables.plan(client, spec, note, kms))
    created = tables.create(client, spec, note, invocation.clock, kms=kms)
    note(f"Table {spec.name!r} is created." if created else f"Table {spec.name!r} already exists; nothing to do.")
    return _show(ctx, output)


@app.command("enable-stream")
def enable_stream(ctx: typer.Context, dry_run: DryRunOption = False, output: OutputOption = Output.TABLE) -> None:
    """Switch the stream on, with new and old images.

    \b
    Example:
      cqrsctl table enable-stream
    """
    invocation = of(ctx)
    client, name, clock = invocation.wiring.dynamodb, invocation.environment.table, invocation.clock
    if dry_run:
        return render.planned(output, table_changes.enable_stream_calls(tables.describe(client, name)))
    if calls := table_changes.enable_stream_calls(table_changes.settled(client, name, clock)):
        table_changes.make_in_turn(client, name, calls, clock)
        tables.wait_until_active(client, name, clock)
        invocation.note(
            f"The stream of table {name!r} is on. What changed while it was off is in no change record: if there is a "
            "read model, rebuild it with: cqrsctl rebuild"
        )
    else:
        invocation.note(f"The stream of table {name!r} is on already.")
    return _show(ctx, output)


@app.command("disable-stream")
def disable_stream(
    ctx: typer.Context,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Switch the stream off. Changes from then on are recorded nowhere.

    \b
    Example:
      cqrsctl table disable-stream --yes
    """
    invocation = of(ctx)
    client, name, clock = invocation.wiring.dynamodb, invocation.environment.table, invocation.clock
    if dry_run:
        return render.planned(output, table_changes.disable_stream_calls(tables.describe(client, name)))
    calls = table_changes.disable_stream_calls(table_changes.settled(client, name, clock))
    if not calls:
        invocation.note(f"The stream of table {name!r} is off already.")
        return _show(ctx, output)
    invocation.confirm(
        f"Switch off the stream of table {name!r}: changes from then on reach no read model, and the stream that "
        "is switched on later is another one.",
        yes=yes,
    )
    table_changes.make_in_turn(client, name, calls, clock)
    tables.wait_until_active(client, name, clock)
    invocation.note(f"The stream of table {name!r} is off.")
    return _show(ctx, output)


@app.command()
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the table: state, key, size, billing, stream, protection.

    \b
    Example:
      cqrsctl table status -o json
    """
    _show(ctx, output)


@app.command()
def delete(
    ctx: typer.Context,
    unprotect: Annotated[bool, typer.Option("--unprotect", help="Take deletion protection off first.")] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete the table with all its products.

    \b
    Example:
      cqrsctl table delete --yes
    """
    invocation = of(ctx)
    client, name, clock = invocation.wiring.dynamodb, invocation.environment.table, invocation.clock
    table = tables.describe(client, name)
    calls = table_changes.delete_calls(table, unprotect=unprotect)
    if dry_run:
        return render.planned(output, calls)
    invocation.confirm(f"Delete table {name!r} with about {table.items} items, for good.", yes=yes, typed=name)
    table_changes.make_in_turn(client, name, calls, clock)
    tables.wait_until_gone(client, name, clock)
    invocation.note(f"Table {name!r} is deleted.")
    return render.outcome(output, {"name": name, "deleted": True})


def _show(ctx: typer.Context, output: Output) -> None:
    client = of(ctx).wiring.dynamodb
    table = tables.describe(client, of(ctx).environment.table)
    recovery = tables.recovery_enabled(client, table.name)
    capacity = "" if table.on_demand else f" ({table.read_capacity} read, {table.write_capacity} write units)"
    render.one(
        output,
        {
            "name": table.name,
            "status": table.status,
            "key": ", ".join(f"{name} ({kind})" for name, kind in table.key),
            "items": table.items,
            "bytes": table.bytes,
            "billing": ("on-demand" if table.on_demand else "provisioned") + capacity,
            "stream": table.view_type or "off",
            "stream_arn": table.stream_arn,
            "point_in_time_recovery": recovery,
            "deletion_protection": table.deletion_protection,
            "arn": table.arn,
        },
    )


def parse_tag(text: str) -> tuple[str, str]:
    """A tag as it is typed. Raises typer.BadParameter."""
    key, found, value = text.partition("=")
    if not found or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value
