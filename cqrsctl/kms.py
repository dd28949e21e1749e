"""KMS keys, which people name by id, ARN or alias, and AWS by ARN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall
from cqrsctl.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

_ALIAS = "alias/"


def key_asked(
    asked: str | None, there: str | None, kms: Callable[[], Any] | None, note: Callable[[str], None], owner: str
) -> str | None:
    """The key asked for, by the name that its owner has for it: the same as `there` if it is the same key.

    None if nothing was asked for, or if what an alias stands for cannot be looked up: `note` gets the reason. Letter
    case counts in aliases only.

    Args:
        there: the ARN of the owner's key; None or empty without one.
        kms: makes a client of KMS; None if it must not be asked.
        owner: what has the key, as `the table`.
    """
    if not asked or not there:
        return asked
    if asked == there:
        return there
    if _ALIAS not in asked or kms is None:
        same = asked.lower() == there.lower() or there.lower().endswith(f":key/{asked.lower()}")
        return there if same else asked
    try:
        found: str = ApiCall("kms", "DescribeKey", {"KeyId": asked}).make(kms())["KeyMetadata"]["Arn"]
    except AwsError as error:
        note(f"The KMS key cannot be compared: {owner} has {there}, and what {asked} stands for is unknown. {error}")
        return None
    return found
