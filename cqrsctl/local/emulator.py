"""The embedded stack's AWS endpoint: moto's server in a process of its own.

Its tables live in that process's memory, and in a journal from which the next process has them (kept_tables.py). What
it knows of other services ends with it. `python -m cqrsctl.local.emulator FD JOURNAL` serves on a listening socket that
it inherits, so the port is known, and taken, before the process starts.
"""

from __future__ import annotations

import gc
import http.client
import importlib.util
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import CqrsctlError
from cqrsctl.local import journal
from cqrsctl.local.ports import LOOPBACK, length, listener, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cqrsctl.local.state import Service, StackState

NAME = "emulator"
JOURNAL = "tables.journal"

_ITEM_OPERATIONS = frozenset(
    f"DynamoDB_20120810.{name}"
    for name in ("PutItem", "UpdateItem", "DeleteItem", "GetItem", "Query", "Scan", "BatchWriteItem", "BatchGetItem")
)
"""The frequent requests, none of which changes a table's settings."""
_OBJECTS_AT_ONCE = 20_000
"""The number of new objects after which Python collects garbage: a request makes thousands, and moto keeps most."""


def check_installed() -> None:
    """Raises CqrsctlError if moto's server is not installed."""
    missing = [module for module in ("moto", "flask", "flask_cors") if importlib.util.find_spec(module) is None]
    if missing:
        raise CqrsctlError(
            f"The embedded AWS endpoint needs {', '.join(missing)}, which is not installed.",
            hint="Install it with: pip install 'cqrsctl[local]'",
        )


def start(state: StackState, preferred_port: int | None = None) -> Service:
    """Start the endpoint, with the tables that it had, and wait until it answers. Raises JournalDamaged."""
    kept, log = state.directory / JOURNAL, state.log(NAME)
    begin, patience_seconds = length(log), 60 + length(kept) / 1_000_000
    with listener(preferred_port) as sock:
        command = [sys.executable, "-m", "cqrsctl.local.emulator", str(sock.fileno()), str(kept)]
        service = state.launch(NAME, command, sock.getsockname()[1], inherited=[sock.fileno()])
    try:
        wait_until(lambda: answers(service), service, log, begin, patience_seconds)
    except CqrsctlError:
        journal.check(kept)
        raise
    return service


def answers(service: Service) -> bool:
    """Whether the endpoint serves requests."""
    connection = http.client.HTTPConnection(LOOPBACK, service.port, timeout=5)
    try:
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def endpoint_url(service: Service) -> str:
    return f"http://{LOOPBACK}:{service.port}"


def serialised(
    application: Callable[..., Iterable[bytes]], write: Callable[[bool], None]
) -> Callable[..., Iterable[bytes]]:
    """One request at a time, answered once what it changed is written.

    moto takes a change's sequence number and appends the change in two steps, so that two writes at once can get the
    same number.
    """
    lock = threading.Lock()

    def serve_one(environ: Any, start_response: Any) -> list[bytes]:
        with lock:
            answer = list(application(environ, start_response))
            write(environ.get("HTTP_X_AMZ_TARGET") not in _ITEM_OPERATIONS)
            return answer

    return serve_one


def keep_records_in_streams() -> None:
    """moto gives each change to the functions that are mapped to the stream, which would need Docker, and takes it
    off the stream even if that failed. Here functions are kept but not run, and the projector reads the stream."""
    from moto.awslambda.models import LambdaBackend  # noqa: PLC0415 -- only the server process needs moto

    LambdaBackend.send_dynamodb_items = _deliver_nothing  # type: ignore[method-assign,assignment]


def let_streams_be_switched() -> None:
    """moto fails at each write once a stream is off, and refuses to switch it on again. DynamoDB makes a new one."""
    from moto.dynamodb.models import DynamoDBBackend  # noqa: PLC0415 -- as above

    update = DynamoDBBackend.update_table_streams

    def update_table_streams(backend: Any, table: Any, stream_specification: dict[str, Any]) -> None:
        if not table.stream_specification["StreamEnabled"]:
            table.latest_stream_label = None
        update(backend, table, stream_specification)
        if not table.stream_specification["StreamEnabled"]:
            table.stream_shard = None

    DynamoDBBackend.update_table_streams = update_table_streams  # type: ignore[method-assign,assignment]


def let_iterators_end() -> None:
    """moto fails at an iterator of the process before, and at records before the horizon. DynamoDB names the cause."""
    from moto.core.exceptions import JsonRESTError  # noqa: PLC0415 -- as above
    from moto.dynamodb.models.table import StreamShard  # noqa: PLC0415
    from moto.dynamodbstreams.models import DynamoDBStreamsBackend  # noqa: PLC0415

    get, get_records = StreamShard.get, DynamoDBStreamsBackend.get_records

    def get_kept(shard: Any, start: int, quantity: int) -> list[dict[str, Any]]:
        if start < shard.starting_sequence_number:
            raise JsonRESTError("TrimmedDataAccessException", "The record is before the stream's horizon.")
        return get(shard, start, quantity)

    def get_records_of(backend: Any, iterator_arn: str, limit: int) -> dict[str, Any]:
        if iterator_arn not in backend.shard_iterators:
            raise JsonRESTError("ExpiredIteratorException", "The iterator is of an earlier process.")
        return get_records(backend, iterator_arn, limit)

    StreamShard.get = get_kept  # type: ignore[method-assign,assignment]
    DynamoDBStreamsBackend.get_records = get_records_of  # type: ignore[method-assign,assignment]


def _deliver_nothing(*_: Any) -> None:
    """In place of moto's delivery."""


def serve(descriptor: int, kept: Path) -> None:
    """Serve on an inherited listening socket until the process is ended. Raises JournalDamaged."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 -- only the server process needs moto
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    from cqrsctl.local.kept_tables import KeptTables  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    keep_records_in_streams()
    let_streams_be_switched()
    let_iterators_end()
    gc.disable()  # all that is restored stays: to look for garbage among it would take most of the time
    tables = KeptTables(kept, datetime.now(UTC))
    gc.freeze()
    gc.set_threshold(_OBJECTS_AT_ONCE)
    gc.enable()

    def write(settings: bool) -> None:
        try:
            tables.write(settings=settings)
        except OSError:
            logging.critical("Error: %s cannot be written; the change is not confirmed", kept, exc_info=True)
            os._exit(1)  # what it would answer from now on, the next process would not know

    application = serialised(DomainDispatcherApplication(create_backend_app), write)
    make_server(
        LOOPBACK, 0, application, threaded=True, request_handler=MotoRequestHandler, fd=descriptor
    ).serve_forever()


if __name__ == "__main__":
    try:
        serve(int(sys.argv[1]), Path(sys.argv[2]))
    except CqrsctlError as error:
        sys.exit(f"Error: {error} {error.hint}")
