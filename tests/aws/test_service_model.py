"""The judge of calls by the services' own descriptions."""

from __future__ import annotations

import pytest

from cqrsctl.aws import ApiCall
from tests.aws.service_model import RefusedByModel, faults

CREATE = {
    "TableName": "Products",
    "AttributeDefinitions": [{"AttributeName": "ProductId", "AttributeType": "N"}],
    "KeySchema": [{"AttributeName": "ProductId", "KeyType": "HASH"}],
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"BillingMode": "ON_DEMAND"}, ".BillingMode: 'ON_DEMAND' is none of PROVISIONED, PAY_PER_REQUEST"),
        ({"AttributeDefinitions": [{"AttributeName": "a", "AttributeType": "X"}]}, "[0].AttributeType: 'X' is none of"),
        ({"TableName": "n" * 1025}, ".TableName: 1025 is above 1024"),
        ({"ProvisionedThroughput": {"ReadCapacityUnits": 0, "WriteCapacityUnits": 1}}, "0, valid min value: 1"),
        ({"Speed": 1}, 'Unknown parameter in input: "Speed"'),
        ({"KeySchema": None}, "Invalid type for parameter KeySchema"),
    ],
)
def test_what_boto3_lets_pass_is_found(change: dict[str, object], said: str) -> None:
    (found,) = {sentence for sentence in faults(ApiCallUnjudged({**CREATE, **change})) if said in sentence}

    assert said in found


def test_a_call_that_aws_would_refuse_is_refused_as_it_is_planned() -> None:
    assert not faults(ApiCall("dynamodb", "CreateTable", CREATE))
    with pytest.raises(RefusedByModel, match="does not match"):
        ApiCall("lambda", "GetFunction", {"FunctionName": "a name with blanks"})


def ApiCallUnjudged(parameters: dict[str, object]) -> ApiCall:  # noqa: N802 -- reads as what it stands for
    call = ApiCall("dynamodb", "CreateTable", CREATE)
    object.__setattr__(call, "parameters", parameters)
    return call
