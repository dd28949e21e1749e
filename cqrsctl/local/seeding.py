"""Making readers from what the writer has."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from cqrsctl.local import database_server, replication, roster
from cqrsctl.local.replication import CopyFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqrsctl.local.database_server import ServerInstance
    from cqrsctl.local.state import StackState

_AT_ONCE = 4
_TRIES = 3
_PATIENCE_SECONDS = 600.0


def seed(state: StackState, names: Sequence[str], note: Callable[[str], None]) -> None:
    """Make these servers readers, from the beginning: what they have is removed.

    The file names them as readers once they have caught up with where the writer was when its data had been copied.
    """
    known = roster.save(state, roster.load(state).with_seeding(names))
    writer = known.instance(state, known.writer)
    cancelled = threading.Event()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        futures = {pool.submit(_seed, known.instance(state, name), writer, note, cancelled): name for name in names}
        try:
            for future in as_completed(futures):
                future.result()
                known = roster.save(state, known.with_seeded(futures[future]))
        except BaseException:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _seed(
    instance: ServerInstance, writer: ServerInstance, note: Callable[[str], None], cancelled: threading.Event
) -> None:
    before = instance.service()
    port = before.port if before else None
    note(f"Seeding {instance.name} from {writer.name} …")
    for tries_left in reversed(range(_TRIES)):
        try:
            _try(instance, writer, port)
        except CopyFailed as error:
            if not tries_left or cancelled.is_set():
                raise
            note(f"{error.message} It is seeded again.")
        else:
            return


def _try(instance: ServerInstance, writer: ServerInstance, preferred_port: int | None) -> None:
    database_server.remove(instance)
    database_server.start(instance, preferred_port, read_only=True)
    replication.copy(writer, instance)
    target = replication.position(writer)
    replication.follow(instance, replication.require_port(writer))
    status, reached = replication.settle(instance, target, _PATIENCE_SECONDS)
    if not reached:
        why = f": {status.error}" if status and status.error else f" within {_PATIENCE_SECONDS:g} s."
        raise CopyFailed(f"{instance.name} did not catch up with {writer.name}{why}", hint="Try again.")
