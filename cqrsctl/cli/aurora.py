"""`cqrsctl aurora`: the cluster of the read model and its readers."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqrsctl import words
from cqrsctl.cli import autoscale, render
from cqrsctl.cli.completion import reader_names
from cqrsctl.cli.cost import a_month, amount, cost, price_note
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import DryRunOption, NoWaitOption, OutputOption, YesOption, of, operated, waiting
from cqrsctl.cli.render import Output
from cqrsctl.errors import UsageError

if TYPE_CHECKING:
    from cqrsctl.aurora.cluster import ClusterSpec, Instance
    from cqrsctl.aurora.maintenance import PendingAction
    from cqrsctl.aurora.operations import Aurora
    from cqrsctl.aws import ApiCall
    from cqrsctl.costs.monthly import Estimate
    from cqrsctl.diagnosis.cluster_status import ClusterStatus

app = group("Operate the read model's Aurora cluster and its readers.")
app.add_typer(autoscale.app, name="autoscale")

_MEMBER_COLUMNS = ("name", "role", "class", "zone", "status", "tier", "lag_seconds")


@app.command()
def create(
    ctx: typer.Context,
    instance_class: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The writer's class.  [default: db.r6g.large]")
    ] = None,
    serverless: Annotated[
        str | None, typer.Option(metavar="MIN-MAX", help="Aurora Serverless v2, in capacity units, as 0.5-16.")
    ] = None,
    engine_version: Annotated[
        str | None, typer.Option(metavar="V", help="The engine's version.  [default: AWS's default of Aurora MySQL 3]")
    ] = None,
    subnet_group: Annotated[str | None, typer.Option(metavar="NAME", help="The DB subnet group.")] = None,
    security_group: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A VPC security group; may be repeated.")
    ] = None,
    kms_key: Annotated[str | None, typer.Option(metavar="ARN", help="Encrypt the storage with this KMS key.")] = None,
    iam_auth: Annotated[bool, typer.Option("--iam-auth", help="Let users log in with IAM tokens.")] = False,
    deletion_protection: Annotated[
        bool | None, typer.Option(help="Protect the cluster from deletion.  [default: on, off in an embedded stack]")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; may be repeated.")] = None,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create the cluster and its writer; shows what they cost, and asks.

    Succeeds if they already exist with these settings.

    \b
    Examples:
      cqrsctl -e prod aurora create --subnet-group private --security-group sg-0a1b2c3d
      cqrsctl -e prod aurora create --serverless 0.5-16 --iam-auth --dry-run
    """
    from cqrsctl.aurora.cluster import CapacityRange, ClusterSpec
    from cqrsctl.cli.table import parse_tag
    from cqrsctl.read_model.grants import own_user

    if serverless is not None and instance_class not in {None, "db.serverless"}:
        raise UsageError("--serverless and --instance-class exclude one another.")
    environment = of(ctx).environment
    aurora = operated(ctx)
    spec = ClusterSpec(
        name=aurora.name,
        database=environment.database.name,
        instance_class=instance_class,
        capacity=None if serverless is None else CapacityRange.parse(serverless),
        engine_version=engine_version,
        subnet_group=subnet_group,
        security_groups=tuple(security_group or ()),
        kms_key=kms_key,
        iam_auth=iam_auth,
        deletion_protection=not environment.embedded if deletion_protection is None else deletion_protection,
        tags=tuple(parse_tag(text) for text in tag or ()),
    )
    if dry_run:
        return render.planned(output, aurora.plan(spec))
    if aurora.embedded is None and (calls := aurora.plan(spec)):
        _show_creation(ctx, aurora, spec)
        what = "creates cluster {} with" if spec.create_call() in calls else "adds to cluster {}"
        of(ctx).confirm(f"This {what.format(spec.name)} a writer of class {spec.writer_class}.", yes=yes)
    with waiting(ctx, aurora):
        created = aurora.create(spec, wait=not no_wait)
    of(ctx).note(
        f"Cluster {spec.name} is created." if created else f"Cluster {spec.name} already exists; nothing to do."
    )
    if created and aurora.embedded is None:
        of(ctx).note(
            "Its master user administers the server. Make a user for cqrsctl alone, and set database.user: "
            f"{own_user(spec.database, by_token=iam_auth)}"
        )
    if not no_wait:
        _show_status(ctx, aurora, output)
    return None


