"""Changes that can no longer reach the projector function: found as its mapping is resumed or replaced, and marked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError, StreamGap
from cqrsctl.functions.mapping import MOST_PAUSE
from cqrsctl.read_model import bookkeeping, checkpoints, function_position
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.function_position import STANDSTILL_LIMIT, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

_log = logging.getLogger(__name__)


def before_resume(wiring: Wiring, mapping: Mapping, now: datetime) -> StreamGap | None:
    """Mark a gap if a mapping that is about to be resumed was paused until changes left the stream.

    The error to end with; None if nothing is lost. A projector that read the stream meanwhile lost nothing.
    """
    try:
        with connect(wiring.database) as connection:
            _complete_bookkeeping(connection)
            since = function_position.forget_pause(connection, mapping.stream_arn)
            known = [moment for moment in (since, mapping.modified_at) if moment is not None]
            too_long = bool(known) and now - min(known) > MOST_PAUSE
            gap = _mark_pause(connection, mapping) if too_long else None
            connection.commit()
            return gap
    except CqrsctlError as error:
        if mapping.paused_too_long(now):
            return _not_recorded(_pause(mapping), error)
        _log.info("whether the function was paused before is unknown: %s", error.message)
        return None


def before_update(wiring: Wiring, mapping: Mapping, now: datetime) -> str | None:
    """Record since when a mapping is paused before its settings are changed: AWS then shows that time only.

    A pause that is already too long is marked as a gap. Why that failed, or None.
    """
    if mapping.modified_at is None:
        return None
    try:
        with connect(wiring.database) as connection:
            _complete_bookkeeping(connection)
            function_position.remember_pause(connection, mapping.stream_arn, mapping.modified_at)
            if mapping.paused_too_long(now):
                _mark_pause(connection, mapping)
            connection.commit()
    except CqrsctlError as error:
        return f"Since when the mapping is paused could not be recorded in the database: {error.message}"
    return None


def before_replacement(wiring: Wiring, mapped: Sequence[Mapping], stream_arn: str) -> StreamGap | None:
    """Mark a gap if mappings of earlier streams of the table are about to be replaced by one of its stream now.

    `mapped` are all mappings of the function. The error to end with; None if every projection was rebuilt on this
    stream, or follows it, already.
    """
    try:
        with connect(wiring.database) as connection:
            _complete_bookkeeping(connection)
            names = function_position.behind_stream(connection, stream_arn, [each.stream_arn for each in mapped])
            gap = _marked(connection, stream_arn, Reason.STREAM_CHANGED, names)
            connection.commit()
            return gap
    except CqrsctlError as error:
        streams = ", ".join(each.stream_arn for each in mapped if each.stream_arn != stream_arn)
        return _not_recorded(
            f"The function followed another stream of the table, {streams}: changes between the two streams were "
            "recorded nowhere",
            error,
        )


def before_creation(wiring: Wiring, stream_arn: str) -> StreamGap | None:
    """Mark a gap if a function is about to be deployed after changes have left the stream with nobody to read them.

    An earlier function of the name, or a projector, has projected until then. Without a read model, or a database that
    can be reached, it is unknown whether there was either.
    """
    try:
        with connect(wiring.database) as connection:
            idle = function_position.standstill(connection, stream_arn)
            if idle is not None and idle <= STANDSTILL_LIMIT:
                return None
            _complete_bookkeeping(connection)
            names = [
                name
                for name in function_position.without_projector(connection, stream_arn, STANDSTILL_LIMIT)
                if idle is not None or checkpoints.has_any(connection, name, stream_arn)
            ]
            gap = _marked(connection, stream_arn, Reason.STOOD_STILL, names)
            connection.commit()
            return gap
    except CqrsctlError as error:
        _log.info("who projected before is unknown: %s", error.message)
        return None


def is_any_unfilled(wiring: Wiring) -> bool:
    """Whether there is no read model yet, or a projection that nobody ever filled; False if that is unknown."""
    try:
        with connect(wiring.database) as connection:
            return not function_position.was_each_filled(connection)
    except ReadModelMissing:
        return True
    except CqrsctlError as error:
        _log.info("whether anything was projected before is unknown: %s", error.message)
        return False


def _complete_bookkeeping(connection: Connection) -> None:
    """Make what the bookkeeping lacks of this release. Raises ReadModelMissing if there is no read model."""
    connection.query("SELECT name FROM cqrs_projection LIMIT 1")
    bookkeeping.make(connection)


def _mark_pause(connection: Connection, mapping: Mapping) -> StreamGap | None:
    names = function_position.without_projector(connection, mapping.stream_arn, MOST_PAUSE)
    return _marked(connection, mapping.stream_arn, Reason.PAUSED, names)


def _marked(connection: Connection, stream_arn: str, reason: Reason, names: Sequence[str]) -> StreamGap | None:
    if not function_position.mark(connection, stream_arn, reason, names):
        return None
    return function_position.error((name, reason) for name in names)


def _pause(mapping: Mapping) -> str:
    return (
        f"The function has been paused since {mapping.modified_at:%Y-%m-%d %H:%M} UTC: changes left the stream before "
        "it read them"
    )


def _not_recorded(what: str, error: CqrsctlError) -> StreamGap:
    return StreamGap(
        f"{what}. This could not be recorded in the database, so `lag` and `status` will not show it: {error.message}"
    )
