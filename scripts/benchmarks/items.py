"""A stand-in for a DynamoDB table of many products that is only read: Scan, also in segments, and reads by key.

The items come in an order that has nothing to do with their ids, as DynamoDB's hash order has not. All are rendered
beforehand into a file, of which an answer is a piece. The table's stream has one open shard, which stays empty.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
from array import array
from bisect import bisect_right
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import server

from cqrsctl.write_model import sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

TABLE = "Products"
STREAM_ARN = f"arn:aws:dynamodb:eu-central-1:123456789012:table/{TABLE}/stream/2026-03-01T10:00:00.000"
PAGE_BYTES = 1_048_576
_READ_UNIT_BYTES = 4_096
_SHARD = "shardId-00000000000000000000-00000000"
_SEPARATOR = b", "

Fields = tuple[int, str, "Decimal", bool]


def products(count: int) -> Iterator[Fields]:
    """The table's products in the order of a scan: id, name, price, whether it is out of stock."""
    ids = _ids(count)
    for product_id, product in zip(ids, sample.products(count), strict=True):
        yield product_id, product.name, product.price, product.out_of_stock


def _ids(count: int) -> array[int]:
    ids = array("Q", range(1, count + 1))
    random.Random(1).shuffle(ids)
    return ids


class ItemsPlayer:
    """Answers the calls that a rebuild and a verification make."""

    def __init__(self, count: int, file: BinaryIO) -> None:
        self._file = file
        self._count = count
        self._ids = _ids(count)
        self._place = array("Q", bytes(8 * (count + 1)))  # of an id in the order of the scan
        self._begin = array("Q", [0])  # of an item in the file
        self._bytes = array("Q", [0])  # of all items before one, as DynamoDB counts them
        for place, (product_id, name, price, out_of_stock) in enumerate(products(count)):
            text = json.dumps(
                {
                    "ProductId": {"N": str(product_id)},
                    "Name": {"S": name},
                    "Price": {"N": str(price)},
                    "OutOfStock": {"BOOL": out_of_stock},
                },
                ensure_ascii=False,
            ).encode()
            file.write(text + _SEPARATOR)
            self._place[product_id] = place
            self._begin.append(self._begin[-1] + len(text) + len(_SEPARATOR))
            self._bytes.append(self._bytes[-1] + _item_bytes(str(product_id), name, str(price)))
        file.flush()

    def answer(self, operation: str, parameters: dict[str, Any]) -> bytes:
        """The body of an answer."""
        match operation:
            case "Scan":
                return self._scanned(parameters)
            case "BatchGetItem":
                return self._found(parameters)
            case "GetRecords":
                return b'{"Records": [], "NextShardIterator": "tip"}'
            case "GetShardIterator":
                return b'{"ShardIterator": "tip"}'
            case "DescribeStream":
                return _DESCRIBED_STREAM
            case "DescribeTable":
                return json.dumps({"Table": {**_TABLE, "ItemCount": self._count}}).encode()
            case _:
                raise ValueError(f"{operation} is not played")

    def _scanned(self, parameters: dict[str, Any]) -> bytes:
        """A page of a segment: at most 1 MB as DynamoDB counts, and at most so many items as were asked for."""
        segment, segments = parameters.get("Segment", 0), parameters.get("TotalSegments", 1)
        begin, end = (self._count * number // segments for number in (segment, segment + 1))
        if after := parameters.get("ExclusiveStartKey"):
            begin = self._place[int(after["ProductId"]["N"])] + 1
        fits = bisect_right(self._bytes, self._bytes[begin] + PAGE_BYTES) - 1
        stop = min(end, fits, begin + parameters.get("Limit", end))
        units = -(-(self._bytes[stop] - self._bytes[begin]) // _READ_UNIT_BYTES)
        rest: dict[str, Any] = {
            "Count": stop - begin,
            "ScannedCount": stop - begin,
            "ConsumedCapacity": {
                "TableName": TABLE,
                "CapacityUnits": units if parameters.get("ConsistentRead") else units / 2,
            },
        }
        if stop < end:
            rest["LastEvaluatedKey"] = {"ProductId": {"N": str(self._ids[stop - 1])}}
        return b'{"Items": [%b], %b' % (self._items(begin, stop), json.dumps(rest)[1:].encode())

    def _found(self, parameters: dict[str, Any]) -> bytes:
        ids = [int(key["ProductId"]["N"]) for key in parameters["RequestItems"][TABLE]["Keys"]]
        places = [self._place[product_id] for product_id in ids if 0 < product_id <= self._count]
        items = _SEPARATOR.join(self._items(place, place + 1) for place in places)
        return b'{"Responses": {"%b": [%b]}, "UnprocessedKeys": {}}' % (TABLE.encode(), items)

    def _items(self, begin: int, end: int) -> bytes:
        size = self._begin[end] - self._begin[begin]
        return os.pread(self._file.fileno(), size, self._begin[begin]).removesuffix(_SEPARATOR)


def _item_bytes(product_id: str, name: str, price: str) -> int:
    """DynamoDB counts names and text in UTF-8, half a byte a digit and one more, and one for a boolean."""
    names = sum(map(len, ("ProductId", "Name", "Price", "OutOfStock")))
    return names + len(name.encode()) + sum((len(number) + 1) // 2 + 1 for number in (product_id, price)) + 1


_TABLE: dict[str, Any] = {
    "TableName": TABLE,
    "TableStatus": "ACTIVE",
    "KeySchema": [{"AttributeName": "ProductId", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "ProductId", "AttributeType": "N"}],
    "LatestStreamArn": STREAM_ARN,
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
}
_DESCRIBED_STREAM = json.dumps(
    {
        "StreamDescription": {
            "StreamArn": STREAM_ARN,
            "StreamStatus": "ENABLED",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "KeySchema": _TABLE["KeySchema"],
            "Shards": [
                {"ShardId": _SHARD, "SequenceNumberRange": {"StartingSequenceNumber": "4421584500000000000000"}}
            ],
        }
    }
).encode()


@contextmanager
def playing(count: int) -> Iterator[str]:
    """A player's endpoint URL, once all its items are rendered."""
    with server.playing(__file__, count) as url:
        yield url


if __name__ == "__main__":
    with tempfile.TemporaryFile() as rendered:
        asyncio.run(server.serve(ItemsPlayer(int(sys.argv[1]), rendered)))
