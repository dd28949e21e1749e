"""The projector as a process of the embedded stack: it outlives the command that starts it, and ends with the stack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cqrsctl.errors import Busy
from cqrsctl.read_model import locks
from cqrsctl.read_model.connection import ReadModelMissing, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.local.state import Service
    from cqrsctl.projection.definition import Projection
    from cqrsctl.wiring import Wiring


def start(wiring: Wiring, projections: Sequence[Projection], arguments: Sequence[str]) -> Service:
    """Run cqrsctl with these arguments as the stack's projector, and return once it projects all of these projections.

    Raises Busy if the stack has one already, and CqrsctlError if the stack is not running, or the new projector ended.
    """
    from cqrsctl.local import ports, stack  # noqa: PLC0415 -- needs the packages of an extra
    from cqrsctl.local.database_cluster import PROJECTOR  # noqa: PLC0415
    from cqrsctl.local.state import StackState  # noqa: PLC0415

    state = StackState(wiring.environment.state_dir)
    stack.running(state)
    log = state.log(PROJECTOR)
    with state.locked():
        before = state.services().get(PROJECTOR)
        if before is not None and before.process():
            raise Busy(
                f"A projector is already running in the background (pid {before.pid}).",
                hint=f"Stop it with `kill {before.pid}`, then start another one.",
            )
        begin = ports.length(log)
        command = [sys.executable, "-m", "cqrsctl", *arguments]
        service = state.launch(PROJECTOR, command, directory=Path.cwd(), of_aws=True)

    def projects(name: str) -> bool:
        with connect(wiring.database) as connection:
            return locks.holder(connection, name).endswith(f"process {service.pid}")

    def is_at_work() -> bool:
        try:
            return all(projects(projection.name) for projection in projections)
        except ReadModelMissing:
            return False

    try:
        ports.wait_until(is_at_work, service, log, begin)
    except BaseException:
        service.stop()
        state.forget(PROJECTOR)
        raise
    return service
