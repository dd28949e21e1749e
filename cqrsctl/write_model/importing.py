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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cqrsctl.write_model.import_rows import Reject, SourceRow

BATCH = 25
"""BatchWriteItem takes at most 25 items, no two of the same key (DynamoDB API reference)."""
_QUEUE = 4 * BATCH


@dataclass(slots=True)
class ImportProgress:
    """How far an import is. `line` is the last line read."""

    imported: int = 0
    rejected: int = 0
    line: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, imported: int) -> None:
        with self.lock:
            self.imported += imported


class Importer:
    """Writes products to the table with a number of workers."""

    def __init__(self, client: Any, table: str, workers: int, progress: ImportProgress) -> None:
        self._client = client
        self._table = table
        self._progress = progress
        self._failed = threading.Event()
        self._stopped = threading.Event()
        self._failures: list[BaseException] = []
        self._queues: list[queue.Queue[Product | None]] = [queue.Queue(_QUEUE) for _ in range(workers)]
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
        for row in rows:
            self._progress.line = row.line
            try:
                self._hand_out(product(row.fields()))
            except InvalidProduct as invalid:
                reject(row.rejected(invalid.message))
                self._progress.rejected += 1
            if self._failed.is_set():
                return
            step(self._progress)

    def _hand_out(self, entry: Product) -> None:
        worker = self._queues[entry.product_id % len(self._queues)]
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

    def _work(self, entries: queue.Queue[Product | None]) -> None:
        batch: dict[int, Product] = {}
        try:
            while (entry := entries.get()) is not None and not self._stopped.is_set():
                if entry.product_id in batch or len(batch) == BATCH:
                    self._write(batch)
                    batch = {}
                batch[entry.product_id] = entry
                if self._failed.is_set():
                    return
            if batch:
                self._write(batch)
        except BaseException as error:  # noqa: BLE001 -- handed to the caller, who raises it
            self._failures.append(error)
            self._failed.set()

    def _write(self, batch: dict[int, Product]) -> None:
        """Write a batch; what AWS leaves unprocessed is sent again, with growing random pauses."""
        requests = [{"PutRequest": {"Item": entry.item()}} for entry in batch.values()]
        retries.of_calls(self._pause)(self._write_some, requests)

    def _pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _write_some(self, requests: list[dict[str, Any]]) -> None:
        """Send requests, and leave in the list those that were not processed."""
        call = ApiCall("dynamodb", "BatchWriteItem", {"RequestItems": {self._table: requests}})
        left = call.make(self._client).get("UnprocessedItems", {}).get(self._table, [])
        self._progress.add(len(requests) - len(left))
        requests[:] = left
        if left:
            raise TransientAwsError(
                f"AWS left {len(left)} items unprocessed, time and again.",
                hint="The table's capacity is used up: raise it, or use fewer --workers. Import again afterwards.",
                code="unprocessed_items",
            )
