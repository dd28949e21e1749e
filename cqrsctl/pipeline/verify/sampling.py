"""Random products and random rows, for a quick look at a large read model.

The chance is that of segments: DynamoDB divides a table by a hash of the key into as many segments as are asked for,
and reads each by itself. Segments of about 25 items are chosen with equal chances and read whole. So each product is
as likely as any other to be looked at, but not independently of those that share its segment. How many segments there
are to be is reckoned from the table's count of items, which AWS brings up to date every six hours or so.

Rows are chosen by their place in the order of keys: from the key of a random product on, 25 at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.pipeline.verify.sides import READERS, chunks
from cqrsctl.read_model import query
from cqrsctl.write_model.scan import ScanPace, scan_segment

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from cqrsctl.change import Item
    from cqrsctl.clock import Clock
    from cqrsctl.pipeline.verify.comparison import Key
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

_TOGETHER = 25
_MOST_READS = 400
_MOST_SEGMENTS = 1_000_000
"""Of a parallel scan (DynamoDB API reference, "Scan", TotalSegments)."""


def products(
    wiring: Wiring, clock: Clock, executor: Executor, rng: random.Random, count: int, about: int
) -> Iterator[list[Item]]:
    """`count` items of a table of `about` items, chosen at random; all, if there are no more. Raises AwsError."""
    total = min(max(about // max(_TOGETHER, count // _MOST_READS), 1), _MOST_SEGMENTS)
    pace = ScanPace(None, clock.monotonic, clock.sleep)

    def read(segment: int) -> list[Item]:
        items: list[Item] = []
        for page in scan_segment(wiring.dynamodb, wiring.environment.table, segment, total, None, pace):
            items += page.items
            if len(items) >= count:
                break
        return items

    left = count
    for segments in chunks(rng.sample(range(total), total), READERS):
        for items in executor.map(read, segments):
            chosen = items if len(items) <= left else rng.sample(items, left)
            yield chosen
            left -= len(chosen)
            if not left:
                return


def keys(
    connection: Connection, projection: Projection, rng: random.Random, starts: Sequence[Key], count: int
) -> Iterator[list[Key]]:
    """`count` keys of the view: some after each of a few random starts, then from the first on; all, if there are
    no more. Raises DatabaseError.
    """
    chosen: set[Key] = set()

    def after(start: Key | None, most: int) -> tuple[list[Key], Key | None]:
        found = query.keys_after(connection, projection, start, most)
        connection.commit()
        new = [key for key in found if key not in chosen][: count - len(chosen)]
        chosen.update(new)
        return new, found[-1] if found else None

    for start in rng.sample(starts, min(len(starts), -(-count // _TOGETHER))):
        yield after(start, _TOGETHER)[0]
    last: Key | None = None
    while len(chosen) < count:
        new, last = after(last, READERS * _TOGETHER)
        if last is None:
            return
        yield new
