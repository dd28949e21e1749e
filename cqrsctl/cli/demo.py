"""`cqrsctl demo`: the whole pipeline on an embedded stack of its own, by the commands that a person would type."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from cqrsctl.cli import render
from cqrsctl.cli.app import INTERRUPTED, dispatch
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import Invocation, of
from cqrsctl.config import pristine
from cqrsctl.errors import CqrsctlError
from cqrsctl.local import stack
from cqrsctl.local.state import StackState

if TYPE_CHECKING:
    from pathlib import Path

app = group("Run the whole pipeline on a fresh stack, step by step.")

_ENVIRONMENT = "demo"


@app.command()
def demo(
    ctx: typer.Context,
    products: Annotated[int, typer.Option(min=10, max=100_000, help="How many products.")] = 1_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running, to look around in it.")] = False,
) -> None:
    """Run the whole pipeline on a fresh stack, step by step.

    The stack is an AWS emulator, a MariaDB server and a replica of it, all on this machine. Every step is a command
    that you could type yourself; `-e demo` is the environment it works on.

    \b
    Examples:
      cqrsctl demo
      cqrsctl demo --keep
    """
    environment = pristine(_ENVIRONMENT)
    state = StackState(environment.state_dir)
    stack.down(state, wipe=True)
    demonstration = _Demonstration(
        Invocation(preset=environment, log_format=of(ctx).log_format, stop=of(ctx).stop), state.directory / "demo-files"
    )
    wipe = True
    try:
        demonstration.run(products)
        if keep:
            of(ctx).note("\nThe stack keeps running. Try: cqrsctl -e demo query list")
            of(ctx).note("Remove it with: cqrsctl -e demo local down --wipe")
        demonstration.step("Is the read model what the write model says?", "verify")
    except (CqrsctlError, typer.Exit) as failed:
        if not keep and failed.exit_code != INTERRUPTED:
            wipe = False
            of(ctx).note(f"The logs are kept in {state.directory}. Remove them with: cqrsctl -e demo local down --wipe")
        raise
    finally:
        if not keep:
            stack.down(state, wipe=wipe)


class _Demonstration:
    """Runs commands one after the other, each shown before its output."""

    def __init__(self, invocation: Invocation, folder: Path) -> None:
        self._invocation = invocation
        self._folder = folder

    def run(self, products: int) -> None:
        """Everything but the last step."""
        some = str(products // 5)
        self._folder.mkdir(parents=True)
        self.step("An AWS endpoint and a MariaDB server, on free ports of this machine", "local up")
        self.step("The write model: a DynamoDB table with its stream", "table create")
        self._sample(products, 1, "products.csv")
        self.step("Products are written", f"product import {self._file('products.csv')}")
        self.step("The projector brings the changes from the stream to the read model", "project --once")
        self.step("Queries are answered from MySQL", "query list --in-stock --sort -Price --limit 5")
        self.step("A reader: a real replica of it, which serves queries from now on", "aurora add-reader")
        self._sample(int(some), 2, "changed.csv")
        self.step(f"{some} products change", f"product import {self._file('changed.csv')}")
        self.step("One is put by hand", 'product put 7 --name "Oak Desk Lamp" --price 19.90 --out-of-stock')
        self.step("One is deleted", "product delete 8")
        self.step("What the stream says of these two", "stream tail --no-follow --id 7 --id 8")
        self.step("Only the new changes are applied", "project --once")
        self.step("The changed product, as the reader has it", "query get 7 --max-staleness 5s -v")
        self.step("What is sold out", "query count --out-of-stock")

    def step(self, title: str, command: str, *, into: Path | None = None) -> None:
        """Show a command, then run it."""
        shown = f"cqrsctl -e {_ENVIRONMENT} {command}" + (f" > {shlex.quote(str(into))}" if into else "")
        render.step(title, shown)
        invocation = Invocation(
            preset=self._invocation.environment, log_format=self._invocation.log_format, stop=self._invocation.stop
        )
        if into:
            with into.open("w", encoding="utf-8") as file, redirect_stdout(file):
                code = dispatch(invocation, shlex.split(command))
        else:
            code = dispatch(invocation, shlex.split(command))
        sys.stdout.flush()
        if code:
            raise typer.Exit(code)

    def _sample(self, count: int, seed: int, name: str) -> None:
        self.step(
            f"{count} made-up products",
            f"product sample --count {count} --seed {seed} -o csv",
            into=self._folder / name,
        )

    def _file(self, name: str) -> str:
        return shlex.quote(str(self._folder / name))
