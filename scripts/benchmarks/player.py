"""A stand-in for DynamoDB Streams that plays records rendered beforehand, as fast as they can be asked for.

Each shard is closed: its last page has no next iterator. A third of the records change a product that was inserted
before.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import server

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_RECORDS = 1_000
TABLE = "Products"
STREAM_ARN = f"arn:aws:dynamodb:eu-central-1:123456789012:table/{TABLE}/stream/2026-03-01T10:00:00.000"
_FIRST_NUMBER = 4_421_584_500_000_000_000_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a page stands in the file."""

    begin: int
    size: int


def bodies(shards: int, records: int, seed: int = 1) -> Iterator[tuple[int, bytes]]:
    """The bodies of all pages: the shard's number and the body of GetRecords, each shard's in order."""
    for shard in range(shards):
        rng = random.Random(seed * 1_000 + shard)
        inserted: list[int] = []
        here = records // shards + (shard < records % shards)
        for begin in range(0, here, PAGE_RECORDS):
            end = min(begin + PAGE_RECORDS, here)
            page = [_record(rng, inserted, shard, shards, number) for number in range(begin, end)]
            iterator = f', "NextShardIterator": "{shard}|{end // PAGE_RECORDS}"' if end < here else ""
            yield shard, f'{{"Records": [{", ".join(page)}]{iterator}}}'.encode()


def _record(rng: random.Random, inserted: list[int], shard: int, shards: int, number: int) -> str:
    again = bool(inserted) and number % 3 == 2
    product_id = rng.choice(inserted) if again else len(inserted) * shards + shard
    key = f'"ProductId": {{"N": "{product_id}"}}'
    new = f'"NewImage": {{{key}, {_values(rng)}}}'
    if again:
        images = f'{new}, "OldImage": {{{key}, {_values(rng)}}}'
    else:
        inserted.append(product_id)
        images = new
    return (
        f'{{"eventID": "{rng.getrandbits(128):032x}", "eventName": "{"MODIFY" if again else "INSERT"}",'
        ' "eventVersion": "1.1", "eventSource": "aws:dynamodb", "awsRegion": "eu-central-1", "dynamodb":'
        f' {{"ApproximateCreationDateTime": {1_790_000_000 + number // 500}.0, "Keys": {{{key}}}, {images},'
        f' "SequenceNumber": "{_FIRST_NUMBER + number * 100 + shard}", "SizeBytes": {250 if again else 150},'
        ' "StreamViewType": "NEW_AND_OLD_IMAGES"}}'
    )


def _values(rng: random.Random) -> str:
    name = f"Oak Desk Lamp {rng.randrange(10**6)}, brass, {rng.choice(['small', 'medium', 'large'])}"
    price = f"{rng.randrange(10**5)}.{rng.randrange(100):02d}"
    flag = "true" if rng.random() < 0.2 else "false"
    return f'"Name": {{"S": "{name}"}}, "Price": {{"N": "{price}"}}, "OutOfStock": {{"BOOL": {flag}}}'


class Player:
    """Answers the calls that a projector makes."""

    def __init__(self, shards: int, records: int, file: BinaryIO) -> None:
        self._file = file
        self._pages: list[list[Stretch]] = [[] for _ in range(shards)]
        begin = 0
        for shard, body in bodies(shards, records):
            file.write(body)
            self._pages[shard].append(Stretch(begin, len(body)))
            begin += len(body)
        file.flush()

    def answer(self, operation: str, parameters: dict[str, Any]) -> bytes:
        """The body of an answer."""
        match operation:
            case "GetRecords":
                shard, page = map(int, parameters["ShardIterator"].split("|"))
                if not self._pages[shard]:
                    return b'{"Records": []}'
                stretch = self._pages[shard][page]
                return os.pread(self._file.fileno(), stretch.size, stretch.begin)
            case "GetShardIterator":
                return json.dumps({"ShardIterator": f"{int(parameters['ShardId'][-8:])}|0"}).encode()
            case "DescribeStream":
                return self._described(parameters.get("ExclusiveStartShardId"))
            case "DescribeTable":
                return json.dumps({"Table": _TABLE}).encode()
            case _:
                raise ValueError(f"{operation} is not played")

    def _described(self, after: str | None) -> bytes:
        first = 0 if after is None else int(after[-8:]) + 1
        listed = range(first, min(first + 100, len(self._pages)))
        description: dict[str, Any] = {
            "StreamArn": STREAM_ARN,
            "StreamStatus": "DISABLED",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "KeySchema": _TABLE["KeySchema"],
            "Shards": [
                {
                    "ShardId": _shard_id(shard),
                    "SequenceNumberRange": {
                        "StartingSequenceNumber": str(_FIRST_NUMBER),
                        "EndingSequenceNumber": str(_FIRST_NUMBER * 2),
                    },
                }
                for shard in listed
            ],
        }
        if listed.stop < len(self._pages):
            description["LastEvaluatedShardId"] = _shard_id(listed.stop - 1)
        return json.dumps({"StreamDescription": description}).encode()


_TABLE: dict[str, Any] = {
    "TableName": TABLE,
    "TableStatus": "ACTIVE",
    "ItemCount": 0,
    "KeySchema": [{"AttributeName": "ProductId", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "ProductId", "AttributeType": "N"}],
    "LatestStreamArn": STREAM_ARN,
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
}


def _shard_id(shard: int) -> str:
    return f"shardId-{shard:020d}-{shard:08d}"


@contextmanager
def playing(shards: int, records: int) -> Iterator[str]:
    """A player's endpoint URL, once all its pages are rendered."""
    with server.playing(__file__, shards, records) as url:
        yield url


if __name__ == "__main__":
    with tempfile.TemporaryFile() as recorded:
        asyncio.run(server.serve(Player(int(sys.argv[1]), int(sys.argv[2]), recorded)))
