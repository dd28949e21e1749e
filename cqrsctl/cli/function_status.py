"""How `cqrsctl function status` looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl.cli import render

if TYPE_CHECKING:
    from cqrsctl.cli.invocation import Invocation
    from cqrsctl.cli.render import Output
    from cqrsctl.diagnosis.function_status import FunctionsStatus, FunctionStatus, MappingStatus
    from cqrsctl.read_model.function_position import Gap

_FUNCTION_COLUMNS = ("name", "state", "last_update", "runtime", "memory_mb", "timeout_seconds", "code", "modified")
_GAP_COLUMNS = ("projection", "reason", "marked_at", "stream")
_NUMBER_COLUMNS = ("name", "invocations", "errors", "throttles", "duration_p99_ms", "iterator_age_ms")


def show(found: FunctionsStatus, output: Output, invocation: Invocation) -> None:
    """Print the functions, their last hour, and the mappings; all in one if it is not a table."""
    described = [_function(each) for each in found.functions]
    mapped = [_mapping(each) for each in found.mappings]
    gaps = None if found.gaps is None else [_gap(each) for each in found.gaps]
    whole = {"functions": described, "mappings": mapped, "gaps": gaps}
    if render.document(output, whole, _FUNCTION_COLUMNS, described):
        return
    render.rows(output, _FUNCTION_COLUMNS, described)
    render.line("\nThe last hour")
    render.rows(output, _NUMBER_COLUMNS, described)
    for record in mapped:
        render.line("\nMapping")
        render.one(output, record)
    if gaps:
        render.line(invocation.addressed("\nGaps, which a rebuild ends: cqrsctl rebuild"))
        render.rows(output, _GAP_COLUMNS, gaps)


def _gap(found: Gap) -> dict[str, Any]:
    return {
        "projection": found.projection,
        "reason": found.reason.value,
        "marked_at": found.marked_at,
        "stream": found.stream_arn,
        "rebuilding": found.rebuilding,
    }


def _function(found: FunctionStatus) -> dict[str, Any]:
    function = found.function
    return {
        "name": function.name,
        "state": function.state,
        "last_update": function.last_update,
        "reason": function.reason or None,
        "runtime": function.runtime,
        "architecture": function.architecture,
        "memory_mb": function.memory_mb,
        "timeout_seconds": function.timeout_seconds,
        "reserved_concurrency": function.reserved_concurrency,
        "version": function.version,
        "code_sha256": function.code_sha256,
        "code": "current" if found.current else "differs",
        "modified": function.modified,
        **{name: round(value) if value is not None else None for name, value in found.numbers.items()},
    }


def _mapping(found: MappingStatus) -> dict[str, Any]:
    mapping = found.mapping
    settings = mapping.settings
    return {
        "state": mapping.state,
        "reason": mapping.reason or None,
        "last_result": mapping.last_result or None,
        "stream": mapping.stream_arn,
        "batch_size": settings["BatchSize"],
        "window_seconds": settings["MaximumBatchingWindowInSeconds"],
        "parallelization": settings["ParallelizationFactor"],
        "bisect_on_error": settings["BisectBatchOnFunctionError"],
        "retries": settings["MaximumRetryAttempts"],
        "record_age_seconds": settings["MaximumRecordAgeInSeconds"],
        "on_failure": mapping.destination,
        "on_failure_depth": found.depth,
    }
