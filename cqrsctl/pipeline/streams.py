"""How the stream of an environment is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.errors import UsageError
from cqrsctl.stream import shards
from cqrsctl.stream.poll import CERTAIN, EMULATOR, GLANCE, Tip

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring


def certain_tip(wiring: Wiring) -> Tip:
    """What counts as a shard's tip for whoever acts on it."""
    return EMULATOR if wiring.environment.embedded else CERTAIN


def glanced_tip(wiring: Wiring) -> Tip:
    """What counts as a shard's tip for whoever looks, beside those who read the shard."""
    return EMULATOR if wiring.environment.embedded else GLANCE


def require_shard(client: shards.StreamsClient, stream_arn: str, shard_id: str) -> None:
    """Raises UsageError if the stream has no such shard."""
    if shard_id not in shards.describe(client, stream_arn).shards:
        raise UsageError(f"The stream has no shard {shard_id!r}.", hint="See them with: cqrsctl stream status")