@app.command()
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show the cluster: members, roles, lag, autoscaling in force and what it did lately, pending maintenance.

    \b
    Example:
      cqrsctl aurora status -o json
    """
    aurora = operated(ctx)
    _show_status(ctx, aurora, output)


@app.command()
def endpoints(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """List the addresses: of the writer, of the readers together, and of each instance.

    \b
    Example:
      cqrsctl aurora endpoints
    """
    from cqrsctl.diagnosis.cluster_status import endpoints as listed

    found = listed(operated(ctx), of(ctx).wiring.servers)
    render.rows(output, ("name", "role", "address"), found)


@app.command()
def add_reader(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="The reader's name.  [default: the next free one]")] = None,
    instance_class: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Its class.  [default: the writer's]")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="AZ", help="Its availability zone.  [default: AWS chooses]")
    ] = None,
    tier: Annotated[int, typer.Option(min=0, max=15, help="Its turn in a failover; 0 is first.")] = 1,
    count: Annotated[int, typer.Option(min=1, max=15, help="Number of readers to add.")] = 1,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a reader, or several; shows what they are and cost, asks, and waits until they are there.

    \b
    Examples:
      cqrsctl aurora add-reader
      cqrsctl -e prod aurora add-reader reports --instance-class db.r6g.xlarge --zone eu-west-1b --tier 15
    """
    from cqrsctl.aurora.readers import ReaderSpec

    aurora = operated(ctx)
    spec = ReaderSpec(name, count, instance_class, zone, tier)
    calls = aurora.plan_readers(spec)
    if dry_run:
        return render.planned(output, calls)
    if not calls:
        of(ctx).note(f"Reader {name} already exists; nothing to do.")
        return _show_status(ctx, aurora, output)
    if aurora.embedded is None:
        _show_readers(ctx, aurora, calls)
        of(ctx).confirm(f"This adds {words.count(len(calls), 'reader')} to cluster {aurora.name}.", yes=yes)
    with waiting(ctx, aurora):
        aurora.add_readers(calls, wait=not no_wait)
    _show_status(ctx, aurora, output)
    return None


