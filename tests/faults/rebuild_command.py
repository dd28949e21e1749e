"""`cqrsctl rebuild` as a process that can be watched and killed, and what the database knows of it."""

from __future__ import annotations

import json
import re
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.read_model.connection import connect
from tests.conftest import COMMAND
from tests.faults.command import Command, running
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

SLOWLY = ("--read-capacity", "2")
"""Options with which the scan of a few hundred products takes a few seconds."""


@dataclass(frozen=True)
class Rebuild(Command):
    """A rebuild's process."""

    def kill(self) -> bool:
        """Kill it; whether it was still running."""
        self.process.kill()
        ended = self.process.wait(20)
        assert ended in {0, -signal.SIGKILL}, f"it ended with {ended}: {self.remarks()}"
        return ended != 0

    def report(self) -> dict[str, Any]:
        """What it reports once it is done."""
        assert self.process.wait(60) == 0, self.remarks()
        assert "Traceback" not in self.remarks()
        report: dict[str, Any]
        (report,) = json.loads(self.out.read_text())
        return report


def rebuilding(cqrsctl: Cqrsctl, *options: str, name: str = "rebuild") -> AbstractContextManager[Rebuild]:
    """A rebuild, which is gone afterwards, however it ends."""
    return running(Rebuild, cqrsctl, [COMMAND, "rebuild", "--all", "--yes", "-o", "json", *options], name)


def active_table(looking: Connection) -> str:
    """The table behind the view, as the projectors know it."""
    (row,) = looking.query("SELECT active_version FROM cqrs_projection WHERE name = 'product'")
    looking.commit()
    return f"product_v{row['active_version']}"


def building_table(looking: Connection) -> str | None:
    """The table that is being built."""
    (row,) = looking.query("SELECT building_version FROM cqrs_projection WHERE name = 'product'")
    looking.commit()
    return None if row["building_version"] is None else f"product_v{row['building_version']}"


def viewed_table(looking: Connection) -> str:
    """The table behind the view, as its readers see it."""
    definition = looking.query("SHOW CREATE VIEW Product")[0]["Create View"]
    looking.commit()
    (table,) = set(re.findall(r"product_v\d+", definition))
    return str(table)


def physical_tables(looking: Connection) -> set[str]:
    """The projection's tables that are there."""
    found = looking.query(
        "SELECT table_name AS name FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name LIKE 'product\\_v%%'"
    )
    looking.commit()
    return {row["name"] for row in found}


def state(looking: Connection) -> str | None:
    """How far the last rebuild is by its own account; None where there is none."""
    found = looking.query("SELECT state FROM cqrs_rebuild WHERE projection = 'product'")
    looking.commit()
    return found[0]["state"] if found else None


def wait_until_loading(looking: Connection, rebuild: Rebuild) -> None:
    """Wait until rows of the snapshot are in the new table."""

    def has_rows() -> bool:
        rebuild.assert_running()
        table = building_table(looking)
        return table is not None and snapshot_rows(looking, table) > 0

    wait_for(has_rows, "the new table gets rows", seconds=30)


def wait_until_state(looking: Connection, rebuild: Rebuild, wanted: str) -> None:
    """Wait until the rebuild is so far."""

    def is_there() -> bool:
        rebuild.assert_running()
        return state(looking) == wanted

    wait_for(is_there, f"the rebuild is {wanted}", seconds=30)


def snapshot_rows(looking: Connection, table: str) -> int:
    """How many rows of a table are those of the snapshot."""
    (row,) = looking.query(f"SELECT COUNT(*) AS n FROM {table} WHERE _version = 0")
    looking.commit()
    return int(row["n"])


@contextmanager
def held(wiring: Wiring, table: str) -> Iterator[None]:
    """Keep a rebuild from changing what a table of the account says of it.

    `cqrs_rebuild` holds it up once the snapshot is loaded, `cqrs_projection` in the middle of the cutover.
    """
    with connect(wiring.database) as locking:
        locking.query(f"SELECT * FROM {table} LOCK IN SHARE MODE")
        yield
