"""The snapshot of a rebuild: the table's items, read in segments side by side, loaded into the table being built."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from cqrsctl import retries
from cqrsctl.codec import decode_item, encode_key
from cqrsctl.errors import CqrsctlError, TransactionConflict
from cqrsctl.projection.rows import snapshot_rows
from cqrsctl.read_model import loaded_segments
from cqrsctl.read_model.loading import Loader
from cqrsctl.write_model.scan import ScanPace, scan_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.change import Item
    from cqrsctl.clock import Clock
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.loaded_segments import Segment
    from cqrsctl.read_model.loading import Chunk
    from cqrsctl.read_model.rebuilds import Rebuild
    from cqrsctl.wire import ScanPage
    from cqrsctl.wiring import Wiring

SEGMENTS = 8
_SCANNERS = 4
_PAGES_AHEAD = 4
_LOOK_SECONDS = 0.5
_TURN_SECONDS = 0.000_5
_NAMED = 5


class BadItems(CqrsctlError):
    """Items that do not fit the projection's columns."""

    code = "bad_item"

    def __init__(self, projection: Projection, unfit: list[tuple[Item, str]]) -> None:
        named = "; ".join(f"{_key(projection, item)}: {reason}" for item, reason in unfit[:_NAMED])
        more = f"; and {len(unfit) - _NAMED} more on the same page" if len(unfit) > _NAMED else ""
        super().__init__(
            f"Items do not fit projection {projection.name}. {named}{more}. The old table serves on.",
            hint="Fix the items, and `cqrsctl rebuild` resumes where it stopped. Or declare columns that hold them; "
            "or leave such items out with --on-error skip.",
        )


class _Stopped(Exception):
    """The loading ends, so no more is to be read."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A page ready to be loaded, and how far its segment is with it."""

    chunk: Chunk
    segment: Segment
    items: int
    unfit: int


@dataclass(slots=True)
class Snapshot:
    """Loads what is not loaded yet of a rebuild's snapshot. A page and how far its segment is commit together.

    `loaded` gets, after each page, how many items it had and how many of them did not fit; `watch` is called now
    and then, and what it raises ends the loading.
    """

    wiring: Wiring
    connection: Connection
    rebuild: Rebuild
    clock: Clock
    read_capacity: float | None
    skip_unfit: bool
    loaded: Callable[[int, int], None]
    watch: Callable[[], None]
    _ready: Queue[_Page | BaseException | None] = field(init=False)
    _segments: int = field(default=SEGMENTS, init=False)
    _stop: threading.Event = field(init=False)

    def __post_init__(self) -> None:
        self._ready = Queue(_PAGES_AHEAD)
        self._stop = threading.Event()

    def load(self) -> None:
        """Read and load. Raises BadItems, AwsError, DatabaseError, and what `watch` raises."""
        loader = Loader(self.connection, self.rebuild.table)
        to_do: Queue[Segment] = Queue()
        segments = loaded_segments.read(self.connection, self._name)
        self._segments = len(segments)
        for segment in segments:
            if not segment.finished:
                to_do.put(segment)
        again = retries.of_transactions(self.clock.sleep, self._stop.is_set)
        with _short_turns(), self._scanning(loader, to_do):
            for page in self._pages():
                again(self._load, loader, page)
                self.loaded(page.items, page.unfit)

    @property
    def _name(self) -> str:
        return self.rebuild.table.projection.name

    def _pages(self) -> Iterator[_Page]:
        """The pages as they come, until every scanner is at its end."""
        scanning = _SCANNERS
        while scanning:
            self.watch()
            try:
                page = self._ready.get(timeout=_LOOK_SECONDS)
            except Empty:
                continue
            if isinstance(page, BaseException):
                raise page
            if page is None:
                scanning -= 1
            else:
                yield page

    def _load(self, loader: Loader, page: _Page) -> None:
        try:
            loader.load(page.chunk)
            loaded_segments.write(self.connection, self._name, page.segment)
            self.connection.commit()
        except TransactionConflict:
            self.connection.rollback()
            raise

    @contextmanager
    def _scanning(self, loader: Loader, to_do: Queue[Segment]) -> Iterator[None]:
        pace = ScanPace(self.read_capacity, self.clock.monotonic, self._wait)
        scanners = [
            threading.Thread(target=self._scan, args=(loader, to_do, pace), name=f"scan-{number}", daemon=True)
            for number in range(_SCANNERS)
        ]
        for scanner in scanners:
            scanner.start()
        try:
            yield
        finally:
            self._stop.set()
            for scanner in scanners:
                scanner.join()

    def _wait(self, seconds: float) -> None:
        """A pause of a scanner. Raises _Stopped if it is to end: it would try again and again otherwise."""
        if self._stop.wait(seconds):
            raise _Stopped

    def _scan(self, loader: Loader, to_do: Queue[Segment], pace: ScanPace) -> None:
        """Read segments until there is none left."""
        try:
            while not self._stop.is_set():
                self._scan_segment(loader, to_do.get_nowait(), pace)
        except Empty:
            self._hand_over(None)
        except BaseException as error:  # noqa: BLE001 -- handed to the caller, who raises it
            self._hand_over(error)

    def _scan_segment(self, loader: Loader, segment: Segment, pace: ScanPace) -> None:
        name = self.wiring.environment.table
        after = None if segment.last_key is None else encode_key(segment.last_key)
        for page in scan_segment(self.wiring.dynamodb, name, segment.number, self._segments, after, pace):
            segment = replace(
                segment,
                last_key=segment.last_key if page.last_key is None else decode_item(page.last_key),
                finished=page.last_key is None,
                items=segment.items + len(page.items),
            )
            self._hand_over(self._made(loader, segment, page))
            if self._stop.is_set():
                return

    def _made(self, loader: Loader, segment: Segment, page: ScanPage) -> _Page:
        projection = self.rebuild.table.projection
        rows, unfit = snapshot_rows(projection, page.items, self.clock.now())
        if unfit and not self.skip_unfit:
            raise BadItems(projection, unfit)
        return _Page(loader.chunk(rows), segment, len(page.items), len(unfit))

    def _hand_over(self, page: _Page | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                return self._ready.put(page, timeout=_LOOK_SECONDS)
            except Full:
                continue
        return None


@contextmanager
def _short_turns() -> Iterator[None]:
    """Sending a page takes dozens of short turns of the interpreter, each of which waits for a long one of decoding."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _key(projection: Projection, item: Item) -> str:
    return ", ".join(f"{column.attribute} {item.get(column.attribute)!s}" for column in projection.keys)
