"""A rebuild that would show fewer rows than are served: whoever runs it decides before the view is moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError
from cqrsctl.read_model import rebuilds

if TYPE_CHECKING:
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.rebuilds import Rebuild


class RowsWouldVanish(CqrsctlError):
    """The next table has fewer rows than the one that is served. The rebuild can be resumed or discarded."""

    code = "rows_would_vanish"

    def __init__(self, projection: str, served: int, rebuilt: int) -> None:
        self.projection = projection
        self.served = served
        self.rebuilt = rebuilt
        super().__init__(f"{projection} serves {served} rows and would show {rebuilt} after the rebuild.")


def require_no_fewer_rows(connection: Connection, rebuild: Rebuild) -> None:
    """Raises RowsWouldVanish if the view would show fewer rows after the cutover. It counts both tables."""
    served, rebuilt = (rebuilds.count_shown(connection, table) for table in (rebuild.former, rebuild.table))
    if rebuilt < served:
        raise RowsWouldVanish(rebuild.table.projection.name, served, rebuilt)
