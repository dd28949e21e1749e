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
    """The client's BatchWriteItem and PutItem, keeping what is written and its order for each key."""

    def __init__(self, answer: Callable[[int, list[Any]], list[Any]] | None = None) -> None:
        self.history: dict[str, list[str]] = {}
        self.sizes: list[int] = []
        self.items: dict[str, Any] = {}
        self.lost: set[str] = set()
        """The keys whose put is done, with an answer that is lost."""
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

    def put_item(self, Item: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803 -- boto3's name
        with self._lock:
            key = Item["ProductId"]["N"]
            self.sizes.append(1)
            if key in self.history:
                code = "ConditionalCheckFailedException"
                raise ClientError({"Error": {"Code": code, "Message": ""}, "Item": self.items[key]}, "PutItem")
            self.history[key] = [Item["Name"]["S"]]
            self.items[key] = Item
            if key in self.lost:
                status = {"HTTPStatusCode": 500}
                raise ClientError({"Error": {"Code": "InternalServerError"}, "ResponseMetadata": status}, "PutItem")
            return {}


def source(count: int, ids: int) -> Iterator[SourceRow]:
    for line in range(count):
        yield SourceRow(line + 2, {"ProductId": str(line % ids + 1), "Name": str(line), "Price": "1"})


def run(
    table: Table, rows: Iterator[SourceRow], workers: int = 4, *, if_absent: bool = False
) -> tuple[ImportProgress, list[Reject]]:
    progress = ImportProgress()
    rejects: list[Reject] = []
    importer = Importer(table, "Products", workers, progress, if_absent=if_absent)
    importer.run(rows, rejects.append, lambda _: None)
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

    table, progress = Table(refuse), ImportProgress()
    with pytest.raises(AwsError, match="access denied"):
        Importer(table, "Products", 4, progress).run(source(100_000, 100_000), lambda _: None, lambda _: None)

    assert sum(table.sizes) < 10_000
    written = {int(line) + 2 for lines in table.history.values() for line in lines}
    assert set(range(2, progress.resume_line)) <= written
    assert progress.resume_line not in written


@pytest.mark.parametrize("stopped_at", [1, 30, 299, 900])
def test_all_lines_before_the_one_to_resume_from_are_done_and_the_rest_is_imported_from_there(stopped_at: int) -> None:
    def interrupted() -> Iterator[SourceRow]:
        for row in source(1_000, 1_000):
            yield SourceRow(row.line, {}) if row.line % 7 == 0 else row
            if row.line == stopped_at + 2:
                raise KeyboardInterrupt

    table, progress = Table(), ImportProgress()
    with pytest.raises(KeyboardInterrupt):
        Importer(table, "Products", 3, progress).run(interrupted(), lambda _: None, lambda _: None)
    before = {int(line) + 2 for lines in table.history.values() for line in lines}
    run(table, (row for row in source(1_000, 1_000) if row.line >= progress.resume_line))

    assert {line for line in range(2, progress.resume_line) if line % 7} <= before
    assert 2 <= progress.resume_line <= stopped_at + 3
    assert {int(line) + 2 for lines in table.history.values() for line in lines} >= {
        line for line in range(2, 1_002) if line % 7 or line >= progress.resume_line
    }


def test_products_that_exist_are_skipped_if_only_absent_ones_are_to_be_put() -> None:
    table = Table()
    run(table, source(10, 10))
    table.items = {str(key): {"ProductId": {"N": str(key)}, "Name": {"S": "old"}} for key in range(1, 11)}

    progress, _ = run(table, source(40, 20), if_absent=True)

    assert (progress.imported, progress.skipped, progress.rejected) == (10, 30, 0)
    assert progress.resume_line == 42
    assert table.history == {str(key): [str(key - 1)] for key in range(1, 21)}


def test_a_put_whose_answer_was_lost_counts_as_imported_and_not_as_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Importer, "_pause", lambda *_: None)
    table = Table()
    table.lost = {"3"}

    progress, _ = run(table, source(5, 5), if_absent=True)

    assert (progress.imported, progress.skipped, table.sizes) == (5, 0, [1] * 6)


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