@app.command()
def remove_reader(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The reader's name.", show_default=False, autocompletion=reader_names)],
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a reader.

    \b
    Example:
      cqrsctl -e prod aurora remove-reader reports --yes
    """
    from cqrsctl.aurora.cluster import delete_instance_calls

    aurora = operated(ctx)
    reader, cluster = aurora.reader(name)
    if dry_run:
        return render.planned(output, delete_instance_calls(reader))
    last = " It is the last one: queries go to the writer then." if len(cluster.readers) == 1 else ""
    if aurora.embedded is None:
        of(ctx).confirm(f"This removes reader {reader.name} of cluster {cluster.name}.{last}", yes=yes)
    elif last:
        of(ctx).note(last.strip())
    if reader.autoscaled:
        of(ctx).note("Autoscaling made this reader; while it is on, it may make another.")
    with waiting(ctx, aurora):
        aurora.remove_reader(reader)
    _show_status(ctx, aurora, output)
    return None


@app.command()
def failover(
    ctx: typer.Context,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="READER", help="The new writer.  [default: of the lowest tier]", autocompletion=reader_names
        ),
    ] = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a reader the writer, wait until it takes writes, and show for how long writes were refused.

    \b
    Example:
      cqrsctl -e prod aurora failover --to reports --yes
    """
    from cqrsctl.aurora.cluster import failover_call
    from cqrsctl.pipeline import failover as operation

    aurora = operated(ctx)
    planned = operation.plan(aurora, to)
    if dry_run:
        return render.planned(output, [failover_call(planned.cluster, planned.to)])
    if aurora.embedded is None:
        target = planned.to or "a reader that AWS chooses"
        question = f"This makes {target} the writer instead of {planned.before}; writes are refused meanwhile."
        of(ctx).confirm(question, yes=yes)
    with waiting(ctx, aurora):
        outcome = operation.run(aurora, of(ctx).wiring.servers, planned)
    if outcome.refused_seconds is None:
        of(ctx).note("The database cannot be reached from here: for how long writes were refused is unknown.")
    refused = None if outcome.refused_seconds is None else round(outcome.refused_seconds, 3)
    render.one(output, {"before": outcome.before, "writer": outcome.after, "refused_seconds": refused})
    return None


@app.command()
def delete(
    ctx: typer.Context,
    final_snapshot: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep the data in a snapshot of this name.")
    ] = None,
    no_final_snapshot: Annotated[
        bool, typer.Option("--no-final-snapshot", help="Keep nothing: the data is gone for good.")
    ] = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete the cluster: its autoscaling, its readers, its writer, and its data unless a snapshot keeps it.

    \b
    Examples:
      cqrsctl -e prod aurora delete --final-snapshot products-last
      cqrsctl aurora delete --yes
    """
    aurora = operated(ctx)
    if final_snapshot and aurora.embedded:
        raise UsageError("An embedded stack keeps no snapshots.")
    if aurora.embedded is None:
        final_snapshot = _final_snapshot(final_snapshot, without=no_final_snapshot)
    calls = aurora.delete_calls(final_snapshot)
    if dry_run:
        return render.planned(output, calls)
    fate = f"Its data is kept in snapshot {final_snapshot}." if final_snapshot else "Its data is gone for good."
    count = sum(call.operation == "DeleteDBInstance" for call in calls)
    instances = words.count(count, "instance")
    of(ctx).confirm(f"Delete cluster {aurora.name} with its {instances}. {fate}", yes=yes, typed=aurora.name)
    with waiting(ctx, aurora):
        aurora.delete(final_snapshot, wait=not no_wait)
    of(ctx).note(f"Cluster {aurora.name} is deleted." if not no_wait else f"Cluster {aurora.name} is being deleted.")
    return None


def _final_snapshot(name: str | None, *, without: bool) -> str | None:
    """The snapshot's name, None for none; asked for if neither was said. Raises UsageError."""
    from cqrsctl.aurora.cluster import require_name

    if name is not None and without:
        raise UsageError("--final-snapshot and --no-final-snapshot exclude one another.")
    if name is None and not without:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(
                "What shall become of the cluster's data?", hint="Give --final-snapshot NAME or --no-final-snapshot."
            )
        name = render.answered("Keep the data in a snapshot of this name (empty: keep nothing)")
    return require_name(name, "snapshot") if name else None


app.command("cost")(cost)


def _show_creation(ctx: typer.Context, aurora: Aurora, spec: ClusterSpec) -> None:
    """Show what a new cluster costs a month before it is used."""
    from cqrsctl.costs import estimates

    invocation = of(ctx)
    asked = estimates.capacity_asked(spec, invocation.environment.table, aurora.rds.meta.region_name)
    month, book = estimates.creation(invocation.wiring, asked, datetime.now(UTC))
    invocation.note(f"Cost: {_known_or_why(month)}; storage, I/O and backups are charged by use. {price_note(book)}")


def _known_or_why(estimate: Estimate) -> str:
    reasons = "; ".join(dict.fromkeys(line.reason for line in estimate.lines if line.reason))
    return a_month(estimate) + (f" ({reasons})" if reasons else "")


def _show_readers(ctx: typer.Context, aurora: Aurora, calls: list[ApiCall]) -> None:
    """Show planned readers, and what each of them costs a month."""
    from cqrsctl.costs import estimates

    note, environment = of(ctx).note, of(ctx).environment
    for call in calls:
        note(", ".join(f"{name} {value}" for name, value in call.parameters.items()))
    capacity = estimates.capacity_of(aurora.cluster(), environment.table, aurora.rds.meta.region_name)
    found = estimates.reader(of(ctx).wiring, capacity, calls[0].parameters["DBInstanceClass"], datetime.now(UTC))
    monthly = f"{amount(found.line.monthly)} a month" if found.line.monthly else f"an unknown sum ({found.line.reason})"
    note(f"Each costs {monthly}, without the I/O that it causes. {price_note(found.prices)}")


def _show_status(ctx: typer.Context, aurora: Aurora, output: Output) -> None:
    from cqrsctl.diagnosis import cluster_status
    from cqrsctl.diagnosis.facts import Facts

    found = aurora.again(lambda: cluster_status.status(aurora, Facts(of(ctx).wiring, aurora.clock)))
    cluster, scaling = _described(found), autoscale.records(found.autoscaling)
    maintenance = [_maintenance(action) for action in found.maintenance]
    members = [_member(member, found.lags) for member in found.cluster.members]
    content = {"cluster": cluster, "members": members, "autoscaling": scaling, "activities": found.activities}
    if render.document(output, {**content, "maintenance": maintenance}, _MEMBER_COLUMNS, members):
        return
    render.one(output, cluster)
    render.line("")
    render.rows(output, _MEMBER_COLUMNS, members)
    for title, records in (
        ("Autoscaling", scaling),
        ("What autoscaling did", found.activities),
        ("Pending maintenance", maintenance),
    ):
        if records:
            render.line(f"\n{title}")
            render.rows(output, list(records[0]), records)


def _described(found: ClusterStatus) -> dict[str, Any]:
    cluster, support = found.cluster, found.support
    return {
        "name": cluster.name,
        "status": cluster.status,
        "version": cluster.version,
        "standard_support_until": str(support.standard_until) if support else None,
        "extended_support_until": str(support.extended_until) if support and support.extended_until else None,
        "writer": cluster.writer.name if cluster.writer else None,
        "readers": len(cluster.readers),
        "capacity": str(cluster.capacity) if cluster.capacity else None,
        "encrypted": cluster.encrypted,
        "deletion_protection": cluster.deletion_protection,
        "iam_auth": cluster.iam_auth,
        "backup_days": cluster.backup_days,
    }


def _maintenance(action: PendingAction) -> dict[str, Any]:
    return {
        "resource": action.resource,
        "action": action.action,
        "applied_at": action.applied_at,
        "description": action.description,
    }


def _member(member: Instance, lags: dict[str, float | None]) -> dict[str, Any]:
    lag = lags.get(member.name)
    return {
        "name": member.name,
        "role": member.role,
        "class": member.instance_class,
        "zone": member.zone,
        "status": member.status,
        "tier": member.tier,
        "lag_seconds": None if lag is None else round(lag, 3),
        "autoscaled": member.autoscaled,
    }
