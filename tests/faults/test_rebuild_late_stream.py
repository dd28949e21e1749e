"""A rebuild beside a stream that shows changes later than the table does, as DynamoDB's may by a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Thread
from typing import TYPE_CHECKING, Any

from cqrsctl.clock import SystemClock
from cqrsctl.pipeline import project
from cqrsctl.pipeline.rebuild.progress import Phase, RebuildProgress
from cqrsctl.pipeline.rebuild.rebuilding import Rebuilding
from cqrsctl.read_model.connection import connect
from cqrsctl.stream.reader import Beginning
from cqrsctl.wiring import Wiring
from cqrsctl.write_model.table import TableSpec, create
from tests.faults.load import rows
from tests.faults.rebuild_command import viewed_table
from tests.faults.rebuild_sampler import NotingWriter, Sampler
from tests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from cqrsctl.config import Environment
    from cqrsctl.read_model.endpoints import Servers

_LATE_SECONDS = 4.0
"""Longer than it takes until a shard counts as read to its tip, and shorter than the rebuild waits for late changes."""
_APART_SECONDS = 0.5


@dataclass
class LateStream:
    """The stream's client, which holds back the last changes, each until its time."""

    client: Any
    shown_at: dict[str, float] = field(default_factory=dict)
    """The moments when names are shown that a product was given."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get_records(self, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get_records(**parameters)
        now = time.monotonic()
        held_back = [
            place
            for place, record in enumerate(answer["Records"])
            if self.shown_at.get(record["dynamodb"].get("NewImage", {}).get("Name", {}).get("S", ""), 0) > now
        ]
        if not held_back:
            return answer
        # The same iterator brings the records that are shown by now once more, and then the others.
        return {
            **answer,
            "Records": answer["Records"][: held_back[0]],
            "NextShardIterator": parameters["ShardIterator"],
        }


class LateWiring(Wiring):
    """The wiring of a pipeline that is not the embedded one, with such a stream; its parts are the embedded one's."""

    def __init__(self, embedded: Wiring) -> None:
        super().__init__(replace(embedded.environment, embedded=False))
        self._embedded = embedded

    @cached_property
    def streams(self) -> LateStream:
        return LateStream(self.client("dynamodbstreams"))

    @cached_property
    def servers(self) -> Servers:
        return self._embedded.servers

    def client(self, service: str, region_name: str | None = None, *, attempts: int | None = None) -> Any:
        return self._embedded.client(service, region_name, attempts=attempts)


def test_the_cutover_waits_for_changes_that_the_stream_does_not_show_yet(
    environment: Environment, chance: random.Random
) -> None:
    wiring = LateWiring(Wiring(environment))
    create(wiring.dynamodb, TableSpec(environment.table), lambda _: None, SystemClock())
    writer = NotingWriter(wiring, chance)
    writer.fill()
    run = project.Run(wiring, environment.projections, SystemClock(), lambda _: None, lambda _: None)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)

    def write_late(progress: RebuildProgress) -> None:
        """Right before the scan, which sees the second change, write two that the stream shows one after the other."""
        if progress.phase is not Phase.LOADING or wiring.streams.shown_at:
            return
        for late in (_LATE_SECONDS, _LATE_SECONDS + _APART_SECONDS):
            request = writer._put(1)
            wiring.streams.shown_at[writer.products[1].name] = time.monotonic() + late
            writer._write([request])

    with connect(wiring.database) as looking, Sampler(wiring, writer.history) as sampler:
        Rebuilding(wiring, environment.projections[0], SystemClock(), write_late, lambda _: None).run()

        assert viewed_table(looking) == "product_v2"
        following = Thread(
            target=project.from_stream,
            args=(run,),
            kwargs={"once": False, "beginning": Beginning.HORIZON, "dry_run": False},
        )
        following.start()
        last = max(wiring.streams.shown_at.values())
        wait_for(lambda: time.monotonic() > last, "the stream shows all")
        writer.write_some(1)
        wait_for(lambda: rows(wiring) == writer.products, "the view shows what was written")
        run.clock.stop.set()
        following.join()
        sampler.look_on()
        sampler.assert_nothing_went_back()
