"""The nouns that flow through the pipeline: change records, positions, versions, checkpoints.

Standard library only, no I/O: the Lambda functions import this too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

Value: TypeAlias = (
    "str | Decimal | bytes | bool | list[Value] | dict[str, Value]"
    " | frozenset[str] | frozenset[Decimal] | frozenset[bytes] | None"
)
"""A DynamoDB attribute as a Python value: numbers are Decimals with all their digits, binaries are bytes."""

Item: TypeAlias = "dict[str, Value]"


def value_at(image: Mapping[str, Value] | None, path: str) -> Value:
    """The value at a dotted path into an item; None if there is none."""
    value: object = image
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return cast("Value", value)


RETENTION = timedelta(hours=24)
"""How long a stream keeps a change (DynamoDB Developer Guide, "Change data capture for DynamoDB Streams")."""

SEQUENCE_RANGE = 10**40
"""Sequence numbers have 21 to 40 digits (DynamoDB Streams API reference, StreamRecord)."""

_MOST_DIGITS = 40

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SequenceNumber(int):
    """A change's number in its shard. It compares as an integer, and is written with the digits it came with: some
    emulators pad it with zeros, and know it again only so."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Raises ValueError if the text is not all digits."""
        if not (text.isdigit() and text.isascii() and len(text) <= _MOST_DIGITS):
            raise ValueError(f"{text!r} is not a sequence number")
        number = int.__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


class Event(StrEnum):
    """What happened to the item."""

    INSERT = "INSERT"
    MODIFY = "MODIFY"
    REMOVE = "REMOVE"


def stream_label_micros(stream_arn: str) -> int:
    """The stream's label, which is its creation time, in microseconds since 1970.

    Raises ValueError if the ARN does not end in `/stream/LABEL`.
    """
    _, found, label = stream_arn.rpartition("/stream/")
    if not found:
        raise ValueError(f"not the ARN of a stream: {stream_arn}")
    try:
        created = datetime.fromisoformat(label)
    except ValueError:
        raise ValueError(f"the label {label!r} of {stream_arn} is no time") from None
    if created.tzinfo is None:
        created = created.replace(tzinfo=UTC)
    return (created - _EPOCH) // timedelta(microseconds=1)


def version_of(stream_arn: str, sequence_number: int) -> int:
    """The version that a change gives its row; larger is later, also across the streams of a recreated table."""
    return _first_version(stream_arn) + sequence_number


@lru_cache(maxsize=64)
def _first_version(stream_arn: str) -> int:
    return stream_label_micros(stream_arn) * SEQUENCE_RANGE


class ChangeRecord(NamedTuple):
    """One change of one item, as the stream reports it.

    `created_at` is rounded to the second (DynamoDB Local: to the minute): good for lag, no good for order.
    `by_service` marks deletes made by DynamoDB's time-to-live. A record may have no time (the API reference calls it
    optional): then `created_at` is when it was received, which is later, and `is_dated` is False.
    """

    stream_arn: str
    sequence_number: int
    event: Event
    keys: Item
    old_image: Item | None
    new_image: Item | None
    created_at: datetime
    by_service: bool = False
    is_dated: bool = True

    @property
    def version(self) -> int:
        return version_of(self.stream_arn, self.sequence_number)

    def __str__(self) -> str:
        keys = ", ".join(f"{name} {value!s}" for name, value in self.keys.items())
        return f"{self.event} of {keys} (sequence number {self.sequence_number})"


class ShardState(StrEnum):
    """How far a projection has read a shard."""

    OPEN = "open"
    FINISHED = "finished"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a shard was read. `sequence_number` None: from its start, leaving out what is older than `since`.

    `read_through`: every change from before that time was read, or was never promised to be; None if that is
    unknown. By AWS's clock; a time of this machine's is taken with a margin (`stream.retention`).
    """

    shard_id: str
    parent_id: str | None
    sequence_number: int | None = None
    state: ShardState = ShardState.OPEN
    record_time: datetime | None = None
    since: datetime | None = None
    read_through: datetime | None = None

    @property
    def progress(self) -> tuple[bool, bool, int]:
        """Orders positions of one shard: a gap first, then by how far it was read."""
        return (
            self.state is not ShardState.GAP,
            self.state is ShardState.FINISHED,
            -1 if self.sequence_number is None else self.sequence_number,
        )

    def unless_further(self, known: Position | None) -> Position:
        """This position, or the one that a projection has already if that is further: none goes back."""
        return self if known is None or self.progress >= known.progress else known


@dataclass(frozen=True, slots=True)
class Page:
    """Changes of one shard in order, and where the shard stands after them; None if nobody keeps that here."""

    changes: tuple[ChangeRecord, ...]
    position: Position | None = None

    @property
    def shard_id(self) -> str:
        """The shard; empty if it is unknown."""
        return self.position.shard_id if self.position else ""


Checkpoints: TypeAlias = "Mapping[str, Position]"
"""The position of each shard of one stream, by shard id."""

Followers: TypeAlias = "Mapping[str, Checkpoints]"
"""The checkpoints of each projection that follows a stream, by its name: each has a position of its own."""
