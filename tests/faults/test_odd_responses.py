"""Something that is not DynamoDB answers with success: the installed command takes it for none."""

from __future__ import annotations

import json
import zlib
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Cqrsctl
from tests.odd_endpoint import JSON, Reply, json_reply, serving

if TYPE_CHECKING:
    from pathlib import Path

HTML = Reply(b"<html>Sign in to the network</html>", content_type="text/html")
WRONG_CHECKSUM = Reply(b"{}", headers=(("x-amz-crc32", "1"),))
ODD = {
    "a page": HTML,
    "nothing": Reply(b""),
    "cut short": Reply(b'{"Table": {"TableName": "Pro'),
    "wrong checksum": WRONG_CHECKSUM,
    "another type": Reply(b"{}", content_type="text/html"),
}
COMMANDS = [
    ("product", "put", "7", "--name", "Lamp", "--price", "1"),
    ("product", "get", "7"),
    ("product", "delete", "7"),
    ("table", "status"),
]
TABLE = {
    "TableName": "Products",
    "TableStatus": "ACTIVE",
    "AttributeDefinitions": [{"AttributeName": "ProductId", "AttributeType": "N"}],
    "KeySchema": [{"AttributeName": "ProductId", "KeyType": "HASH"}],
}


def command(directory: Path, url: str) -> Cqrsctl:
    return Cqrsctl(directory, {"CQRSCTL_ENDPOINT_URL": url, "CQRSCTL_STATE_DIR": str(directory)})


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_success_that_is_not_of_dynamodb_is_an_error(tmp_path: Path, odd: str, arguments: tuple[str, ...]) -> None:
    with serving(lambda *_: ODD[odd]) as url:
        result = command(tmp_path, url)(*arguments)

    assert result.code == 4, result
    assert "the response is not valid: is this endpoint AWS?" in result.err
    assert result.out == ""


def test_an_answer_without_what_is_asked_for_is_an_error(tmp_path: Path) -> None:
    with serving(lambda *_: json_reply({})) as url:
        result = command(tmp_path, url)("table", "status")

    assert result.code == 4, result
    assert "dynamodb DescribeTable: Table is missing" in result.err


@pytest.mark.parametrize("checksum", [True, False])
def test_an_empty_object_is_a_valid_answer_to_a_put(tmp_path: Path, checksum: bool) -> None:
    """DynamoDB Local sends no checksum."""
    headers = (("x-amz-crc32", str(zlib.crc32(b"{}"))),) if checksum else ()
    with serving(lambda *_: Reply(b"{}", content_type=JSON, headers=headers)) as url:
        result = command(tmp_path, url).ok(*COMMANDS[0])

    assert "Product 7 is created." in result.err


def test_an_import_counts_what_dynamodb_took_and_waits_out_the_rest(tmp_path: Path) -> None:
    calls = count()
    written: set[str] = set()

    def answer(operation: str, parameters: dict[str, Any]) -> Reply:
        if operation == "DescribeTable":
            return json_reply({"Table": TABLE})
        number = next(calls)
        if number % 4 != 3:
            return (HTML, Reply(b""), WRONG_CHECKSUM)[number % 4]
        ((_, requests),) = parameters["RequestItems"].items()
        written.update(request["PutRequest"]["Item"]["ProductId"]["N"] for request in requests)
        return json_reply({})

    rows = "\n".join(json.dumps({"ProductId": n, "Name": "n", "Price": 1, "OutOfStock": False}) for n in range(60))
    with serving(answer) as url:
        result = command(tmp_path, url).ok("product", "import", "-", "--format", "jsonl", "--workers", "2", stdin=rows)

    assert result.err.startswith("imported 60, rejected 0")
    assert len(written) == 60
