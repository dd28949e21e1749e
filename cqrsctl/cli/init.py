"""`cqrsctl init`: a first settings file."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cqrsctl import words
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import of
from cqrsctl.config import DEFAULT_TABLE, Flags, file_to_write, undeclared
from cqrsctl.errors import ConfigurationError, CqrsctlError
from cqrsctl.projection.fitting import Misfit
from cqrsctl.projection.inference import Inferred, inferred
from cqrsctl.settings_file import projection_toml, toml_value

if TYPE_CHECKING:
    from pathlib import Path

    from cqrsctl.cli.invocation import Invocation
    from cqrsctl.config import Environment

app = group("Write a settings file, also for a table of your own.")

_SAMPLED_ITEMS = 1_000
_HEAD = """\
# Settings of cqrsctl for this folder and the folders below it.
# Commands act on the embedded stack unless --env names another environment.
"""
_EXAMPLE = """
# An environment on AWS: remove the signs #, fill in its own names, and choose it with --env prod.
# [environments.prod]
# region = "eu-central-1"
# table = {table}
#
# [environments.prod.database]
# cluster = {cluster}
"""


@app.command()
def init(
    ctx: typer.Context,
    from_table: Annotated[
        str | None, typer.Option(metavar="NAME", help="Declare a projection that fits this table.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the file; write none.")] = False,
) -> None:
    """Write a settings file, also for a table of your own.

    The file is cqrsctl.toml in this folder, or the one that --config names; a file that exists is never changed.
    --env names the environment to declare, --region and --profile if it is.

    With --from-table the projection has a column for each attribute of up to 1000 of the table's items, which are read
    with eventual consistency. Check the columns before you use it: other items may differ.

    \b
    Examples:
      cqrsctl init
      cqrsctl -e prod --region eu-central-1 init --from-table Orders
    """
    invocation = of(ctx)
    path = file_to_write(invocation.flags or Flags())
    if path.exists() or path.is_symlink():
        raise CqrsctlError(
            f"{path} already exists; nothing was written.",
            hint="Edit it, or name another file with --config.",
            code="settings_exist",
        )
    environment = undeclared(invocation.flags or Flags())
    if from_table:
        environment = replace(environment, table=from_table)
    invocation.preset = environment
    found = _of_items(invocation) if from_table else Inferred(environment.projections[0], {})
    text = _text(environment, found)
    if dry_run:
        sys.stdout.write(text)
        return
    _write(path, text)
    projection = found.projection
    invocation.note(
        f"{path} is written: environment {environment.name}, table {environment.table}, "
        f"view {projection.view} with {len(projection.columns)} columns."
    )
    if found.left_out:
        invocation.note(f"Not in the view: {words.listed(found.left_out)}. The file has the reasons.")
    invocation.note("Check the columns. Then see what is still missing: cqrsctl status")


def _of_items(invocation: Invocation) -> Inferred:
    """A projection for the environment's table. Raises AwsError, and CqrsctlError if no column can hold its key."""
    from cqrsctl.write_model import table
    from cqrsctl.write_model.scan import first_items

    client, name = invocation.wiring.dynamodb, invocation.environment.table
    key = table.describe(client, name).key
    items = first_items(client, name, _SAMPLED_ITEMS, invocation.clock.sleep)
    invocation.note(f"Read {words.count(len(items), 'item')} of table {name}.")
    try:
        return inferred(name, key, items)
    except Misfit as misfit:
        raise CqrsctlError(f"Table {name} cannot be projected: its key does not fit a column: {misfit}.") from misfit


def _text(environment: Environment, found: Inferred) -> str:
    left_out = "".join(f"\n# Left out: {_one_line(name)} ({_one_line(why)})" for name, why in found.left_out.items())
    return "\n".join([_HEAD + _environment(environment), projection_toml(found.projection).rstrip() + left_out, ""])


def _environment(environment: Environment) -> str:
    cluster = toml_value(re.sub(r"[^a-z0-9]+", "-", environment.table.lower()).strip("-0123456789") or "read-model")
    table = toml_value(environment.table)
    if environment.embedded:
        is_default = environment.table == DEFAULT_TABLE
        chosen = "" if is_default else f"\n[environments.{environment.name}]\ntable = {table}\n"
        return chosen + _EXAMPLE.format(table=table, cluster=cluster)
    settings = {name: getattr(environment, name) for name in ("profile", "region", "endpoint_url", "table")}
    lines = [f"{name} = {toml_value(value)}" for name, value in settings.items() if value]
    return (
        f"\n[environments.{environment.name}]\n" + "\n".join(lines) + "\n"
        f"\n[environments.{environment.name}.database]\n"
        "# The Aurora cluster with the read model: yours, or the one that `aurora create` is to make.\n"
        f"cluster = {cluster}\n"
    )


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}.", hint="Choose a folder that you can write to.") from error
