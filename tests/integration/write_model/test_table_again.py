"""A table that is there is compared with the one asked for: its KMS key, by whatever name, and its tags."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from cqrsctl.clock import SystemClock
from cqrsctl.errors import AwsError
from cqrsctl.write_model import table
from cqrsctl.write_model.table import TableSpec
from tests.aws.states import States

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring


class Asked:
    """What is asked for again, of a table that has a key of its own; the remarks that this brings."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.kms = wiring.client("kms")
        self.key = self.kms.create_key()["KeyMetadata"]
        self.spec = TableSpec(wiring.environment.table, point_in_time_recovery=False, deletion_protection=False)
        self.notes: list[str] = []

    def alias(self, key: str) -> str:
        name = f"alias/{self.spec.name}-{key[:8]}"
        self.kms.create_alias(AliasName=name, TargetKeyId=key)
        return name

    def create(self, **more: Any) -> bool:
        spec = replace(self.spec, **more)
        return table.create(self.wiring.dynamodb, spec, self.notes.append, SystemClock(), kms=lambda: self.kms)


@pytest.fixture
def asked(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A table with a KMS key, in an AWS that takes its time."""
    States().install(monkeypatch)
    made = Asked(wiring)
    assert made.create(kms_key=made.key["Arn"])
    return made


def test_a_key_is_the_same_by_its_arn_its_id_and_an_alias(asked: Asked) -> None:
    for name in (asked.key["Arn"], asked.key["KeyId"], asked.alias(asked.key["KeyId"])):
        assert not asked.create(kms_key=name)

    assert asked.notes == []


def test_another_key_is_a_difference_by_whatever_name(asked: Asked) -> None:
    other = asked.kms.create_key()["KeyMetadata"]

    for name in (other["Arn"], other["KeyId"], asked.alias(other["KeyId"])):
        with pytest.raises(AwsError, match=f"KMS key: asked {name}, is {asked.key['Arn']}"):
            asked.create(kms_key=name)


def test_a_table_without_a_key_differs_from_one_with_an_alias(wiring: Wiring) -> None:
    asked = Asked(wiring)
    asked.create()

    with pytest.raises(AwsError, match="KMS key: asked alias/shop, is AWS owned"):
        asked.create(kms_key="alias/shop")


@pytest.mark.parametrize("code", ["AccessDeniedException", "NotFoundException"])
def test_an_alias_that_is_not_told_is_not_compared_and_that_is_said(asked: Asked, code: str) -> None:
    with Stubber(asked.kms) as stub:
        stub.add_client_error("describe_key", code)

        assert not asked.create(kms_key="alias/shop")

    (note,) = asked.notes
    assert note.startswith("The KMS key cannot be compared: the table has arn:")
    assert "alias/shop" in note
    assert asked.key["Arn"] in note


def test_tags_that_are_asked_for_are_compared_and_others_stay(wiring: Wiring) -> None:
    asked = Asked(wiring)
    many = tuple((f"tag-{number}", str(number)) for number in range(15))
    asked.create(tags=(("team", "shop"), *many))

    assert not asked.create(tags=(("team", "shop"),))
    assert not asked.create(tags=many)
    with pytest.raises(AwsError, match="tag team: asked kitchen, is shop; tag owner: asked me, is missing"):
        asked.create(tags=(("team", "kitchen"), ("owner", "me")))


def test_tags_that_are_not_told_are_not_compared_and_that_is_said(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListTagsOfResource")

    asked = Asked(wiring)
    asked.create()
    monkeypatch.setattr(wiring.dynamodb, "list_tags_of_resource", refuse)

    assert not asked.create(tags=(("team", "shop"),))

    assert [note.split(":")[0] for note in asked.notes] == ["The tags cannot be compared"]
