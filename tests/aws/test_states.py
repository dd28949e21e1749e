"""The layer of states itself: what is in between, for how long, and how changes are refused meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.aws.api import Api
from tests.aws.states import States

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLE = {
    "TableName": "Products",
    "AttributeDefinitions": [{"AttributeName": "ProductId", "AttributeType": "N"}],
    "KeySchema": [{"AttributeName": "ProductId", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}
CLUSTER = {"DBClusterIdentifier": "products"}
MEMBER = {"DBInstanceIdentifier": "products-1"}


@pytest.fixture
def states() -> Iterator[States]:
    with mock_aws():
        yield States()


def client(states: States, service: str) -> Api:
    made = boto3.client(service, "eu-west-1", aws_access_key_id="key", aws_secret_access_key="secret")
    return Api(made, states)


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def test_a_table_is_being_created_changed_and_deleted_for_so_many_looks(states: States) -> None:
    dynamodb = client(states, "dynamodb")

    def status() -> str:
        return str(dynamodb.describe_table(TableName="Products")["Table"]["TableStatus"])

    assert dynamodb.create_table(**TABLE)["TableDescription"]["TableStatus"] == "CREATING"
    assert refusal(dynamodb.delete_table, TableName="Products") == "ResourceInUseException"
    assert [status(), status()] == ["CREATING", "ACTIVE"]
    dynamodb.delete_table(TableName="Products")
    assert status() == "DELETING"
    assert refusal(dynamodb.create_table, **TABLE) == "ResourceInUseException"
    assert refusal(dynamodb.describe_table, TableName="Products") == "ResourceNotFoundException"


def test_a_cluster_takes_one_change_after_the_other_and_none_while_it_is_deleted(states: States) -> None:
    rds = client(states, "rds")
    engine = {"Engine": "aurora-mysql"}
    rds.create_db_cluster(**CLUSTER, **engine, MasterUsername="admin", MasterUserPassword="a-password")
    rds.create_db_instance(**MEMBER, **CLUSTER, **engine, DBInstanceClass="db.r6g.large")

    assert refusal(rds.modify_db_cluster, **CLUSTER, DeletionProtection=True) == "InvalidDBClusterStateFault"
    assert [_status(rds), _status(rds)] == ["creating", "available"]
    members = [rds.describe_db_instances()["DBInstances"][0]["DBInstanceStatus"] for _ in range(3)]
    assert members == ["creating", "creating", "available"]
    rds.delete_db_instance(**MEMBER, SkipFinalSnapshot=True)
    assert refusal(rds.delete_db_instance, **MEMBER, SkipFinalSnapshot=True) == "InvalidDBInstanceState"
    rds.delete_db_cluster(**CLUSTER, SkipFinalSnapshot=True)
    assert _status(rds) == "deleting"


def test_things_of_one_name_in_two_regions_have_nothing_in_common(states: States) -> None:
    states.begin("UPDATING", "dynamodb", "us-east-1", "Products")
    dynamodb = client(states, "dynamodb")
    dynamodb._client.create_table(**TABLE)

    assert dynamodb.describe_table(TableName="Products")["Table"]["TableStatus"] == "ACTIVE"


def test_requests_are_throttled_as_the_service_does_it_and_sent_again_by_boto3(
    states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    states.throttle(monkeypatch, every=3)
    rds = client(states, "rds")

    for _ in range(4):
        rds.describe_db_clusters()

    assert states.refused == {"Throttling": 1}
    states.throttle(monkeypatch, every=1)
    assert refusal(rds.describe_db_clusters) == "Throttling"


def _status(rds: Api) -> str:
    return str(rds.describe_db_clusters(**CLUSTER)["DBClusters"][0]["Status"])


def test_what_was_answered_is_refused_for_a_while_within_one_command(states: States) -> None:
    states.denials = 2
    iam = client(states, "iam")
    dynamodb = client(states, "dynamodb")

    iam.list_roles()
    dynamodb.list_tables()
    assert [refusal(iam.list_roles) for _ in range(2)] == ["AccessDenied", "AccessDenied"]
    assert refusal(dynamodb.list_tables) == "AccessDeniedException"
    iam.list_roles()
    states.begin_command()
    dynamodb.list_tables()
