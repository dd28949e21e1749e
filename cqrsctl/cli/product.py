"""`cqrsctl product`: commands on the write model."""

from __future__ import annotations

import os
import shlex
import stat
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from cqrsctl import words
from cqrsctl.cli import render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import DryRunOption, OutputOption, of
from cqrsctl.cli.render import Output
from cqrsctl.cli.wait_option import TimeoutOption, WaitCommand, WaitOption, timeout_seconds, wait_for
from cqrsctl.codec import decode_item
from cqrsctl.errors import CqrsctlError, UsageError
from cqrsctl.write_model import import_rows, products, table
from cqrsctl.write_model import sample as samples
from cqrsctl.write_model.import_rows import Format
from cqrsctl.write_model.importing import Importer, ImportProgress
from cqrsctl.write_model.product import FIELDS, attributes, product, product_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cqrsctl.aws import ApiCall
app = group("Put, update, get, delete and import products.")

_WORKERS = 8

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The ProductId: 0 to 2⁶³-1.", show_default=False)]


@app.command(cls=WaitCommand)
def put(
    ctx: typer.Context,
    id: IdArgument,
    name: Annotated[str, typer.Option(help="The name, up to 255 characters.", show_default=False)],
    price: Annotated[str, typer.Option(metavar="DECIMAL", help="The price, like 19.90.", show_default=False)],
    out_of_stock: Annotated[bool, typer.Option("--out-of-stock/--in-stock", help="Whether it is sold out.")] = False,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only if there is no such product yet.")] = False,
    if_exists: Annotated[bool, typer.Option("--if-exists", help="Only if there is one already.")] = False,
    via_function: Annotated[
        bool, typer.Option("--via-function", help="Send it through the deployed ProductCommandFunction.")
    ] = False,
    wait: WaitOption = None,
    timeout: TimeoutOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put one product into the table, whole.

    With --wait (alone: on the writer) it ends once the read model shows the product as it is. Exit 8 if that takes
    too long; the product is put all the same.

    \b
    Examples:
      cqrsctl product put 42 --name "Oak Desk Lamp" --price 19.90
      cqrsctl product put 42 --name "Oak Desk Lamp" --price 19.90 --wait readers
    """
    seconds = timeout_seconds(wait, timeout)
    if if_absent and if_exists:
        raise UsageError("--if-absent and --if-exists exclude each other.")
    entry = product({"ProductId": id, "Name": name, "Price": price, "OutOfStock": out_of_stock})
    existence = products.Existence.ANY
    if if_absent or if_exists:
        existence = products.Existence.ABSENT if if_absent else products.Existence.EXISTS
    command = products.Put(of(ctx).environment.table, entry, existence)
    if dry_run:
        if not via_function:
            command.check(of(ctx).wiring.dynamodb)
        return render.planned(output, [_function_call(command) if via_function else command.call()])
    outcome = _put_via_function(ctx, command) if via_function else f"{command.make(of(ctx).wiring.dynamodb)}."
    of(ctx).note(f"Product {entry.product_id} is {outcome}")
    render.one(output, _shown(entry.fields()))
    return wait_for(ctx, entry.product_id, wait, seconds)


@app.command(cls=WaitCommand)
def update(
    ctx: typer.Context,
    id: IdArgument,
    name: Annotated[str | None, typer.Option(help="The new name, up to 255 characters.", show_default=False)] = None,
    price: Annotated[
        str | None, typer.Option(metavar="DECIMAL", help="The new price, like 19.90.", show_default=False)
    ] = None,
    out_of_stock: Annotated[
        bool | None, typer.Option("--out-of-stock/--in-stock", help="Whether it is sold out.", show_default=False)
    ] = None,
    wait: WaitOption = None,
    timeout: TimeoutOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Update one product that exists: what is named changes, all else stays as it is.

    With --wait (alone: on the writer) it ends once the read model shows the product as it is. Exit 8 if that takes
    too long; the product is updated all the same.

    \b
    Examples:
      cqrsctl product update 42 --price 17.90
      cqrsctl product update 42 --out-of-stock --wait readers
    """
    seconds = timeout_seconds(wait, timeout)
    named = {"Name": name, "Price": price, "OutOfStock": out_of_stock}
    changed = attributes({what: value for what, value in named.items() if value is not None})
    if not changed:
        raise UsageError("Nothing to update.", hint="Name --name, --price, --out-of-stock or --in-stock.")
    number = product_id(id)
    command = products.Update(of(ctx).environment.table, number, changed)
    if dry_run:
        command.check(of(ctx).wiring.dynamodb)
        return render.planned(output, [command.call()])
    item = command.make(of(ctx).wiring.dynamodb)
    of(ctx).note(f"Product {number} is updated.")
    render.one(output, _shown(decode_item(item)))
    return wait_for(ctx, number, wait, seconds)


def _function_call(command: products.Put) -> ApiCall:
    from cqrsctl.pipeline import function_operations

    return function_operations.put_call(command.product, command.existence)


def _put_via_function(ctx: typer.Context, command: products.Put) -> str:
    from cqrsctl.pipeline import function_operations

    answer = function_operations.put_via_function(of(ctx).wiring, _function_call(command))
    return f"{answer.get('outcome')}, by the function."


@app.command()
def get(ctx: typer.Context, id: IdArgument, output: OutputOption = Output.TABLE) -> None:
    """Read one product from the table (a consistent read of the write model).

    \b
    Example:
      cqrsctl product get 42 -o json
    """
    number = product_id(id)
    item = products.get(of(ctx).wiring.dynamodb, of(ctx).environment.table, number)
    if item is None:
        raise CqrsctlError(f"There is no product {number}.", code="not_found")
    render.one(output, _shown(decode_item(item)))


@app.command(cls=WaitCommand)
def delete(
    ctx: typer.Context,
    id: IdArgument,
    wait: WaitOption = None,
    timeout: TimeoutOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete one product. It does not ask.

    With --wait it ends once the read model shows the product no more; exit 8 where that takes too long.

    \b
    Examples:
      cqrsctl product delete 42
      cqrsctl product delete 42 --wait readers --timeout 10s
    """
    seconds = timeout_seconds(wait, timeout)
    number = product_id(id)
    name = of(ctx).environment.table
    if dry_run:
        products.get(of(ctx).wiring.dynamodb, name, number)  # fails if there is no table
        return render.planned(output, [products.delete_call(name, number)])
    existed = products.delete(of(ctx).wiring.dynamodb, name, number)
    of(ctx).note(f"Product {number} is deleted." if existed else f"There was no product {number}.")
    render.one(output, {"ProductId": number, "deleted": existed})
    return wait_for(ctx, number, wait, seconds)


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The file; - for standard input.", show_default=False)],
    format: Annotated[
        Format | None, typer.Option(help="The file's format.  [default: by its ending, else csv]")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Parallel writers.")] = _WORKERS,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where bad rows go.  [default: FILE.rejects.csv or .jsonl]")
    ] = None,
    if_absent: Annotated[
        bool, typer.Option("--if-absent", help="Leave products that already exist as they are, and count them.")
    ] = False,
    from_line: Annotated[int, typer.Option(min=1, metavar="N", help="Resume: leave out the lines before N.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row; write nothing to the table.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Import products from CSV (header ProductId,Name,Price,OutOfStock) or JSON lines.

    Rows of the same product are written in the file's order. Bad rows go, with line and reason, to the rejects
    file, which can be imported again once fixed; all others go in. Semicolons or tabs may separate the cells, and
    JSON may be DynamoDB's (`{"Item": {"ProductId": {"N": "42"}, …}}`), as exports hold it. An import that was
    interrupted prints the command that resumes it; from there on, rejects are added to the file.

    \b
    Examples:
      cqrsctl product import products.csv
      cqrsctl product import products.csv --if-absent --from-line 4512
      cqrsctl product sample --count 1000 -o jsonl | cqrsctl product import - --format jsonl
    """
    invocation = of(ctx)
    form = format or import_rows.format_of(file)
    rejects_path = rejects or _rejects_path(file, form)
    if file != "-" and rejects_path.absolute() == Path(file).absolute():
        raise UsageError("The rejects file is the imported file itself.", hint="Choose another with --rejects.")
    client, name = (None, "") if dry_run else (invocation.wiring.dynamodb, invocation.environment.table)
    progress = ImportProgress()
    options = {"--format": format, "--workers": workers if workers != _WORKERS else None, "--rejects": rejects}
    same = "".join(f" {option} {shlex.quote(str(value))}" for option, value in options.items() if value is not None)
    again = f"cqrsctl product import {shlex.quote(file)}{same}{' --if-absent' if if_absent else ''}"
    begun = time.monotonic()
    with (
        _opened(file) as source,
        import_rows.RejectsFile(rejects_path, form, resumed=from_line > 1) as refused,
        render.live() as show,
    ):
        if client is not None:
            table.require_product_table(client, name)
        source_rows = (row for row in import_rows.read(source, form, file) if row.line >= from_line)
        try:
            if client is None:
                _check(source_rows, refused, progress)
            else:
                importer = Importer(client, name, workers, progress, if_absent=if_absent)
                share = _share_read(source)
                importer.run(source_rows, refused.add, lambda p: show(_progress_line(p, begun, share())))
        except KeyboardInterrupt:
            invocation.note(f"Stopped at {_stopping_place(progress, again, file)}")
            raise
        except CqrsctlError as error:
            if progress.line:
                error.message += f" The import stopped at {_stopping_place(progress, again, file)}"
            raise
    seconds = max(time.monotonic() - begun, 1e-9)
    counts = {"valid" if dry_run else "imported": progress.imported}
    if if_absent and not dry_run:
        counts["skipped"] = progress.skipped
    counts["rejected"] = progress.rejected
    invocation.note(f"{_counted(counts)}, {progress.imported / seconds:.0f} items/s")
    rest = {"seconds": round(seconds, 3), "rejects": str(rejects_path) if progress.rejected else None}
    render.outcome(output, counts | rest)
    if progress.rejected:
        option = "" if import_rows.format_of(str(rejects_path)) is form else f" --format {form.value}"
        rows = words.count(progress.rejected, "row was", "rows were")
        raise CqrsctlError(
            f"{rows} rejected; see {rejects_path} for line and reason.",
            hint=f"Fix them there, then: cqrsctl product import {shlex.quote(str(rejects_path))}{option}",
            code="rows_rejected",
        )


def _stopping_place(progress: ImportProgress, again: str, file: str) -> str:
    """Where an import stopped, with the command that resumes it."""
    line = progress.resume_line
    source = "… | " if file == "-" else ""
    return (
        f"line {line}: all lines before it are done, and at least {progress.imported} products are written. "
        f"Resume with: {source}{again} --from-line {line}"
    )


@app.command()
def sample(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.", show_default=False)],
    seed: Annotated[int, typer.Option(help="The same seed makes the same products.")] = 1,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print realistic products, for trying things out. Nothing is written to the table.

    \b
    Example:
      cqrsctl product sample --count 1000 -o csv | cqrsctl product import -
    """
    render.rows(output, FIELDS, (_shown(entry.fields()) for entry in samples.products(count, seed)))


def _shown(fields: dict[str, Any]) -> dict[str, Any]:
    """A product as it is printed: the id a whole number, the price with its digits."""
    known = dict(fields)
    if "ProductId" in known:
        known["ProductId"] = int(known["ProductId"])
    return {name: render.money(value) for name, value in known.items()}


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    """The file as text. Bytes that are no UTF-8 get through here and are refused with their row."""
    if file == "-":
        if sys.stdin is None:
            raise UsageError("Standard input is closed.", hint="Name a file, or pipe one in.")
        reconfigure = getattr(sys.stdin, "reconfigure", None)
        if reconfigure:
            reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline="")
        yield sys.stdin
        return
    try:
        opened = Path(file).open(encoding="utf-8-sig", errors="surrogateescape", newline="")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}.") from error
    with opened as source:
        yield source


def _rejects_path(file: str, form: Format) -> Path:
    path = Path("products" if file == "-" else file)
    return path.parent / f"{path.stem}.rejects.{form.value}"


def _check(
    source_rows: Iterable[import_rows.SourceRow], refused: import_rows.RejectsFile, progress: ImportProgress
) -> None:
    """Check all rows without writing them."""
    for row in source_rows:
        progress.begin(row.line)
        try:
            product(row.fields())
            progress.finish([row.line])
        except CqrsctlError as invalid:
            refused.add(row.rejected(invalid.message))
            progress.reject(row.line)


def _share_read(source: TextIO) -> Callable[[], float | None]:
    """How much of a file is read, of 1; None if its size is unknown, as of a pipe."""
    status = os.fstat(source.fileno())
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return lambda: None
    return lambda: source.buffer.tell() / status.st_size


def _progress_line(progress: ImportProgress, begun: float, share: float | None) -> str:
    seconds = max(time.monotonic() - begun, 1e-9)
    others = {"skipped": progress.skipped, "rejected": progress.rejected}
    counts = {"imported": progress.imported} | {what: count for what, count in others.items() if count}
    line = f"{_counted(counts)}, {progress.imported / seconds:.0f} items/s"
    if not share:
        return line
    left = words.duration(seconds / share - seconds)
    return f"{share:.0%} of the file, {line}, {left} left"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.items())
