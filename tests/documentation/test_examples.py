"""Every example of every help text is read without a mistake, and all that can run on the embedded stack do."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
import typer

from cqrsctl.cli.app import app
from cqrsctl.cli.invocation import Invocation
from cqrsctl.config import Flags, load
from cqrsctl.wiring import Wiring
from tests.conftest import COMMAND, Result
from tests.documentation import LEAVES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cqrsctl

EXAMPLES = list(
    dict.fromkeys(
        line for command in LEAVES.values() for line in re.findall(r"^ +(.*\bcqrsctl .*)$", command.help, re.MULTILINE)
    )
)
PRODUCTS = "ProductId,Name,Price,OutOfStock\n1,A,1,false\n2,B,2,false\n3,C,3,false\n4,D,4,false\n42,Lamp,19.90,false\n"
SHELL = re.compile(r"[|>(]")
"""What only a shell understands, outside quotes."""
NOT_RUN = {
    "demo": "makes a stack of its own",
    "demo --keep": "makes a stack of its own",
    "table create --tag team=shop --dry-run": "the table exists, without the tag",
    "aurora create --subnet-group private --security-group sg-0a1b2c3d": "the cluster exists",
    "aurora create --serverless 0.5-16 --iam-auth --dry-run": "the cluster exists",
    "aurora failover --to reports --yes": "the reader is removed by then",
    "aurora delete --final-snapshot products-last": "the stack keeps no snapshots",
    "aurora delete --yes": "the stack's cluster ends with it",
    "function logs --follow": "follows",
    "function logs command --since 2h -o jsonl": "the stack runs no functions",
    'function invoke command --payload \'{"ProductId": 42, "Name": "Lamp", "Price": "19.90"}\'': "likewise",
    "local up --readers 2 --database mysql": "makes a stack on MySQL",
    "--region eu-central-1 init --from-table Orders": "of a table that is not there",
    "local logs --follow": "follows",
    "local shell": "is typed in",
    "local down --wipe": "asks",
    "stream tail": "follows",
    "project": "follows",
    "project --on-error dead-letter": "follows",
    "project --detach": "follows",
    "lag --watch": "follows",
    "status --watch": "follows",
}
CODES = {"cqrsctl dead-letter retry 3 4": 1, "cqrsctl dead-letter retry --all": 1}
"""What an example exits with here if not 0: these letters fit no better than before."""
LAST = tuple(f"cqrsctl {name}" for name in ("init", "read-model drop", "table disable-stream", "table delete"))


@pytest.mark.timeout(600)  # five dozen commands, on a busy machine
def test_the_examples_run_in_the_order_of_the_help(shell: Cqrsctl) -> None:
    prepare(shell)
    failed = []
    for line in sorted(filter(is_run, EXAMPLES), key=lambda line: line.startswith(LAST)):
        with projecting(shell, needed="--wait" in line):
            result = run(shell, line.replace("-e prod ", ""))
        if result.code != CODES.get(line, 0):
            failed.append(f"{line}: {result.code} {result.err[-300:]}")

    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_is_read_without_a_mistake(line: str) -> None:
    for words in typed(line):
        place: Any = typer.main.get_command(app)
        context = place.make_context("cqrsctl", words, obj=Invocation())
        while hasattr(place, "commands"):
            name, place, rest = place.resolve_command(context, [*context._protected_args, *context.args])
            context = place.make_context(name, rest, parent=context)


def typed(line: str) -> Iterator[list[str]]:
    """The words after each `cqrsctl` in a line for a shell."""
    substituted = re.search(r"\$\((.*)\)", line)
    words = shlex.shlex(substituted[1] if substituted else line, posix=True, punctuation_chars="|>")
    words.whitespace_split = True
    for is_command, some in groupby(words, lambda word: word not in {"|", ">"}):
        command = list(some)
        if is_command and command[0] == "cqrsctl":
            yield command[1:]


def is_run(line: str) -> bool:
    """Whether an example can run on an embedded stack, and ends by itself."""
    return line.removeprefix("cqrsctl ").removeprefix("-e prod ") not in NOT_RUN


def prepare(shell: Cqrsctl) -> None:
    """A stack with dead letters, whose items are products by now, and the files that examples name."""
    shell.ok("local", "up")
    shell.ok("table", "create")
    wiring = Wiring(load(Flags(), shell.variables, shell.directory))
    for number in "1234":
        wiring.dynamodb.put_item(TableName="Products", Item={"ProductId": {"N": number}})
    shell.ok("project", "--once", "--on-error", "dead-letter")
    shell.ok("dead-letter", "discard", "1", "2", "--yes")
    (shell.directory / "products.csv").write_text(PRODUCTS)
    (shell.directory / "build").mkdir()
    shell.ok("product", "import", "products.csv")
    changes = shell.ok("stream", "tail", "--no-follow", "--event", "modify", "-o", "jsonl").out
    (shell.directory / "changes.jsonl").write_text(changes)


def run(shell: Cqrsctl, line: str) -> Result:
    """What a line comes to, by a shell if it needs one."""
    if not SHELL.search(re.sub(r"'.*?'|\".*?\"", "", line)) and "$(" not in line:
        return shell(*shlex.split(line)[1:])
    environment = shell.environment()
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**environment, "PATH": f"{COMMAND.parent}:{environment['PATH']}"},
        cwd=shell.directory,
        text=True,
        timeout=100,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@contextmanager
def projecting(shell: Cqrsctl, *, needed: bool) -> Iterator[None]:
    """A projector beside, if one is needed."""
    if not needed:
        yield
        return
    projector = shell.start("project")
    try:
        yield
    finally:
        projector.send_signal(signal.SIGTERM)
        projector.communicate()
