"""Importing against an endpoint that throttles, leaves items unprocessed, or fails."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from cqrsctl.errors import AwsError, TransientAwsError
from cqrsctl.write_model.import_rows import SourceRow
from cqrsctl.write_model.importing import BATCH, Importer, ImportProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.write_model.import_rows import Reject


class Table:
    """The client's BatchWriteItem, keeping what is written and its order for each key."""

    def __init__(self, answer: Callable[[int, list[Any]], list[Any]] | None = None) -> None:
        self.history: dict[str, list[str]] = {}
        self.sizes: list[int] = []
        self._answer = answer or (lambda _, requests: [])
        self._lock = threading.Lock()

    def batch_write_item(self, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803 -- boto3's name
        with self._lock:
            requests = list(RequestItems["Products"])
            keys = [request["PutRequest"]["Item"]["ProductId"]["N"] for request in requests]
            assert len(set(keys)) == len(keys) <= BATCH
            left = self._answer(len(self.sizes), requests)
            self.sizes.append(len(requests))
            for request in requests:
                if request not in left:
                    item = request["PutRequest"]["Item"]
                    self.history.setdefault(item["ProductId"]["N"], []).append(item["Name"]["S"])
            return {"UnprocessedItems": {"Products": left} if left else {}}


def source(count: int, ids: int) -> Iterator[SourceRow]:
    for line in range(count):
        yield SourceRow(line + 2, {"ProductId": str(line % ids + 1), "Name": str(line), "Price": "1"})


def run(table: Table, rows: Iterator[SourceRow], workers: int = 4) -> tuple[ImportProgress, list[Reject]]:
    progress = ImportProgress()
    rejects: list[Reject] = []
    Importer(table, "Products", workers, progress).run(rows, rejects.append, lambda _: None)
    return progress, rejects


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_rows_of_a_product_are_written_in_the_files_order(workers: int) -> None:
    table = Table()

    progress, _ = run(table, source(2_000, 60), workers)

    assert progress.imported == 2_000
    assert table.history == {
        str(key + 1): [str(line) for line in range(2_000) if line % 60 == key] for key in range(60)
    }


def test_unprocessed_items_are_sent_again_in_order() -> None:
    table = Table(lambda call, requests: requests[: len(requests) // 2] if call % 3 else requests[-1:])

    progress, _ = run(table, source(500, 70))

    assert progress.imported == 500
    assert table.history == {str(key + 1): [str(line) for line in range(500) if line % 70 == key] for key in range(70)}


def test_throttling_that_never_ends_is_an_error_after_all_workers_have_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Importer, "_pause", lambda *_: None)
    before = threading.active_count()

    with pytest.raises(TransientAwsError, match="unprocessed") as caught:
        run(Table(lambda _, requests: requests), source(5_000, 5_000))

    assert "fewer --workers" in (caught.value.hint or "")
    assert threading.active_count() == before


def test_a_refusal_stops_the_import() -> None:
    def refuse(call: int, _: list[Any]) -> list[Any]:
        if call == 5:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "BatchWriteItem")
        return []

    table = Table(refuse)
    with pytest.raises(AwsError, match="access denied"):
        run(table, source(100_000, 100_000))

    assert sum(table.sizes) < 10_000


def test_an_interruption_finishes_the_batches_under_way() -> None:
    def interrupted() -> Iterator[SourceRow]:
        yield from source(300, 300)
        raise KeyboardInterrupt

    table, progress = Table(), ImportProgress()

    with pytest.raises(KeyboardInterrupt):
        Importer(table, "Products", 2, progress).run(interrupted(), lambda _: None, lambda _: None)

    assert progress.imported == sum(map(len, table.history.values()))
    assert progress.line == 301


def test_bad_rows_are_rejected_with_their_line() -> None:
    rows = iter([SourceRow(2, {"ProductId": "x"}), SourceRow(3, {}, "2 cells"), *source(1, 1)])

    progress, rejects = run(Table(), rows)

    assert progress.imported == 1
    assert [(reject.line, reject.reason) for reject in rejects] == [(2, "Name and Price missing"), (3, "2 cells")]
