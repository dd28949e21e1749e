"""Checks of the table's stream, and of what was read of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cqrsctl.change import ShardState
from cqrsctl.diagnosis.doctor.findings import Check, critical, warning
from cqrsctl.diagnosis.doctor.look import CLOSE_TO_TRIMMING
from cqrsctl.write_model.table import VIEW_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from typing import Any

    from cqrsctl.diagnosis.doctor.findings import Finding
    from cqrsctl.diagnosis.doctor.look import Look
    from cqrsctl.pipeline.unread_shards import UnreadShard

MOST_READERS = 2
VERY_CLOSE = timedelta(hours=22)
_SWITCH = "cqrsctl table disable-stream --yes; cqrsctl table enable-stream; cqrsctl rebuild"


def off(look: Look) -> Iterator[Finding]:
    table = look.table()
    if table is not None and table.stream_arn is None:
        yield critical(
            "The table's stream is off.",
            "Changes are recorded nowhere, and never reach the read model.",
            "cqrsctl table enable-stream; cqrsctl rebuild",
        )


def view_type(look: Look) -> Iterator[Finding]:
    table = look.table()
    found = table.view_type if table else None
    if found == "NEW_IMAGE":
        yield warning(
            "The stream's view type is NEW_IMAGE: it has no old images.",
            "`stream tail` cannot show what a change replaced, nor can a dead letter.",
            _SWITCH,
        )
    elif found not in {None, VIEW_TYPE}:
        yield critical(
            f"The stream's view type is {found}: it has no new images.",
            "A change record does not say what the item is now, so nothing can be projected.",
            _SWITCH,
        )


def readers(look: Look) -> Iterator[Finding]:
    names = [each.function for each in look.readers_of_stream()]
    if len(names) >= MOST_READERS and (made := look.read_model()) and made.held_by:
        names.append(f"the projector of {made.held_by}")
    if len(names) > MOST_READERS:
        yield warning(
            f"{len(names)} read the stream: {'; '.join(names)}.",
            "DynamoDB throttles more than two readers of a shard, and one falls behind.",
            "end one of them; several consumers can follow one function, or a Kinesis data stream",
        )


def gap(look: Look) -> Iterator[Finding]:
    table, made = look.table(), look.read_model()
    if made is None:
        return
    stream = table.stream_arn if table else None
    followed = {row["projection"] for row in made.checkpoints if row["stream"] == stream}
    for row in made.checkpoints:
        if row["state"] == ShardState.GAP and (row["stream"] == stream or row["projection"] not in followed):
            yield _lost(row["projection"], row["shard"])
    for each in made.function_gaps:
        yield critical(
            f"{each}.",
            "They never reached the function; what came later was applied, and items may be out of date or missing.",
            "cqrsctl rebuild",
        )


def changed(look: Look) -> Iterator[Finding]:
    table, made = look.table(), look.read_model()
    if table is not None and table.stream_arn is not None and made is not None:
        yield from stream_changed(made.checkpoints, table.stream_arn)


def stream_changed(checkpoints: Sequence[dict[str, Any]], stream_arn: str) -> Iterator[Finding]:
    """What is wrong with projections whose checkpoints are all of other streams."""
    followed = {row["projection"] for row in checkpoints if row["stream"] == stream_arn}
    others = {row["projection"]: row["stream"] for row in checkpoints if row["projection"] not in followed}
    for projection, other in others.items():
        yield critical(
            f"Projection {projection} was fed by another stream ({other.rpartition('/')[2]}) than the table has now "
            f"({stream_arn.rpartition('/')[2]}).",
            "The table was made anew, or its stream switched off and on. What changed in between was recorded nowhere.",
            "cqrsctl rebuild",
        )


def trimming(look: Look) -> Iterator[Finding]:
    for projection, unread in look.unread().items():
        yield from close_to_trimming(projection, unread, look.now)


def close_to_trimming(projection: str, unread: Sequence[UnreadShard], now: datetime) -> Iterator[Finding]:
    """How bad it is that changes were not read for so long."""
    for each in unread:
        if each.since is None:
            yield _lost(projection, each.shard_id)
            continue
        hours = (now - each.since) / timedelta(hours=1)
        said = (
            f"Projection {projection} has not read changes of shard {each.shard_id} for {hours:.0f} h.",
            "The stream forgets a change after 24 hours; one that was not read until then is lost.",
            "cqrsctl project; where the function projects: cqrsctl function status",
        )
        yield critical(*said) if now - each.since >= VERY_CLOSE else warning(*said)


def iterator_age(look: Look) -> Iterator[Finding]:
    age = look.iterator_age_seconds()
    if age is None or age < CLOSE_TO_TRIMMING.total_seconds():
        return
    said = (
        f"The function reads changes that are {age / 3600:.0f} h old.",
        "The stream forgets a change after 24 hours; one that was not read until then is lost.",
        "cqrsctl function logs, for why it fails or is slow; cqrsctl function deploy --parallelization N",
    )
    yield critical(*said) if age >= VERY_CLOSE.total_seconds() else warning(*said)


def _lost(projection: str, shard_id: str) -> Finding:
    return critical(
        f"Projection {projection} lost changes of shard {shard_id}.",
        "They left the stream before they were read; the projector stops here, with exit 6.",
        "cqrsctl rebuild",
    )


CHECKS = (
    Check("stream_off", "stream", off),
    Check("stream_view_type", "stream", view_type),
    Check("stream_readers", "stream", readers),
    Check("stream_gap", "stream", gap),
    Check("stream_changed", "stream", changed),
    Check("stream_trimming", "stream", trimming),
    Check("stream_iterator_age", "stream", iterator_age),
)
