"""Speaking to a database server as its root, by the client programs, over its socket."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.local.database_server import client_program

if TYPE_CHECKING:
    from cqrsctl.local.database_server import ServerInstance
    from cqrsctl.local.engines import Engine

_ERROR = re.compile(r"ERROR |\S*(mariadb|mysql)[a-z-]*: ")


def run(instance: ServerInstance, statements: str, patience_seconds: float = 60) -> list[dict[str, str]]:
    """Run statements as the server's root, one of which at most answers with rows: these, as text.

    Raises CqrsctlError if the server refuses one, or does not answer.
    """
    try:
        done = subprocess.run(
            administration(instance.engine, instance.engine.client, "--batch"),
            cwd=instance.data,
            input=statements,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience_seconds,
            check=False,
        )
    except FileNotFoundError:
        raise CqrsctlError(f"{instance.name} has no data folder {instance.data}.") from None
    except subprocess.TimeoutExpired:
        raise CqrsctlError(
            f"{instance.name} did not answer within {patience_seconds:.0f} s.",
            hint="Start it again with: cqrsctl local up",
        ) from None
    if done.returncode:
        raise CqrsctlError(f"{instance.name}: {error_line(done.stderr)}", hint="Look at: cqrsctl local status")
    header, *lines = done.stdout.rstrip("\n").split("\n")
    names = header.split("\t")
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines]


def administration(engine: Engine, program: str, *options: str) -> list[str]:
    """A client program's command line for root, who is known by the socket; to be run in the data folder."""
    return [
        client_program(engine, program),
        "--no-defaults",
        "--protocol=socket",
        f"--socket={engine.socket}",
        "--user=root",
        engine.no_tls,
        "--default-character-set=utf8mb4",
        *options,
    ]


def error_line(output: str) -> str:
    """The error in a client program's output, which may hold the statement, too, and its secrets."""
    lines = [line for line in output.splitlines() if _ERROR.match(line)]
    return lines[-1].strip() if lines else "the client program failed and did not say why"
