"""Checks of the table's stream, and of what was read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.diagnosis.backlog import FEW_HOURS, LAST_HOURS, hours_left
from cqrsctl.diagnosis.doctor.findings import Check, critical, warning
from cqrsctl.diagnosis.facts import outcome
from cqrsctl.errors import StreamGap
from cqrsctl.words import duration
from cqrsctl.write_model.table import PROJECTABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.diagnosis.doctor.findings import Finding
    from cqrsctl.diagnosis.facts import Facts

MOST_READERS = 2
_SWITCH = "cqrsctl table disable-stream --yes; cqrsctl table enable-stream; cqrsctl rebuild"


def off(facts: Facts) -> Iterator[Finding]:
    """The table's stream is off.

    Fix: `table enable-stream`, then `rebuild`.
    """
    table = facts.table()
    if table is not None and table.stream_arn is None:
        yield critical(
            "The table's stream is off.",
            "Changes are recorded nowhere, and never reach the read model.",
            "cqrsctl table enable-stream; cqrsctl rebuild",
        )


def view_type(facts: Facts) -> Iterator[Finding]:
    """The stream's view type has no new images, or new images only.

    Fix: `table disable-stream`, `table enable-stream`, then `rebuild`.
    """
    table = facts.table()
    found = table.view_type if table else None
    if found == "NEW_IMAGE":
        yield warning(
            "The stream's view type is NEW_IMAGE: it has no old images.",
            "`stream tail` cannot show what a change replaced, nor can a dead letter.",
            _SWITCH,
        )
    elif found is not None and found not in PROJECTABLE:
        yield critical(
            f"The stream's view type is {found}: it has no new images.",
            "A change record does not say what the item is now, so nothing can be projected.",
            _SWITCH,
        )


def readers(facts: Facts) -> Iterator[Finding]:
    """More than two readers follow each shard: enabled mappings and the projector.

    Fix: stop one of them.
    """
    names = [each.function for each in facts.readers_of_stream()]
    if len(names) >= MOST_READERS and (made := facts.made()) and made.holder:
        names.append(f"the projector of {made.holder}")
    if len(names) > MOST_READERS:
        yield warning(
            f"{len(names)} read the stream: {'; '.join(names)}.",
            "DynamoDB throttles more than two readers of a shard, and one falls behind.",
            "end one of them; several consumers can follow one function, or a Kinesis data stream",
        )


def gap(facts: Facts) -> Iterator[Finding]:
    """Changes left the stream before they were read, or never reached the function.

    Fix: `rebuild`.
    """
    made, names = facts.made(), _declared(facts)
    of_function = [each for each in made.function_gaps if each.projection in names] if made else []
    for each in of_function:
        yield critical(
            f"{each}.",
            "They never reached the function; what came later was applied, and items may be out of date or missing.",
            "cqrsctl rebuild",
        )
    lost = list(made.lost_shards(names, _arn(facts))) if made else []
    for projection, shard_id in lost:
        yield critical(
            f"Projection {projection} lost changes of shard {shard_id}.",
            "They left the stream before they were read; the projector stops here, with exit 6.",
            "cqrsctl rebuild",
        )
    if of_function or lost or any(changed(facts)) or not _is_projectable(facts):
        return
    found = outcome(facts.backlog)
    if isinstance(found, StreamGap):
        yield critical(found.message, "A projector would stop there, with exit 6.", "cqrsctl rebuild")


def changed(facts: Facts) -> Iterator[Finding]:
    """The checkpoints belong to an earlier stream of the table.

    Fix: `rebuild`.
    """
    made, stream_arn = facts.made(), _arn(facts)
    if made is None or stream_arn is None:
        return
    rows = [row for row in made.checkpoints if row["projection"] in _declared(facts)]
    followed = {row["projection"] for row in rows if row["stream"] == stream_arn}
    others = {row["projection"]: row["stream"] for row in rows if row["projection"] not in followed}
    for projection, other in others.items():
        yield critical(
            f"Projection {projection} was fed by another stream ({other.rpartition('/')[2]}) than the table has now "
            f"({stream_arn.rpartition('/')[2]}).",
            "The table was recreated, or its stream switched off and on. What changed in between was recorded nowhere.",
            "cqrsctl rebuild",
        )


def trimming(facts: Facts) -> Iterator[Finding]:
    """Unread changes are trimmed within 12 hours; critical within 4.

    Fix: `project`.
    """
    if not _is_projectable(facts):
        return
    try:
        backlog = facts.backlog()
    except StreamGap:
        return  # that is a finding of its own
    for shard_id in backlog.unread or ():
        left = backlog.hours_left_in(shard_id)
        if left is not None and left <= FEW_HOURS:
            waiting = duration(backlog.waiting_in(shard_id) or 0)
            what = f"Changes of shard {shard_id} have not been read for {waiting}."
            yield _trimmed(what, left, "cqrsctl project; if the function projects: cqrsctl function status")


def iterator_age(facts: Facts) -> Iterator[Finding]:
    """The function reads changes that are trimmed within 12 hours; critical within 4.

    Fix: see `function logs`.
    """
    age = facts.iterator_age_seconds()
    if age is None or (left := hours_left(age)) > FEW_HOURS:
        return
    yield _trimmed(
        f"The function reads changes that are {duration(age)} old.",
        left,
        "cqrsctl function logs, for why it fails or is slow; cqrsctl function deploy --parallelization N",
    )


def _trimmed(what: str, hours: float, fix: str) -> Finding:
    """Changes that are trimmed in a few hours."""
    say = critical if hours <= LAST_HOURS else warning
    return say(what, f"In {hours:.1f} h the stream forgets them, and what was not read until then is lost.", fix)


def _declared(facts: Facts) -> set[str]:
    return {projection.name for projection in facts.environment.projections}


def _arn(facts: Facts) -> str | None:
    table = facts.table()
    return table.stream_arn if table else None


def _is_projectable(facts: Facts) -> bool:
    """Whether there is a stream that can be projected; else that is a finding of its own."""
    table = facts.table()
    return table is not None and table.stream_arn is not None and table.view_type in PROJECTABLE


CHECKS = (
    Check("stream_off", "stream", off),
    Check("stream_view_type", "stream", view_type),
    Check("stream_readers", "stream", readers),
    Check("stream_gap", "stream", gap),
    Check("stream_changed", "stream", changed),
    Check("stream_trimming", "stream", trimming),
    Check("stream_iterator_age", "stream", iterator_age),
)
