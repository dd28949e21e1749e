"""Where batches go that failed for good: an SQS queue of our own, or a queue, topic or bucket that was named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError, UsageError
from cqrsctl.functions.parts import MANAGED_BY, Part, require_ours, updated

if TYPE_CHECKING:
    from collections.abc import Callable

_MISSING = {
    *("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
    *("NotFound", "NotFoundException"),
    *("NoSuchBucket", "ServerSideEncryptionConfigurationNotFoundError"),
}
_OWN_ENCRYPTION = "SqsManagedSseEnabled"
_ATTRIBUTES = {"MessageRetentionPeriod": str(14 * 24 * 3600), _OWN_ENCRYPTION: "true"}
"""Kept for 14 days, the most that SQS allows, and encrypted."""
_DESTINATION = re.compile(r"arn:[\w-]+:(?:(?:sqs|sns):[\w-]+:\d{12}:[\w-]+|s3:::[a-z0-9.-]{3,63})")


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as SQS describes it."""

    name: str
    url: str
    attributes: dict[str, str]
    tags: dict[str, str]

    @property
    def depth(self) -> int:
        """Messages that are in it, about, also those that somebody is reading now."""
        counted = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(self.attributes.get(name, 0)) for name in counted)

    @property
    def kms_key(self) -> str | None:
        """The key that its messages are encrypted with, by id, ARN or alias; None if it has no key of its own."""
        return _own_key(self.attributes.get("KmsMasterKeyId"))


def require_destination(arn: str) -> str:
    """The ARN of a destination that Lambda takes for a stream. Raises UsageError.

    A first-in-first-out queue or topic is none. Source: EventSourceMapping OnFailure, Lambda API.
    """
    if not _DESTINATION.fullmatch(arn):
        raise UsageError(
            f"--on-failure: {arn!r} is not the ARN of an SQS queue, an SNS topic or an S3 bucket.",
            hint="For example arn:aws:s3:::my-failed-batches; a bucket gets whole records, the others where they were.",
        )
    return arn


def find(client: Any, name: str, account: str | None = None) -> Queue | None:
    """The queue, or None if there is none."""
    owner = {"QueueOwnerAWSAccountId": account} if account else {}
    try:
        url = ApiCall("sqs", "GetQueueUrl", {"QueueName": name, **owner}).make(client)["QueueUrl"]
        asked = {"QueueUrl": url, "AttributeNames": ["All"]}
        attributes = ApiCall("sqs", "GetQueueAttributes", asked).make(client)["Attributes"]
        tags = ApiCall("sqs", "ListQueueTags", {"QueueUrl": url}).make(client).get("Tags") or {}
    except AwsError as error:
        if error_code(error) in _MISSING:
            return None
        raise
    return Queue(name, url, attributes, tags)


def destination_key(clients: Callable[[str], Any], arn: str) -> str | None:
    """The key of its own that a queue, topic or bucket has; None also for what is not there."""
    _, _, service, _, account, name = arn.split(":", 5)
    if service == "sqs":
        found = find(clients(service), name, account)
        return found.kms_key if found else None
    try:
        if service == "sns":
            topic = ApiCall("sns", "GetTopicAttributes", {"TopicArn": arn}).make(clients(service))
            return _own_key(topic["Attributes"].get("KmsMasterKeyId"))
        bucket = ApiCall("s3", "GetBucketEncryption", {"Bucket": name}).make(clients(service))
    except AwsError as error:
        if error_code(error) in _MISSING:
            return None
        raise
    (rule,) = bucket["ServerSideEncryptionConfiguration"]["Rules"]
    return _own_key(rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID"))


def part(name: str, found: Queue | None) -> Part:
    """What makes the queue as it shall be. Raises AwsError if one of its name is not ours."""
    title = f"queue {name}"
    if found is None:
        parameters: dict[str, Any] = {"QueueName": name, "Attributes": _ATTRIBUTES, "tags": MANAGED_BY}
        return Part(title, "created", (ApiCall("sqs", "CreateQueue", parameters),))
    require_ours(f"Queue {name!r}", found.tags)
    # A queue is encrypted with SQS's own key or with one of KMS, not with both.
    asked = {key: value for key, value in _ATTRIBUTES.items() if key != _OWN_ENCRYPTION or not found.kms_key}
    wanted = {key: value for key, value in asked.items() if found.attributes.get(key, "").lower() != value}
    if not wanted:
        return Part(title)
    changes = {key: f"{found.attributes.get(key)} → {value}" for key, value in wanted.items()}
    call = ApiCall("sqs", "SetQueueAttributes", {"QueueUrl": found.url, "Attributes": wanted})
    return updated(title, changes, (call,))


def delete_calls(found: Queue) -> tuple[list[ApiCall], str]:
    """The call that deletes the queue if it is empty, and a remark if it is not."""
    require_ours(f"Queue {found.name!r}", found.tags)
    if found.depth:
        note = f"Queue {found.name} is kept: {found.depth} of its messages report batches that failed."
        return [], note
    return [ApiCall("sqs", "DeleteQueue", {"QueueUrl": found.url})], ""


def _own_key(key: str | None) -> str | None:
    """The key's policy of an AWS managed key allows all that may use the service, so that one counts as none.

    Source: "Amazon SQS Key management", Amazon SQS Developer Guide.
    """
    return None if not key or "alias/aws/" in key else key
