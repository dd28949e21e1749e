"""Records of all kinds of tables, by the installed command: never a traceback, a rounded value, or a lost neighbour."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from cqrsctl.read_model.connection import connect
from cqrsctl.write_model.table import describe
from tests.pipelines import MARK_GAP

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

GOOD: dict[str, Any] = {"Name": {"S": "Lamp"}, "Price": {"N": "19.90"}}
UNFIT: dict[int, dict[str, Any]] = {
    2: {"Name": {"S": "no price"}},
    3: {**GOOD, "Price": {"S": "19.90"}},
    4: {**GOOD, "Name": {"N": "5"}},
    5: {**GOOD, "OutOfStock": {"S": "false"}},
    6: {**GOOD, "Price": {"N": "12345678901234567890123456789012345678"}},
    7: {**GOOD, "Price": {"N": "0.00001"}},
    8: {**GOOD, "Name": {"S": "x" * 300}},
    9: {**GOOD, "Price": {"NULL": True}},
    10: {**GOOD, "Name": {"M": {"en": {"S": "Lamp"}}}},
    11: {**GOOD, "Name": {"B": b"Lamp"}},
}
FIT: dict[int, dict[str, Any]] = {
    1: GOOD,
    12: {**GOOD, "Name": {"S": "😀" * 255}},
    13: {**GOOD, "Name": {"S": "50 % \\ 'quoted' \"and\" \0 null, %s"}},
    14: {**GOOD, "Maker": {"M": {"City": {"S": "Ulm"}}}, "Tags": {"SS": ["a"]}, "Blob": {"B": b"\xff"}, "L": {"L": []}},
    15: {**GOOD, "Price": {"N": "-99999999999999.9999"}},
    16: {**GOOD, "Price": {"N": "1E+5"}},
    2**62: GOOD,
}

SKUS = (b"\x00\xff", b"'\\%s")
PLACE: dict[str, Any] = {"Place": {"M": {"Address": {"M": {"City": {"S": "Ulm"}}}}}}
LINE: dict[str, Any] = {
    "shard_id": "shard-1",
    "event": "INSERT",
    "created_at": "2026-11-23T10:00:00Z",
    "old_image": None,
}


def make_table(wiring: Wiring, **key: str) -> None:
    """A table with a stream; its key's attributes with their types, the sort key last."""
    wiring.dynamodb.create_table(
        TableName=wiring.environment.table,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in key.items()],
        KeySchema=[
            {"AttributeName": name, "KeyType": role} for name, role in zip(key, ("HASH", "RANGE"), strict=False)
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


def put(wiring: Wiring, item: dict[str, Any]) -> None:
    wiring.dynamodb.put_item(TableName=wiring.environment.table, Item=item)


def test_what_fits_is_there_to_the_digit_and_what_does_not_is_a_letter(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    make_table(wiring, ProductId="N")
    for number, item in sorted((UNFIT | FIT).items()):
        put(wiring, {"ProductId": {"N": str(number)}, **item})

    projected = cqrsctl.ok("project", "--once", "--on-error", "dead-letter", "-o", "json").json()

    assert (projected["rows"], projected["dead_lettered"]) == (len(FIT), len(UNFIT))
    rows = {row["ProductId"]: row for row in cqrsctl.ok("query", "list", "--limit", "100", "-o", "json").json()}
    assert {number: row["Name"] for number, row in rows.items()} == {n: item["Name"]["S"] for n, item in FIT.items()}
    assert rows[15]["Price"] == "-99999999999999.9999"
    assert rows[16]["Price"] == "100000.00"
    letters = cqrsctl.ok("dead-letter", "list", "-o", "json").json()
    assert [letter["key"] for letter in letters] == [f"ProductId {number}" for number in sorted(UNFIT)]
    verified = cqrsctl("verify", "-o", "json")
    assert verified.code == 7
    assert [row["kind"] for row in verified.json()] == ["misfit"] * len(UNFIT)
    hint = json.loads(verified.err.splitlines()[-1])["error"]["hint"]
    assert "cannot be repaired: fix the item" in hint
    assert "--repair" not in hint


def test_a_table_with_a_sort_key_is_refused_by_a_projection_without_it(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    make_table(wiring, ProductId="N", Warehouse="S")
    put(wiring, {"ProductId": {"N": "1"}, "Warehouse": {"S": "Ulm"}, **GOOD})

    result = cqrsctl("project", "--once", "--on-error", "dead-letter", "-o", "json")

    assert result.code == 3
    error = json.loads(result.err)["error"]
    assert error["code"] == "key_differs"
    assert "has the key ProductId and Warehouse, but projection product the key ProductId" in error["message"]


def test_binary_keys_and_nested_maps_are_projected_and_verified(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    make_table(wiring, Sku="B", Warehouse="S")
    (cqrsctl.directory / "cqrsctl.toml").write_text(
        """
        [[projections]]
        name = "stock"
        view = "Stock"
        columns = [
          { name = "Sku", type = "varbinary(8)", key = true },
          { name = "Warehouse", type = "varchar(20)", key = true },
          { name = "City", type = "varchar(20)", attribute = "Place.Address.City" },
          { name = "Place", type = "json" },
        ]
        """
    )
    stream_arn = describe(wiring.dynamodb, wiring.environment.table).stream_arn
    lines = []
    for number, sku in enumerate(SKUS):
        keys: dict[str, Any] = {"Sku": {"B": sku}, "Warehouse": {"S": "Süd"}}
        put(wiring, {**keys, **PLACE})
        keys["Sku"]["B"] = base64.b64encode(sku).decode()
        lines.append(
            json.dumps(
                {
                    **LINE,
                    "stream_arn": stream_arn,
                    "keys": keys,
                    "new_image": {**keys, **PLACE},
                    "sequence_number": f"1{number}",
                }
            )
        )

    # Not from the emulator's stream: moto encodes binary keys twice there.
    cqrsctl.ok("project", "--input", "-", stdin="\n".join(lines))

    cqrsctl.ok("verify")
    with connect(wiring.database) as connection:
        rows = connection.query("SELECT * FROM Stock ORDER BY Sku")
    assert [row["Sku"] for row in rows] == list(SKUS)
    assert {row["City"] for row in rows} == {"Ulm"}


def test_a_gap_ends_with_exit_6_and_is_shown_until_the_read_model_is_made_anew(
    cqrsctl: Cqrsctl, wiring: Wiring
) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "1")
    cqrsctl.ok("project", "--once")
    with connect(wiring.database) as connection:  # as the projector marks it where records were trimmed
        connection.execute(MARK_GAP)
        connection.commit()

    for _ in range(2):
        projecting = cqrsctl("project", "--once", "-o", "json")
        assert (projecting.code, json.loads(projecting.err)["error"]["code"]) == (6, "stream_gap")
    stream = cqrsctl.ok("stream", "status", "-o", "json")
    assert [shard["read"] for shard in stream.json()["shards"]] == ["gap"]
    read_model = cqrsctl.ok("read-model", "status")
    for told in (stream.err, read_model.err):
        assert "Gap: Projection product lost changes of shard" in told
    cqrsctl.ok("read-model", "drop", "--yes")
    assert cqrsctl.ok("project", "--once", "-o", "json").json()["rows"] == 1
    assert "Gap" not in cqrsctl.ok("read-model", "status").err
