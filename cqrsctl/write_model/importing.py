"""Importing products: many rows, in parallel, in constant memory, each product's rows in the file's order.

Every worker has a queue of its own, and a product's rows all go to the same worker; so they are written in the
order of the file, whatever the other workers do.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cqrsctl import retries
from cqrsctl.aws import ApiCall
from cqrsctl.errors import TransientAwsError
from cqrsctl.write_model.product import InvalidProduct, Product, product
from cqrsctl.write_model.products import ConditionFailed, Existence, Put
from cqrsctl.write_model.table import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cqrsctl.write_model.import_rows import Reject, SourceRow

BATCH = 25
"""BatchWriteItem takes at most 25 items, no two of the same key (DynamoDB API reference)."""
_QUEUE = 4 * BATCH
_ROWS_A_STEP = 16


@dataclass(slots=True)
class ImportProgress:
    """How far an import is. `line` is the last line read, `skipped` counts products that already existed."""

    imported: int = 0
    skipped: int = 0
    rejected: int = 0
    line: int = 0
    _unfinished: set[int] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self, line: int) -> None:
        self._unfinished.add(line)
        self.line = line

    def reject(self, line: int) -> None:
        self.rejected += 1
        self._unfinished.discard(line)

    def finish(self, lines: Iterable[int], *, skipped: bool = False) -> None:
        """Count rows that are written, or skipped."""
        with self._lock:
            for line in lines:
                self._unfinished.discard(line)
                self.skipped += skipped
                self.imported += not skipped

    @property
    def resume_line(self) -> int:
        """The first line that is not done: an import from there on misses nothing. Read it once no worker works."""
        return min(self._unfinished, default=self.line + 1)


class Importer:
    """Writes products to the table with a number of workers; with `if_absent` only those that do not exist yet."""

    def __init__(
        self, client: Any, table: str, workers: int, progress: ImportProgress, *, if_absent: bool = False
    ) -> None:
        self._client = client
        self._if_absent = if_absent
        self._table = table
        self._progress = progress
        self._failed = threading.Event()
        self._stopped = threading.Event()
        self._failures: list[BaseException] = []
        self._queues: list[queue.Queue[_Entry | None]] = [queue.Queue(_QUEUE) for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._work, args=(q,), name=f"import-{index}", daemon=True)
            for index, q in enumerate(self._queues)
        ]

    def run(
        self, rows: Iterable[SourceRow], reject: Callable[[Reject], None], step: Callable[[ImportProgress], None]
    ) -> None:
        """Import all rows; bad ones go to `reject`. `step` is called now and then with the progress.

        Raises what a worker met, after all workers have ended. On KeyboardInterrupt the batches under way are
        finished first, as far as AWS answers in time.
        """
        for thread in self._threads:
            thread.start()
        try:
            self._feed(rows, reject, step)
        except BaseException:
            self._stopped.set()
            raise
        finally:
            self._finish()
        if self._failures:
            raise self._failures[0]

    def _feed(
        self, rows: Iterable[SourceRow], reject: Callable[[Reject], None], step: Callable[[ImportProgress], None]
    ) -> None:
        for number, row in enumerate(rows):
            self._progress.begin(row.line)
            try:
                self._hand_out(_Entry(row.line, product(row.fields())))
            except InvalidProduct as invalid:
                reject(row.rejected(invalid.message))
                self._progress.reject(row.line)
            if self._failed.is_set():
                return
            if number % _ROWS_A_STEP == 0:
                step(self._progress)

    def _hand_out(self, entry: _Entry) -> None:
        worker = self._queues[entry.product.product_id % len(self._queues)]
        while not self._failed.is_set():
            try:
                worker.put(entry, timeout=1)
            except queue.Full:
                continue
            return

    def _finish(self) -> None:
        for worker, thread in zip(self._queues, self._threads, strict=True):
            while thread.is_alive():
                try:
                    worker.put(None, timeout=0.2)
                except queue.Full:
                    continue
                break
        for thread in self._threads:
            thread.join()

    def _work(self, entries: queue.Queue[_Entry | None]) -> None:
        batch: dict[int, _Entry] = {}
        try:
            while (entry := entries.get()) is not None and not self._stopped.is_set():
                if self._if_absent:
                    self._put_if_absent(entry)
                    continue
                if entry.product.product_id in batch or len(batch) == BATCH:
                    self._write(batch)
                    batch = {}
                batch[entry.product.product_id] = entry
                if self._failed.is_set():
                    return
            if batch:
                self._write(batch)
        except BaseException as error:  # noqa: BLE001 -- handed to the caller, who raises it
            self._failures.append(error)
            self._failed.set()

    def _put_if_absent(self, entry: _Entry) -> None:
        put = Put(self._table, entry.product, Existence.ABSENT)
        try:
            for attempt in retries.of_calls(self._pause):
                with attempt:
                    put.make(self._client, sent_before=attempt.retry_state.attempt_number > 1)
        except ConditionFailed:
            self._progress.finish([entry.line], skipped=True)
        else:
            self._progress.finish([entry.line])

    def _write(self, batch: dict[int, _Entry]) -> None:
        """Write a batch; what AWS leaves unprocessed is sent again, with growing random pauses."""
        retries.of_calls(self._pause)(self._write_some, batch)

    def _pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _write_some(self, batch: dict[int, _Entry]) -> None:
        """Send a batch, and leave in it what was not processed."""
        requests = [{"PutRequest": {"Item": entry.product.item()}} for entry in batch.values()]
        call = ApiCall("dynamodb", "BatchWriteItem", {"RequestItems": {self._table: requests}})
        unprocessed = call.make(self._client).get("UnprocessedItems", {}).get(self._table, [])
        left = {int(request["PutRequest"]["Item"][KEY]["N"]) for request in unprocessed}
        self._progress.finish([batch.pop(key).line for key in batch.keys() - left])
        if left:
            raise TransientAwsError(
                f"AWS left {len(left)} items unprocessed, time and again.",
                hint="The table's capacity is used up: raise it, or use fewer --workers.",
                code="unprocessed_items",
            )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A product to be written, and the line where it stands."""

    line: int
    product: Product
