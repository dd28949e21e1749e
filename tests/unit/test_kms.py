"""A KMS key is the same by whatever name."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from cqrsctl import kms

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1b2c3d4e-0000-4444-8888-abcdefabcdef"
OTHER = KEY.replace("1b2c", "9f9f")
ALIAS = "arn:aws:kms:eu-west-1:123456789012:alias/shop"


class Kms:
    """boto3's client, with one alias."""

    def describe_key(self, **asked: Any) -> Any:
        if asked["KeyId"] not in {"alias/shop", ALIAS}:
            raise ClientError({"Error": {"Code": "NotFoundException", "Message": "no such alias"}}, "DescribeKey")
        return {"KeyMetadata": {"Arn": KEY}}


@pytest.mark.parametrize(
    ("asked", "there", "named"),
    [
        (None, KEY, None),
        (KEY, None, KEY),
        (KEY, "", KEY),
        (KEY, KEY, KEY),
        (KEY.rpartition("/")[2], KEY, KEY),
        (KEY.rpartition("/")[2].upper(), KEY, KEY),
        (KEY.upper(), KEY, KEY),
        ("alias/shop", KEY, KEY),
        (ALIAS, KEY, KEY),
        ("alias/shop", OTHER, KEY),
        (OTHER, KEY, OTHER),
        ("abcdefabcdef", KEY, "abcdefabcdef"),
    ],
)
def test_a_key_has_its_owners_name_if_it_is_the_same(asked: str | None, there: str | None, named: str | None) -> None:
    assert kms.key_asked(asked, there, Kms, lambda _: None, "the table") == named


def test_an_alias_that_cannot_be_looked_up_is_not_compared_and_that_is_said() -> None:
    told: list[str] = []

    assert kms.key_asked("alias/Shop", KEY, Kms, told.append, "the cluster") is None
    (note,) = told
    assert f"the cluster has {KEY}, and what alias/Shop stands for is unknown" in note
