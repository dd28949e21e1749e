"""Checks of the projector function and of the mapping that brings it the stream's records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.diagnosis.doctor.findings import Check, critical, note, warning
from cqrsctl.functions.mapping import MOST_AGE_SECONDS
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.diagnosis.doctor.findings import Finding
    from cqrsctl.diagnosis.facts import Facts
    from cqrsctl.functions.mapping import Mapping

_ENDLESS = {None, -1}
"""Lambda's default: until the record has left the stream."""
_DEPLOY = "cqrsctl function deploy"


def missing(facts: Facts) -> Iterator[Finding]:
    """The projector function is deployed, but no stream is mapped to it.

    Fix: `function deploy`.
    """
    table, mapped = facts.table(), facts.mappings()
    if mapped == [] and table is not None and table.stream_arn is not None:
        yield warning(
            f"No stream is mapped to the function {PROJECTOR}.", "It is deployed, and never invoked.", _DEPLOY
        )


def other_stream(facts: Facts) -> Iterator[Finding]:
    """The mapping reads an earlier stream of the table.

    Fix: `function deploy`, then `rebuild`.
    """
    table = facts.table()
    if table is None or table.stream_arn is None:
        return
    for mapping in facts.mappings() or ():
        if _of_table(mapping, table.arn) and mapping.stream_arn != table.stream_arn:
            yield critical(
                f"The mapping reads the stream {_label(mapping.stream_arn)}, "
                f"the table writes {_label(table.stream_arn)}.",
                "The stream was switched off and on, or the table recreated: the function gets no new change.",
                f"{_DEPLOY}; cqrsctl rebuild",
            )


def latest(facts: Facts) -> Iterator[Finding]:
    """The mapping began at LATEST, and skipped what came before.

    Fix: `verify --repair`, then a new mapping.
    """
    for mapping in _current(facts):
        if mapping.starting_position == "LATEST":
            yield warning(
                "The mapping began at LATEST.",
                "What was written while it came up, which takes minutes, was skipped, and so it is with the next one.",
                f"cqrsctl verify --repair; aws lambda delete-event-source-mapping --uuid {mapping.uuid}; {_DEPLOY}",
            )


def destination(facts: Facts) -> Iterator[Finding]:
    """The mapping has no destination for failed batches.

    Fix: `function deploy`.
    """
    for mapping in _current(facts):
        if mapping.destination is None:
            yield warning(
                "The mapping has no destination for batches that fail for good.",
                "Lambda drops such a batch, and nobody knows which changes were in it.",
                _DEPLOY,
            )


def failed_batches(facts: Facts) -> Iterator[Finding]:
    """The destination for failed batches is missing, or holds some.

    Fix: `verify --repair`, then empty the queue.
    """
    for arn, queue in facts.destinations().items():
        if queue is None:
            yield warning(
                f"The mapping's destination {arn} is not there.",
                "Batches that fail for good are lost without a trace.",
                _DEPLOY,
            )
        elif queue.depth:
            yield warning(
                f"{queue.depth} failed batches are reported in the queue {queue.name}.",
                "Their changes were not applied, and products may be out of date.",
                f"cqrsctl verify --repair; then aws sqs purge-queue --queue-url {queue.url}",
            )


def retries(facts: Facts) -> Iterator[Finding]:
    """The mapping retries without a limit on number or age.

    Fix: `function deploy`.
    """
    for mapping in _current(facts):
        ages = mapping.settings["MaximumRecordAgeInSeconds"]
        if ages in _ENDLESS and mapping.settings["MaximumRetryAttempts"] in _ENDLESS:
            yield warning(
                "The mapping tries a failing batch again without end.",
                "One batch holds up its shard until its changes leave the stream, and the ones behind it are lost too.",
                _DEPLOY,
            )


def record_age(facts: Facts) -> Iterator[Finding]:
    """The mapping discards changes before they leave the stream.

    Fix: `function deploy`.
    """
    for mapping in _current(facts):
        age = mapping.settings["MaximumRecordAgeInSeconds"]
        if age not in _ENDLESS and age < MOST_AGE_SECONDS:
            yield warning(
                f"The mapping discards changes that are older than {duration(age)}.",
                "After a longer outage, changes that were never tried are lost too, though the stream has them.",
                _DEPLOY,
            )


def bisect(facts: Facts) -> Iterator[Finding]:
    """The mapping does not halve a batch that fails.

    Fix: `function deploy`.
    """
    for mapping in _current(facts):
        if not mapping.settings["BisectBatchOnFunctionError"]:
            yield warning(
                "The mapping does not halve a batch that fails.",
                "One record that makes the function fail takes all others of its batch along.",
                _DEPLOY,
            )


def parallelization(facts: Facts) -> Iterator[Finding]:
    """Shards × parallelization is more than half of the connections that the database accepts.

    Fix: `function deploy --parallelization`.
    """
    factor = max((each.settings["ParallelizationFactor"] or 1 for each in _current(facts)), default=1)
    stream = facts.stream() if factor > 1 else None
    if stream is None:
        return
    shards = sum(shard.is_open for shard in stream.shards.values())
    if factor * shards > facts.server().most_connections // 2:
        yield warning(
            f"{shards} shards with a parallelization of {factor} are {factor * shards} connections at once; "
            f"the database takes {facts.server().most_connections}.",
            "Where the function takes them all, queries are refused.",
            "cqrsctl function deploy --parallelization N, with a smaller one, or a larger writer",
        )


def paused(facts: Facts) -> Iterator[Finding]:
    """The mapping is paused; critical after a day.

    Fix: `function resume`; after a day `rebuild` too.
    """
    for mapping in _current(facts):
        if not mapping.paused:
            continue
        made = facts.made()
        if mapping.paused_too_long(facts.now) and made is not None and made.by_function:
            yield critical(
                "The mapping has been paused for a day or more.",
                "Changes may have left the stream before the function read them.",
                "cqrsctl function resume; cqrsctl rebuild",
            )
        else:
            yield note(
                "The mapping is paused.",
                "The function applies nothing; after 24 hours unread changes leave the stream.",
                "cqrsctl function resume",
            )


def _current(facts: Facts) -> list[Mapping]:
    """The function's mappings of the table's stream as it is now."""
    table = facts.table()
    return [each for each in facts.mappings() or () if table is not None and each.stream_arn == table.stream_arn]


def _of_table(mapping: Mapping, table_arn: str) -> bool:
    return mapping.stream_arn.startswith(f"{table_arn}/stream/")


def _label(stream_arn: str) -> str:
    return stream_arn.rpartition("/")[2]


CHECKS = (
    Check("mapping_missing", "function", missing),
    Check("mapping_stream", "function", other_stream),
    Check("mapping_latest", "function", latest),
    Check("mapping_destination", "function", destination),
    Check("mapping_failures", "function", failed_batches),
    Check("mapping_retries", "function", retries),
    Check("mapping_record_age", "function", record_age),
    Check("mapping_bisect", "function", bisect),
    Check("mapping_parallelization", "function", parallelization),
    Check("mapping_paused", "function", paused),
)
