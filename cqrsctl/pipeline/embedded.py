"""The embedded stack's cluster: real servers, and the emulator's RDS API kept true to them.

The emulator's RDS is a set of records in its memory. The servers are what counts: before each command the records are
brought up to date with them, since the emulator may have been started again, or a command killed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.aurora import cluster as clusters
from cqrsctl.aurora.cluster import ENGINE, ClusterSpec
from cqrsctl.aurora.operations import Aurora
from cqrsctl.aws import ApiCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.clock import Clock
    from cqrsctl.local.state import StackState
    from cqrsctl.wiring import Wiring

_CLASS = "db.r6g.large"


def operated(
    wiring: Wiring, clock: Clock, note: Callable[[str], None], progress: Callable[[str], None] = lambda _: None
) -> Aurora:
    """The environment's cluster, to be operated on. Raises ConfigurationError if it names none, UsageError."""
    name, environment = clusters.require_name(wiring.cluster_name), wiring.environment
    if not environment.embedded or environment.database.host is not None:
        return Aurora(name, wiring.client, clock, note, progress)
    from cqrsctl.local.state import StackState  # noqa: PLC0415 -- needs the packages of an extra

    servers = EmbeddedServers(StackState(environment.state_dir), name, environment.database.name, note)
    return Aurora(name, wiring.client, clock, note, progress, servers)


@dataclass(frozen=True, slots=True)
class EmbeddedServers:
    """The MariaDB servers that stand behind the API of an embedded environment."""

    state: StackState
    cluster: str
    database: str
    note: Callable[[str], None]

    def start(self) -> None:
        """Start what is not running of the stack: a deleted cluster's writer is made again."""
        from cqrsctl.local import stack  # noqa: PLC0415 -- needs the packages of an extra

        stack.up(self.state, self.note)

    def mirror(self, rds: Any) -> None:
        """Make the API's records as the servers are."""
        from cqrsctl.local import database_cluster as cluster  # noqa: PLC0415

        servers = cluster.servers(self.state)
        found = clusters.find(rds, self.cluster)
        if found is None:
            ClusterSpec(self.cluster, self.database, deletion_protection=False).create_call().make(rds)
        known = {member.name: member for member in found.members} if found else {}
        for server in servers:
            if server.name not in known:
                self._record(server.name, first=server.role == "writer").make(rds)
        for name in known.keys() - {server.name for server in servers}:
            clusters.delete_instance_call(name).make(rds)
        self._mirror_writer(rds, next(server.name for server in servers if server.role == "writer"))

    def _mirror_writer(self, rds: Any, writer: str) -> None:
        found = clusters.describe(rds, self.cluster)
        if found.writer is None or found.writer.name != writer:
            clusters.failover_call(self.cluster, writer).make(rds)

    def add(self, name: str) -> None:
        from cqrsctl.local import database_cluster as cluster  # noqa: PLC0415

        cluster.add_reader(self.state, name, self.note)

    def remove(self, name: str) -> None:
        from cqrsctl.local import database_cluster as cluster  # noqa: PLC0415

        cluster.remove_reader(self.state, name)

    def promote(self, name: str) -> None:
        from cqrsctl.local import database_cluster as cluster  # noqa: PLC0415

        cluster.failover(self.state, name, self.note)

    def remove_all(self, rds: Any) -> None:
        """End the servers, with their data; and the emulator's records of backups, which AWS removes by itself."""
        from cqrsctl.local import database_cluster as cluster  # noqa: PLC0415

        cluster.remove_all(self.state)
        asked = {"DBClusterIdentifier": self.cluster, "SnapshotType": "automated"}
        for snapshot in ApiCall("rds", "DescribeDBClusterSnapshots", asked).make(rds)["DBClusterSnapshots"]:
            name = {"DBClusterSnapshotIdentifier": snapshot["DBClusterSnapshotIdentifier"]}
            ApiCall("rds", "DeleteDBClusterSnapshot", name).make(rds)

    def _record(self, name: str, *, first: bool) -> ApiCall:
        return ApiCall(
            "rds",
            "CreateDBInstance",
            {
                "DBInstanceIdentifier": name,
                "DBClusterIdentifier": self.cluster,
                "DBInstanceClass": _CLASS,
                "Engine": ENGINE,
                "PromotionTier": 0 if first else 1,
            },
        )
