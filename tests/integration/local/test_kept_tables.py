"""The emulator's tables outlive its process: stopped, or killed in the middle of writing."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
import botocore.exceptions
import psutil
import pytest

from cqrsctl.local import emulator, kept_tables, stack
from cqrsctl.local.journal import JournalDamaged
from cqrsctl.local.state import StackState
from tests.conftest import Cqrsctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from moto.dynamodb.models.table import Table

PRODUCTS = "ProductId,Name,Price,OutOfStock\n" + "".join(f"{number},Lamp {number},1.50,false\n" for number in range(20))
KEY = {"AttributeName": "Id", "KeyType": "HASH"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cqrsctl]:
    """The command with no stack yet; what it starts is ended afterwards."""
    yield Cqrsctl(tmp_path, {"CQRSCTL_STATE_DIR": str(tmp_path / "state")})
    stack.down(StackState(tmp_path / "state" / "local"), wipe=True)


class Emulator:
    """An emulator of its own, without a database."""

    def __init__(self, directory: Path) -> None:
        self.state = StackState(directory)
        self.kept = directory / emulator.JOURNAL

    def start(self) -> None:
        service = emulator.start(self.state)
        self.url = emulator.endpoint_url(service)
        self.tables, self.streams = self.client("dynamodb"), self.client("dynamodbstreams")

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=botocore.config.Config(retries={"max_attempts": 0}),
        )

    def stop(self) -> None:
        for service in self.state.services().values():
            service.stop()

    def kill(self) -> None:
        kill(self.state.services()[emulator.NAME].pid)

    def again(self) -> None:
        self.kill()
        self.start()

    def seen(self) -> dict[str, Any]:
        """All that can be asked of every table."""
        return {name: self._seen(name) for name in self.tables.list_tables()["TableNames"]}

    def records(self, arn: str) -> list[dict[str, Any]]:
        (shard,) = self.streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        asked = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = self.streams.get_shard_iterator(**asked)["ShardIterator"]
        found: list[dict[str, Any]] = self.streams.get_records(ShardIterator=iterator)["Records"]
        return found

    def _seen(self, name: str) -> dict[str, Any]:
        described = self.tables.describe_table(TableName=name)["Table"]
        on = "StreamSpecification" in described
        return {
            "table": described,
            "items": self.tables.scan(TableName=name)["Items"],
            "tags": self.tables.list_tags_of_resource(ResourceArn=described["TableArn"])["Tags"],
            "ttl": self.tables.describe_time_to_live(TableName=name)["TimeToLiveDescription"],
            "backups": self.tables.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"],
            "stream": on and self.streams.describe_stream(StreamArn=described["LatestStreamArn"])["StreamDescription"],
            "records": on and self.records(described["LatestStreamArn"]),
        }


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Emulator]:
    alone = Emulator(tmp_path)
    alone.start()
    yield alone
    alone.stop()


def kill(pid: int) -> None:
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([process], timeout=10)


def make(alone: Emulator, name: str, **more: Any) -> str:
    """Create a table with a stream; its stream's ARN."""
    created: str = alone.tables.create_table(
        TableName=name,
        KeySchema=[KEY],
        AttributeDefinitions=[{"AttributeName": "Id", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        **more,
    )["TableDescription"]["LatestStreamArn"]
    return created


def stopped(own: Cqrsctl) -> None:
    ended = own.ok("local", "down").err
    assert "All data is kept" in ended
    assert "gone" not in ended


def killed(own: Cqrsctl) -> None:
    kill(own.ok("local", "status", "-o", "json").json()[0]["pid"])


def killed_while_it_wrote(own: Cqrsctl) -> None:
    killed(own)
    with (own.directory / "state" / "local" / emulator.JOURNAL).open("a") as file:
        file.write('[["put","arn:aws:dynamodb:us-east-1:12345')


@pytest.mark.parametrize("end", [stopped, killed, killed_while_it_wrote])
def test_day_two_goes_on_where_day_one_ended(own: Cqrsctl, end: Callable[[Cqrsctl], None]) -> None:
    own.ok("local", "up")
    own.ok("table", "create")
    own.ok("product", "import", "-", stdin=PRODUCTS)
    own.ok("project", "--once")
    own.ok("product", "delete", "3")  # not projected before the end
    before = own.ok("stream", "status", "-o", "json").json()

    end(own)
    up = own.ok("local", "up")

    assert "gone" not in up.err
    assert own.ok("stream", "status", "-o", "json").json()["stream_arn"] == before["stream_arn"]
    assert own.ok("query", "count", "-o", "json").json() == {"count": 20}
    own.ok("product", "put", "7", "--name", "Desk", "--price", "19.90")
    assert "applied 2 changes" in own.ok("project", "--once").err
    assert own.ok("verify", "-o", "json").json() == []
    assert own.ok("query", "get", "7", "-o", "json").json()["Name"] == "Desk"
    assert own.ok("query", "count", "-o", "json").json() == {"count": 19}


def test_a_killed_emulator_has_all_that_it_confirmed(alone: Emulator) -> None:
    make(
        alone,
        "Full",
        Tags=[{"Key": "team", "Value": "shop"}],
        DeletionProtectionEnabled=True,
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": "alias/own"},
    )
    alone.tables.update_time_to_live(
        TableName="Full", TimeToLiveSpecification={"Enabled": True, "AttributeName": "Ends"}
    )
    alone.tables.update_continuous_backups(
        TableName="Full", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    alone.tables.tag_resource(
        ResourceArn=alone.tables.describe_table(TableName="Full")["Table"]["TableArn"],
        Tags=[{"Key": "cost", "Value": "7"}],
    )
    nested = {"L": [{"M": {"Deep": {"B": b"\0\xff"}, "$time": {"S": "today"}}}, {"NULL": True}]}
    alone.tables.put_item(TableName="Full", Item={"Id": {"N": "1"}, "B": {"B": b"\x01"}, "$bytes": nested})
    for amount in ("1", "2"):
        alone.tables.update_item(
            TableName="Full",
            Key={"Id": {"N": "2"}},
            UpdateExpression="ADD Price :more, Sizes :size",
            ExpressionAttributeValues={":more": {"N": amount}, ":size": {"NS": [amount]}},
        )
    put = [{"PutRequest": {"Item": {"Id": {"N": str(number)}, "Name": {"S": "Lampe ü"}}}} for number in range(10, 20)]
    alone.tables.batch_write_item(RequestItems={"Full": [*put, {"DeleteRequest": {"Key": {"Id": {"N": "1"}}}}]})
    alone.tables.execute_statement(Statement="""INSERT INTO "Full" VALUE {'Id': 30, 'Name': 'Desk'}""")
    make(alone, "Deleted")
    alone.tables.delete_table(TableName="Deleted")
    alone.tables.create_table(
        TableName="Sorted",
        KeySchema=[KEY, {"AttributeName": "At", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "Id", "AttributeType": "N"},
            {"AttributeName": "At", "AttributeType": "S"},
        ],
        ProvisionedThroughput={"ReadCapacityUnits": 3, "WriteCapacityUnits": 4},
        GlobalSecondaryIndexes=[
            {
                "IndexName": "ByTime",
                "KeySchema": [{"AttributeName": "At", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
                "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
            }
        ],
    )
    for at in "abc":
        alone.tables.put_item(TableName="Sorted", Item={"Id": {"N": "1"}, "At": {"S": at}})
    alone.tables.delete_item(TableName="Sorted", Key={"Id": {"N": "1"}, "At": {"S": "b"}})
    alone.tables.create_backup(TableName="Sorted", BackupName="one")
    make(alone, "Off")
    alone.tables.update_table(TableName="Off", StreamSpecification={"StreamEnabled": False})
    alone.tables.put_item(TableName="Off", Item={"Id": {"N": "1"}})
    before = alone.seen()
    assert [len(before[name]["items"]) for name in ("Full", "Sorted", "Off")] == [12, 2, 1]

    alone.again()

    assert alone.seen() == before
    by_time = {"KeyConditionExpression": "At = :at", "ExpressionAttributeValues": {":at": {"S": "a"}}}
    assert alone.tables.query(TableName="Sorted", IndexName="ByTime", **by_time)["Count"] == 1
    assert alone.tables.update_table(TableName="Full", DeletionProtectionEnabled=False)


def test_a_table_restored_from_another_is_kept_with_its_items(alone: Emulator) -> None:
    make(alone, "Products")
    alone.tables.put_item(TableName="Products", Item={"Id": {"N": "1"}})
    alone.tables.restore_table_to_point_in_time(
        SourceTableName="Products", TargetTableName="Copy", UseLatestRestorableTime=True
    )

    alone.again()

    assert alone.tables.scan(TableName="Copy")["Items"] == [{"Id": {"N": "1"}}]


def test_sequence_numbers_continue_and_another_stream_is_another(alone: Emulator) -> None:
    arn = make(alone, "Products")
    for number in "12":
        alone.tables.put_item(TableName="Products", Item={"Id": {"N": number}})
    alone.again()
    alone.tables.put_item(TableName="Products", Item={"Id": {"N": "3"}})
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in alone.records(arn)]
    assert numbers == list(range(numbers[0], numbers[0] + 3))

    for on in ({"StreamEnabled": False}, {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}):
        alone.tables.update_table(TableName="Products", StreamSpecification=on)
    alone.tables.put_item(TableName="Products", Item={"Id": {"N": "4"}})
    before = alone.seen()
    alone.again()

    assert alone.seen() == before
    assert before["Products"]["table"]["LatestStreamArn"] != arn
    assert [record["dynamodb"]["Keys"] for record in before["Products"]["records"]] == [{"Id": {"N": "4"}}]


def test_a_cancelled_transaction_leaves_nothing(alone: Emulator) -> None:
    make(alone, "Products")
    first = {"Put": {"TableName": "Products", "Item": {"Id": {"N": "1"}}}}
    refused = {
        "Put": {"TableName": "Products", "Item": {"Id": {"N": "2"}}, "ConditionExpression": "attribute_exists(Id)"}
    }
    with pytest.raises(botocore.exceptions.ClientError, match="cancelled"):
        alone.tables.transact_write_items(TransactItems=[first, refused])
    alone.tables.transact_write_items(TransactItems=[{"Put": {"TableName": "Products", "Item": {"Id": {"N": "3"}}}}])
    before = alone.seen()

    alone.again()

    assert alone.seen() == before
    assert before["Products"]["items"] == [{"Id": {"N": "3"}}]


def test_an_iterator_of_the_process_before_has_expired(alone: Emulator) -> None:
    arn = make(alone, "Products")
    shard = alone.streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = alone.streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="LATEST")
    alone.again()

    with pytest.raises(alone.streams.exceptions.ExpiredIteratorException):
        alone.streams.get_records(ShardIterator=iterator["ShardIterator"])


def test_what_later_changes_made_useless_leaves_the_journal(alone: Emulator) -> None:
    make(alone, "Products")
    alone.tables.update_table(TableName="Products", StreamSpecification={"StreamEnabled": False})
    for price in range(100):
        alone.tables.put_item(TableName="Products", Item={"Id": {"N": "1"}, "Price": {"N": str(price)}})
    before, lines = alone.seen(), alone.kept.read_text().count("\n")

    alone.again()

    assert lines > 100
    assert alone.kept.read_text().count("\n") == 3
    assert alone.seen() == before
    alone.again()
    assert alone.seen() == before


def test_a_line_that_cannot_be_read_is_an_error_that_says_what_to_do(alone: Emulator) -> None:
    make(alone, "Products")
    alone.kill()
    whole = alone.kept.read_text()
    alone.kept.write_text(whole.replace('"table"', '"table', 1))

    with pytest.raises(JournalDamaged) as caught:
        alone.start()

    assert f"{alone.kept}, line 2," in str(caught.value)
    assert "cqrsctl local down --wipe" in (caught.value.hint or "")
    alone.kept.write_text(whole + '[["put","arn:of:no:table",{}]]\n')
    with pytest.raises(Exception, match=r"tables\.journal, line 3, .*local down --wipe"):
        alone.start()
    alone.kept.write_text(whole)
    alone.start()
    assert list(alone.seen()) == ["Products"]


def test_a_change_that_cannot_be_written_is_not_confirmed(alone: Emulator) -> None:
    make(alone, "Products")
    service = alone.state.services()[emulator.NAME]
    limit = alone.kept.stat().st_size + 100
    psutil.Process(service.pid).rlimit(psutil.RLIMIT_FSIZE, (limit, limit))

    with pytest.raises(botocore.exceptions.HTTPClientError):
        alone.tables.put_item(TableName="Products", Item={"Id": {"N": "1"}})

    psutil.wait_procs([psutil.Process(service.pid)] if service.process() else [], timeout=10)
    assert "cannot be written" in alone.state.log(emulator.NAME).read_text()
    alone.start()
    assert alone.tables.scan(TableName="Products")["Items"] == []


def test_old_records_leave_a_stream_that_has_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_tables, "_LEAST_RECORDS", 2)
    now = datetime(2026, 6, 2, tzinfo=UTC)
    table = with_records([now - timedelta(hours=hours) for hours in (30, 25, 23, 2, 1)])

    kept_tables._trim(table, now)

    shard: Any = table.stream_shard
    assert [record.record["dynamodb"]["SequenceNumber"] for record in shard.items] == ["102", "103", "104"]
    assert shard.starting_sequence_number == 102
    kept_tables._trim(table, now + timedelta(days=9))
    assert len(shard.items) == 2


def with_records(times: list[datetime]) -> Table:
    settings = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    attributes = [{"AttributeName": "Id", "AttributeType": "N"}]
    table: Table = kept_tables._NewTable("T", "1", "us-east-1", schema=[KEY], attr=attributes, streams=settings)
    shard: Any = table.stream_shard
    shard.starting_sequence_number = 100
    for number, time in enumerate(times, 100):
        content = {"SequenceNumber": str(number), "ApproximateCreationDateTime": time.replace(tzinfo=None)}
        kept_tables._restore_record({"arn": table}, "arn", {"dynamodb": content})
    return table
